package sim

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/sim/systemd"
)

// Options is what may be chosen about a world besides its seed. The zero value
// is a quiet network, sound disks and exact clocks.
type Options struct {
	Link      LinkConfig // of every link; the zero value stands for DefaultLink
	Disk      DiskConfig // of every disk; the zero value stands for DefaultDisk
	Turn      TurnConfig // the zero value is drawn from the seed
	Start     time.Time  // wall time at virtual time zero; default 2026-01-01 UTC
	TraceRing int        // events kept for failures; default 4096
	Trace     io.Writer  // takes every event as one line; nil: none
	Log       io.Writer  // takes the nodes' log lines; nil: none
	LogLevel  env.Level  // least level that Log takes
	NoRare    bool       // env.Rare.Chance is always false
}

// TurnConfig says how many inputs share one turn of a node.
type TurnConfig struct {
	Max   int           // most inputs before a Flush, at least 1
	Wait  float64       // chance that a turn waits for more inputs
	Delay time.Duration // longest such wait
}

// World is one simulated world. Make it with NewWorld, end it with Close.
type World struct {
	seed uint64
	opts Options

	now    time.Duration
	queue  queue
	nextID uint64
	cur    uint64 // the event that runs now; 0 between events
	cause  uint64 // what caused it
	steps  uint64
	closed bool

	machines []*Machine
	byID     map[env.NodeID]*Machine
	byName   map[string]*Machine
	net      *Net
	zone     *Zone
	places   uint64 // counts the changes of who is found where
	procs    []*Proc

	streams map[string]*random
	turns   *random
	rare    rareWorld

	hash    uint64
	ring    []Event
	ringed  uint64 // events ever put into ring
	failure *Failure
	scratch bytes.Buffer // where the content of files gathers

	onTurn  []func(*Machine)
	onEvent []func(Event)
	onLife  []func(*Machine)
	onRan   []func(*Machine, systemd.Ran)
	onAsked []func(*Machine, systemd.Asked)
}

// NewWorld makes an empty world. It panics unless Deterministic was called.
func NewWorld(seed uint64, o Options) *World {
	if !deterministic() {
		panic("sim: call sim.Deterministic first, in TestMain or before the first world: without it raft's election jitter differs from run to run")
	}
	w := &World{
		seed:    seed,
		opts:    o,
		byID:    make(map[env.NodeID]*Machine),
		byName:  make(map[string]*Machine),
		streams: make(map[string]*random),
		hash:    fold(seed, hashKey),
	}
	w.turns = w.stream("turns")
	w.fillOptions()
	w.net = newNet(w)
	w.zone = newZone(w)
	w.rare = rareWorld{w: w, on: !o.NoRare}
	return w
}

func (w *World) fillOptions() {
	o := &w.opts
	if o.Link == (LinkConfig{}) {
		o.Link = DefaultLink()
	}
	if o.Disk == (DiskConfig{}) {
		o.Disk = DefaultDisk()
	}
	if o.Turn == (TurnConfig{}) {
		o.Turn = drawTurn(w.turns)
	}
	o.Turn.Max = max(o.Turn.Max, 1)
	if o.Start.IsZero() {
		o.Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if o.TraceRing <= 0 {
		o.TraceRing = 4096
	}
}

// drawTurn makes some worlds flush after every input and others batch heavily.
func drawTurn(r *random) TurnConfig {
	return TurnConfig{
		Max:   []int{1, 2, 8, 64, 256}[r.IntN(5)],
		Wait:  []float64{0, 0.1, 0.3, 0.7}[r.IntN(4)],
		Delay: []time.Duration{100 * time.Microsecond, time.Millisecond, 5 * time.Millisecond}[r.IntN(3)],
	}
}

// Seed is what the world was made from.
func (w *World) Seed() uint64 { return w.seed }

// Options is what the world was made with, with defaults and draws filled in.
func (w *World) Options() Options { return w.opts }

// Now is the virtual time since the world began.
func (w *World) Now() time.Duration { return w.now }

// Rand gives the stream for one purpose. The same purpose gives the same stream
// again, where it stands. A stream's first state depends on the seed and the
// purpose only.
func (w *World) Rand(purpose string) *rand.Rand { return w.stream(purpose).Rand }

func (w *World) stream(purpose string) *random {
	r, ok := w.streams[purpose]
	if !ok {
		r = newRandom(w.seed, purpose)
		w.streams[purpose] = r
	}
	return r
}

// At runs fn at time t, or now if t is past. What names it in the trace.
func (w *World) At(t time.Duration, what string, fn func()) {
	w.push(max(t, w.now), call(func() {
		w.record(KindCall, 0, 0, 0, 0, what)
		fn()
	}))
}

// After runs fn d from now.
func (w *World) After(d time.Duration, what string, fn func()) { w.At(w.now+d, what, fn) }

// push has do run at time t and gives the event's ID.
func (w *World) push(t time.Duration, do runner) uint64 {
	w.nextID++
	w.queue.push(max(t, w.now), w.nextID, w.cur, do)
	return w.nextID
}

// Step runs the next event. It is false when nothing is left to happen, or when
// the world has failed.
func (w *World) Step() bool {
	if w.failure != nil || w.closed || len(w.queue.entries) == 0 {
		return false
	}
	e, s := w.queue.pop()
	w.now, w.cur, w.cause = e.at, e.id, s.cause
	w.steps++
	s.do.run(w)
	w.cur, w.cause = 0, 0
	return w.failure == nil
}

// next is when the next event happens.
func (w *World) next() (time.Duration, bool) {
	if w.failure != nil || w.closed || len(w.queue.entries) == 0 {
		return 0, false
	}
	return w.queue.entries[0].at, true
}

// RunUntil steps up to virtual time t and is false if the world failed. Now is t
// afterwards even if nothing happened then.
func (w *World) RunUntil(t time.Duration) bool {
	return !w.runTill(t, func() bool { return false }) && w.failure == nil
}

// RunFor steps for d of virtual time.
func (w *World) RunFor(d time.Duration) bool { return w.RunUntil(w.now + d) }

// RunTill steps until cond holds, asking it after each event, for at most d.
// It reports whether cond held. In a failed world it is false.
func (w *World) RunTill(d time.Duration, cond func() bool) bool { return w.runTill(w.now+d, cond) }

func (w *World) runTill(t time.Duration, cond func() bool) bool {
	if w.failure == nil && cond() {
		return true
	}
	for {
		at, ok := w.next()
		if !ok || at > t {
			break
		}
		if w.Step() && cond() {
			return true
		}
	}
	if w.failure == nil {
		w.now = max(w.now, t)
	}
	return false
}

// Await steps until p has ended, for at most d, and reports whether it did.
func (w *World) Await(p *Proc, d time.Duration) bool { return w.RunTill(d, p.Done) }

// Close stops all coroutines and makes the world unusable. It may be called twice.
func (w *World) Close() {
	if w.closed {
		return
	}
	w.closed = true
	for _, p := range w.procs {
		p.end()
	}
	w.queue = queue{}
}

// Fail ends the run: an oracle found something. Only the first failure is kept.
func (w *World) Fail(oracle, format string, args ...any) {
	w.fail(&Failure{Oracle: oracle, Message: fmt.Sprintf(format, args...)})
}

func (w *World) fail(f *Failure) {
	if w.failure != nil {
		return
	}
	f.At, f.Event = w.now, w.cur
	w.failure = f
	w.record(KindFail, f.Node, 0, 0, 0, f.Oracle+": "+f.Message)
}

// Failure is why the run failed, or nil.
func (w *World) Failure() *Failure { return w.failure }

// OnTurn has fn called after each turn of each machine's node, outside the node.
func (w *World) OnTurn(fn func(*Machine)) { w.onTurn = append(w.onTurn, fn) }

// OnEvent has fn called with each event of the trace. It must only look.
func (w *World) OnEvent(fn func(Event)) { w.onEvent = append(w.onEvent, fn) }

// OnLife has fn called when a node's process has started or ended.
func (w *World) OnLife(fn func(*Machine)) { w.onLife = append(w.onLife, fn) }

// OnRan has fn called when a unit has begun to run or ended, on any machine. It must
// only look.
func (w *World) OnRan(fn func(*Machine, systemd.Ran)) { w.onRan = append(w.onRan, fn) }

// OnAsked has fn called when a job reaches a machine's service manager. It must only
// look.
func (w *World) OnAsked(fn func(*Machine, systemd.Asked)) { w.onAsked = append(w.onAsked, fn) }

// Add makes a machine, switched off. IDs and names must be new. The ID says which
// machine it is; what its process calls itself in a group is another matter. The
// name is also a host name, for URLs.
func (w *World) Add(id env.NodeID, name string, open Factory) *Machine {
	if w.byID[id] != nil || w.byName[name] != nil || id == 0 || isClient(id) {
		panic(fmt.Sprintf("sim: machine %v %q: ID or name is taken or not allowed", id, name))
	}
	m := newMachine(w, id, name, open)
	w.machines = append(w.machines, m)
	m.address = machineAddress(len(w.machines))
	w.places++
	w.byID[id], w.byName[name] = m, m
	return m
}

// Machine gives the machine of an ID, or nil.
func (w *World) Machine(id env.NodeID) *Machine { return w.byID[id] }

// Named gives the machine of a name, or nil.
func (w *World) Named(name string) *Machine { return w.byName[name] }

// Machines lists all machines in the order they were added. The caller must not
// change the list.
func (w *World) Machines() []*Machine { return w.machines }

// Zone gives the domain name system.
func (w *World) Zone() *Zone { return w.zone }

// Net gives the network.
func (w *World) Net() *Net { return w.net }

// Hash is the rolling hash of all that happened.
func (w *World) Hash() uint64 { return w.hash }

// Draws counts the draws of each random stream, by purpose.
func (w *World) Draws() map[string]uint64 {
	draws := make(map[string]uint64, len(w.streams))
	for _, name := range sortedKeys(w.streams) {
		draws[name] = w.streams[name].source.draws
	}
	return draws
}

// Steps counts the events run.
func (w *World) Steps() uint64 { return w.steps }

// RareReport tells which rare paths this world took.
func (w *World) RareReport() RareReport { return w.rare.report() }

// SetRare switches env.Rare.Chance off and on again, for a calm phase.
func (w *World) SetRare(on bool) { w.rare.on = on && !w.opts.NoRare }
