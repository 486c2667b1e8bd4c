package archive

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
)

// filled is a store with so many keys, some with a time to live, and what belongs to
// its cluster.
func filled(keys int) *store.Store {
	s := store.New()
	b := &store.Batch{Time: 5e9, Wall: 1.7e18}
	b.Commands = append(b.Commands, store.Command{Op: store.OpSet, Key: "/_etcd/members/7", Value: "{}"})
	for i := range keys {
		b.Commands = append(b.Commands, store.Command{
			ID: store.ID{Node: env.NodeID(1 + i%3), Incarnation: 2, Number: uint64(1 + i)},
			Op: store.OpSet, Key: fmt.Sprintf("/app/%d/key", i), Value: strings.Repeat("v", i%50), HasTTL: i%5 == 0, TTL: time.Hour,
		})
	}
	s.Apply(b, nil)
	return s
}

func written(t testing.TB, s *store.Store) []byte {
	var b bytes.Buffer
	n, err := New(Meta{Cluster: "c1", Member: "7", RaftIndex: 9, Taken: time.Unix(1, 0).UTC()}, s.View()).WriteTo(&b)
	require.NoError(t, err)
	require.EqualValues(t, b.Len(), n)
	return b.Bytes()
}

// What is read is what was written, history and time left included.
func TestThereAndBack(t *testing.T) {
	for _, keys := range []int{0, 1, 3000} {
		s := filled(keys)
		p := written(t, s)
		sum, back, err := Read(bytes.NewReader(p))
		require.NoError(t, err)
		assert.Equal(t, s.View().Hash(), back.View().Hash())
		assert.Equal(t, s.View().Hash(), sum.State)
		assert.Equal(t, s.View().ContentHash(), sum.Content)
		assert.Equal(t, s.Index(), sum.Index)
		assert.Equal(t, s.View().Len(), sum.Keys)
		assert.EqualValues(t, len(p), sum.Size)
		assert.Equal(t, "c1", sum.Cluster)
		only, err := Check(bytes.NewReader(p))
		require.NoError(t, err)
		assert.Equal(t, sum, only)
		assert.Equal(t, p, written(t, s), "the same twice")
	}
}

// A file with any byte changed, missing or added is refused.
func TestDamage(t *testing.T) {
	p := written(t, filled(300))
	rapid.Check(t, func(t *rapid.T) {
		q := bytes.Clone(p)
		switch rapid.IntRange(0, 2).Draw(t, "how") {
		case 0:
			q = q[:rapid.IntRange(0, len(q)-1).Draw(t, "length")]
		case 1:
			q[rapid.IntRange(0, len(q)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		case 2:
			q = append(q, 0)
		}
		_, err := Check(bytes.NewReader(q))
		require.Error(t, err)
		_, _, err = Read(bytes.NewReader(q))
		require.Error(t, err)
	})
}

func TestUnknownVersion(t *testing.T) {
	p := written(t, filled(1))
	binary.LittleEndian.PutUint16(p[8:], 2)
	_, err := Check(bytes.NewReader(p))
	assert.EqualError(t, err, "archive format 2 is not known here, this program reads 1: use the version of the program that wrote it, or a later one")
	_, err = Check(strings.NewReader("GIF89a, or something else entirely"))
	assert.EqualError(t, err, "damaged at byte 0: it is no archive: take another copy")
}

// A state that moves to another cluster keeps what users stored and forgets who
// the members were.
func TestAdopt(t *testing.T) {
	s := filled(100)
	before := s.View()
	id := store.ID{Node: 1, Incarnation: 1, Number: 1}
	require.True(t, s.Applied(id))
	s.Adopt()
	after := s.View()
	assert.Equal(t, before.ContentHash(), after.ContentHash())
	assert.False(t, s.Applied(id))
	_, gone := after.Get("/_etcd/members", true)
	assert.NotNil(t, gone)
	was, _ := before.Get("/app/5/key", false)
	is, _ := after.Get("/app/5/key", false)
	assert.Equal(t, was, is)
	assert.Equal(t, before.Index()+1, after.Index())
	assert.Len(t, after.Events(1), int(after.Index()))

	s.Apply(&store.Batch{Commands: []store.Command{{Op: store.OpSet, Key: "/app/5/key", Value: "new"}}}, nil)
	assert.NotEqual(t, before.ContentHash(), s.View().ContentHash())
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(written(f, filled(0)))
	f.Add(written(f, filled(40)))
	f.Fuzz(func(t *testing.T, p []byte) {
		sum, s, err := Read(bytes.NewReader(p))
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.Equal(t, sum.State, s.View().Hash())
	})
}
