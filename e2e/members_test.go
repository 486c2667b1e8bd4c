package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// changing is a cluster whose members come and go under load.
type changing struct {
	*trouble
	all   []int // the members
	peers []string
	args  map[int][]string // with which each was started first
}

// startChanging starts a cluster of one with room for more.
func startChanging(t *testing.T, room int) *changing {
	t.Helper()
	c := &cluster{dir: t.TempDir(), members: make([]*process, room), doer: newDoer(t)}
	for _, u := range loopbackURLs(t, 2*room) {
		if len(c.client) < room {
			c.client = append(c.client, u)
		} else {
			c.peer = append(c.peer, u)
		}
	}
	x := &changing{trouble: &trouble{T: t, c: c}, all: []int{0}, peers: c.peer, args: map[int][]string{}}
	x.start(0, name(0)+"="+c.peer[0])
	c.healthy(t, 0)
	first := *c
	first.client = c.client[:1]
	x.l = startLoad(t, &first)
	x.l.foreign = true
	return x
}

// start starts a machine for the first time.
func (x *changing) start(i int, initialCluster string, more ...string) {
	x.Helper()
	x.args[i] = x.words(i, initialCluster, more...)
	x.again(i)
}

// words are the command line of a machine.
func (x *changing) words(i int, initialCluster string, more ...string) []string {
	return append([]string{
		keelson(x.T), "serve", "--name", name(i), "--data-dir", x.c.data(i),
		"--listen-client-urls", x.c.client[i], "--advertise-client-urls", x.c.client[i],
		"--listen-peer-urls", x.c.peer[i], "--initial-advertise-peer-urls", x.c.peer[i],
		"--initial-cluster", initialCluster,
	}, more...)
}

// again starts a machine with the words of its first start.
func (x *changing) again(i int) {
	x.Helper()
	x.c.members[i] = launch(x.T, nil, x.c.dir, nil, x.args[i]...)
}

// stops ends a process in order.
func (x *changing) stops(i int) {
	x.Helper()
	x.c.members[i].Process.Signal(syscall.SIGTERM)
	require.Zero(x, x.c.members[i].end(x.T))
}

// endpoints are the members' for clients, without some.
func (x *changing) endpoints(but ...int) (urls []string) {
next:
	for _, i := range x.all {
		for _, b := range but {
			if i == b {
				continue next
			}
		}
		urls = append(urls, x.c.client[i])
	}
	return urls
}

// keelson runs a command against the members.
func (x *changing) keelson(but int, words ...string) string {
	x.Helper()
	words = append(words, "--endpoints", strings.Join(x.endpoints(but), ","))
	got := run(x.T, nil, nil, append([]string{keelson(x.T)}, words...)...)
	require.Zero(x, got.status, "%v: %v", words, got)
	return got.out
}

// votes waits until a machine takes part in full, and the members are just those.
func (x *changing) votes(i int) {
	x.Helper()
	x.c.healthy(x.T, i)
	until(x.T, name(i)+" votes, and there are no others", func() bool {
		got := run(x.T, nil, nil, keelson(x.T), "member", "list", "-o", "json", "--endpoints", strings.Join(x.endpoints(), ","))
		return got.status == 0 && strings.Count(got.out, `"id"`) == len(x.all) && !strings.Contains(got.out, `"isLearner": true`) && strings.Contains(got.out, `"`+name(i)+`"`)
	})
}

// step is one change under load. Operations may fail only where the leader changed.
func (x *changing) step(what string, fn func()) {
	x.Helper()
	x.l.phase.Add(1)
	x.l.works(x.T)
	term, failed := x.term(), x.l.failed.Load()
	fn()
	x.l.at(x.endpoints()...)
	x.l.works(x.T)
	more, changed := x.l.failed.Load()-failed, x.term()-term
	x.Logf("%s: %d operations failed, the term rose by %d", what, more, changed)
	if changed == 0 {
		assert.Zero(x, more, "%s: operations failed although the leader stayed", what)
	}
}

// term is the highest that a member knows.
func (x *changing) term() (highest int) {
	x.Helper()
	for _, i := range x.all {
		body, _, err := get(within(x.T, 5), x.c.doer, x.c.client[i], "/metrics")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(body)) {
			var n int
			if _, err := fmt.Sscanf(line, "keelson_raft_term %d", &n); err == nil {
				highest = max(highest, n)
			}
		}
	}
	return highest
}

// A cluster grows from one to three to five, gets a new machine in the place of each
// of the old ones, and shrinks to three, under load all the while.
func TestMembersComeAndGoUnderLoad(t *testing.T) {
	t.Parallel()
	x := startChanging(t, 5)
	list := name(0) + "=" + x.c.peer[0]
	for i := 1; i < 5; i++ {
		x.step("add "+name(i), func() {
			x.keelson(i, "member", "add", name(i), x.c.peer[i])
			list += "," + name(i) + "=" + x.c.peer[i]
			x.start(i, list, "--initial-cluster-state", "existing")
			x.all = append(x.all, i)
			x.votes(i)
		})
	}
	for i := range 5 {
		x.step("replace "+name(i), func() {
			x.l.at(x.endpoints(i)...)
			x.keelson(i, "member", "replace", name(i))
			x.stops(i)
			require.NoError(t, os.RemoveAll(x.c.data(i)))
			x.start(i, list) // as a machine that has never been anything
			x.votes(i)
		})
	}
	for _, i := range []int{4, 0} {
		x.step("remove "+name(i), func() {
			x.l.at(x.endpoints(i)...)
			x.keelson(i, "member", "remove", name(i))
			for j, k := range x.all {
				if k == i {
					x.all = append(x.all[:j:j], x.all[j+1:]...)
					break
				}
			}
			x.votes(x.all[0])
			status := x.c.members[i].end(t)
			x.Logf("%s ended with status %d", name(i), status)
			assert.Contains(t, x.c.members[i].err.String(), "removed")
		})
	}
	x.l.finish(t)
	again := launch(t, nil, x.c.dir, nil, x.args[4]...)
	assert.NotZero(t, again.end(t), "a member that was removed does not come back")
}

// Whichever member of three is restarted in order, no request fails.
func TestOrderlyRestartsFailNothing(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	l := startLoad(t, c)
	l.works(t)
	for i := range 3 {
		l.phase.Add(1)
		c.members[i].Process.Signal(syscall.SIGTERM)
		assert.Zero(t, c.members[i].end(t))
		l.works(t)
		c.start(t, i)
		c.healthy(t, i)
		l.works(t)
	}
	assert.Zero(t, l.failed.Load(), "requests failed")
	l.finish(t)
}

// The first machine of a cluster that has grown loses its disk and starts with the
// words of its first start, by which there are no others. It must not come back as
// what it was, and does where it is replaced.
func TestWipedFirstMachineIsRefused(t *testing.T) {
	t.Parallel()
	x := startChanging(t, 3)
	x.l.stop()
	list := name(0) + "=" + x.c.peer[0]
	for i := 1; i < 3; i++ {
		x.keelson(i, "member", "add", name(i), x.c.peer[i])
		list += "," + name(i) + "=" + x.c.peer[i]
		x.start(i, list, "--initial-cluster-state", "existing")
		x.all = append(x.all, i)
		x.votes(i)
	}
	for range 2 {
		x.c.kill(0)
		require.NoError(t, os.RemoveAll(x.c.data(0)))
		x.again(0)
		assert.Equal(t, 1, x.c.members[0].end(t))
		assert.Contains(t, x.c.members[0].err.String(), "the disk was emptied or replaced by an old copy")
	}
	x.keelson(0, "member", "replace", name(0))
	require.NoError(t, os.RemoveAll(x.c.data(0)))
	x.start(0, list)
	x.votes(0)
}
