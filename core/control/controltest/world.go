// Package controltest is a cluster without consensus for tests of controllers: one log, members that apply it sooner or later, and a clock.
package controltest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
)

// World is a log of batches and the time in which everything happens. Everything in it
// follows from its seed.
type World struct {
	Rand *rand.Rand
	// Delay bounds the time that a proposal, and the news of one, take; 0 is at once.
	Delay time.Duration
	// Lost is how many in a hundred proposals get no outcome. Half of them are done, at
	// some time within a minute.
	Lost    int
	Members []*Member
	Lines   []string // of the log, from Info on

	now   env.Instant
	due   []*timer
	log   []*store.Batch
	truth *store.Store
}

// New gives a world with members.
func New(seed uint64, members int) *World {
	w := &World{Rand: rand.New(rand.NewPCG(seed, 7)), truth: store.New()}
	for i := range members {
		w.Members = append(w.Members, &Member{w: w, Number: i, store: store.New()})
	}
	w.tick()
	return w
}

// Truth is the state after everything that is in the log.
func (w *World) Truth() *store.View { return w.truth.View() }

// Batches counts the entries of the log that hold commands.
func (w *World) Batches() (n int) {
	for _, b := range w.log {
		if len(b.Commands) > 0 {
			n++
		}
	}
	return n
}

// Entries lists the entries of the log.
func (w *World) Entries() []*store.Batch { return w.log }

// tick moves log time, as the keeper of a real cluster does.
func (w *World) tick() {
	w.After(50*time.Millisecond, func() {
		if at, any := w.truth.NextDeadline(); any && at <= store.Time(w.now) {
			w.commit(nil)
		}
		w.tick()
	})
}

// Commit puts commands into the log, as one entry, and has all members apply it in time.
func (w *World) Commit(cs ...store.Command) []store.Result { return w.commit(cs) }

func (w *World) commit(cs []store.Command) []store.Result {
	b := &store.Batch{Time: store.Time(w.now), Wall: 1 + int64(w.now), Commands: cs}
	w.log = append(w.log, b)
	results := w.truth.Apply(b, nil)
	for _, m := range w.Members {
		m.soon()
	}
	return results
}

func (w *World) delay() time.Duration {
	if w.Delay <= 0 {
		return 0
	}
	return time.Duration(w.Rand.Int64N(int64(w.Delay)))
}

// Env is the world of one program in it.
func (w *World) Env() *env.Env {
	return &env.Env{Clock: w, Log: w, Rare: w, Rand: rand.New(rand.NewPCG(w.Rand.Uint64(), 8))}
}

type timer struct {
	at   env.Instant
	fn   func()
	over bool
}

func (t *timer) Stop() { t.over = true }

// Now implements env.Clock.
func (w *World) Now() env.Instant { return w.now }

// Wall implements env.Clock.
func (w *World) Wall() time.Time { return time.Unix(0, int64(w.now)).UTC() }

// After implements env.Clock.
func (w *World) After(d time.Duration, fn func()) env.Timer {
	t := &timer{at: w.now.Add(max(d, 0)), fn: fn}
	w.due = append(w.due, t)
	return t
}

// Log implements env.Log.
func (w *World) Log(l env.Level, msg string, kv ...any) {
	if l > env.Debug {
		w.Lines = append(w.Lines, fmt.Sprint(append([]any{msg}, kv...)...))
	}
}

// Chance implements env.Rare.
func (w *World) Chance(string) bool { return false }

// Mark implements env.Rare.
func (w *World) Mark(string) {}

// Run lets d pass. Each, unless it is nil, is called after every event.
func (w *World) Run(d time.Duration, each func()) {
	end := w.now.Add(d)
	for {
		next := w.next()
		if next == nil || next.at > end {
			w.now = end
			return
		}
		next.over = true
		w.now = max(w.now, next.at)
		next.fn()
		if each != nil {
			each()
		}
	}
}

// next is the timer that is due first, of equal ones the oldest.
func (w *World) next() (next *timer) {
	live := w.due[:0]
	for _, t := range w.due {
		if t.over {
			continue
		}
		live = append(live, t)
		if next == nil || t.at < next.at {
			next = t
		}
	}
	w.due = live
	return next
}

// Member is a control.Source: a copy of the state that follows the log.
type Member struct {
	Number int
	// Cut keeps news from arriving and proposals from leaving.
	Cut bool

	w         *World
	store     *store.Store
	applied   int
	pending   bool // the log has more
	followers []*follower
	barriers  []waiting
	out       []proposal // of this turn
	waiting   []answer
}

type follower struct {
	prefix string
	fn     func([]*store.Event)
	over   bool
}

type proposal struct {
	c    store.Command
	done func(store.Result)
}

type waiting struct {
	at   int // length of the log that must be applied
	done func(error)
}

type answer struct {
	at     int
	result store.Result
	done   func(store.Result)
}

var _ control.Source = (*Member)(nil)

// View implements control.Source.
func (m *Member) View() control.View { return m.store.View() }

// Follow implements control.Source.
func (m *Member) Follow(prefix string, fn func([]*store.Event)) (cancel func()) {
	f := &follower{prefix: prefix, fn: fn}
	m.followers = append(m.followers[:len(m.followers):len(m.followers)], f)
	return func() { f.over = true }
}

// Reread tells all followers to read everything anew.
func (m *Member) Reread() {
	for _, f := range m.followers {
		if !f.over {
			f.fn(nil)
		}
	}
}

// Barrier implements control.Source.
func (m *Member) Barrier(done func(error)) {
	if m.Cut {
		m.w.After(5*time.Second, func() { done(fmt.Errorf("member %d is cut off", m.Number)) })
		return
	}
	m.barriers = append(m.barriers, waiting{len(m.w.log), done})
	m.soon()
}

// Propose implements control.Source. What is proposed in one turn shares an entry.
func (m *Member) Propose(c store.Command, done func(store.Result)) {
	m.out = append(m.out, proposal{c, done})
	if len(m.out) == 1 {
		m.w.After(0, m.send)
	}
}

// unknownAfter is when a proposal without an outcome is given up.
const unknownAfter = 7 * time.Second

func (m *Member) send() {
	out := m.out
	m.out = nil
	lost := m.Cut || m.w.Rand.IntN(100) < m.w.Lost
	if !lost {
		m.w.After(m.w.delay(), func() { m.commit(out, true) })
		return
	}
	if m.w.Rand.IntN(2) == 0 {
		m.w.After(time.Duration(m.w.Rand.Int64N(int64(time.Minute))), func() { m.commit(out, false) })
	}
	m.w.After(unknownAfter, func() {
		for _, p := range out {
			p.done(store.Result{Err: &store.Error{Code: store.CodeRaftInternal, Cause: "outcome unknown"}})
		}
	})
}

func (m *Member) commit(out []proposal, tell bool) {
	cs := make([]store.Command, len(out))
	for i, p := range out {
		cs[i] = p.c
	}
	results := m.w.commit(cs)
	if !tell {
		return
	}
	for i, p := range out {
		m.waiting = append(m.waiting, answer{len(m.w.log), results[i], p.done})
	}
}

// soon has the member apply what is in the log.
func (m *Member) soon() {
	if m.pending {
		return
	}
	m.pending = true
	m.w.After(m.w.delay(), m.learn)
}

func (m *Member) learn() {
	m.pending = false
	if m.Cut {
		m.pending = true
		m.w.After(100*time.Millisecond, m.learn)
		return
	}
	var events []*store.Event
	for _, b := range m.w.log[m.applied:] {
		m.store.Apply(b, func(e *store.Event) { events = append(events, e) })
	}
	m.applied = len(m.w.log)
	for _, f := range m.followers {
		f.tell(events)
	}
	m.answer()
}

func (f *follower) tell(events []*store.Event) {
	var news []*store.Event
	for _, e := range events {
		if e.Touches(f.prefix) {
			news = append(news, e)
		}
	}
	if len(news) > 0 && !f.over {
		f.fn(news)
	}
}

// answer tells the outcomes that the view shows.
func (m *Member) answer() {
	waits, barriers := m.waiting, m.barriers
	m.waiting, m.barriers = nil, nil
	for _, a := range waits {
		if a.at > m.applied {
			m.waiting = append(m.waiting, a)
			continue
		}
		a.done(a.result)
	}
	for _, b := range barriers {
		if b.at > m.applied {
			m.barriers = append(m.barriers, b)
			continue
		}
		b.done(nil)
	}
}
