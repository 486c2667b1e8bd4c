package mirror

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/store"
)

func drawCommand(t *rapid.T, at store.Index) store.Command {
	key := ""
	for range rapid.IntRange(1, 3).Draw(t, "depth") {
		key += "/" + rapid.SampledFrom([]string{"a", "b", "_h", "ü"}).Draw(t, "name")
	}
	c := store.Command{
		Op:        store.Op(rapid.IntRange(int(store.OpSet), int(store.OpCompareAndDelete)).Draw(t, "op")),
		Key:       key,
		Value:     rapid.SampledFrom([]string{"", "x", "a\nb", "<\u2028>"}).Draw(t, "value"),
		Dir:       rapid.IntRange(0, 3).Draw(t, "dir") == 0,
		Recursive: rapid.Bool().Draw(t, "recursive"),
		Refresh:   rapid.IntRange(0, 3).Draw(t, "refresh") == 0,
		HasTTL:    rapid.IntRange(0, 2).Draw(t, "hasTTL") == 0,
	}
	if c.HasTTL {
		c.TTL = time.Duration(rapid.IntRange(0, 3).Draw(t, "ttl")) * time.Second
	}
	if c.Op == store.OpCompareAndSwap || c.Op == store.OpCompareAndDelete {
		c.PrevIndex = store.Index(rapid.Uint64Range(1, uint64(at)+1).Draw(t, "prev"))
	}
	return c
}

// content is what a view shows below the prefixes, but for the time left.
func content(prefixes []string, whole func(string, func(*store.Node))) (all []store.Node) {
	for _, p := range prefixes {
		whole(p, func(n *store.Node) {
			if n.Key != "/" {
				m := *n
				m.TTL = 0
				all = append(all, m)
			}
		})
	}
	return all
}

// values is what remains of a content when refreshes are left out.
func values(nodes []store.Node) (all [][2]string) {
	for _, n := range nodes {
		all = append(all, [2]string{n.Key, n.Value})
	}
	return all
}

// Whatever is lost, cut, late or restarted: each view of a mirror is what the cluster
// was at that index, they never go back, and in the end the mirror is up to date.
func TestMirrorIsTheStoreAtItsIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 3).Draw(t, "members"))
		w.loss = rapid.SampledFrom([]int{0, 10, 50}).Draw(t, "loss")
		prefixes := rapid.SampledFrom([][]string{{"/"}, {"/a"}, {"/a", "/b/_h"}, {"/_h", "/ü/a"}}).Draw(t, "prefixes")
		m, err := Open(Config{Prefixes: prefixes, Endpoints: w.endpoints}, w.env())
		require.NoError(t, err)
		var seen [][2]string // when told to look last
		m.Changed(prefixes[0], func() { seen = values(content(prefixes[:1], m.view.Whole)) })
		var last *View
		check := func() {
			if m.view == last {
				return
			}
			require.True(t, last == nil || m.view.Index() >= last.Index())
			last = m.view
			truth := w.at[last.Index()]
			require.NotNil(t, truth, "the cluster never was at index %d", last.Index())
			require.Equal(t, content(prefixes, truth.Whole), content(prefixes, last.Whole))
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			one := w.members[rapid.IntRange(0, len(w.members)-1).Draw(t, "member")]
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				one.restart()
			case 1:
				one.isolated = !one.isolated
			case 2:
				one.down = !one.down
			case 3: // more than the history holds
				for range store.HistoryMax {
					w.commit(store.Command{Op: store.OpSet, Key: "/z", Value: "z"})
				}
			case 4:
				one.catchUp(len(w.log))
			default:
				var cs []store.Command
				for range rapid.IntRange(1, 4).Draw(t, "commands") {
					cs = append(cs, drawCommand(t, w.truth.Index()))
				}
				w.commit(cs...)
			}
			w.run(time.Duration(rapid.IntRange(0, 3000).Draw(t, "pause"))*time.Millisecond, check)
		}
		w.loss = 0
		for _, one := range w.members {
			one.isolated, one.down = false, false
		}
		w.run(40*time.Second, check)
		require.True(t, m.Synced(), "%v\n%v", m.Err(), w.lines)
		require.Equal(t, w.truth.Index(), m.View().Index())
		require.Equal(t, values(content(prefixes[:1], m.view.Whole)), seen)
		m.Stop()
	})
}

func open(t *testing.T, w *world) *Mirror {
	t.Helper()
	m, err := Open(Config{Prefixes: []string{"/a"}, Endpoints: w.endpoints}, w.env())
	require.NoError(t, err)
	w.run(time.Second, nil)
	return m
}

func set(key, value string) store.Command {
	return store.Command{Op: store.OpSet, Key: key, Value: value}
}

func TestMirrorSaysHowOldItIs(t *testing.T) {
	w := newWorld(1, 1)
	m, err := Open(Config{Prefixes: []string{"/a"}, Endpoints: w.endpoints}, w.env())
	require.NoError(t, err)
	assert.Nil(t, m.View())
	_, ok := m.Age()
	assert.False(t, ok)
	w.run(time.Minute, nil)
	age, ok := m.Age()
	assert.True(t, ok)
	assert.Less(t, age, 2*time.Second)
	assert.True(t, m.Synced())
	require.NoError(t, m.Err())

	w.members[0].isolated = true
	w.run(time.Minute, nil)
	assert.False(t, m.Synced(), "the member answers, but cannot tell whether it is up to date")
	age, _ = m.Age()
	assert.Greater(t, age, 50*time.Second)
	require.Error(t, m.Err())
	assert.NotNil(t, m.View())
}

func TestMirrorSeesAWriteSoon(t *testing.T) {
	w := newWorld(1, 1)
	m := open(t, w)
	w.commit(set("/a/x", "1"))
	w.members[0].catchUp(len(w.log))
	w.run(100*time.Millisecond, nil)
	n, err := m.View().Get("/a/x", false)
	require.Nil(t, err)
	assert.Equal(t, "1", n.Value)
	_, err = m.View().Get("/b", false)
	assert.Equal(t, store.CodeRaftInternal, err.Code, "nothing is known about other prefixes")
}

func TestARefreshThatMakesADirectoryIsAChange(t *testing.T) {
	w := newWorld(1, 1)
	w.commit(set("/a/x", "1"))
	m := open(t, w)
	told := 0
	m.Changed("/a", func() { told++ })
	refresh := store.Command{Op: store.OpSet, Key: "/a/x", Refresh: true, HasTTL: true, TTL: time.Hour}
	w.commit(refresh)
	w.members[0].catchUp(len(w.log))
	w.run(time.Second, nil)
	assert.Zero(t, told)
	refresh.Dir = true
	w.commit(refresh)
	w.members[0].catchUp(len(w.log))
	w.run(time.Second, nil)
	assert.Equal(t, 1, told)
}

func TestMirrorRefusesAnotherCluster(t *testing.T) {
	w := newWorld(1, 1)
	m := open(t, w)
	was := m.View()
	w.members[0].cluster = 0xbeef
	w.members[0].restart()
	w.commit(set("/a/x", "1"))
	w.run(time.Minute, nil)
	assert.Equal(t, was, m.View())
	require.ErrorContains(t, m.Err(), "cluster beef answers where cluster cafe was")
	assert.False(t, m.Synced())
}

func TestMirrorRefusesAnOlderListing(t *testing.T) {
	w := newWorld(1, 1)
	w.commit(set("/a/x", "1"), set("/a/y", "1"))
	m := open(t, w)
	assert.EqualValues(t, 2, m.View().Index())
	w.log, w.truth = nil, store.New() // the same cluster, with its end lost
	w.commit(set("/a/z", "1"))
	w.members[0].restart()
	w.run(time.Minute, nil)
	assert.EqualValues(t, 2, m.View().Index())
	assert.ErrorContains(t, m.Err(), "listing at index 1, after 2 was seen")
}

func TestMirrorGivesUpSilence(t *testing.T) {
	w := newWorld(1, 2)
	m := open(t, w)
	for _, one := range w.members {
		for _, s := range one.streams {
			s.over = true // the connection is lost, and nobody is told
		}
	}
	w.commit(set("/a/x", "1"))
	w.run(10*time.Second, nil)
	assert.True(t, m.Synced())
	assert.EqualValues(t, 1, m.View().Index())
}

func TestProposeIsSeenByTheNextLook(t *testing.T) {
	w := newWorld(1, 3)
	m := open(t, w)
	var got store.Result
	m.Propose(store.Command{Op: store.OpCreate, Key: "/a/x", Value: "1", HasTTL: true, TTL: time.Minute}, func(r store.Result) {
		got = r
		n, err := m.View().Get("/a/x", false)
		require.Nil(t, err)
		assert.Equal(t, "1", n.Value)
		assert.InDelta(t, 60, n.TTL.Seconds(), 1)
	})
	w.run(3*time.Second, nil)
	require.Nil(t, got.Err)
	require.NotNil(t, got.Event)
	assert.Equal(t, store.ActionCreate, got.Event.Action)
	assert.EqualValues(t, 1, got.Index)

	m.Propose(store.Command{Op: store.OpCompareAndSwap, Key: "/a/x", Value: "2", PrevIndex: 9}, func(r store.Result) { got = r })
	w.run(3*time.Second, nil)
	require.NotNil(t, got.Err)
	assert.Equal(t, store.CodeCompareFailed, got.Err.Code)
	assert.Equal(t, "[9 != 1]", got.Err.Cause)
}

func TestProposeSaysWhatIsUnknown(t *testing.T) {
	w := newWorld(1, 3)
	m := open(t, w)
	var got store.Result
	for _, one := range w.members {
		one.isolated = true
	}
	m.Propose(set("/a/x", "1"), func(r store.Result) { got = r })
	w.run(3*time.Second, nil)
	require.NotNil(t, got.Err)
	assert.Equal(t, store.CodeRaftInternal, got.Err.Code)
	assert.Contains(t, got.Err.Cause, "the outcome is unknown")
	for _, one := range w.members {
		one.isolated, one.down = false, true
	}
	m.Propose(set("/a/x", "1"), func(r store.Result) { got = r })
	w.run(3*time.Second, nil)
	assert.Contains(t, got.Err.Cause, "not sent")
	w.members[1].down = false
	m.Propose(set("/a/x", "1"), func(r store.Result) { got = r })
	w.run(3*time.Second, nil)
	assert.Nil(t, got.Err, "the one member that is there took it")
	assert.Len(t, w.log, 1)
}

// A write that was sent and not answered is not sent again.
func TestProposeIsNotRepeated(t *testing.T) {
	w := newWorld(1, 3)
	m := open(t, w)
	sent := 0
	m.env.Web = web(func(_ *env.WebRequest, r env.WebReceiver) {
		sent++
		r.End(errors.New("connection reset"))
	})
	var got store.Result
	m.Propose(set("/a/x", "1"), func(r store.Result) { got = r })
	assert.Equal(t, 1, sent)
	assert.Contains(t, got.Err.Cause, "the outcome is unknown")
}

type web func(*env.WebRequest, env.WebReceiver)

func (fn web) Do(req *env.WebRequest, r env.WebReceiver) func() {
	fn(req, r)
	return func() {}
}

// What a member reads from a request is the command that was proposed.
func TestRequestIsTheCommand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCommand(t, 9)
		c.Key += rapid.SampledFrom([]string{"", "/a b", "/%2f", "/ü?x=&#", "/+;"}).Draw(t, "odd")
		switch c.Op {
		case store.OpDelete, store.OpCompareAndDelete:
			c.Value, c.HasTTL, c.TTL, c.Refresh = "", false, 0, false
		case store.OpSet:
		default:
			c.Refresh = false
		}
		if c.Refresh {
			c.Value, c.HasTTL = "", true
		}
		switch c.Op {
		case store.OpCompareAndSwap, store.OpUpdate, store.OpCompareAndDelete:
			c.Dir = false
		}
		if c.Dir {
			c.Value = ""
		}
		if c.Op != store.OpDelete {
			c.Recursive = false
		}
		op, err := gateway.Parse(incoming(request("http://a", &c)))
		require.NoError(t, err)
		require.Equal(t, c, op.Command)
	})
}

func FuzzLine(f *testing.F) {
	f.Add([]byte(`{"node":{"key":"/a","dir":true,"expiration":"2025-11-20T11:14:54.922523342Z","ttl":3,"modifiedIndex":1,"createdIndex":1}}`))
	f.Add([]byte(`{"action":"expire","node":{"key":"/a","modifiedIndex":2,"createdIndex":1}}`))
	f.Add([]byte(`{"index":3,"fresh":true}`))
	f.Add([]byte(`{"action":"set","refresh":true,"node":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseLine(text)
		if err != nil || l.node == nil {
			return
		}
		c := store.NewCopy()
		if l.action == "" {
			err = c.Put(l.node, 0)
		} else {
			err = c.Apply(&store.Event{Action: l.action, Index: l.node.Modified, Node: l.node}, 0)
		}
		if err == nil {
			c.View(l.node.Modified, 0).Whole("/", func(n *store.Node) { assert.NotEmpty(t, n.Key) })
		}
	})
}
