//go:build planted

package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/planted"
)

// with switches one bug on for the rest of the test.
func with(t *testing.T, b planted.Bug) {
	planted.Active = b
	t.Cleanup(func() { planted.Active = planted.None })
}

func TestPlantedCASOffByOne(t *testing.T) {
	with(t, planted.CASOffByOne)
	s := New()
	one(s, Command{Op: OpSet, Key: "/other"})
	one(s, Command{Op: OpSet, Key: "/k"})
	require.Nil(t, one(s, Command{Op: OpCompareAndSwap, Key: "/k", PrevIndex: 1}).Err)
}

func TestPlantedMapOrderLeaks(t *testing.T) {
	with(t, planted.MapOrderLeaks)
	chains := map[uint64]bool{}
	for range 50 {
		s := New()
		for i := range 8 {
			one(s, Command{Op: OpSet, Key: fmt.Sprintf("/d/%d", i)})
		}
		one(s, Command{Op: OpDelete, Key: "/d", Recursive: true})
		chains[s.Chain()] = true
	}
	require.Greater(t, len(chains), 1)
}

func TestPlantedWatchLosesEdge(t *testing.T) {
	with(t, planted.WatchLosesEdge)
	s := New()
	for range 3 {
		one(s, Command{Op: OpSet, Key: "/k"})
	}
	e, _ := s.View().Since("/k", false, 1)
	require.Equal(t, Index(2), e.Index)
	e, _ = reload(t, s).View().Since("/k", false, 3)
	require.Nil(t, e)
}

func TestPlantedRefreshLosesTTL(t *testing.T) {
	with(t, planted.RefreshLosesTTL)
	s := New()
	one(s, Command{Op: OpSet, Key: "/k", HasTTL: true, TTL: time.Second / 2})
	one(s, Command{Op: OpSet, Key: "/k", Refresh: true, HasTTL: true, TTL: time.Second})
	s.Apply(&Batch{Time: Time(time.Hour)}, nil)
	require.Equal(t, 1, s.View().Len())
}

func TestPlantedTTLByWallClock(t *testing.T) {
	with(t, planted.TTLByWallClock)
	s := New()
	one(s, Command{Op: OpSet, Key: "/k", HasTTL: true, TTL: time.Second})
	s.Apply(&Batch{Wall: int64(time.Hour)}, nil)
	require.Zero(t, s.View().Len())
}
