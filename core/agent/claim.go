package agent

import (
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// claim is this machine's hold on the fence of a singleton, job/NAME/claim. Whoever has it
// may run the unit, while its lease is valid.
type claim struct {
	held   bool
	epoch  int  // of the lease under which it was asked for
	maybe  bool // the store may have it in our name
	flying bool
	late   env.Instant // until when it may come to be in our name by a write of which nobody has heard
	number uint64
	again  env.Instant
	rest   env.Instant // before which it need not be given back again
	refuse int         // times in a row
}

// Waits of claims.
const (
	claimMin = 100 * time.Millisecond
	claimMax = 2 * time.Second
	// lateMax bounds how late a write may have its effect whose outcome is unknown.
	lateMax = 30 * time.Second
)

func (a *Agent) hasFenced() (some bool) {
	a.each(func(u *local) { some = some || u.fenced() })
	return some
}

// fenced says that the unit needs a claim to run, or runs under one.
func (u *local) fenced() bool { return u.want != nil && u.want.Fenced() || u.mark.Fenced }

// unfenced says that what runs, or may, is no singleton any more.
func (u *local) unfenced() bool {
	return u.want != nil && u.have != nil && u.want.State == unit.Launched && u.want.Hash == u.have.Hash && !u.want.Fenced()
}

// active says that something of the unit may run, or be on its way to.
func (u *local) active() bool { return u.mark.Begun || u.have != nil && !u.halted && mayRun(u.have) }

// fence stops singletons when the lease may run out before they would have ended. That
// the store is away is no excuse: others act on the lease.
//
// The bound: where clocks run wrong by less than a twentieth and this process is not
// held up, a singleton that ends within a quarter of the TTL of being told to has ended
// before any other machine may start it. One whose ExecStop takes longer overlaps by as
// much; set TimeoutStopSec. While this process does not run, or has lost its service
// manager, nobody stops the unit, and it may overlap until a quarter of the TTL after.
func (a *Agent) fence() {
	now, until := a.env.Clock.Now(), a.lease.fenceUntil()
	if now < until {
		if a.hasFenced() {
			a.wakeAt(until)
		}
		return
	}
	if planted.On(planted.LostLeaseKeepsRun) {
		return
	}
	a.each(func(u *local) {
		if !u.fenced() {
			return
		}
		u.claim.held = false
		if u.active() {
			a.env.Rare.Mark("agent: a singleton is stopped because the lease may run out")
			a.halt(u, "the machine's lease could not be renewed")
		}
	})
}

// halt stops a unit at once, whatever else is under way.
func (a *Agent) halt(u *local, why string) {
	if u.have == nil || u.job != nil && u.job.verb == env.JobStop || a.away || a.wait(u.until) {
		return
	}
	a.env.Log.Log(env.Warn, "units: a singleton is stopped", "unit", u.name, "reason", why)
	a.begin(u, env.JobStop, nil)
}

// claims asks for the claims that are needed and gives back the others.
func (a *Agent) claims() {
	a.each(func(u *local) {
		c := &u.claim
		need := u.want != nil && u.want.Fenced()
		if c.held && c.epoch != a.lease.epoch {
			c.held = false
		}
		switch {
		case c.flying || u.forgotten || a.wait(c.again):
		case need && !c.held && a.lease.valid():
			a.claim(u)
		case !need && c.maybe && !a.wait(c.rest) && (!u.active() || u.unfenced()):
			a.release(u)
		}
	})
}

// claim asks for a claim: one that is there in our name is made anew, so that whoever
// decided to take away the old one finds another.
func (a *Agent) claim(u *local) {
	c := &u.claim
	if !u.mark.Fenced {
		u.mark.Fenced = true
		c.number = a.note.save()
	}
	if !a.note.has(c.number) {
		return // a claim that nobody knows of would never be given back
	}
	key, id := a.cfg.Keys.Claim(u.name), a.cfg.Machine
	epoch := a.lease.epoch
	c.flying, c.maybe, c.rest = true, true, 0
	a.src.Propose(store.Command{Op: store.OpCreate, Key: key, Value: id}, func(r store.Result) {
		if r.Err == nil || r.Err.Code != store.CodeExists {
			a.claimed(u, epoch, r)
			return
		}
		again := store.Command{Op: store.OpCompareAndSwap, Key: key, Value: id, PrevValue: id}
		a.src.Propose(again, func(r store.Result) { a.claimed(u, epoch, r) })
	})
}

func (a *Agent) claimed(u *local, epoch int, r store.Result) {
	c := &u.claim
	c.flying = false
	switch {
	case r.Err == nil && r.Event != nil && epoch == a.lease.epoch:
		c.held, c.epoch, c.refuse = true, epoch, 0
	case r.Err == nil:
	case r.Err.Code == store.CodeCompareFailed: // another machine has it
		c.maybe = a.env.Clock.Now() < c.late
		c.pause(a)
		if u.active() {
			a.halt(u, "another machine holds its claim")
		}
	case r.Err.Code == store.CodeKeyNotFound: // taken away just now
		c.pause(a)
	default:
		c.late = a.env.Clock.Now().Add(lateMax)
		c.pause(a)
	}
	a.wake()
}

func (c *claim) pause(a *Agent) {
	c.again = a.env.Clock.Now().Add(min(claimMin<<min(c.refuse, 10), claimMax))
	c.refuse++
}

// release gives a claim back: nothing of the unit runs here any more.
func (a *Agent) release(u *local) {
	c := &u.claim
	c.flying, c.held = true, false
	cmd := store.Command{Op: store.OpCompareAndDelete, Key: a.cfg.Keys.Claim(u.name), PrevValue: a.cfg.Machine}
	a.src.Propose(cmd, func(r store.Result) {
		c.flying = false
		switch {
		case r.Err == nil || r.Err.Code == store.CodeKeyNotFound || r.Err.Code == store.CodeCompareFailed:
			c.refuse = 0
			c.maybe = a.env.Clock.Now() < c.late // then it is looked for once more
			c.rest = c.late
			if !c.maybe {
				u.mark.Fenced = false
				a.note.save()
			}
		default:
			c.pause(a)
		}
		a.wake()
	})
}
