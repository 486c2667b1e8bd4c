package agent_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/agent"
	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
	"github.com/keelson/keelson/sim/systemd"
)

// world is a store and some machines that run agents over it.
type world struct {
	require.TestingT
	now    time.Duration
	queue  []*event
	count  int
	rand   *rand.Rand
	store  *store.Store
	keys   registry.Keys
	hosts  []*host
	always []func() // checked after every event
}

type event struct {
	at   time.Duration
	n    int
	fn   func()
	over bool
}

func (e *event) Stop() { e.over = true }

func newWorld(t require.TestingT, seed uint64) *world {
	w := &world{TestingT: t, rand: rand.New(rand.NewPCG(seed, 1)), store: store.New(), keys: registry.Keys{Prefix: registry.DefaultPrefix}}
	w.tick()
	return w
}

// tick lets log time go on.
func (w *world) tick() {
	w.apply(nil)
	w.after(100*time.Millisecond, w.tick)
}

func (w *world) after(d time.Duration, fn func()) *event {
	w.count++
	e := &event{at: w.now + max(d, 0), n: w.count, fn: fn}
	at, _ := slices.BinarySearchFunc(w.queue, e, func(a, b *event) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		return a.n - b.n
	})
	w.queue = slices.Insert(w.queue, at, e)
	return e
}

// forward lets d pass.
func (w *world) forward(d time.Duration) {
	end := w.now + d
	for len(w.queue) > 0 && w.queue[0].at <= end {
		e := w.queue[0]
		w.queue = w.queue[1:]
		w.now = e.at
		if e.over {
			continue
		}
		e.fn()
		for _, check := range w.always {
			check()
		}
	}
	w.now = end
}

// until waits for something to come true.
func (w *world) until(what string, limit time.Duration, cond func() bool) {
	for end := w.now + limit; !cond(); {
		if w.now >= end {
			require.Fail(w, "never happened: "+what, w.describe())
			return
		}
		w.forward(20 * time.Millisecond)
	}
}

func (w *world) describe() string {
	var b strings.Builder
	w.store.View().Whole("/", func(n *store.Node) {
		if !n.Dir {
			fmt.Fprintf(&b, "%s = %.120q\n", n.Key, n.Value)
		}
	})
	for _, h := range w.hosts {
		fmt.Fprintf(&b, "%s: asked %+v, ran %+v\n", h.name, h.asked, h.ran)
		fmt.Fprintf(&b, "%s: %+v\n%s\n", h.name, h.systemd.Status(), strings.Join(h.log, "\n"))
	}
	return b.String()
}

func (w *world) apply(c *store.Command) store.Result {
	b := &store.Batch{Time: max(store.Time(w.now), w.store.Time()), Wall: int64(w.now)}
	if c != nil {
		b.Commands = []store.Command{*c}
	}
	var events []*store.Event
	results := w.store.Apply(b, func(e *store.Event) { events = append(events, e) })
	for _, h := range w.hosts {
		h.src.happened(events)
	}
	if c == nil {
		return store.Result{}
	}
	return results[0]
}

// Shortcuts of an engine that does as it is told.

func (w *world) set(key, value string) {
	require.Nil(w, w.apply(&store.Command{Op: store.OpSet, Key: key, Value: value}).Err)
}

func (w *world) remove(key string) { w.apply(&store.Command{Op: store.OpDelete, Key: key}) }

func (w *world) get(key string) string {
	n, err := w.store.View().Get(key, false)
	if err != nil {
		return ""
	}
	return n.Value
}

func (w *world) assign(h *host, name, raw string, s unit.State) {
	w.set(w.keys.Assignment(h.id, name), registry.EncodeAssignment(&registry.Assignment{Name: name, Raw: raw, State: s, Since: w.store.Index()}))
}

func (w *world) global(name, raw string, s unit.State) {
	w.set(w.keys.Global(name), registry.EncodeAssignment(&registry.Assignment{Name: name, Raw: raw, State: s, Since: w.store.Index()}))
}

func (w *world) unassign(h *host, name string) { w.remove(w.keys.Assignment(h.id, name)) }

func (w *world) state(h *host, name string) *registry.UnitState {
	text := w.get(w.keys.State(name, h.id))
	if text == "" {
		return &registry.UnitState{}
	}
	s, err := registry.DecodeState(name, h.id, text)
	require.NoError(w, err)
	return s
}

// host is a machine: it outlives its agent.
type host struct {
	*world
	name    string
	id      string
	boot    int
	life    int
	drift   float64 // of its clock: 1 is right
	paused  []func()
	pause   bool
	rand    *rand.Rand
	systemd *systemd.Manager
	src     *source
	files   map[string][]byte
	full    bool
	wasFull bool
	agent   *agent.Agent
	facts   agent.Facts
	ttl     time.Duration
	asked   []systemd.Asked
	ran     []systemd.Ran
	marks   map[string]int
	log     []string
	drain   bool
	told    time.Duration             // when Follow tells last
	onJob   func(env.JobVerb, string) // called when the agent asks for a job
}

func (w *world) host(name string) *host {
	h := &host{
		world: w, name: name, id: strings.Repeat(name[len(name)-1:], 32), drift: 1, rand: rand.New(rand.NewPCG(w.rand.Uint64(), 2)),
		files: map[string][]byte{}, ttl: 30 * time.Second, marks: map[string]int{}, facts: agent.Facts{Host: name, PublicIP: "10.0.0." + name[len(name)-1:]},
	}
	h.systemd = systemd.New(h.rig(), systemd.Options{})
	h.systemd.On()
	h.src = &source{w: w, view: w.store.View(), seen: w.store.View()}
	w.hosts = append(w.hosts, h)
	return h
}

// start begins a life of the agent.
func (h *host) start() {
	h.life++
	h.src.followers = nil
	life := h.life
	e := &env.Env{
		Clock: &clock{h, life}, Disk: &disk{h, life}, Systemd: &unitManager{h, life}, Log: h, Rare: h, Rand: h.rand,
	}
	a, err := agent.Open(agent.Config{
		Machine: h.id, Boot: fmt.Sprintf("%s-%d", h.name, h.boot), Facts: h.facts, Keys: h.keys, TTL: h.ttl, Drain: h.drain,
	}, e, &lived{h.src, h, life})
	require.NoError(h, err)
	h.agent = a
}

// kill ends the agent's process.
func (h *host) kill() {
	h.life++
	h.systemd.Left()
	h.src.followers = nil
	h.agent = nil
}

func (h *host) restart() {
	h.kill()
	h.start()
}

// reboot takes the power away for a moment.
func (h *host) reboot() {
	if h.agent != nil {
		h.kill()
	}
	h.systemd.Off()
	h.boot++
	h.systemd.On()
	h.start()
}

// do hands an input to a life of the agent, later.
func (h *host) do(life int, fn func()) {
	h.after(time.Duration(h.rand.IntN(200))*time.Microsecond, func() { h.input(life, fn) })
}

func (h *host) input(life int, fn func()) {
	switch {
	case life != h.life:
	case h.pause:
		h.paused = append(h.paused, func() { h.input(life, fn) })
	default:
		fn()
	}
}

// resume lets a paused agent go on.
func (h *host) resume() {
	h.pause = false
	late := h.paused
	h.paused = nil
	for _, fn := range late {
		fn()
	}
}

func (h *host) is(name, active string) func() bool {
	return func() bool {
		for _, s := range h.systemd.Status() {
			if s.Name == name {
				return s.Active == active
			}
		}
		return active == ""
	}
}

// runs says that a unit's process is there.
func (h *host) runs(name string) bool {
	on := false
	for _, r := range h.ran {
		if r.Unit == name {
			on = r.On
		}
	}
	return on
}

// Log implements env.Log.
func (h *host) Log(l env.Level, msg string, kv ...any) {
	h.log = append(h.log, fmt.Sprint(h.now, " ", l, " ", msg, " ", kv))
}

// Chance and Mark implement env.Rare.
func (h *host) Chance(string) bool { return false }
func (h *host) Mark(name string)   { h.marks[name]++ }

// rig is what the service manager needs of its machine.
type rig struct{ *host }

func (h *host) rig() systemd.Host { return rig{h} }

func (r rig) Now() time.Duration               { return r.now }
func (r rig) Wall() time.Time                  { return time.Unix(0, int64(r.now)).UTC() }
func (r rig) After(d time.Duration, fn func()) { r.after(d, fn) }
func (r rig) Rand() *rand.Rand                 { return r.rand }
func (r rig) Name() string                     { return r.name }
func (r rig) Asked(a systemd.Asked)            { r.asked = append(r.asked, a) }
func (r rig) Ran(e systemd.Ran)                { r.ran = append(r.ran, e) }

type clock struct {
	h    *host
	life int
}

func (c *clock) Now() env.Instant { return env.Instant(float64(c.h.now) * c.h.drift) }
func (c *clock) Wall() time.Time  { return time.Unix(0, int64(c.h.now)).UTC() }
func (c *clock) After(d time.Duration, fn func()) env.Timer {
	e := &event{}
	*e = *c.h.after(time.Duration(float64(max(d, 0))/c.h.drift)+1, func() {
		c.h.input(c.life, func() {
			if !e.over {
				fn()
			}
		})
	})
	e.over = false
	return e
}

type disk struct {
	h    *host
	life int
}

var errGone = errors.New("not there")

func (d *disk) Names() ([]string, error) { return slices.Sorted(maps.Keys(d.h.files)), nil }
func (d *disk) Load(name string) ([]byte, error) {
	if p, ok := d.h.files[name]; ok {
		return p, nil
	}
	return nil, fs.ErrNotExist
}
func (d *disk) Append(string, []byte, func(error)) { panic("not used") }
func (d *disk) Remove(string, func(error))         { panic("not used") }
func (d *disk) Replace(name string, content io.WriterTo, done func(error)) {
	var b bytes.Buffer
	_, err := content.WriteTo(&b)
	require.NoError(d.h, err)
	d.h.after(time.Duration(d.h.rand.IntN(5))*time.Millisecond, func() {
		if d.life != d.h.life {
			return
		}
		if d.h.full {
			d.h.do(d.life, func() { done(env.ErrFull) })
			return
		}
		d.h.files[name] = b.Bytes()
		d.h.do(d.life, func() { done(nil) })
	})
}

// unitManager is the service manager as one life of the agent has it.
type unitManager struct {
	h    *host
	life int
}

func (s *unitManager) Units(done func([]env.UnitStatus, error)) {
	s.h.Log(0, "asks")
	s.h.systemd.Units(func(l []env.UnitStatus, err error) {
		s.h.do(s.life, func() {
			s.h.Log(0, "answers", "units", l, "err", err)
			done(l, err)
		})
	})
}

func (s *unitManager) Change(c env.UnitChange, done func([]env.UnitError, error)) {
	s.h.Log(0, "changes", "c", c)
	s.h.systemd.Change(c, func(f []env.UnitError, err error) {
		s.h.do(s.life, func() {
			s.h.Log(0, "changed", "failed", f, "err", err)
			done(f, err)
		})
	})
}

func (s *unitManager) Job(v env.JobVerb, name string, done func(env.JobResult, error)) {
	if s.h.onJob != nil {
		s.h.onJob(v, name)
	}
	s.h.systemd.Job(v, name, func(r env.JobResult, err error) { s.h.do(s.life, func() { done(r, err) }) })
}

func (s *unitManager) Follow(fn func([]env.UnitStatus, error)) {
	s.h.systemd.Follow(func(l []env.UnitStatus, err error) {
		at := max(s.h.told, s.h.now+time.Duration(s.h.rand.IntN(200))*time.Microsecond) // in order
		s.h.told = at
		s.h.after(at-s.h.now, func() {
			s.h.Log(0, "told", "units", l, "err", err)
			s.h.input(s.life, func() { fn(l, err) })
		})
	})
}

// source is the store as one machine sees it.
type source struct {
	w         *world
	view      *store.View
	events    []*store.Event
	followers []*follower
	away      bool
	cut       bool // and what is proposed never has an effect
	lag       time.Duration
	woken     bool
	stale     bool        // the view went back
	seen      *store.View // the newest that the machine had
	old       []*store.View
}

// back has the next life begin with an older view, as on a member that is behind.
func (s *source) back(n int) {
	if len(s.old) > 0 {
		s.view, s.stale = s.old[n%len(s.old)], true
	}
}

type follower struct {
	prefix string
	fn     func([]*store.Event)
	since  store.Index
	life   int
}

func (s *source) happened(events []*store.Event) {
	s.events = append(s.events, events...)
	if !s.woken && len(s.events) > 0 {
		s.woken = true
		s.w.after(s.lag, func() {
			s.woken = false
			s.sync()
		})
	}
}

// sync takes over what has happened.
func (s *source) sync() {
	if s.away {
		return
	}
	if s.w.rand.IntN(10) == 0 {
		s.old = append(s.old, s.view)
	}
	s.view = s.w.store.View()
	s.seen = s.view
	events := s.events
	stale := s.stale
	s.events, s.stale = nil, false
	for _, f := range slices.Clone(s.followers) {
		var news []*store.Event
		for _, e := range events {
			if e.Index > f.since && e.Touches(f.prefix) {
				news = append(news, e)
			}
		}
		f.since = s.view.Index()
		if stale {
			f.fn(nil)
		} else if len(news) > 0 {
			f.fn(news)
		}
	}
}

// lived is the source of one life of an agent.
type lived struct {
	*source
	h    *host
	life int
}

var _ control.Source = (*lived)(nil)

func (l *lived) View() control.View { return l.view }

func (l *lived) Follow(prefix string, fn func([]*store.Event)) func() {
	f := &follower{prefix: prefix, since: l.view.Index(), life: l.life}
	f.fn = func(e []*store.Event) { l.h.input(l.life, func() { fn(e) }) }
	l.followers = append(l.followers, f)
	return func() {
		l.source.followers = slices.DeleteFunc(l.source.followers, func(o *follower) bool { return o == f })
	}
}

// Propose applies a command after a moment. With the store away it is applied or not, and
// nobody tells.
func (l *lived) Propose(c store.Command, done func(store.Result)) {
	answer := func(d time.Duration, r store.Result) {
		l.w.after(d, func() { l.h.input(l.life, func() { done(r) }) })
	}
	lost := store.Result{Err: &store.Error{Code: store.CodeRaftInternal, Cause: "away"}}
	l.w.after(time.Duration(1+l.w.rand.IntN(4))*time.Millisecond, func() {
		if l.away {
			if !l.cut && l.w.rand.IntN(4) == 0 {
				l.w.after(time.Duration(l.w.rand.IntN(3000))*time.Millisecond, func() { l.w.apply(&c) })
			}
			answer(2*time.Second, lost)
			return
		}
		r := l.w.apply(&c)
		if l.away {
			r = lost
		}
		l.sync()
		answer(time.Millisecond, r)
	})
}

func (l *lived) Barrier(done func(error)) {
	l.w.after(5*time.Millisecond, func() {
		var err error
		if l.away {
			err = errGone
		} else {
			l.sync()
		}
		l.h.input(l.life, func() { done(err) })
	})
}
