package linearizability

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Oracle names the promise that a violation breaks.
type Oracle string

// The oracles.
const (
	Linearizable Oracle = "linearizability"
	Durable      Oracle = "durability"
	Diverged     Oracle = "state"
	WatchLoss    Oracle = "watch loss"
	WatchOrder   Oracle = "watch order"
	WatchRepeat  Oracle = "watch repeat"
	WatchWrong   Oracle = "watch content"
	TTLEarly     Oracle = "ttl early"
	TTLLate      Oracle = "ttl late"
)

// Violation is one broken promise.
type Violation struct {
	Oracle Oracle
	Detail string
}

func (v Violation) String() string { return string(v.Oracle) + ": " + v.Detail }

// Options says what the checkers may take for granted.
type Options struct {
	// Foreign says that others than the recorded clients write too: an index
	// that nobody accounts for is then no violation. It is ignored where the
	// history holds the log.
	Foreign bool
	// DriftPPM is how many millionths the clocks of nodes may be off.
	DriftPPM int64
	// LateMax is how long after its time a key may still be seen while the
	// cluster is at peace; 0 leaves lateness unchecked.
	LateMax time.Duration
	// PeaceFrom is the reading of the history's clock, in nanoseconds, from
	// which on the cluster is at peace.
	PeaceFrom int64
	// RegisterOpsMax bounds the operations of one key that porcupine is given:
	// 1000 if 0.
	RegisterOpsMax int
	// RegisterTimeout bounds the search for one key: 5 s if 0.
	RegisterTimeout time.Duration
	// SkipRegister leaves porcupine out.
	SkipRegister bool
	// ViolationsMax bounds how many violations each checker lists: 20 if 0.
	ViolationsMax int
}

// Report is what Check found.
type Report struct {
	Violations []Violation
	// Ops, Unknown, Changes and Watches count what was checked.
	Ops, Unknown, Changes, Watches int
	// Keys, KeysSkipped and KeysUndecided count what porcupine was given, what
	// was too long or not a register, and where its time ran out. The latter is
	// no success.
	Keys, KeysSkipped, KeysUndecided int
	// Gaps counts changes that no one saw and an unknown outcome explains.
	Gaps int
}

// OK says that no promise was broken.
func (r *Report) OK() bool { return len(r.Violations) == 0 }

// Check runs every checker over h.
func Check(h *History, o Options) *Report {
	if o.ViolationsMax == 0 {
		o.ViolationsMax = 20
	}
	r := &Report{Ops: len(h.Ops), Watches: len(h.Watches), Changes: len(h.Log)}
	for _, op := range h.Ops {
		if op.Unknown {
			r.Unknown++
		}
	}
	for _, l := range h.Lost {
		r.Violations = append(r.Violations, Violation{Diverged, l})
	}
	c := newIndexCheck(h, &o)
	c.run()
	r.Gaps = c.guessed
	r.Violations = append(r.Violations, c.bad...)
	r.Violations = append(r.Violations, realTime(h, &o)...)
	r.Violations = append(r.Violations, checkWatches(h, c.changes, &o)...)
	if !o.SkipRegister {
		checkRegisters(h, &o, r)
	}
	return r
}

// limited collects violations up to a bound.
type limited struct {
	max int
	bad []Violation
}

func (l *limited) add(o Oracle, format string, args ...any) {
	if len(l.bad) < l.max {
		l.bad = append(l.bad, Violation{o, fmt.Sprintf(format, args...)})
	}
}

// realTime checks that the order of indexes agrees with the order of time: an
// answer's index is no smaller than any that was reported before the call, a
// write's is larger, and nothing is seen before it was asked for.
func realTime(h *History, o *Options) []Violation {
	l := &limited{max: o.ViolationsMax}
	var known []*Op
	for _, op := range h.Ops {
		if op.Unknown || op.Output.Index == 0 || op.Input.Kind == Get && op.Input.Local {
			continue
		}
		known = append(known, op)
	}
	calls := slices.Clone(known)
	slices.SortFunc(calls, func(a, b *Op) int { return cmp.Compare(a.Call, b.Call) })
	returns := slices.Clone(known)
	slices.SortFunc(returns, func(a, b *Op) int { return cmp.Compare(a.Return, b.Return) })
	var before *Op // the returned operation with the highest index
	next := 0
	for _, op := range calls {
		for ; next < len(returns) && returns[next].Return < op.Call; next++ {
			if before == nil || returns[next].Output.Index > before.Output.Index {
				before = returns[next]
			}
		}
		if before == nil {
			continue
		}
		floor := before.Output.Index
		if op.changed() {
			floor++
		}
		if op.Output.Index < floor {
			l.add(Linearizable, "%v\n  goes back behind index %d, which an earlier answer had shown: %v", op, before.Output.Index, before)
		}
	}
	fromTheFuture(h, l)
	return l.bad
}

// changed says that the operation made the change at the index it reports.
func (o *Op) changed() bool { return !o.Unknown && o.Output.Code == 0 && o.Input.Write() }

// fromTheFuture looks for answers that show a change before anybody asked for it.
func fromTheFuture(h *History, l *limited) {
	asked := map[uint64]*Op{}
	for _, op := range h.Ops {
		if op.changed() {
			asked[op.Output.Index] = op
		}
	}
	early := func(index uint64, seq int64, who fmt.Stringer) {
		if w := asked[index]; w != nil && w.Call > seq {
			l.add(Linearizable, "%v\n  shows index %d before it was asked for: %v", who, index, w)
		}
	}
	for _, op := range h.Ops {
		if !op.Unknown {
			early(op.Output.Index, op.Return, op)
		}
	}
	for _, w := range h.Watches {
		for _, e := range w.Events {
			early(e.Index, e.Seq, w)
		}
	}
	for _, e := range h.Log {
		early(e.Index, e.Seq, e)
		if w := asked[e.Index]; w != nil && w.Return < e.Seq {
			l.add(Durable, "%v\n  was acknowledged before any node applied it", w)
		}
	}
}
