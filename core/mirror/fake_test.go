package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/store"
)

// world is a cluster without consensus: a log of batches that members apply sooner
// or later, and a network that loses, cuts and delays.
type world struct {
	rand    *rand.Rand
	now     env.Instant
	due     []*timer
	log     []*store.Batch
	truth   *store.Store
	at      map[store.Index]*store.View // what the cluster was at each index
	members []*member
	loss    int // in a hundred, of requests and of answers
	marks   map[string]bool
	lines   []string
}

type timer struct {
	at      env.Instant
	fn      func()
	stopped bool
}

func (t *timer) Stop() { t.stopped = true }

func newWorld(seed uint64, members int) *world {
	w := &world{
		rand: rand.New(rand.NewPCG(seed, 1)), truth: store.New(), at: map[store.Index]*store.View{}, marks: map[string]bool{},
	}
	w.at[0] = w.truth.View()
	for i := range members {
		m := &member{w: w, name: fmt.Sprintf("http://m%d", i), cluster: 0xcafe}
		m.restart()
		w.members = append(w.members, m)
	}
	return w
}

func (w *world) env() *env.Env {
	return &env.Env{Clock: w, Web: w, Log: w, Rare: w, Rand: w.rand}
}

func (w *world) endpoints() (urls []string) {
	for _, m := range w.members {
		urls = append(urls, m.name)
	}
	return urls
}

func (w *world) Now() env.Instant { return w.now }
func (w *world) Wall() time.Time  { return time.Unix(0, 0).UTC() }
func (w *world) After(d time.Duration, fn func()) env.Timer {
	t := &timer{at: w.now.Add(max(d, 0)), fn: fn}
	w.due = append(w.due, t)
	return t
}

func (w *world) Log(_ env.Level, msg string, kv ...any) {
	w.lines = append(w.lines, fmt.Sprint(append([]any{msg}, kv...)...))
}
func (w *world) Chance(string) bool { return false }
func (w *world) Mark(name string)   { w.marks[name] = true }

// run lets d pass and calls each after every event.
func (w *world) run(d time.Duration, each func()) {
	end := w.now.Add(d)
	for {
		var next *timer
		live := w.due[:0]
		for _, t := range w.due {
			if t.stopped {
				continue
			}
			live = append(live, t)
			if t.at <= end && (next == nil || t.at < next.at) {
				next = t
			}
		}
		w.due = live
		if next == nil {
			w.now = end
			return
		}
		next.stopped = true
		w.now = max(w.now, next.at)
		next.fn()
		if each != nil {
			each()
		}
	}
}

// commit puts a batch into the log.
func (w *world) commit(cs ...store.Command) []store.Result {
	b := &store.Batch{Time: store.Time(w.now), Wall: 1 + int64(w.now), Commands: cs}
	w.log = append(w.log, b)
	results := w.truth.Apply(b, nil)
	// Several commands share a batch, but a view between them was never there.
	w.at[w.truth.Index()] = w.truth.View()
	return results
}

// member is a gateway over what one server has applied.
type member struct {
	w        *world
	name     string
	cluster  uint64
	store    *store.Store
	watchers *store.Watchers
	mux      *gateway.Mux
	applied  int
	isolated bool // it serves, but cannot tell whether it is up to date
	down     bool
	streams  []*stream
}

func (m *member) restart() {
	for _, s := range m.streams {
		s.fail(errors.New("connection reset"))
	}
	m.streams = nil
	m.store, m.watchers, m.applied = store.New(), store.NewWatchers(), 0
	m.mux = gateway.New(m, gateway.Options{})
	m.catchUp(m.w.rand.IntN(len(m.w.log) + 1))
}

func (m *member) catchUp(to int) {
	for m.applied < to {
		var events []*store.Event
		m.store.Apply(m.w.log[m.applied], func(e *store.Event) { events = append(events, e) })
		m.applied++
		for _, e := range events {
			m.watchers.Notify(e)
		}
	}
}

func (m *member) ReadIndex(done func(*store.Error)) {
	m.w.After(time.Millisecond, func() {
		if m.isolated {
			done(&store.Error{Code: store.CodeRaftInternal, Cause: "no leader"})
			return
		}
		m.catchUp(len(m.w.log))
		done(nil)
	})
}

func (m *member) Propose(c store.Command, done func(store.Result)) {
	if m.isolated {
		done(store.Result{Err: &store.Error{Code: store.CodeRaftInternal, Cause: "no leader"}})
		return
	}
	res := m.w.commit(c)
	m.w.After(time.Millisecond, func() {
		m.catchUp(len(m.w.log))
		done(res[0])
	})
}
func (m *member) View() *store.View { return m.store.View() }
func (m *member) Watch(key string, recursive bool, fn func(*store.Event)) func() {
	return m.watchers.Add(key, recursive, fn).Cancel
}
func (m *member) Info() *gateway.Info { return &gateway.Info{ClusterID: m.cluster, Leader: 1} }
func (m *member) After(d time.Duration, fn func()) func() {
	return m.w.After(d, fn).Stop
}

// stream carries one answer, in pieces of any size, until it is cut.
type stream struct {
	w      *world
	r      env.WebReceiver
	cancel func()
	late   []func() // in order
	busy   bool
	left   int // bytes until it is cut; negative is never
	over   bool
}

func (s *stream) later(fn func()) {
	s.late = append(s.late, fn)
	if !s.busy {
		s.busy = true
		s.w.After(time.Duration(s.w.rand.IntN(20))*time.Millisecond, s.next)
	}
}

func (s *stream) next() {
	fn := s.late[0]
	s.late = s.late[1:]
	if !s.over {
		fn()
	}
	if s.busy = len(s.late) > 0; s.busy {
		s.w.After(time.Duration(s.w.rand.IntN(5))*time.Millisecond, s.next)
	}
}

func (s *stream) fail(err error) {
	s.later(func() {
		s.over = true
		s.r.End(err)
	})
}

func (s *stream) Reply(r *gateway.Reply) {
	s.later(func() {
		var header []env.WebHeader
		for _, h := range r.Header {
			header = append(header, env.WebHeader(h))
		}
		s.r.Head(r.Status, header)
	})
	if len(r.Body) > 0 {
		s.Chunk(r.Body)
	}
	if !r.More {
		s.End()
	}
}

func (s *stream) Chunk(p []byte) bool {
	p = bytes.Clone(p)
	for len(p) > 0 {
		n := 1 + s.w.rand.IntN(len(p))
		piece := p[:n]
		p = p[n:]
		s.later(func() {
			if s.left >= 0 {
				piece = piece[:min(len(piece), s.left)]
				s.left -= len(piece)
			}
			s.r.Chunk(piece)
			if s.left == 0 && !s.over {
				s.over = true
				s.cancel()
				if s.w.rand.IntN(2) == 0 {
					s.r.End(errors.New("connection reset"))
				} // else silence
			}
		})
	}
	return len(s.late) < 1000
}

func (s *stream) End() {
	s.later(func() {
		s.over = true
		s.r.End(nil)
	})
}

func (w *world) Do(req *env.WebRequest, r env.WebReceiver) func() {
	s := &stream{w: w, r: r, cancel: func() {}, left: -1}
	if w.rand.IntN(100) < w.loss {
		s.left = w.rand.IntN(400)
	}
	refuse := w.rand.IntN(100) < w.loss
	var timeout env.Timer
	if req.Timeout > 0 && !req.Stream {
		timeout = w.After(req.Timeout, func() {
			if !s.over {
				s.over = true
				s.r.End(errors.New("no answer in time"))
			}
		})
	}
	w.After(time.Duration(w.rand.IntN(30))*time.Millisecond, func() {
		for _, m := range w.members {
			if s.over || !strings.HasPrefix(req.URL, m.name+"/") {
				continue
			}
			if m.down || refuse {
				s.fail(env.ErrUnsent)
				return
			}
			m.streams = append(m.streams, s)
			s.cancel = m.mux.Serve(incoming(req), s)
			return
		}
		if !s.over {
			s.fail(env.ErrUnsent)
		}
	})
	return func() {
		s.over = true
		s.cancel()
		if timeout != nil {
			timeout.Stop()
		}
	}
}

func incoming(req *env.WebRequest) *gateway.Request {
	u, err := url.Parse(req.URL)
	if err != nil {
		panic(err)
	}
	g := &gateway.Request{Method: req.Method, Path: u.EscapedPath(), Query: u.RawQuery, Body: req.Body}
	for _, h := range req.Header {
		if h.Name == "Content-Type" {
			g.ContentType = h.Value
		}
	}
	return g
}
