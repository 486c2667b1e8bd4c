package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/invariant"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
)

// lease is the machine's record, whose TTL says that the machine is there.
//
//	            none there, or ours            refreshed, or rewritten
//	looking ─────────────────────────▶ held ──────────────┐
//	  │  ▲                              │ ▲               │
//	  │  └── gone, or another's ────────┘ └───────────────┘
//	  │ another machine's
//	  └──▶ clash, and look again
//
// An answer that does not come changes nothing: the machine goes on, and tries again.
type lease struct {
	a     *Agent
	state leaseState
	text  string // the record as the store surely has it, while held
	// created is the index at which the record was created last. Another one means that it
	// had run out in between: then others may have acted on that, and epoch counts on.
	created   store.Index
	epoch     int
	confirmed env.Instant // when the write was sent that was confirmed last
	clash     error

	number   int // of the tries
	flying   int
	failures int
	warned   bool // that it may run out
	began    env.Instant
	timer    env.Timer
	over     bool
}

type leaseState int

const (
	looking leaseState = iota
	held
)

// Parts of the TTL.
const (
	beatPart   = 2 // of which one passes between refreshes
	fencedPart = 4 // while a singleton is here
	patient    = 8 // after which a try without answer is made again
	stopPart   = 4 // which a singleton is given to stop in
	driftPart  = 20
	gracePart  = 4 // for which a new life lets the singletons of the former one run without news
)

// patience is how long what runs here is let run although nobody wants it, after the lease
// was made anew: while there was none its units were taken away, and those that nobody
// else can run come back as soon as the engine has seen the machine again.
const patience = 2 * time.Second

// tries is how many may be under way at once.
const tries = 3

// Waits between tries that failed.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 2 * time.Second
)

func (l *lease) ttl() time.Duration { return l.a.cfg.TTL }

// fenceUntil is until when a singleton may run by what was confirmed last: the TTL after
// that was sent, less what this clock may be slow by, less the time to stop in.
func (l *lease) fenceUntil() env.Instant { return l.confirmed.Add(l.span()) }

func (l *lease) span() time.Duration { return l.ttl() - l.ttl()/driftPart - l.ttl()/stopPart }

// begin lets singletons of the former life run for a while without news of the lease,
// unless that life did the same: processes that end one after the other must not keep a
// singleton running for ever.
func (l *lease) begin() {
	l.began = l.a.env.Clock.Now()
	l.confirmed = l.began.Add(-l.span())
	if !l.a.note.unsure {
		l.confirmed = l.confirmed.Add(l.ttl() / gracePart)
	}
}

// valid says that nobody can have found the lease run out yet.
func (l *lease) valid() bool { return l.state == held && l.a.env.Clock.Now() < l.fenceUntil() }

// ready is nil while the machine is registered.
func (l *lease) ready() error {
	switch {
	case l.clash != nil:
		return l.clash
	case l.state != held:
		return errNotYet
	}
	return nil
}

func (l *lease) record() string {
	f := l.a.cfg.Facts
	return registry.EncodeMachine(&registry.Machine{
		ID: l.a.cfg.Machine, PublicIP: f.PublicIP, Metadata: f.Metadata, Capacity: f.Capacity, Version: f.Version,
		Host: f.Host, API: f.API, Instance: l.a.note.instance, Boot: l.a.cfg.Boot, Engine: f.Engine,
	})
}

func (l *lease) key() string { return l.a.cfg.Keys.MachineObject(l.a.cfg.Machine) }

// beat makes a try.
func (l *lease) beat() {
	if l.over || l.flying >= tries {
		return
	}
	l.flying++
	l.number++
	l.after(l.ttl() / patient)
	if l.state == looking {
		l.look()
		return
	}
	record := l.record()
	c := store.Command{Op: store.OpCompareAndSwap, Key: l.key(), PrevValue: l.text, HasTTL: true, TTL: l.ttl()}
	if record == l.text {
		c.Refresh = true
	} else {
		c.Value = record
	}
	l.propose(c, record)
}

// look finds out whose record is there, at an index that somebody confirmed.
func (l *lease) look() {
	l.a.src.Barrier(func(err error) {
		switch {
		case l.over:
		case err != nil:
			l.flying--
			l.failed(err)
		default:
			l.a.confirmedView()
			l.claim()
		}
	})
}

// claim writes the record over none, or over one that is ours.
func (l *lease) claim() {
	record := l.record()
	c := store.Command{Op: store.OpCreate, Key: l.key(), Value: record, HasTTL: true, TTL: l.ttl()}
	if n := l.a.get(l.key()); n != nil {
		if err := l.foreign(n.Value); err != nil {
			l.flying--
			l.clashes(err)
			return
		}
		c.Op, c.PrevIndex = store.OpCompareAndSwap, n.Modified
	}
	l.propose(c, record)
}

// foreign says why a record is not ours: another data directory made it, or a copy of
// ours on a machine that runs beside this one.
func (l *lease) foreign(text string) error {
	other, err := registry.DecodeMachine(l.a.cfg.Machine, text)
	if err != nil {
		return fmt.Errorf("agent: the record of machine %s cannot be read: %w", l.a.cfg.Machine, err)
	}
	copied := l.epoch > 0 && other.Boot != l.a.cfg.Boot
	if other.Instance == l.a.note.instance && !copied {
		return nil
	}
	f := l.a.cfg.Facts
	return fmt.Errorf("agent: machine ID %s is used by two machines: this one is %s, the one registered is %s: give one of them an ID of its own in /etc/machine-id",
		l.a.cfg.Machine, who(f.Host, f.PublicIP, l.a.note.instance), who(other.Host, other.PublicIP, other.Instance))
}

func who(host, ip, instance string) string {
	return fmt.Sprintf("%s (%s, instance %.8s)", orDash(host), orDash(ip), orDash(instance))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (l *lease) propose(c store.Command, record string) {
	sent, number, first := l.a.env.Clock.Now(), l.number, l.state == looking
	l.a.src.Propose(c, func(r store.Result) {
		l.flying--
		if l.over {
			return
		}
		switch {
		case r.Err == nil && r.Event != nil:
			if r.Event.Action == store.ActionCreate {
				l.a.patience = l.a.env.Clock.Now().Add(patience)
			}
			l.took(record, sent, r.Event.Node.Created)
		case r.Err != nil && (r.Err.Code == store.CodeCompareFailed || r.Err.Code == store.CodeExists || r.Err.Code == store.CodeKeyNotFound):
			if first || number == l.number || l.state == looking {
				l.lost()
			}
		case r.Err != nil:
			l.failed(r.Err)
		default:
			l.failed(errors.New("no outcome"))
		}
	})
}

// took notes that the store has the record, as sent at a moment.
func (l *lease) took(record string, sent env.Instant, created store.Index) {
	l.confirmed = max(l.confirmed, sent)
	l.failures, l.warned = 0, false
	if l.state != held || l.created != created {
		if l.created != created {
			l.epoch++
			if l.epoch > 1 {
				l.a.env.Rare.Mark("agent: the lease ran out and was made anew")
			}
		}
		l.created = created
		l.become(held, nil)
		l.a.registered()
	}
	l.text = record
	part := beatPart
	if l.a.hasFenced() {
		part = fencedPart
	}
	l.after(l.ttl() / time.Duration(part))
	if record != l.record() {
		l.soon()
	}
	l.a.wake()
}

// lost notes that the store has another record, or none.
func (l *lease) lost() {
	l.become(looking, l.clash)
	l.failed(errors.New("the record is not as it was"))
}

func (l *lease) clashes(err error) {
	if l.clash == nil || l.clash.Error() != err.Error() {
		l.a.env.Log.Log(env.Error, "units: this machine does nothing until it has an ID of its own", "reason", err)
		l.a.env.Rare.Mark("agent: two machines with one ID")
	}
	l.become(looking, err)
	l.after(l.ttl() / patient)
}

// become is the only place where the state changes.
func (l *lease) become(s leaseState, clash error) {
	invariant.Check(s != held || clash == nil, "agent: registered and refused at once")
	before := l.ready()
	l.state, l.clash = s, clash
	if (before == nil) != (l.ready() == nil) && l.a.cfg.Changed != nil {
		l.a.cfg.Changed()
	}
}

// failed has another try made after a wait that doubles.
func (l *lease) failed(err error) {
	wait := min(retryMin<<min(l.failures, 10), retryMax, l.ttl()/patient)
	wait += time.Duration(l.a.env.Rand.Int64N(int64(wait)/4 + 1))
	l.failures++
	l.a.env.Log.Log(env.Debug, "units: the machine's record was not written", "reason", err, "again", wait)
	if age := l.a.env.Clock.Now().Sub(max(l.confirmed, l.began)); !l.warned && age > l.ttl()/2 {
		l.warned = true
		l.a.env.Log.Log(env.Warn, "units: the machine's record cannot be written; once it has run out, units here run on and are started elsewhere too", "reason", err, "for", age)
	}
	l.after(wait)
	l.a.reread()
}

func (l *lease) after(d time.Duration) {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.timer = l.a.env.Clock.After(d, l.beat)
}

// soon makes a try in a later turn.
func (l *lease) soon() { l.after(0) }

// stop ends the lease's care for the record.
func (l *lease) stop() {
	l.over = true
	if l.timer != nil {
		l.timer.Stop()
	}
}

// release removes the record and calls done when that is tried.
func (l *lease) release(done func()) {
	l.stop()
	if l.state != held {
		done()
		return
	}
	c := store.Command{Op: store.OpCompareAndDelete, Key: l.key(), PrevValue: l.text}
	l.a.src.Propose(c, func(store.Result) { done() })
}
