package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/store"
)

// wallStart is the wall clock of the fake member, in Unix nanoseconds.
const wallStart = 1763637294922523342 // 2025-11-20T11:14:54.922523342Z

// fake is a backend over a store of its own, to which writes apply at once
// unless they are held.
type fake struct {
	store    *store.Store
	watchers *store.Watchers
	info     Info
	traffic  Traffic
	number   uint64
	now      time.Duration
	down     *store.Error // what proposals and read-index rounds fail with
	held     bool         // read-index rounds and results wait in late
	late     []func()
	reads    int
	alarms   []func()
}

func newFake() *fake {
	return &fake{store: store.New(), watchers: store.NewWatchers(), info: Info{
		ClusterID: 0x7e27652122e8b2ae, Self: 0xac7c97ef0ec193b0, Leader: 0xac7c97ef0ec193b0, Name: "ra",
		Term: 2, RaftIndex: 40, Role: Leader,
		Members: []Member{
			{ID: 0xac7c97ef0ec193b0, Name: "ra", PeerURLs: []string{"http://127.0.0.1:2380"}, ClientURLs: []string{"http://127.0.0.1:2379"}},
			{ID: 0x24e2ba8d9dc7b432, PeerURLs: []string{"http://10.0.0.2:2380"}},
			{ID: 0xffff, Name: "rc", PeerURLs: []string{"http://10.0.0.3:2380"}, ClientURLs: []string{"http://10.0.0.3:4001", "http://10.0.0.3:2379"}},
		},
		Started: wallStart, LeaderSince: wallStart, LeaderUptime: 5092271233,
	}}
}

func (f *fake) Propose(c store.Command, done func(store.Result)) {
	if f.down != nil {
		done(store.Result{Err: f.down})
		return
	}
	f.number++
	c.ID = store.ID{Node: 1, Incarnation: 1, Number: f.number}
	res := f.apply(c)
	f.run(func() { done(res[0]) })
}

func (f *fake) apply(cs ...store.Command) []store.Result {
	var events []*store.Event
	res := f.store.Apply(&store.Batch{Time: store.Time(f.now), Wall: wallStart + int64(f.now), Commands: cs},
		func(e *store.Event) { events = append(events, e) })
	for _, e := range events {
		f.watchers.Notify(e)
	}
	return res
}

func (f *fake) Traffic() *Traffic { return &f.traffic }

func (f *fake) run(fn func()) {
	if f.held {
		f.late = append(f.late, fn)
		return
	}
	fn()
}

func (f *fake) release() {
	for _, fn := range f.late {
		fn()
	}
	f.late = nil
}

func (f *fake) ReadIndex(done func(*store.Error)) {
	f.reads++
	f.run(func() { done(f.down) })
}

func (f *fake) View() *store.View { return f.store.View() }

func (f *fake) Watch(key string, recursive bool, fn func(*store.Event)) func() {
	return f.watchers.Add(key, recursive, fn).Cancel
}

func (f *fake) Info() *Info {
	i := f.info
	i.Store = f.store.Stats()
	i.Watchers = uint64(f.watchers.Len())
	return &i
}

func (f *fake) After(_ time.Duration, fn func()) func() {
	live := true
	f.alarms = append(f.alarms, func() {
		if live {
			fn()
		}
	})
	return func() { live = false }
}

// reader takes an answer. It reads room chunks and is then too far behind; a
// negative room is endless.
type reader struct {
	reply  *Reply
	chunks []string
	ended  int
	room   int
	refuse int // chunks that found no room
}

func newReader() *reader { return &reader{room: -1} }

func (r *reader) Reply(p *Reply) {
	if r.reply != nil {
		panic("answered twice")
	}
	r.reply = p
}

func (r *reader) Chunk(p []byte) bool {
	if r.reply == nil || !r.reply.More || r.ended > 0 {
		panic("a chunk out of place")
	}
	if r.room == 0 {
		r.refuse++
		return false
	}
	r.room--
	r.chunks = append(r.chunks, string(p))
	return true
}

func (r *reader) End() {
	if r.reply == nil || !r.reply.More || r.ended > 0 {
		panic("an end out of place")
	}
	r.ended++
}

func (p *Reply) header(name string) string {
	for _, h := range p.Header {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}

// server is a mux over a fake, driven by lines such as "PUT /v2/keys/a value=1":
// what follows the path is a form.
type server struct {
	*fake
	*Mux
}

func newServer(o Options) *server {
	f := newFake()
	return &server{f, New(f, o)}
}

func request(line string) *Request {
	method, rest, _ := strings.Cut(line, " ")
	target, body, form := strings.Cut(rest, " ")
	path, query, _ := strings.Cut(target, "?")
	req := &Request{Method: method, Path: path, Query: query}
	if form {
		req.ContentType, req.Body = formType, []byte(body)
	}
	return req
}

func (s *server) do(line string) *Reply {
	r := newReader()
	s.Serve(request(line), r)
	return r.reply
}

func (s *server) start(t *testing.T, line string) *reader {
	t.Helper()
	r := newReader()
	s.Serve(request(line), r)
	require.NotNil(t, r.reply, line)
	return r
}

// skip moves the index to n with writes nobody looks at.
func (s *server) skip(n store.Index) {
	for s.store.Index() < n {
		s.do("PUT /v2/keys/_skip value=x")
	}
}
