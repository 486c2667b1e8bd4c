package e2e

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// election is the default election timeout.
const election = time.Second

// slack is added to what an election may take. Two timeouts hold for processes
// that get to run; two processors that also carry a dozen clients and other tests
// delay heartbeats, votes and syncs, and may split a vote, which costs another
// timeout at most.
const slack = 2 * election

// trouble is faults that strike a cluster under load, one after the other.
type trouble struct {
	*testing.T
	c         *cluster
	l         *load
	elections []time.Duration
}

func startTrouble(t *testing.T, c *cluster) *trouble {
	return &trouble{T: t, c: c, l: startLoad(t, c)}
}

// fault is one of them, which ends with everything as it was.
func (x *trouble) fault(what string, fn func(leader int)) {
	x.Helper()
	x.l.phase.Add(1)
	x.l.works(x.T)
	begin := time.Now()
	fn(x.c.leader(x.T))
	x.l.settled(x.T)
	x.Logf("%s: %v", what, time.Since(begin).Round(time.Millisecond))
}

// elects waits until the survivors of a lost leader acknowledge a write.
func (x *trouble) elects(survivors ...int) {
	x.Helper()
	took, ok := x.l.acknowledged(x.T, 10*election, survivors...)
	require.True(x, ok, "no survivor acknowledged a write in %v", took)
	x.Logf("a write was acknowledged %v after the leader was lost", took.Round(time.Millisecond))
	assert.Less(x, took, 2*election+slack)
	x.elections = append(x.elections, took)
}

// goesOn is asserted where a majority and its leader were not touched.
func (x *trouble) goesOn(members ...int) {
	x.Helper()
	took, ok := x.l.acknowledged(x.T, 10*election, members...)
	require.True(x, ok)
	assert.Less(x, took, 2*election, "the majority has its leader and goes on at once")
}

// stuck asserts that nothing is acknowledged without a majority.
func (x *trouble) stuck(members ...int) {
	x.Helper()
	_, ok := x.l.acknowledged(x.T, 3*election/2, members...)
	assert.False(x, ok, "a write was acknowledged without a majority")
}

// finish checks everything that was seen, and that elections as a whole, of which
// one may be unlucky, take what they should.
func (x *trouble) finish() {
	x.Helper()
	x.l.finish(x.T)
	slices.Sort(x.elections)
	median := x.elections[len(x.elections)/2]
	x.Logf("elections: %v, median %v", x.elections, median)
	assert.Less(x, median, 2*election+slack/2)
}

// Whatever processes are killed or stopped, clients of the others see one store
// that loses nothing.
func TestProcessesThatDieOrHang(t *testing.T) {
	t.Parallel()
	x := startTrouble(t, startCluster(t, 3, nil))
	c := x.c
	draw := rand.New(rand.NewPCG(2, 7))

	x.fault("kill -9 of the leader", func(leader int) {
		c.kill(leader)
		x.elects(c.others(leader)...)
		c.start(t, leader)
	})
	x.fault("SIGSTOP of the leader", func(leader int) {
		c.pause(leader)
		x.elects(c.others(leader)...)
		c.resume(leader)
	})
	x.fault("kill -9 of a follower", func(leader int) {
		others := c.others(leader)
		victim := others[draw.IntN(len(others))]
		c.kill(victim)
		x.goesOn(c.others(victim)...)
		c.start(t, victim)
	})
	x.fault("kill -9 of the leader while a follower hangs", func(leader int) {
		others := c.others(leader)
		hangs := others[draw.IntN(len(others))]
		c.pause(hangs)
		x.goesOn(leader)
		c.kill(leader)
		x.stuck(c.others(leader, hangs)...)
		c.resume(hangs)
		x.elects(c.others(leader)...)
		c.start(t, leader)
	})
	x.fault("SIGSTOP of the leader again, for long", func(leader int) {
		c.pause(leader)
		x.elects(c.others(leader)...)
		x.goesOn(c.others(leader)...)
		c.resume(leader)
		x.goesOn(leader) // it forwards to its successor what it took
	})
	x.fault("kill -9 of all at once", func(int) {
		for _, m := range c.members {
			m.Process.Kill()
		}
		for i, m := range c.members {
			<-m.ended
			c.start(t, i)
		}
		x.elects(c.others()...)
	})
	x.finish()
}

// Whatever is cut off, both sides keep what was promised: the majority goes on,
// the rest acknowledges nothing and shows nothing old.
func TestNetworksThatAreCut(t *testing.T) {
	t.Parallel()
	net := newNetwork(t, 3)
	x := startTrouble(t, startCluster(t, 3, net))
	c := x.c
	both := func(fn func(t *testing.T, from, to int), a int) {
		for _, b := range c.others(a) {
			fn(t, a, b)
			fn(t, b, a)
		}
	}

	x.fault("the leader's cable is pulled", func(leader int) {
		net.unplug(t, leader)
		x.elects(c.others(leader)...)
		net.plug(t, leader)
	})
	x.fault("the leader is cut off from its peers, not from clients", func(leader int) {
		both(net.silence, leader)
		x.elects(c.others(leader)...)
		x.stuck(leader)
		both(net.unsilence, leader)
	})
	x.fault("a follower's cable is pulled", func(leader int) {
		victim := c.others(leader)[0]
		net.unplug(t, victim)
		x.goesOn(c.others(victim)...)
		net.plug(t, victim)
	})
	x.fault("the leader and a follower are unplugged", func(leader int) {
		follower := c.others(leader)[1]
		net.unplug(t, leader)
		net.unplug(t, follower)
		x.stuck(c.others(leader, follower)...)
		net.plug(t, follower)
		x.elects(c.others(leader)...)
		net.plug(t, leader)
	})
	x.fault("nobody hears the leader, which hears everybody", func(leader int) {
		for _, i := range c.others(leader) {
			net.silence(t, leader, i)
		}
		x.elects(c.others(leader)...)
		for _, i := range c.others(leader) {
			net.unsilence(t, leader, i)
		}
	})
	x.fault("the followers do not hear each other", func(leader int) {
		o := c.others(leader)
		net.silence(t, o[0], o[1])
		net.silence(t, o[1], o[0])
		x.goesOn(c.others()...)
		net.unsilence(t, o[0], o[1])
		net.unsilence(t, o[1], o[0])
	})
	x.finish()
}
