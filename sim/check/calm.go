package check

import (
	"fmt"
	"slices"
	"time"

	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/sim"
)

// Bounds are how long, in virtual time, each step towards peace may take after
// trouble has ended. Zero fields are the defaults.
type Bounds struct {
	Leader time.Duration // until a majority follows one leader: 10 election timeouts, and two for processes being restarted: 12 s
	Answer time.Duration // until every request and client is done: 30 s
	Equal  time.Duration // until all replicas hold the same: 20 s
	Expire time.Duration // until keys with a TTL are gone after that, beside the TTL itself: 5 s
}

func (b *Bounds) fill() {
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&b.Leader, 12*time.Second)
	or(&b.Answer, 30*time.Second)
	or(&b.Equal, 20*time.Second)
	or(&b.Expire, 5*time.Second)
}

// Core says which machines must be part of the peace. Those left out are ones
// whose data the plan damaged.
type Core func(m *sim.Machine) bool

// Lead waits for a leader that a majority follows. Trouble must have ended.
func Lead(c *sim.Cluster, b Bounds) bool {
	b.fill()
	if c.AwaitLeader(b.Leader) == nil {
		return fail(c, "no leader that a majority follows within %v of the end of trouble", b.Leader)
	}
	return true
}

// Answered waits until no client is at work, as working says, which names one,
// and no node has requests that wait.
func Answered(c *sim.Cluster, b Bounds, working func() string) bool {
	b.fill()
	if !wait(c, b.Answer, func() bool { return working() == "" }) {
		return fail(c, "client %s still waits %v after the end of trouble", working(), b.Answer)
	}
	if !wait(c, b.Answer, func() bool { return pending(c) == "" }) {
		return fail(c, "requests still wait at %s", pending(c))
	}
	return true
}

func pending(c *sim.Cluster) string {
	for _, m := range c.Machines() {
		// Whoever is no member has nobody to ask, and goes on trying.
		if n := sim.NodeOf(m); n != nil && c.IsMember(m) {
			if s := n.Status(); s.Pending > 0 || s.Reads > 0 {
				return m.Name()
			}
		}
	}
	return ""
}

// Equal waits until every machine of the core has applied the same, and
// compares what they hold in full. Where the plan changed a value in some memory, as
// flipped says, members may differ until they have compared themselves, which they do
// now and then, and until those that are wrong are rebuilt: as long again is waited for
// that. Where no majority agrees, as when the wrong value was sent on to half of an even
// number, nobody is to stop, and the difference stays. Elsewhere it is final.
func Equal(c *sim.Cluster, b Bounds, core Core, flipped bool) bool {
	b.fill()
	if !wait(c, b.Equal, func() bool { return behind(c, core) == "" }) {
		return fail(c, "%s, %v after the end of trouble", behind(c, core), b.Equal)
	}
	if flipped && !wait(c, b.Equal, func() bool { return behind(c, core) == "" && differ(c, core) == "" }) {
		if late := behind(c, core); late != "" {
			return fail(c, "%s, %v after the end of trouble: it is not rebuilt", late, 2*b.Equal)
		}
	}
	if text := differ(c, core); text != "" && !(flipped && split(c, core)) {
		c.Fail(State, "%s", text)
		return false
	}
	return true
}

// split says that no state is that of a majority of the voters, and that each of them
// has said so.
func split(c *sim.Cluster, core Core) bool {
	voters, most := 0, 0
	count := make(map[uint64]int)
	for _, m := range c.Machines() {
		n := sim.NodeOf(m)
		if n == nil || !core(m) {
			continue
		}
		st := n.Status()
		if all := st.Voters; slices.Contains(all, n.ID()) {
			if st.Differing == 0 {
				return false
			}
			sum := n.View().Hash()
			count[sum]++
			voters, most = max(voters, len(all)), max(most, count[sum])
		}
	}
	return 2*most <= voters
}

// differ names two machines that have applied the same and hold something else. The
// sums cover the log time, which goes on while keys have deadlines.
func differ(c *sim.Cluster, core Core) string {
	var first *sim.Machine
	var sum, applied uint64
	for _, m := range c.Machines() {
		n := sim.NodeOf(m)
		if !core(m) || n == nil {
			continue
		}
		v, at := n.View(), n.Status().Applied
		if first == nil {
			first, sum, applied = m, v.Hash(), at
			continue
		}
		if at == applied && v.Hash() != sum {
			return fmt.Sprintf("%s and %s differ in full after entry %d", first.Name(), m.Name(), applied)
		}
	}
	return ""
}

func behind(c *sim.Cluster, core Core) string {
	var most uint64
	for _, m := range c.Nodes() {
		most = max(most, sim.NodeOf(m).Status().Commit)
	}
	for _, m := range c.Machines() {
		if !core(m) {
			continue
		}
		n := sim.NodeOf(m)
		if n == nil {
			return m.Name() + " is down"
		}
		if n.Status().Applied < most {
			return m.Name() + " is behind"
		}
	}
	return ""
}

// Expired waits until no node holds a key with a TTL, but for the leases of those who run
// units, which are renewed for as long as they do. Most is the longest TTL that was
// given. A machine that was slow may still have requests to carry out that nobody waits
// for any more, so the time counts from the last key that got a TTL; for b.Answer at most.
func Expired(c *sim.Cluster, b Bounds, core Core, most time.Duration) bool {
	b.fill()
	var held string
	seen := make(map[*sim.Machine]store.Index)
	last := c.Now()
	for stop := last + b.Answer; c.Now() < last+most+b.Expire; {
		held = ""
		for _, m := range c.Machines() {
			n := sim.NodeOf(m)
			if n == nil || !core(m) {
				continue
			}
			if from := seen[m]; gaveTTL(n.View(), from) && from > 0 && c.Now() < stop {
				last = c.Now()
			}
			seen[m] = n.View().Index()
			if holdsTTL(n) {
				held = m.Name()
			}
		}
		if held == "" {
			return true
		}
		if !c.RunFor(100 * time.Millisecond) {
			return false
		}
	}
	c.Fail(TTLLate, "%s still holds a key with a ttl of at most %v, %v after the last was set", held, most, most+b.Expire)
	return false
}

// gaveTTL says whether a key got a TTL after an index.
func gaveTTL(v *store.View, after store.Index) bool {
	return slices.ContainsFunc(v.Events(after+1), func(e *store.Event) bool { return e.Node.Expires != 0 && !leased(e.Node) })
}

// holdsTTL says whether a node holds a key with a TTL.
func holdsTTL(n *node.Node) (has bool) {
	if _, any := n.Store().NextDeadline(); !any {
		return false
	}
	n.View().Whole("/", func(k *store.Node) { has = has || k.Expires != 0 && !leased(k) })
	return has
}

// leased says that a key is one of the registry's.
func leased(n *store.Node) bool { return store.Within(n.Key, registry.DefaultPrefix) }

// wait steps until cond holds, asking ten times in a virtual second.
func wait(c *sim.Cluster, d time.Duration, cond func() bool) bool {
	for end := c.Now() + d; c.Now() < end; {
		if cond() {
			return true
		}
		if !c.RunFor(100 * time.Millisecond) {
			return false
		}
	}
	return cond()
}

func fail(c *sim.Cluster, format string, args ...any) bool {
	c.Fail(Liveness, format, args...)
	return false
}
