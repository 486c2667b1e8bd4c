package store

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSnapshotKeepsEverything(t *testing.T) {
	s := New()
	one(s, Command{Op: OpSet, Key: "/a/b", Value: "1", ID: ID{Node: 7, Incarnation: 2, Number: 9}})
	one(s, Command{Op: OpSet, Key: "/a/_h/c", Value: "2", HasTTL: true, TTL: time.Second})
	one(s, Command{Op: OpCreateInOrder, Key: "/q", Value: "3"})
	one(s, Command{Op: OpSet, Key: "/e", Dir: true, HasTTL: true, TTL: time.Minute})
	one(s, Command{Op: OpDelete, Key: "/a", Recursive: true})
	one(s, Command{Op: OpDelete, Key: "/nope"})

	again := reload(t, s)
	require.Equal(t, s.View().Hash(), again.View().Hash())
	require.Equal(t, s.Chain(), again.Chain())
	require.Equal(t, s.Stats(), again.Stats())
	require.True(t, again.Applied(ID{Node: 7, Incarnation: 2, Number: 9}))
	require.False(t, again.Applied(ID{Node: 7, Incarnation: 2, Number: 10}))
	want, _ := s.NextDeadline()
	have, ok := again.NextDeadline()
	require.True(t, ok)
	require.Equal(t, want, have)
	e, err := again.View().Since("/a/_h/c", false, 3)
	require.Nil(t, err)
	require.Equal(t, "/a", e.Node.Key, "the removal of a directory still wakes what was inside")
	require.Equal(t, snapshot(t, s.View()), snapshot(t, again.View()))
}
