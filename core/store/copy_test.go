package store

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// timeless drops the time left from what a view shows.
func timeless(n *Node) *Node {
	if n == nil {
		return nil
	}
	m := *n
	m.TTL, m.Nodes = 0, nil
	for _, kid := range n.Nodes {
		m.Nodes = append(m.Nodes, timeless(kid))
	}
	return &m
}

func equalBelow(t require.TestingT, prefix string, want, have *View) {
	var all []*Node
	want.Whole(prefix, func(n *Node) { all = append(all, timeless(n)) })
	have.Whole(prefix, func(n *Node) {
		require.NotEmpty(t, all, "more than there is: %v", n)
		require.Equal(t, all[0], timeless(n))
		all = all[1:]
	})
	require.Empty(t, all)
}

// A copy that begins at any moment and is told of every event that touches its part
// shows that part as it is.
func TestCopyShowsWhatTheStoreShows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		prefix := rapid.SampledFrom([]string{"/", "/a", "/a/b", "/_h"}).Draw(t, "prefix")
		apply := func(emit func(*Event)) {
			now := s.Time() + Time(rapid.IntRange(0, 3).Draw(t, "later"))*Time(time.Second)
			s.Apply(&Batch{Time: now, Wall: int64(now), Commands: []Command{drawCommand(t, s.Index())}}, emit)
		}
		for range rapid.IntRange(0, 20).Draw(t, "before") {
			apply(nil)
		}
		c := NewCopy()
		s.View().Whole(prefix, func(n *Node) { require.NoError(t, c.Put(n, 0)) })
		for range rapid.IntRange(0, 20).Draw(t, "after") {
			apply(func(e *Event) {
				if e.Touches(prefix) {
					require.NoError(t, c.Apply(e, s.Time()))
				}
			})
			before := c.View(s.Index(), s.Time())
			equalBelow(t, prefix, s.View(), before)
			assert.Equal(t, s.Index(), before.Index())
		}
	})
}

func TestCopyRefusesWhatCannotFollow(t *testing.T) {
	c := NewCopy()
	file := func(key string) *Node { return &Node{Key: key, Created: 1, Modified: 1} }
	require.NoError(t, c.Put(file("/a"), 0))
	assert.Error(t, c.Put(file("/a"), 0), "listed twice")
	assert.Error(t, c.Put(file("/a/b"), 0), "below a file")
	assert.Error(t, c.Put(file("a"), 0))
	assert.Error(t, c.Put(&Node{Key: "/c", Created: 2, Modified: 1}, 0))
	set := func(n *Node) error { return c.Apply(&Event{Action: ActionSet, Index: n.Modified, Node: n}, 0) }
	assert.Error(t, set(file("/a/b")))
	assert.Error(t, set(file("/")))
	require.NoError(t, c.Put(&Node{Key: "/d", Dir: true, Created: 1, Modified: 1}, 0))
	assert.Error(t, set(file("/d")), "a file in the place of a directory")
}
