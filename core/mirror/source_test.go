package mirror

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/store"
)

var _ control.Source = (*Mirror)(nil)

// Whatever is lost, cut, late or restarted: whoever applies what Follow tells has what
// the view shows, and after a barrier the view holds what was committed before it.
func TestFollowersAndBarriers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 3).Draw(t, "members"))
		w.loss = rapid.SampledFrom([]int{0, 10, 50}).Draw(t, "loss")
		prefixes := []string{"/a", "/b/_h"}
		m, err := Open(Config{Prefixes: prefixes, Endpoints: w.endpoints}, w.env())
		require.NoError(t, err)
		kept, at := store.NewCopy(), store.Index(0)
		m.Follow("/a", func(events []*store.Event) {
			if events == nil {
				kept = store.NewCopy()
				m.view.Whole("/a", func(n *store.Node) { require.NoError(t, kept.Put(n, 0)) })
			}
			for _, e := range events {
				require.True(t, e.Touches("/a") && e.Index > at)
				require.NoError(t, kept.Apply(e, 0))
			}
			at = m.View().Index()
			v := kept.View(at, 0)
			require.Equal(t, content(prefixes[:1], m.view.Whole), content(prefixes[:1], v.Whole))
		})
		asked, answered, failed := 0, 0, 0
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			one := w.members[rapid.IntRange(0, len(w.members)-1).Draw(t, "member")]
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				one.restart()
			case 1:
				one.isolated = !one.isolated
			case 2:
				one.down = !one.down
			case 3, 4, 5:
				asked++
				before, inside := w.truth.Index(), true
				m.Barrier(func(err error) {
					require.False(t, inside, "in a later turn")
					if answered++; err != nil {
						failed++
						return
					}
					require.GreaterOrEqual(t, m.View().Index(), before)
				})
				inside = false
			default:
				var cs []store.Command
				for range rapid.IntRange(1, 4).Draw(t, "commands") {
					cs = append(cs, drawCommand(t, w.truth.Index()))
				}
				w.commit(cs...)
			}
			w.run(time.Duration(rapid.IntRange(0, 3000).Draw(t, "pause"))*time.Millisecond, nil)
		}
		w.run(barrierMax, nil)
		require.Equal(t, asked, answered, "each once, in time")
		w.loss = 0
		for _, one := range w.members {
			one.isolated, one.down = false, false
		}
		w.run(40*time.Second, nil)
		passed := false
		m.Barrier(func(err error) { passed = err == nil })
		w.run(time.Second, nil)
		require.True(t, passed, "%v\n%v", m.Err(), w.lines)
		require.Equal(t, content(prefixes[:1], w.truth.View().Whole), content(prefixes[:1], kept.View(at, 0).Whole))
		m.Stop()
	})
}

// A barrier costs a round trip, not the second between two signs of life, and many of
// them together not a connection each.
func TestBarrierIsQuick(t *testing.T) {
	w := newWorld(1, 1)
	m := open(t, w)
	before, n := m.talks, 0
	w.commit(set("/z", "1"))
	for range 100 {
		m.Barrier(func(err error) {
			require.NoError(t, err)
			n++
		})
	}
	w.run(200*time.Millisecond, nil)
	assert.Equal(t, 100, n)
	assert.LessOrEqual(t, m.talks-before, uint64(2))
	assert.Equal(t, w.truth.Index(), m.View().Index())
}

func TestCancelledFollowerIsNotCalled(t *testing.T) {
	w := newWorld(1, 1)
	m := open(t, w)
	calls := 0
	var cancel func()
	cancel = m.Follow("/a", func([]*store.Event) {
		calls++
		cancel()
	})
	w.commit(set("/a/x", "1"))
	w.run(time.Second, nil)
	w.commit(set("/a/x", "2"))
	w.run(time.Second, nil)
	assert.Equal(t, 1, calls)
}

// A fence cannot be told to a member by a request, and a write without it could do harm.
func TestFencedWritesAreRefused(t *testing.T) {
	w := newWorld(1, 1)
	m := open(t, w)
	c := set("/a/x", "1")
	c.Fence = store.Fence{Key: "/lease", Created: 1}
	var got store.Result
	m.Propose(c, func(r store.Result) { got = r })
	require.NotNil(t, got.Err)
	assert.Contains(t, got.Err.Cause, "fence")
}
