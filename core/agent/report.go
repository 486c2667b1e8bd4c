package agent

import (
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// own is a key that only this machine writes, or only while a unit is its own. At most one
// write of it is under way; what is wanted next waits for that and replaces what waited
// before.
type own struct {
	key   string
	want  string // "" is absent
	told  string // what the store has, unless doubt
	doubt bool   // what the store has is not known
	done  bool   // what is wanted was written, and may have been undone by what came late
	// late is until when a write may still have its effect of which nobody has heard.
	late   env.Instant
	shared bool // another machine may have written it: job-state
	mine   bool // the unit is this machine's now, so that a shared key may be taken from another
	flying bool
	queued bool
	paid   env.Instant // see pay
	slowed bool
}

func (k *own) settled() bool { return k.want == k.told && !k.doubt && !k.flying }

// Bounds of an outbox.
const (
	writesMax = 32 // under way
	burst     = 6  // writes of one key at once
	pace      = 2 * time.Second
)

// outbox writes own keys.
type outbox struct {
	a        *Agent
	queue    []*own
	flying   int
	failures int
	again    env.Instant
}

// set says what the store should have under the key.
func (o *outbox) set(k *own, value string) {
	k.done = k.done && k.want == value
	k.want = value
	o.push(k)
}

// anew has the key written whatever it was said to hold.
func (o *outbox) anew(k *own) {
	k.doubt, k.done = true, false
	o.push(k)
}

func (o *outbox) push(k *own) {
	if !k.queued && !k.settled() {
		k.queued = true
		o.queue = append(o.queue, k)
	}
}

// pump sends what is due.
func (o *outbox) pump() {
	if o.a.lease.state != held {
		return
	}
	var later []*own
	for len(o.queue) > 0 && o.flying < writesMax && !o.a.wait(o.again) { // a write may fail inside the call
		k := o.queue[0]
		o.queue = o.queue[1:]
		if k.flying || k.done && o.a.wait(k.late) || !o.pay(k) {
			later = append(later, k)
			continue
		}
		k.queued = false
		if !k.settled() {
			o.send(k)
		}
	}
	o.queue = append(later, o.queue...)
}

// pay bounds the writes of a key: a few at once, and one each pace. Removals are free.
func (o *outbox) pay(k *own) bool {
	if k.want == "" || k.settled() {
		return true
	}
	now := o.a.env.Clock.Now()
	paid := max(k.paid, now).Add(pace)
	if paid > now.Add(burst*pace) {
		if !k.slowed {
			o.a.env.Rare.Mark("agent: a state is reported later because it changes all the time")
		}
		k.slowed = true
		o.a.wakeAt(paid.Add(-burst * pace))
		return false
	}
	k.paid, k.slowed = paid, false
	return true
}

func (o *outbox) send(k *own) {
	k.flying = true
	o.flying++
	value := k.want
	c := store.Command{Op: store.OpSet, Key: k.key, Value: value}
	switch {
	case value == "" && k.shared:
		c = store.Command{Op: store.OpCompareAndDelete, Key: k.key, PrevValue: o.a.cfg.Machine}
	case value == "":
		c.Op = store.OpDelete
	case k.shared:
		c.Op = store.OpCreate
	}
	o.a.src.Propose(c, func(r store.Result) {
		if c.Op != store.OpCreate || r.Err == nil || r.Err.Code != store.CodeExists {
			o.sent(k, value, r)
			return
		}
		o.retake(k, value)
	})
}

// retake writes a shared key that exists: ours as it is, and another's only if the unit is
// still ours at an index that somebody confirmed.
func (o *outbox) retake(k *own, value string) {
	c := store.Command{Op: store.OpCompareAndSwap, Key: k.key, Value: value, PrevValue: value}
	o.a.src.Propose(c, func(r store.Result) {
		if r.Err == nil || r.Err.Code != store.CodeCompareFailed {
			o.sent(k, value, r)
			return
		}
		o.a.src.Barrier(func(err error) {
			o.a.unread = true
			o.a.decide()
			o.a.each(o.a.report)
			switch {
			case err != nil || k.want != value:
				o.sent(k, value, store.Result{Err: r.Err})
				return
			case !k.mine: // it ends here, and runs elsewhere: there is nothing to take back
				k.want = ""
				o.sent(k, "", store.Result{})
				return
			}
			o.a.src.Propose(store.Command{Op: store.OpSet, Key: k.key, Value: value}, func(r store.Result) { o.sent(k, value, r) })
		})
	})
}

func (o *outbox) sent(k *own, value string, r store.Result) {
	k.flying = false
	o.flying--
	now := o.a.env.Clock.Now()
	switch {
	case r.Err == nil, value == "" && (r.Err.Code == store.CodeKeyNotFound || r.Err.Code == store.CodeCompareFailed):
		o.failures = 0
		k.told = value
		k.doubt = now < k.late // then it is written once more
		k.done = k.doubt && k.want == value
	default:
		k.doubt = true
		if r.Err.Code == store.CodeRaftInternal {
			k.late = now.Add(lateMax)
		}
		o.again = now.Add(min(retryMin<<min(o.failures, 10), retryMax))
		o.failures++
	}
	o.push(k)
	o.a.wake()
}

// report has the store show what is known of the unit. Nothing new is said of a unit that
// is not wanted here; what was said is taken back once it is gone.
func (a *Agent) report(u *local) {
	if u.state.key == "" {
		u.state.key = a.cfg.Keys.State(u.name, a.cfg.Machine)
		u.launched.key, u.launched.shared = a.cfg.Keys.JobState(u.name), true
	}
	if !a.note.has(u.number) {
		return // what nobody knows of after a crash would never be taken back
	}
	launched := u.want != nil && !u.want.Global && u.want.State == unit.Launched && u.launches()
	u.launched.mine = launched
	switch {
	case launched:
		a.out.set(&u.launched, a.cfg.Machine)
	case u.want != nil || !u.active():
		a.out.set(&u.launched, "")
	}
	switch s := a.shown(u); {
	case u.want == nil && u.have != nil:
	case s == registry.UnitState{}:
		u.shown = s
		a.out.set(&u.state, "")
	case s != u.shown:
		u.shown = s
		a.out.set(&u.state, registry.EncodeState(&s))
	}
}

// launches says that systemd was told to start the unit that is wanted, or need not be.
func (u *local) launches() bool {
	return u.mark.Launched || u.have != nil && u.have.Hash == u.want.Hash && runs(u.have) && !u.halted
}

// shown is what a unit's state should say; the zero value is nothing.
func (a *Agent) shown(u *local) (s registry.UnitState) {
	switch {
	case u.want == nil || u.have == nil && u.fault == "":
		return s
	case u.have == nil:
		s = registry.UnitState{Load: "not-found", Active: "inactive", Sub: "dead", Hash: u.want.Hash}
	default:
		s = registry.UnitState{Load: u.have.Load, Active: u.have.Active, Sub: u.have.Sub, Hash: u.have.Hash}
		if u.have.Result != "success" {
			s.Result = u.have.Result
		}
	}
	s.Name, s.MachineID = u.name, a.cfg.Machine
	switch {
	case u.fault != "":
		s.Result = u.fault
	case u.waits != "":
		s.Result = u.waits
	case u.outcome != "" && s.Result == "":
		s.Result = u.outcome
	}
	return s
}
