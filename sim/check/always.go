package check

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/lock"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/core/replica"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/sim"
)

// Options says what Always holds a cluster to. Zero bounds are the defaults
// that the comments name.
type Options struct {
	// Applied takes every change that a node applied, each node's in order. A
	// text that it returns is a contradiction and ends the run.
	Applied func(m *sim.Machine, e *store.Event) string
	// Damaged says that durable data of a machine was damaged by the plan, so
	// that its process may refuse to start. Nil: none.
	Damaged func(id env.NodeID) bool
	// Rotten says that the plan damaged the log of a machine. A record at its end may be
	// cut then, as torn. Nil: none.
	Rotten func(id env.NodeID) bool
	// Flipped says that the plan changed a value in memory, so that the state of a
	// machine may be another than that of the others: its own, or, where whoever is
	// wrong has sent its state to others before it was found, that of a machine which
	// is right. Nil: none.
	Flipped func(id env.NodeID) bool
	// Removed says that the plan takes a machine out of the cluster, after which
	// its process ends by itself. Nil: none.
	Removed func(id env.NodeID) bool
	// Stalled says since when a machine's disk has finished no write. Nil: never.
	Stalled func(id env.NodeID) (since time.Duration, on bool)
	// StepsMax bounds the events of the world in one virtual second per
	// machine: 20000.
	StepsMax uint64
	// FramesMax bounds the frames of all links in one virtual second per
	// machine: 5000.
	FramesMax uint64
	// FlightMax bounds the bytes that ever were in flight on one link: 4 MiB.
	FlightMax int
	// WaitingMax bounds the inputs that wait for a machine that is not paused:
	// 20000.
	WaitingMax int
}

// Always is the set of oracles that look after every turn.
type Always struct {
	c      *sim.Cluster
	o      Options
	groups map[uint64]*group // by cluster
	seen   map[env.NodeID]*seen
	pasts  map[pastOf]past
	second time.Duration
	steps  uint64
	frames uint64
	// Leaders counts the terms that had a leader.
	Leaders int
	// StepsMost is the largest number of events in one second.
	StepsMost uint64
}

// group is what was seen of one cluster. There may be several in a world.
type group struct {
	leaders map[uint64]*sim.Machine // by term
	proven  map[uint64]uint64       // by term of whoever applied it, the last entry applied
	chains  map[uint64]chain        // by raft index, the last chainsMax
	newest  uint64

	newcomers []newcomer
	voted     []env.NodeID // of them, those that have a vote or had one
}

func (a *Always) group(cluster uint64) *group {
	g := a.groups[cluster]
	if g == nil {
		g = &group{leaders: map[uint64]*sim.Machine{}, proven: map[uint64]uint64{}, chains: map[uint64]chain{}}
		a.groups[cluster] = g
	}
	return g
}

type chain struct {
	sum   uint64
	index store.Index
	by    *sim.Machine
}

// seen is what was last seen of one machine's node.
type seen struct {
	member  env.NodeID
	life    int
	applied uint64
	index   store.Index
	time    store.Time
	term    uint64
	led     time.Duration // since when it leads with a stalled disk, 0: it does not
	ledTerm uint64
}

// chainsMax is how many raft indexes are remembered for comparing replicas.
const chainsMax = 20_000

// Watch puts the oracles in place.
func Watch(c *sim.Cluster, o Options) *Always {
	if o.StepsMax == 0 {
		o.StepsMax = 20_000
	}
	if o.FramesMax == 0 {
		o.FramesMax = 5_000
	}
	if o.FlightMax == 0 {
		o.FlightMax = 4 << 20
	}
	if o.WaitingMax == 0 {
		o.WaitingMax = 20_000
	}
	a := &Always{c: c, o: o, groups: map[uint64]*group{}, seen: map[env.NodeID]*seen{}, pasts: map[pastOf]past{}}
	c.OnTurn(a.turn)
	c.OnLife(a.life)
	return a
}

func (a *Always) turn(m *sim.Machine) {
	if now := a.c.Now() / time.Second; now != a.second {
		a.rate(now)
	}
	if ms := uint64(len(a.c.Machines())); a.c.Steps()-a.steps > 2*a.o.StepsMax*ms { // time may stand still
		a.c.Fail(Resource, "%d events in the second after %v, at most %d are in order", a.c.Steps()-a.steps, a.second*time.Second, a.o.StepsMax*ms)
	}
	a.rebuilt(m)
	n := sim.NodeOf(m)
	if n == nil {
		return
	}
	st := n.Status()
	a.reborn(m, n, &st)
	s := a.seen[m.ID()]
	if s == nil || s.life != m.Life() || s.member != n.ID() {
		s = &seen{life: m.Life(), member: n.ID()}
		a.seen[m.ID()] = s
	}
	if st.Term < s.term {
		a.c.Fail(Index, "%s: term went from %d to %d", m.Name(), s.term, st.Term)
	}
	s.term = st.Term
	g := a.group(n.Cluster())
	if st.Role == gateway.Leader {
		a.leader(g, m, &st)
	}
	a.members(g, m, n.ID(), &st)
	if st.Applied == s.applied {
		return
	}
	if st.Applied < s.applied {
		a.c.Fail(Index, "%s: applied went from %d to %d", m.Name(), s.applied, st.Applied)
	}
	s.applied = st.Applied
	g.proven[st.Term] = max(g.proven[st.Term], st.Applied)
	v := n.View()
	a.chain(g, m, st.Applied, v)
	a.events(m, s, v)
}

// leader checks that a term has one leader, over restarts too, and that its log
// holds every entry that somebody has applied in an earlier term.
func (a *Always) leader(g *group, m *sim.Machine, st *node.Status) {
	by, known := g.leaders[st.Term]
	if known && by != m {
		a.c.Fail(TwoLeaders, "%s leads in term %d, in which %s led", m.Name(), st.Term, by.Name())
	}
	if known {
		return
	}
	g.leaders[st.Term] = m
	a.Leaders++
	a.markLeader(m)
	var most uint64
	for _, term := range slices.Sorted(maps.Keys(g.proven)) {
		if term < st.Term {
			most = max(most, g.proven[term])
		}
	}
	if st.Last < most {
		a.c.Fail(Complete, "%s leads in term %d with a log that ends at entry %d, but entry %d was applied in an earlier term", m.Name(), st.Term, st.Last, most)
	}
}

// markLeader notes under which rare circumstances a leader came to be.
func (a *Always) markLeader(m *sim.Machine) {
	if _, pending := sim.NodeOf(m).Store().NextDeadline(); pending && a.Leaders > 1 {
		a.c.Mark("check: leader change with pending expiries")
	}
	for _, o := range a.c.Machines() {
		if a.o.Damaged != nil && a.o.Damaged(o.ID()) && o != m {
			a.c.Mark("check: election with one damaged disk")
			return
		}
	}
}

// chain compares replicas that applied up to the same entry.
func (a *Always) chain(g *group, m *sim.Machine, applied uint64, v *store.View) {
	known, ok := g.chains[applied]
	if !ok {
		g.chains[applied] = chain{v.Chain(), v.Index(), m}
		if applied > g.newest {
			g.newest = applied
			delete(g.chains, applied-chainsMax)
		}
		return
	}
	if known.sum != v.Chain() || known.index != v.Index() {
		a.c.Fail(State, "after entry %d %s has index %d and hash %x, %s had index %d and hash %x",
			applied, m.Name(), v.Index(), v.Chain(), known.by.Name(), known.index, known.sum)
	}
}

func (a *Always) events(m *sim.Machine, s *seen, v *store.View) {
	if v.Index() < s.index || v.Time() < s.time {
		a.c.Fail(Index, "%s: index %d time %d after index %d time %d", m.Name(), v.Index(), v.Time(), s.index, s.time)
		return
	}
	from := s.index + 1
	s.index, s.time = v.Index(), v.Time()
	for _, e := range v.Events(from) {
		if e.Refresh && e.Prev != nil && e.Prev.Expires != 0 && e.Prev.TTL < raceTime {
			a.c.Mark("check: ttl refreshed within one tick of expiry")
		}
		if strings.HasPrefix(e.Node.Key, lockRoot) {
			a.holders(m, e)
		}
		if a.o.Applied == nil {
			continue
		}
		if text := a.o.Applied(m, e); text != "" {
			a.c.Fail(State, "%s", text)
		}
	}
}

// raceTime is a refresh's distance from expiry that counts as a race, about a tick.
const raceTime = 100 * time.Millisecond

// lockRoot is where reboot locks live.
const lockRoot = "/coreos.com/updateengine/rebootlock/"

// holders checks every value that a reboot lock has: a write that takes a slot
// leaves no more holders than there are slots.
func (a *Always) holders(m *sim.Machine, e *store.Event) {
	if e.Node.Dir || e.Node.Value == "" {
		return
	}
	now, err := lock.Parse([]byte(e.Node.Value))
	if err != nil {
		return // written by somebody who does not keep to the form
	}
	before := 0
	if e.Prev != nil {
		if was, err := lock.Parse([]byte(e.Prev.Value)); err == nil {
			before = len(was.Holders)
		}
	}
	if len(now.Holders) > max(now.Max, before) {
		a.c.Fail(Holders, "%s: %s has holders %v of %d slots at index %d", m.Name(), e.Node.Key, now.Holders, now.Max, e.Index)
	}
}

// rate looks once in a virtual second at what grows.
func (a *Always) rate(now time.Duration) {
	passed := uint64(now - a.second)
	a.second = now
	ms := uint64(len(a.c.Machines()))
	steps := a.c.Steps() - a.steps
	a.steps += steps
	a.StepsMost = max(a.StepsMost, steps/passed)
	if steps/passed > a.o.StepsMax*ms {
		a.c.Fail(Resource, "%d events in the second before %v, at most %d are in order", steps/passed, now*time.Second, a.o.StepsMax*ms)
	}
	var frames uint64
	a.c.Net().Each(func(l *sim.Link) {
		s := l.Stats()
		frames += s.Sent
		if s.BytesMax > a.o.FlightMax {
			a.c.Fail(Memory, "%d bytes were in flight from %v to %v, at most %d may be", s.BytesMax, l.From(), l.To(), a.o.FlightMax)
		}
	})
	if (frames-a.frames)/passed > a.o.FramesMax*ms {
		a.c.Fail(Resource, "%d frames sent in the second before %v", (frames-a.frames)/passed, now*time.Second)
	}
	a.frames = frames
	for _, m := range a.c.Machines() {
		if m.Waiting() > a.o.WaitingMax && !m.Paused() {
			a.c.Fail(Memory, "%d inputs wait at %s", m.Waiting(), m.Name())
		}
		a.stalled(m)
	}
}

// stalledMax is how long a leader may stay whose disk takes no writes, while
// others follow it and are well: two election timeouts until it notices, and some
// attempts to hand over.
const stalledMax = 6 * time.Second

// stalled looks for a leader that goes on although its disk does not.
func (a *Always) stalled(m *sim.Machine) {
	n := sim.NodeOf(m)
	s := a.seen[m.ID()]
	if a.o.Stalled == nil || n == nil || s == nil {
		return
	}
	since, on := a.o.Stalled(m.ID())
	st := n.Status()
	if !on || st.Role != gateway.Leader || len(st.Voters) < 2 || m.Paused() || m.Disk().Pending() == 0 || !a.othersWell(m, st.Voters) {
		s.led = 0
		return
	}
	if s.led == 0 || s.ledTerm != st.Term || s.led < since {
		s.led, s.ledTerm = a.c.Now(), st.Term
	}
	if held := a.c.Now() - s.led; held > stalledMax {
		a.c.Fail(Liveness, "%s has led for %v with a disk that finishes no write", m.Name(), held)
	}
}

// othersWell says that enough other voters are up to elect one of them.
func (a *Always) othersWell(m *sim.Machine, voters []env.NodeID) bool {
	well := 0
	for _, id := range voters {
		o := a.c.ByMember(id)
		if o == nil || o == m || !o.Up() || o.Paused() {
			continue
		}
		if _, stalled := a.o.Stalled(o.ID()); !stalled {
			well++
		}
	}
	return well > len(voters)/2
}

// life looks at how a process ended. A member that cannot start from what its disk
// holds is a broken promise, unless the plan damaged that disk. What never was a
// member may be refused for what it was told.
func (a *Always) life(m *sim.Machine) {
	if m.Up() {
		return
	}
	exits := m.Exits()
	if len(exits) == 0 {
		return
	}
	x := exits[len(exits)-1]
	if x.Why != "start" && x.Why != "fatal" || errors.Is(x.Err, env.ErrFull) {
		return
	}
	if a.o.Damaged != nil && a.o.Damaged(m.ID()) || a.c.Misconfigured(m) || a.c.MemberOf(m) == 0 {
		return
	}
	left := errors.Is(x.Err, replica.ErrRemoved) || errors.Is(x.Err, bootstrap.ErrRemoved)
	if left && a.o.Removed != nil && a.o.Removed(m.ID()) {
		return
	}
	a.c.Fail(Restart, "%s ended by itself (%s): %v", m.Name(), x.Why, x.Err)
}
