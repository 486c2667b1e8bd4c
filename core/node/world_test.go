package node_test

import (
	"bytes"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/keelson/keelson/core/env"
)

// A world of a few hosts in virtual time, as small as the tests here need it: one
// heap of events, links that lose frames, disks that lose what was not synced.
type world struct {
	now   time.Duration
	seq   int
	queue events
	rng   *rand.Rand
	hosts []*host
	loss  float64
	cut   func(from, to env.NodeID) bool
	sync  time.Duration // how long a disk takes
	marks map[string]int
	rare  func(name string) bool
	log   func(format string, args ...any)
}

type event struct {
	at  time.Duration
	seq int
	fn  func()
}

type events []*event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(*event)) }
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

func newWorld(seed uint64) *world {
	return &world{
		rng: rand.New(rand.NewPCG(seed, 1)), sync: time.Millisecond, marks: map[string]int{},
		cut: func(env.NodeID, env.NodeID) bool { return false }, rare: func(string) bool { return false },
	}
}

func (w *world) after(d time.Duration, fn func()) *event {
	w.seq++
	e := &event{at: w.now + max(d, 0), seq: w.seq, fn: fn}
	heap.Push(&w.queue, e)
	return e
}

// run lets the world go on for d.
func (w *world) run(d time.Duration) {
	end := w.now + d
	for len(w.queue) > 0 && w.queue[0].at <= end {
		e := heap.Pop(&w.queue).(*event)
		w.now = e.at
		e.fn()
	}
	w.now = end
}

// until lets the world go on until cond holds, at most for d.
func (w *world) until(d time.Duration, cond func() bool) bool {
	end := w.now + d
	for !cond() {
		if len(w.queue) == 0 || w.queue[0].at > end {
			w.now = end
			return cond()
		}
		e := heap.Pop(&w.queue).(*event)
		w.now = e.at
		e.fn()
	}
	return true
}

// driven is what a host drives.
type driven interface {
	Receive(from env.NodeID, frame []byte)
	Flush()
}

// host is one machine: its disk stays, everything else lives from power on to
// power off.
type host struct {
	w     *world
	id    env.NodeID
	life  int
	up    bool
	body  driven
	disk  *disk
	fatal error
	wall  time.Duration // added to the wall clock
	rate  int64         // of the clock, in thousandths; 0 is 1000
}

func (w *world) host(id env.NodeID) *host {
	h := &host{w: w, id: id}
	h.disk = &disk{h: h, files: map[string][]byte{}, last: map[string]time.Duration{}}
	w.hosts = append(w.hosts, h)
	return h
}

// turn runs fn as one turn of this life.
func (h *host) turn(fn func()) {
	if h.up && h.fatal == nil {
		fn()
		if h.up && h.fatal == nil {
			h.body.Flush()
		}
	}
}

// later runs fn as a turn after d, unless the power goes off before.
func (h *host) later(d time.Duration, fn func()) *event {
	life := h.life
	return h.w.after(d, func() {
		if h.life == life {
			h.turn(fn)
		}
	})
}

func (h *host) env() *env.Env {
	return &env.Env{
		Clock: clock{h}, Disk: h.disk, Net: wires{h}, Work: labour{h}, Log: logs{h}, Rare: rare{h.w},
		Rand: rand.New(rand.NewPCG(h.w.rng.Uint64(), uint64(h.id))),
	}
}

// powerOff ends the life. Of what was being written, a part survives.
func (h *host) powerOff() {
	h.up, h.body = false, nil
	h.life++
	h.disk.crash()
}

type clock struct{ h *host }

func (c clock) rate() int64 {
	if c.h.rate == 0 {
		return 1000
	}
	return c.h.rate
}

func (c clock) Now() env.Instant { return env.Instant(int64(c.h.w.now) / 1000 * c.rate()) }
func (c clock) Wall() time.Time {
	return time.Unix(1_500_000_000, 0).Add(c.h.w.now + c.h.wall).UTC()
}

func (c clock) After(d time.Duration, fn func()) env.Timer {
	t := &timer{}
	c.h.later(d*1000/time.Duration(c.rate()), func() {
		if !t.stopped {
			fn()
		}
	})
	return t
}

// labour does work in no time, in a later turn.
type labour struct{ h *host }

func (l labour) Run(fn, done func()) { l.h.later(time.Millisecond, func() { fn(); done() }) }

type timer struct{ stopped bool }

func (t *timer) Stop() { t.stopped = true }

type wires struct{ h *host }

func (wires) Set(env.Group) {}

func (n wires) Send(to env.NodeID, frame []byte) bool {
	w := n.h.w
	if w.cut(n.h.id, to) || w.rng.Float64() < w.loss {
		return true
	}
	for _, h := range w.hosts {
		if h.id == to {
			from := n.h.id
			w.after(200*time.Microsecond+time.Duration(w.rng.Int64N(int64(time.Millisecond))), func() {
				h.turn(func() { h.body.Receive(from, frame) })
			})
			return true
		}
	}
	return false
}

type logs struct{ h *host }

func (l logs) Log(level env.Level, msg string, kv ...any) {
	if l.h.w.log != nil && level > env.Debug {
		l.h.w.log("%v %x %s %v", l.h.w.now, uint64(l.h.id), msg, kv)
	}
}

type rare struct{ w *world }

func (r rare) Chance(name string) bool { return r.w.rare(name) }
func (r rare) Mark(name string)        { r.w.marks[name]++ }

// disk keeps files; what is being written may be lost in part.
type disk struct {
	h       *host
	files   map[string][]byte
	last    map[string]time.Duration // end of the last write, by name
	pending []*pending
	err     error // of the next writes
	full    bool
	stalled bool
	held    []func()
	syncs   int
}

type pending struct {
	name string
	p    []byte
}

func (d *disk) Names() ([]string, error) { return slices.Sorted(maps.Keys(d.files)), nil }

func (d *disk) Load(name string) ([]byte, error) {
	p, ok := d.files[name]
	if !ok {
		return nil, fmt.Errorf("load %s: %w", name, fs.ErrNotExist)
	}
	return bytes.Clone(p), nil
}

var errBroken = errors.New("input/output error")

// finish runs fn as the completion of a write to name.
func (d *disk) finish(name string, fn func()) {
	if d.stalled {
		d.held = append(d.held, fn)
		return
	}
	at := max(d.h.w.now+d.h.w.sync/2+time.Duration(d.h.w.rng.Int64N(int64(d.h.w.sync)+1)), d.last[name])
	d.last[name] = at
	d.h.later(at-d.h.w.now, fn)
}

// release lets a stalled disk go on.
func (d *disk) release() {
	d.stalled = false
	for _, fn := range d.held {
		d.finish("stalled", fn)
	}
	d.held = nil
}

func (d *disk) Append(name string, p []byte, done func(error)) {
	if d.full || d.err != nil {
		err := d.err
		if d.full {
			err = fmt.Errorf("append %s: %w", name, env.ErrFull)
		}
		d.finish(name, func() {
			if done != nil {
				done(err)
			}
		})
		return
	}
	w := &pending{name, p}
	d.pending = append(d.pending, w)
	d.finish(name, func() {
		d.syncs++
		d.files[name] = append(d.files[name], p...) // in order, by name
		d.pending = slices.DeleteFunc(d.pending, func(x *pending) bool { return x == w })
		if done != nil {
			done(nil)
		}
	})
}

func (d *disk) Replace(name string, content io.WriterTo, done func(error)) {
	var buf bytes.Buffer
	_, err := content.WriteTo(&buf)
	if d.full {
		err = fmt.Errorf("replace %s: %w", name, env.ErrFull)
	}
	d.finish(name, func() {
		if err == nil {
			d.files[name] = buf.Bytes()
		}
		if done != nil {
			done(err)
		}
	})
}

func (d *disk) Remove(name string, done func(error)) {
	d.finish(name, func() {
		delete(d.files, name)
		if done != nil {
			done(nil)
		}
	})
}

// crash keeps a part of the first write that was not finished.
func (d *disk) crash() {
	for _, w := range d.pending {
		d.files[w.name] = append(d.files[w.name], w.p[:d.h.w.rng.IntN(len(w.p)+1)]...)
		break
	}
	d.pending, d.held, d.err, d.full, d.stalled = nil, nil, nil, false, false
	d.last = map[string]time.Duration{}
}
