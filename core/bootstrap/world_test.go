package bootstrap

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	tokens "github.com/keelson/keelson/core/discovery"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/store"
)

// world is what a bootstrap sees: a clock that runs when told, peers and services
// that are functions, and a log.
type world struct {
	now    env.Instant
	queue  []*event
	count  int
	hosts  map[string]func(*env.WebRequest, env.WebReceiver) // by scheme://host:port
	names  map[string]string
	srv    map[string][]env.Service
	logged []string
	rand   *rand.Rand
}

type event struct {
	at    env.Instant
	order int
	fn    func()
	off   bool
}

func (e *event) Stop() { e.off = true }

func newWorld() *world {
	return &world{
		hosts: make(map[string]func(*env.WebRequest, env.WebReceiver)),
		names: make(map[string]string), srv: make(map[string][]env.Service), rand: rand.New(rand.NewPCG(1, 1)),
	}
}

func (w *world) env() *env.Env {
	return &env.Env{Clock: w, Web: w, Names: w, Log: w, Rare: w, Rand: w.rand}
}

func (w *world) Now() env.Instant   { return w.now }
func (w *world) Wall() time.Time    { return time.Unix(0, int64(w.now)) }
func (w *world) Chance(string) bool { return false }
func (w *world) Mark(string)        {}

func (w *world) After(d time.Duration, fn func()) env.Timer {
	w.count++
	e := &event{at: w.now.Add(max(d, 0)), order: w.count, fn: fn}
	w.queue = append(w.queue, e)
	return e
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for {
		slices.SortStableFunc(w.queue, func(a, b *event) int {
			if a.at != b.at {
				return int(a.at - b.at)
			}
			return a.order - b.order
		})
		if len(w.queue) == 0 || w.queue[0].at > end {
			w.now = end
			return
		}
		e := w.queue[0]
		w.queue = w.queue[1:]
		w.now = e.at
		if !e.off {
			e.fn()
		}
	}
}

func (w *world) Log(_ env.Level, msg string, kv ...any) {
	w.logged = append(w.logged, strings.TrimSpace(fmt.Sprintln(append([]any{msg}, kv...)...)))
}

// said tells whether a line of the log has this in it.
func (w *world) said(text string) bool {
	return slices.ContainsFunc(w.logged, func(l string) bool { return strings.Contains(l, text) })
}

func (w *world) Do(req *env.WebRequest, r env.WebReceiver) func() {
	u, err := url.Parse(req.URL)
	live := true
	w.After(time.Millisecond, func() {
		if !live {
			return
		}
		host := w.hosts[u.Scheme+"://"+u.Host]
		if err != nil || host == nil {
			r.End(fmt.Errorf("dial %s: connection refused: %w", u.Host, env.ErrUnsent))
			return
		}
		host(req, &mayCancel{r, &live})
	})
	return func() { live = false }
}

type mayCancel struct {
	r    env.WebReceiver
	live *bool
}

func (m *mayCancel) Head(s int, h []env.WebHeader) {
	if *m.live {
		m.r.Head(s, h)
	}
}

func (m *mayCancel) Chunk(p []byte) {
	if *m.live {
		m.r.Chunk(p)
	}
}

func (m *mayCancel) End(err error) {
	if *m.live {
		m.r.End(err)
	}
}

func (w *world) Services(service, proto, domain string, done func([]env.Service, error)) {
	w.After(time.Millisecond, func() {
		found := w.srv["_"+service+"._"+proto+"."+domain]
		if found == nil {
			done(nil, errors.New("no such host"))
			return
		}
		done(found, nil)
	})
}

func (w *world) Addresses(host string, done func([]netip.Addr, error)) {
	w.After(time.Millisecond, func() {
		a, err := netip.ParseAddr(w.names[host])
		if err != nil {
			done(nil, errors.New("no such host"))
			return
		}
		done([]netip.Addr{a}, nil)
	})
}

// says is a peer that gives the same answer to everything.
func says(status int, cluster uint64, body string) func(*env.WebRequest, env.WebReceiver) {
	return func(_ *env.WebRequest, r env.WebReceiver) { reply(r, status, cluster, body) }
}

func reply(r env.WebReceiver, status int, cluster uint64, body string) {
	r.Head(status, []env.WebHeader{{Name: "X-Etcd-Cluster-Id", Value: fmt.Sprintf("%x", cluster)}})
	r.Chunk([]byte(body))
	r.End(nil)
}

// peer is a running member: what it answers to claims and to the question for members.
func peer(claim int, claimBody string, cluster uint64, members string) func(*env.WebRequest, env.WebReceiver) {
	return func(req *env.WebRequest, r env.WebReceiver) {
		if strings.Contains(req.URL, "/claim") {
			reply(r, claim, cluster, claimBody)
			return
		}
		reply(r, 200, cluster, members)
	}
}

// boot is one process that looks for its cluster, and its disk.
type boot struct {
	w       *world
	b       *Bootstrap
	note    *Identity
	outcome *Outcome
	err     error
}

func start(w *world, cfg Config, note *Identity) *boot {
	p := &boot{w: w, note: note}
	if err := cfg.Check(); err != nil {
		p.err = err
		return p
	}
	p.b = Begin(cfg, note, w.env(), p)
	return p
}

func (p *boot) Keep(note *Identity, then func()) {
	kept := *note
	p.w.After(time.Millisecond, func() {
		p.note = &kept
		then()
	})
}

func (p *boot) Forget(then func()) {
	p.w.After(time.Millisecond, func() {
		p.note = nil
		then()
	})
}

func (p *boot) Done(o *Outcome, err error) { p.outcome, p.err = o, err }

func (p *boot) done() bool { return p.outcome != nil || p.err != nil }

// granter is a founder that grants each place once, as a daemon does.
type granter map[string]string

func (g granter) serve(req *env.WebRequest, r env.WebReceiver) {
	u, _ := url.Parse(req.URL)
	switch life := u.Query().Get("life"); {
	case !strings.HasSuffix(u.Path, "/claim"):
		reply(r, 503, 0, "{}")
	case g[u.Path] != "" && g[u.Path] != life:
		reply(r, 409, 0, "{}")
	default:
		g[u.Path] = life
		reply(r, 200, 0, `{"sure":false}`)
	}
}

// service is a discovery service with a store of its own.
type service struct {
	w        *world
	store    *store.Store
	watchers *store.Watchers
	svc      *tokens.Service
	mux      *gateway.Mux
	number   uint64
	requests []string
	lose     int // answers to writes that get lost
}

func newService(w *world, host string) *service {
	s := &service{w: w, store: store.New(), watchers: store.NewWatchers()}
	s.mux = gateway.New(s, gateway.Options{})
	s.svc = tokens.New(s.mux, w.rand, tokens.Options{Host: host, Alone: true})
	w.hosts[host] = s.serve
	return s
}

func (s *service) Propose(c store.Command, done func(store.Result)) {
	s.number++
	c.ID = store.ID{Node: 1, Incarnation: 1, Number: s.number}
	res := s.store.Apply(&store.Batch{Time: store.Time(s.w.now), Commands: []store.Command{c}}, s.watchers.Notify)
	done(res[0])
}
func (s *service) ReadIndex(done func(*store.Error)) { done(nil) }
func (s *service) View() *store.View                 { return s.store.View() }
func (s *service) Info() *gateway.Info               { return &gateway.Info{Leader: 1, Self: 1} }

func (s *service) Watch(key string, recursive bool, fn func(*store.Event)) func() {
	return s.watchers.Add(key, recursive, fn).Cancel
}

func (s *service) serve(req *env.WebRequest, r env.WebReceiver) {
	u, _ := url.Parse(req.URL)
	s.requests = append(s.requests, req.Method+" "+u.RequestURI())
	q := &gateway.Request{Method: req.Method, Path: u.EscapedPath(), Query: u.RawQuery, Body: req.Body}
	for _, h := range req.Header {
		if h.Name == "Content-Type" {
			q.ContentType = h.Value
		}
	}
	if s.lose > 0 && req.Method == "PUT" {
		s.lose--
		s.svc.Serve(q, &answers{})
		r.End(errors.New("connection reset by peer"))
		return
	}
	s.svc.Serve(q, &answers{r: r})
}

// do asks the service at once.
func (s *service) do(method, target, form string) *answers {
	path, query, _ := strings.Cut(target, "?")
	a := &answers{}
	q := &gateway.Request{Method: method, Path: path, Query: query}
	if form != "" {
		q.ContentType, q.Body = "application/x-www-form-urlencoded", []byte(form)
	}
	s.svc.Serve(q, a)
	return a
}

// token makes a token for n members and gives its URL.
func (s *service) token(t *testing.T, n int) string {
	t.Helper()
	return s.do("GET", fmt.Sprintf("/new?size=%d", n), "").body.String()
}

type answers struct {
	r      env.WebReceiver
	status int
	body   bytes.Buffer
}

func (a *answers) Reply(p *gateway.Reply) {
	a.status = p.Status
	a.body.Write(p.Body)
	if a.r == nil {
		return
	}
	var h []env.WebHeader
	for _, x := range p.Header {
		h = append(h, env.WebHeader(x))
	}
	a.r.Head(p.Status, h)
	if len(p.Body) > 0 {
		a.r.Chunk(p.Body)
	}
	if !p.More {
		a.r.End(nil)
	}
}

func (a *answers) Chunk(p []byte) bool {
	a.body.Write(p)
	if a.r != nil {
		a.r.Chunk(p)
	}
	return true
}

func (a *answers) End() {
	if a.r != nil {
		a.r.End(nil)
	}
}

// sizeRequest sets the size of the token of zeros behind the service's back.
func sizeRequest(size string) *gateway.Request {
	return &gateway.Request{
		Method: "PUT", Path: "/v2/keys/_etcd/registry/00000000000000000000000000000000/_config/size",
		ContentType: "application/x-www-form-urlencoded", Body: []byte("value=" + size),
	}
}
