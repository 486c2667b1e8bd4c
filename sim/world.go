package sim

import (
	"io"
	"math/rand/v2"
	"time"

	"github.com/keelson/keelson/core/env"
)

// Options is what may be chosen about a world besides its seed. The zero value
// is a quiet network, sound disks and exact clocks.
type Options struct {
	Link      LinkConfig // of every link; zero fields are DefaultLink's
	Disk      DiskConfig // of every disk; zero fields are DefaultDisk's
	Turn      TurnConfig // zero: drawn from the seed
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
type World struct{}

// NewWorld makes an empty world. It panics unless Deterministic was called.
func NewWorld(seed uint64, o Options) *World { panic("sim: not built") }

// Seed is what the world was made from.
func (w *World) Seed() uint64 { panic("sim: not built") }

// Now is the virtual time since the world began.
func (w *World) Now() time.Duration { panic("sim: not built") }

// Rand gives the stream for one purpose. The same purpose gives the same stream
// again, where it stands. A stream's first state depends on the seed and the
// purpose only.
func (w *World) Rand(purpose string) *rand.Rand { panic("sim: not built") }

// At runs fn at time t, or now if t is past. What names it in the trace.
func (w *World) At(t time.Duration, what string, fn func()) { panic("sim: not built") }

// After runs fn d from now.
func (w *World) After(d time.Duration, what string, fn func()) { panic("sim: not built") }

// Step runs the next event. It is false when nothing is left to happen, or when
// the world has failed.
func (w *World) Step() bool { panic("sim: not built") }

// RunUntil steps up to virtual time t and is false if the world failed. Now is t
// afterwards even if nothing happened then.
func (w *World) RunUntil(t time.Duration) bool { panic("sim: not built") }

// RunFor steps for d of virtual time.
func (w *World) RunFor(d time.Duration) bool { panic("sim: not built") }

// RunTill steps until cond holds, asking it after each event, for at most d.
// It reports whether cond held.
func (w *World) RunTill(d time.Duration, cond func() bool) bool { panic("sim: not built") }

// Await steps until p has ended, for at most d, and reports whether it did.
func (w *World) Await(p *Proc, d time.Duration) bool { panic("sim: not built") }

// Close stops all coroutines and makes the world unusable. It may be called twice.
func (w *World) Close() { panic("sim: not built") }

// Fail ends the run: an oracle found something. Only the first failure is kept.
func (w *World) Fail(oracle, format string, args ...any) { panic("sim: not built") }

// Failure is why the run failed, or nil.
func (w *World) Failure() *Failure { panic("sim: not built") }

// OnTurn has fn called after each turn of each machine's node, outside the node.
func (w *World) OnTurn(fn func(*Machine)) { panic("sim: not built") }

// OnEvent has fn called with each event of the trace. It must only look.
func (w *World) OnEvent(fn func(Event)) { panic("sim: not built") }

// OnLife has fn called when a node's process has started or ended.
func (w *World) OnLife(fn func(*Machine)) { panic("sim: not built") }

// Add makes a machine, switched off. IDs and names must be new; name is also the
// host part of its URLs.
func (w *World) Add(id env.NodeID, name string, open Factory) *Machine { panic("sim: not built") }

// Machine gives the machine of an ID, or nil.
func (w *World) Machine(id env.NodeID) *Machine { panic("sim: not built") }

// Machines lists all machines in the order they were added.
func (w *World) Machines() []*Machine { panic("sim: not built") }

// Net gives the network.
func (w *World) Net() *Net { panic("sim: not built") }

// Hash is the rolling hash of all that happened.
func (w *World) Hash() uint64 { panic("sim: not built") }

// Draws counts the draws of each random stream, by purpose.
func (w *World) Draws() map[string]uint64 { panic("sim: not built") }

// Steps counts the events run.
func (w *World) Steps() uint64 { panic("sim: not built") }

// Note puts a line of text into the trace, for instance a fault that strikes.
func (w *World) Note(format string, args ...any) { panic("sim: not built") }

// Recent gives the last events, oldest first.
func (w *World) Recent() []Event { panic("sim: not built") }

// RareReport tells which rare paths this world took.
func (w *World) RareReport() RareReport { panic("sim: not built") }

// SetRare switches env.Rare.Chance off and on again, for a calm phase.
func (w *World) SetRare(on bool) { panic("sim: not built") }
