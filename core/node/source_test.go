package node_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/core/store"
)

// keptCopy is a controller that only keeps a copy of a prefix.
type keptCopy struct {
	src    control.Source
	prefix string
	copy   *store.Copy
	index  store.Index
	lists  int
	calls  int
}

func follow(t *testing.T, m *machine, prefix string) *keptCopy {
	k := &keptCopy{src: m.Source(), prefix: prefix}
	k.list(t)
	k.src.Follow(prefix, func(events []*store.Event) {
		k.calls++
		if events == nil {
			k.list(t)
			return
		}
		for _, e := range events {
			require.Greater(t, e.Index, k.index, "in the order of their index, none twice")
			require.NoError(t, k.copy.Apply(e, 0))
			k.index = e.Index
		}
		require.LessOrEqual(t, k.index, k.src.View().Index())
	})
	return k
}

func (k *keptCopy) list(t *testing.T) {
	k.lists++
	k.copy, k.index = store.NewCopy(), k.src.View().Index()
	k.src.View().(*store.View).Whole(k.prefix, func(n *store.Node) { require.NoError(t, k.copy.Put(n, 0)) })
}

func contentOf(v *store.View, prefix string) (all []string) {
	v.Whole(prefix, func(n *store.Node) {
		all = append(all, fmt.Sprint(n.Key, " ", n.Value, n.Dir, n.Created, n.Modified))
	})
	return all
}

// Whoever applies what a source tells has what its view shows: also on a member that
// was away so long that it is sent a whole state.
func TestFollowersSeeEveryChange(t *testing.T) {
	c := newCluster(t, 41, 3, func(cfg *node.Config) { cfg.SnapshotEntries, cfg.TailEntries = 20, 5 })
	l := c.leader()
	var copies []*keptCopy
	for _, m := range c.machines {
		copies = append(copies, follow(t, m, "/a"), follow(t, m, "/"))
	}
	away := c.follower()
	c.cut = func(from, to env.NodeID) bool { return from == away.cfg.ID || to == away.cfg.ID }
	for i := range 100 {
		require.Less(t, c.set(l, fmt.Sprint("/a/x", i%10), fmt.Sprint(i)), 300)
	}
	c.do(l, "DELETE", "/v2/keys/a?recursive=true", "")
	require.Equal(t, 201, c.set(l, "/a/z", "1"))
	c.cut = func(env.NodeID, env.NodeID) bool { return false }
	c.run(10 * time.Second)
	require.Equal(t, 201, c.set(l, "/b", "1"))
	c.same()
	lists := 0
	for _, k := range copies {
		v := k.src.View().(*store.View)
		assert.Equal(t, contentOf(v, k.prefix), contentOf(k.copy.View(v.Index(), v.Time()), k.prefix))
		lists += k.lists - 1
	}
	assert.Positive(t, lists, "the one that was away was sent a whole state")
}

func TestFollowBeginsAtTheView(t *testing.T) {
	c := newCluster(t, 42, 1, nil)
	m := c.machines[0]
	require.Equal(t, 201, c.set(m, "/a", "1"))
	k := follow(t, m, "/a")
	c.run(time.Second)
	assert.Zero(t, k.calls, "what the view showed is not told")
	cancelled := 0
	var cancel func()
	cancel = m.Source().Follow("/", func([]*store.Event) {
		cancelled++
		cancel()
		m.Source().Follow("/a", func([]*store.Event) { t.Error("told of what it saw when it began") })
	})
	require.Equal(t, 201, c.set(m, "/b", "1"))
	require.Equal(t, 1, cancelled)
	assert.Zero(t, k.calls, "another prefix")
}

// What a follower proposes when it is told leaves without another input.
func TestFollowersWritesLeave(t *testing.T) {
	c := newCluster(t, 43, 3, nil)
	for _, m := range c.machines {
		done := false
		m.Source().Follow("/go", func([]*store.Event) {
			m.Source().Propose(store.Command{Op: store.OpSet, Key: fmt.Sprint("/went/", m.cfg.ID)}, func(r store.Result) { done = r.Err == nil })
		})
		start := c.now
		m.turn(func() { m.Source().Propose(store.Command{Op: store.OpSet, Key: "/go"}, func(store.Result) {}) })
		require.True(t, c.until(5*time.Second, func() bool { return done }))
		if c.leader() == m {
			assert.Less(t, c.now-start, 100*time.Millisecond)
		}
	}
}

func TestBarrier(t *testing.T) {
	c := newCluster(t, 44, 3, nil)
	l, f := c.leader(), c.follower()
	require.Equal(t, 201, c.set(l, "/a", "1"))
	inside, seen := true, ""
	f.turn(func() {
		f.Source().Barrier(func(err error) {
			require.NoError(t, err)
			assert.False(t, inside, "in a later turn")
			n, _ := f.Source().View().Get("/a", false)
			seen = n.Value
		})
		inside = false
	})
	require.True(t, c.until(time.Second, func() bool { return seen == "1" }))
	for _, m := range c.machines {
		if m != f {
			m.powerOff()
		}
	}
	var failed error
	f.turn(func() { f.Source().Barrier(func(err error) { failed = err }) })
	require.True(t, c.until(20*time.Second, func() bool { return failed != nil }))
	assert.ErrorContains(t, failed, "up to date")
}

// A controller whose member is taken apart hears what became of everything that it asked
// for: it goes on with the next member, and must not wait for ever.
func TestAnAbandonedMemberAnswersItsControllers(t *testing.T) {
	c := newCluster(t, 45, 3, nil)
	m := c.follower()
	c.cut = func(from, to env.NodeID) bool { return from == m.cfg.ID || to == m.cfg.ID }
	answers := map[string]int{}
	m.Source().Barrier(func(err error) {
		require.Error(t, err)
		answers["barrier"]++
	})
	m.Source().Propose(store.Command{Op: store.OpSet, Key: "/a"}, func(r store.Result) {
		require.Error(t, r.Err)
		answers["command"]++
	})
	m.Abandon()
	c.run(10 * time.Second)
	assert.Equal(t, map[string]int{"barrier": 1, "command": 1}, answers)
}
