package wal

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// memory is what a log should hold: the dumb second implementation.
type memory struct {
	hard    string
	start   position // the entry before the first
	entries []Entry
}

func (m memory) last() position {
	if n := len(m.entries); n > 0 {
		return position{m.entries[n-1].Index, m.entries[n-1].Term}
	}
	return m.start
}

func (m memory) with(rec Record) memory {
	if len(rec.HardState) > 0 {
		m.hard = string(rec.HardState)
	}
	m.entries = slices.Clone(m.entries)
	for _, e := range rec.Entries {
		m.entries = append(m.entries[:e.Index-m.start.index-1], e)
	}
	return m
}

// under is m as seen with a snapshot: entries it covers go, and all go if it
// belongs to another history.
func (m memory) under(s *Snapshot) memory {
	if s == nil {
		return m
	}
	at := position{s.Index, s.Term}
	keep := 0
	switch {
	case s.Index > m.last().index, s.Index < m.start.index:
		keep = len(m.entries)
	case s.Index == m.start.index:
		if s.Term != m.start.term {
			keep = len(m.entries)
		}
	case m.entries[s.Index-m.start.index-1].Term != s.Term:
		keep = len(m.entries)
	default:
		keep = int(s.Index - m.start.index)
	}
	return memory{m.hard, at, slices.Clone(m.entries[keep:])}
}

func (m memory) equal(r *Recovered) bool {
	return m.hard == string(r.HardState) && slices.EqualFunc(m.entries, r.Entries, func(a, b Entry) bool {
		return a.Index == b.Index && a.Term == b.Term && bytes.Equal(a.Data, b.Data)
	})
}

// history is a node's life on a failing disk, checked at each start.
type history struct {
	t *rapid.T
	d *testDisk
	l *Log

	states  []memory // after each call, the first is the one recovered
	acked   int      // in states
	others  []memory // what the next Open may recover instead, until Ready
	term    uint64
	serial  int
	snaps   uint64 // index of the newest acknowledged snapshot
	started uint64 // highest index of a snapshot that may be on the disk
	ready   uint64 // highest incarnation that was ready
	fatal   error
}

func (h *history) choose(what string, n int) int { return rapid.IntRange(0, n-1).Draw(h.t, what) }

// open starts the node and checks what it remembers.
func (h *history) open() {
	o := options
	o.SegmentBytes = 1500
	o.Ready = func() { h.ready, h.others = h.l.Incarnation(), nil }
	o.Fatal = func(err error) { h.fatal = err }
	l, r, err := Open(h.d, seldom{h.choose}, o)
	require.NoError(h.t, err)
	require.Greater(h.t, r.Incarnation, h.ready, "an incarnation was used twice")
	if h.snaps > 0 {
		require.NotNil(h.t, r.Snapshot)
		require.GreaterOrEqual(h.t, r.Snapshot.Index, h.snaps)
	}
	if r.Snapshot != nil {
		require.LessOrEqual(h.t, r.Snapshot.Index, h.started)
		require.Equal(h.t, fmt.Sprint("body ", r.Snapshot.Index), string(r.Body))
	}
	got, ok := h.match(r)
	require.True(h.t, ok, "recovered what never was, or less than was acknowledged: %q %v, snapshot %v",
		r.HardState, r.Entries, r.Snapshot)
	h.others = append(h.others, h.states[h.acked:]...)
	h.l, h.states, h.acked, h.started = l, []memory{got}, 0, got.start.index
	h.term++
}

func (h *history) match(r *Recovered) (memory, bool) {
	for _, group := range [][]memory{h.states[h.acked:], h.others} {
		for _, m := range group {
			if r.Snapshot == nil && m.start.index > 0 {
				continue // a restore that was under way and is gone
			}
			if m = m.under(r.Snapshot); m.equal(r) {
				return m, true
			}
		}
	}
	return memory{}, false
}

func (h *history) append(t *rapid.T) {
	last := h.states[len(h.states)-1]
	var rec Record
	h.serial++
	if rapid.Bool().Draw(t, "hard state") {
		rec.HardState = fmt.Appendf(nil, "hard %d", h.serial)
	}
	n := rapid.IntRange(0, 3).Draw(t, "entries")
	from := last.last().index + 1
	if back := len(last.entries); back > 0 && rapid.IntRange(0, 5).Draw(t, "rewrite") == 0 {
		from = min(from, max(from-uint64(rapid.IntRange(1, back).Draw(t, "back")), h.started+1))
	}
	for i := range n {
		size := rapid.SampledFrom([]int{0, 10, 300, 1200}).Draw(t, "size")
		data := append(fmt.Appendf(nil, "%d/%d ", h.serial, i), bytes.Repeat([]byte{'x'}, size)...)
		rec.Entries = append(rec.Entries, Entry{Index: from + uint64(i), Term: h.term, Data: data})
	}
	h.states = append(h.states, last.with(rec))
	if rapid.IntRange(0, 2).Draw(t, "lazy") == 0 {
		h.l.Append(rec, nil)
		return
	}
	h.l.Append(rec, h.ack())
}

// ack returns a completion for the newest state.
func (h *history) ack() func(error) {
	l, n := h.l, len(h.states)-1
	return func(err error) {
		require.NoError(h.t, err)
		require.Same(h.t, l, h.l)
		require.True(h.t, l.Ready(), "acknowledged before the incarnation was durable")
		require.Greater(h.t, n, h.acked, "out of order")
		h.acked = n
	}
}

// snapshot covers entries that are durable, as one of applied entries does.
func (h *history) snapshot(t *rapid.T) {
	m := h.states[h.acked]
	if h.l.Snapshotting() || !h.l.Ready() || len(m.entries) == 0 {
		return
	}
	e := m.entries[rapid.IntRange(0, len(m.entries)-1).Draw(t, "upto")]
	if e.Index <= h.started || !h.kept(e) {
		return
	}
	h.started = e.Index
	h.l.Snapshot(Snapshot{Index: e.Index, Term: e.Term}, text(fmt.Sprint("body ", e.Index)), func(err error) {
		if err == nil {
			h.snaps = e.Index
		}
	})
}

// kept says whether no later record rewrites e, for it would be committed.
func (h *history) kept(e Entry) bool {
	for _, m := range h.states[h.acked:] {
		n := e.Index - m.start.index - 1
		if e.Index <= m.start.index || n >= uint64(len(m.entries)) || m.entries[n].Term != e.Term ||
			!bytes.Equal(m.entries[n].Data, e.Data) {
			return false
		}
	}
	return true
}

func (h *history) restore(t *rapid.T) {
	if h.l.Snapshotting() {
		return
	}
	last := h.states[len(h.states)-1]
	low := max(h.started, last.start.index) + 1
	s := Snapshot{Index: low + uint64(rapid.IntRange(0, 6).Draw(t, "ahead")), Term: h.term + 1}
	h.term++
	h.started = s.Index
	h.states = append(h.states, memory{hard: last.hard, start: position{s.Index, s.Term}})
	ack := h.ack()
	h.l.Restore(s, text(fmt.Sprint("body ", s.Index)), func(err error) {
		ack(err)
		h.snaps = s.Index
	})
}

func (h *history) disk(t *rapid.T) {
	heads := h.d.heads()
	if len(heads) == 0 {
		return
	}
	i := heads[h.choose("request", len(heads))]
	if !h.d.queue[i].remove && h.choose("full", 8) == 0 {
		h.d.refuse(i, errFull)
		return
	}
	h.d.finish(i)
}

func (h *history) crash(t *rapid.T) {
	if rapid.Bool().Draw(t, "power") {
		h.d.cut(h.choose)
	} else {
		h.d.kill(h.choose)
	}
	h.open()
}

// settle has the disk finish everything; all is acknowledged then.
func (h *history) settle(*rapid.T) {
	h.drain()
	if len(h.states) > 1 {
		h.states = append(h.states, h.states[len(h.states)-1])
		h.l.Append(Record{}, h.ack())
	}
	h.drain()
	require.Equal(h.t, len(h.states)-1, h.acked)
	require.False(h.t, h.l.Full())
}

func (h *history) drain() {
	h.d.run()
	for h.l.Full() {
		h.l.Retry()
		h.d.run()
	}
}

// Whatever the crash, what was acknowledged is recovered, nothing that never was
// is, and a later start agrees.
func TestCrashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &history{t: t, d: newTestDisk(), states: []memory{{}}}
		h.d.leaky = rapid.Bool().Draw(t, "leaky")
		h.open()
		t.Repeat(map[string]func(*rapid.T){
			"append":   h.append,
			"append2":  h.append,
			"append3":  h.append,
			"disk":     h.disk,
			"disk2":    h.disk,
			"disk3":    h.disk,
			"snapshot": h.snapshot,
			"restore":  h.restore,
			"retry":    func(*rapid.T) { h.l.Retry() },
			"crash":    h.crash,
			"settle":   h.settle,
			"":         func(t *rapid.T) { require.NoError(t, h.fatal) },
		})
		h.crash(t)
		h.settle(t)
		h.d.cut(h.choose)
		h.open()
	})
}

// What one start recovers from a disk without power the next one recovers too,
// even if nothing of the first start's writes or only part of them survive.
func TestSameTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &history{t: t, d: newTestDisk(), states: []memory{{}}}
		h.open()
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			rapid.SampledFrom([]func(*rapid.T){h.append, h.append, h.disk, h.disk, h.snapshot, h.restore}).Draw(t, "step")(t)
		}
		h.d.cut(h.choose)
		h.open()
		want := h.states[0]
		for range 3 {
			h.states, h.others = []memory{want}, nil
			for range rapid.IntRange(0, 3).Draw(t, "steps") {
				h.disk(t)
			}
			h.d.cut(h.choose)
			h.open()
			h.l.Retry()
		}
	})
}

// Damage to any byte of a frame that is proven durable is refused, and the error
// names the frame.
func TestRot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &history{t: t, d: newTestDisk(), states: []memory{{}}}
		h.open()
		for range rapid.IntRange(5, 60).Draw(t, "steps") {
			step := rapid.SampledFrom([]func(*rapid.T){h.append, h.append, h.disk, h.disk, h.snapshot}).Draw(t, "step")
			step(t)
			if h.choose("crash", 20) == 0 {
				h.crash(t)
			}
		}
		h.settle(t)
		file, frame, ok := pickProven(t, h.d)
		if !ok {
			t.Skip("nothing is proven")
		}
		f := h.d.files[file]
		at := frame.Offset + rapid.IntRange(0, frame.Size-1).Draw(t, "at")
		if rapid.Bool().Draw(t, "whole sector") {
			at -= at % sector // only the part in this frame: others are the evidence
			was := bytes.Clone(f.cache)
			clear(f.cache[max(at, frame.Offset):min(at+sector, frame.end())])
			if bytes.Equal(was, f.cache) {
				t.Skip("nothing changed")
			}
		} else {
			f.cache[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		}
		_, _, err := Open(h.d, calm{}, options)
		var rot *RotError
		require.ErrorAs(t, err, &rot)
		require.Equal(t, file, rot.File)
		require.LessOrEqual(t, rot.Offset, int64(frame.Offset))
	})
}

// pickProven draws a frame of the chain that a later one proves durable.
func pickProven(t *rapid.T, d *testDisk) (string, Frame, bool) {
	id := Identity{Cluster: options.Cluster, Node: options.Node}
	var snap *Snapshot
	if f := d.files[snapshotName]; f != nil {
		snap, _, _ = parseSnapshot(f.cache, id)
	}
	r, err := load(d, id, snap)
	require.NoError(t, err)
	r.follow()
	require.NoError(t, r.judge())
	var proven []link
	for _, l := range r.chain {
		if l.frame.Seq <= r.claim {
			proven = append(proven, l)
		}
	}
	if len(proven) == 0 {
		return "", Frame{}, false
	}
	l := rapid.SampledFrom(proven).Draw(t, "frame")
	return segmentName(l.seg.first), *l.frame, true
}

// What a start reads may be in memory only, left there by a process that was
// killed: nothing that it writes may rely on that. A process dies at every point
// of its life, the next one at every point too, and power fails at once.
func TestPowerLossAfterKill(t *testing.T) {
	for _, leaky := range []bool{false, true} {
		for first := 0; ; first++ {
			if !killed(t, leaky, first) {
				break
			}
		}
	}
}

// killed lets the disk finish a number of requests of one life, then tries all
// that the next one may get done. False says that the first had nothing left to do.
func killed(t *testing.T, leaky bool, first int) (more bool) {
	for _, reached := range []int{0, 1} {
		for _, kept := range []int{0, 1, 2} {
			for second := 0; ; second++ {
				d := newTestDisk()
				d.leaky = leaky
				acked, left := busy(t, d, first)
				more = more || left
				d.kill(always(reached))
				next, _ := mustOpen(t, d)
				for range second {
					if len(d.queue) > 0 {
						d.finish(0)
					}
				}
				left = len(d.queue) > 0
				if next.Ready() {
					acked = max(acked, next.last)
				}
				d.cut(always(kept))
				_, r, err := Open(d, calm{}, options)
				require.NoError(t, err, "%d, %d, %d, %d", first, reached, second, kept)
				require.GreaterOrEqual(t, newest(r), acked, "%d, %d, %d, %d", first, reached, second, kept)
				if !left {
					break
				}
			}
		}
	}
	return more
}

// busy is a life that writes entries, snapshots, and a snapshot of somebody else. It
// ends after so many requests; false says that the disk did all.
func busy(t *testing.T, d *testDisk, requests int) (acked uint64, left bool) {
	l, _ := mustOpen(t, d)
	step := func() bool {
		for ; len(d.queue) > 0; requests-- {
			if requests == 0 {
				return false
			}
			d.finish(0)
		}
		return true
	}
	write := func(from, to uint64) func() {
		return func() {
			l.Append(Record{Entries: entries(from, to, 1)}, func(error) { acked = max(acked, to) })
		}
	}
	snapshot := func(index uint64) func() {
		return func() { l.Snapshot(Snapshot{Index: index, Term: 1}, text("body"), nil) }
	}
	restore := func() {
		l.Restore(Snapshot{Index: 200, Term: 1}, text("body"), func(error) { acked = max(acked, 200) })
	}
	for _, act := range []func(){write(1, 60), write(61, 62), snapshot(50), write(63, 120), snapshot(110), write(121, 122), restore, write(201, 202)} {
		if act(); !step() {
			return acked, true
		}
	}
	return acked, false
}

func newest(r *Recovered) uint64 {
	if n := len(r.Entries); n > 0 {
		return r.Entries[n-1].Index
	}
	if r.Snapshot != nil {
		return r.Snapshot.Index
	}
	return 0
}

// always makes the same choice, as far as there is one.
func always(choice int) chooser {
	return func(_ string, n int) int { return min(choice, n-1) }
}
