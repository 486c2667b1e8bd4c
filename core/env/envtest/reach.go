package envtest

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

// join makes machines 0 and 1 a group, as seen from the one whose world e is.
func (b *bench) join(machine int, e *env.Env) {
	f, ok := b.Rig.(Finder)
	if !ok {
		return // the rig has done it
	}
	b.Do(machine, func() { e.Net.Set(b.group(f, machine)) })
}

func (b *bench) group(f Finder, machine int) env.Group {
	g := env.Group{Cluster: 1, Self: b.ID(machine)}
	for i := range 2 {
		g.Peers = append(g.Peers, env.Peer{ID: b.ID(i), URLs: f.PeerURLs(i)})
	}
	slices.SortFunc(g.Peers, func(x, y env.Peer) int { return cmp.Compare(x.ID, y.ID) })
	return g
}

func testSet(b *bench) {
	f, ok := b.Rig.(Finder)
	if !ok {
		b.Log("this rig says itself who can be reached")
		return
	}
	got := make(chan string, 1000)
	var other *env.Env
	b.Start(1, Node{
		Start:   func(e *env.Env) { other = e },
		Receive: func(from env.NodeID, p []byte) { got <- string(p) },
	})
	e := b.begin()
	b.Do(0, func() { assert.False(b, e.Net.Send(b.ID(1), []byte("too early")), "nobody is known before Set") })
	b.Do(0, func() {
		e.Net.Set(b.group(f, 0))
		e.Net.Set(b.group(f, 0))
	})
	for range 20 {
		b.Do(0, func() { e.Net.Send(b.ID(1), []byte("nobody listens")) })
		b.Wait(20 * time.Millisecond)
	}
	b.Wait(3 * time.Second)
	b.Do(1, func() { other.Net.Set(b.group(f, 1)) })
	for i := 0; i < 300 && len(got) == 0; i++ { // a frame may be lost
		b.Do(0, func() { e.Net.Send(b.ID(1), []byte("hello")) })
		b.Wait(50 * time.Millisecond)
	}
	require.NotEmpty(b, got, "no frame arrived")
	b.Do(0, func() {
		g := b.group(f, 0)
		g.Peers = slices.DeleteFunc(g.Peers, func(p env.Peer) bool { return p.ID == b.ID(1) })
		e.Net.Set(g)
		assert.False(b, e.Net.Send(b.ID(1), []byte("too late")), "who is not in the group cannot be reached")
	})
}

func testHeard(b *bench) {
	f, ok := b.Rig.(Finder)
	if !ok {
		b.Log("this rig says itself who can be reached")
		return
	}
	answered := false
	var other *env.Env
	b.Start(1, Node{
		Start:   func(e *env.Env) { other = e },
		Receive: func(from env.NodeID, _ []byte) { other.Net.Send(from, []byte("answer")) },
	})
	e := b.beginWith(Node{Receive: func(from env.NodeID, _ []byte) { answered = answered || from == b.ID(1) }})
	b.join(0, e)
	b.Do(1, func() {
		g := b.group(f, 1)
		g.Peers = slices.DeleteFunc(g.Peers, func(p env.Peer) bool { return p.ID == b.ID(0) })
		other.Net.Set(g)
		assert.False(b, other.Net.Send(b.ID(0), []byte("too early")), "nobody is known there yet")
	})
	for i, over := 0, false; i < 300 && !over; i++ { // a frame may be lost
		b.Do(0, func() { e.Net.Send(b.ID(1), []byte("hello")); over = answered })
		b.Wait(50 * time.Millisecond)
	}
	b.Do(0, func() { assert.True(b, answered, "no answer has arrived") })
}

// received is a WebReceiver that notes what it is told.
type received struct {
	b      *bench
	inside *bool // true while a call is made
	status int
	header []env.WebHeader
	body   []byte
	chunks int
	heads  int
	ends   int
	err    error
}

func (r *received) look() {
	assert.False(r.b, r.inside != nil && *r.inside, "an answer inside the call")
	assert.Zero(r.b, r.ends, "nothing comes after the end")
}

func (r *received) Head(status int, header []env.WebHeader) {
	r.look()
	r.heads++
	assert.Zero(r.b, r.chunks, "the head comes first")
	r.status, r.header = status, header
}

func (r *received) Chunk(p []byte) {
	r.look()
	assert.Equal(r.b, 1, r.heads, "a body without a head")
	r.chunks++
	r.body = append(r.body, p...)
}

func (r *received) End(err error) {
	r.look()
	r.ends, r.err = r.ends+1, err
}

func (r *received) get(name string) string {
	for _, h := range r.header {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}

// caller gives the world of machine 0 and the URL of machine 1, whose requests go
// to serve. Without a rig that can do it, the test is passed over.
func (b *bench) caller(serve func(q *Request, a Answer) func()) (*env.Env, string, bool) {
	c, ok := b.Rig.(Caller)
	if !ok {
		b.Log("this rig takes no requests")
		return nil, "", false
	}
	b.Start(1, Node{Serve: serve})
	return b.begin(), c.URL(1), true
}

// fetch sends one request and waits for its end.
func (b *bench) fetch(e *env.Env, q *env.WebRequest) *received {
	b.Helper()
	inside := false
	r := &received{b: b, inside: &inside}
	b.Do(0, func() {
		inside = true
		e.Web.Do(q, r)
		inside = false
	})
	b.until("the end of an answer", func() bool { return r.ends > 0 })
	return r
}

// insist repeats a request that may be lost until it was answered.
func (b *bench) insist(e *env.Env, q *env.WebRequest) *received {
	b.Helper()
	for range 20 {
		if r := b.fetch(e, q); r.err == nil {
			return r
		}
	}
	require.Fail(b, "no answer in twenty attempts")
	return nil
}

func testAnswer(b *bench) {
	e, url, ok := b.caller(func(q *Request, a Answer) func() {
		var from string
		for _, h := range q.Header {
			if h.Name == "X-Test" {
				from = h.Value
			}
		}
		text := fmt.Sprintf("%s %s?%s %s %s %t", q.Method, q.Path, q.Query, q.Body, from, q.Peer)
		a.Reply(201, []env.WebHeader{{Name: "X-Answer", Value: "yes"}}, []byte(text), false)
		return nil
	})
	if !ok {
		return
	}
	r := b.insist(e, &env.WebRequest{
		Method: "POST", URL: url + "/some%2Fwhere?a=b%26c", Header: []env.WebHeader{{Name: "X-Test", Value: "of ours"}},
		Body: []byte("the body"), Timeout: 10 * time.Second,
	})
	assert.Equal(b, 201, r.status)
	assert.Equal(b, "POST /some%2Fwhere?a=b%26c the body of ours true", string(r.body))
	assert.Equal(b, "yes", r.get("X-Answer"))
}

func testRedirect(b *bench) {
	e, url, ok := b.caller(func(q *Request, a Answer) func() {
		a.Reply(307, []env.WebHeader{{Name: "Location", Value: "http://127.0.0.1:1/"}}, nil, false)
		return nil
	})
	if ok {
		assert.Equal(b, 307, b.insist(e, &env.WebRequest{Method: "GET", URL: url + "/", Timeout: 10 * time.Second}).status)
	}
}

func testStream(b *bench) {
	var a Answer
	e, url, ok := b.caller(func(_ *Request, answer Answer) func() {
		a = answer
		a.Reply(200, nil, []byte("0,"), true)
		return nil
	})
	if !ok {
		return
	}
	r := &received{b: b}
	for try := 0; r.heads == 0 && try < 20; try++ {
		r = &received{b: b}
		b.Do(0, func() {
			e.Web.Do(&env.WebRequest{Method: "GET", URL: url + "/", Timeout: 2 * time.Second, Stream: true}, r)
		})
		b.until("a head or an end", func() bool { return r.heads+r.ends > 0 })
	}
	b.Wait(4 * time.Second) // a stream outlives the time limit
	want := "0,"
	for i := 1; i <= 5; i++ {
		want += fmt.Sprint(i, ",")
		b.Do(1, func() { assert.True(b, a.Chunk(fmt.Append(nil, i, ","))) })
		b.until("a chunk", func() bool { return r.ends > 0 || string(r.body) == want })
	}
	b.Do(1, func() { a.End() })
	b.until("the end", func() bool { return r.ends > 0 })
	assert.NoError(b, r.err)
	assert.Equal(b, want, string(r.body))
}

func testCancel(b *bench) {
	gone := 0
	e, url, ok := b.caller(func(_ *Request, a Answer) func() {
		a.Reply(200, nil, nil, true)
		return func() { gone++ }
	})
	if !ok {
		return
	}
	for range 10 {
		r := &received{b: b}
		var cancel func()
		b.Do(0, func() {
			cancel = e.Web.Do(&env.WebRequest{Method: "GET", URL: url + "/", Timeout: 2 * time.Second, Stream: true}, r)
		})
		b.until("a head or an end", func() bool { return r.heads+r.ends > 0 })
		var told received
		b.Do(0, func() { cancel(); cancel(); told = *r })
		b.Wait(100 * time.Millisecond)
		b.Do(0, func() { assert.Equal(b, told, *r, "nothing comes after cancel") })
	}
	left := false
	for i := 0; i < 300 && !left; i++ {
		b.Wait(100 * time.Millisecond)
		b.Do(1, func() { left = gone > 0 })
	}
	assert.True(b, left, "the server learns that the caller is gone")
}

func testTimeout(b *bench) {
	e, url, ok := b.caller(func(*Request, Answer) func() { return nil })
	if !ok {
		return
	}
	var begin, end env.Instant
	b.Do(0, func() { begin = e.Clock.Now() })
	r := b.fetch(e, &env.WebRequest{Method: "GET", URL: url + "/", Timeout: 500 * time.Millisecond})
	b.Do(0, func() { end = e.Clock.Now() })
	require.Error(b, r.err)
	assert.Zero(b, r.heads)
	if !errors.Is(r.err, env.ErrUnsent) {
		assert.GreaterOrEqual(b, end.Sub(begin), 400*time.Millisecond)
	}
}

func testNobody(b *bench) {
	c, ok := b.Rig.(Caller)
	if !ok {
		b.Log("this rig takes no requests")
		return
	}
	e := b.begin()
	r := b.fetch(e, &env.WebRequest{Method: "GET", URL: c.URL(1) + "/", Timeout: 3 * time.Second})
	assert.Error(b, r.err, "a machine that has not started")
	r = b.fetch(e, &env.WebRequest{Method: "GET", URL: "http://no-such-host.invalid:2380/", Timeout: 10 * time.Second})
	assert.ErrorIs(b, r.err, env.ErrUnsent, "a host that does not exist")
	r = b.fetch(e, &env.WebRequest{Method: "GET", URL: ":", Timeout: 10 * time.Second})
	assert.ErrorIs(b, r.err, env.ErrUnsent, "a URL that is none")
}

// A request of which it is said that nobody saw it was seen by nobody, however its
// server dies.
func testUnsent(b *bench) {
	seen := make(map[string]bool)
	serve := func(q *Request, a Answer) func() {
		seen[q.Path] = true
		a.Reply(200, nil, []byte("done"), false)
		return nil
	}
	e, url, ok := b.caller(serve)
	if !ok {
		return
	}
	all := make(map[string]*received)
	for round := range 10 {
		b.Do(0, func() {
			for i := range 5 {
				path := fmt.Sprintf("/%d/%d", round, i)
				all[path] = &received{b: b}
				e.Web.Do(&env.WebRequest{Method: "POST", URL: url + path, Body: []byte("x"), Timeout: 2 * time.Second}, all[path])
			}
		})
		b.Wait(time.Duration(round) * 300 * time.Microsecond)
		b.Kill(1)
		if round%2 == 0 {
			b.Wait(5 * time.Millisecond)
		}
		b.Start(1, Node{Serve: serve})
	}
	for path, r := range all {
		b.until("the end of "+path, func() bool { return r.ends > 0 })
	}
	b.Do(1, func() {
		for path, r := range all {
			assert.False(b, seen[path] && errors.Is(r.err, env.ErrUnsent), "%s was seen, but: %v", path, r.err)
			assert.False(b, !seen[path] && r.err == nil, "%s was answered by nobody", path)
		}
	})
}

func testWebNever(b *bench) {
	e, url, ok := b.caller(func(_ *Request, a Answer) func() {
		a.Reply(200, nil, []byte("x"), true)
		return nil
	})
	if !ok {
		return
	}
	for range 5 {
		dead := false
		var rs []*late
		b.Do(0, func() {
			for range 5 {
				r := &late{dead: &dead}
				rs = append(rs, r)
				e.Web.Do(&env.WebRequest{Method: "GET", URL: url + "/", Stream: true}, r)
			}
		})
		b.Kill(0)
		dead = true
		e = b.begin()
		b.Wait(50 * time.Millisecond)
		b.Do(0, func() {
			for _, r := range rs {
				assert.Zero(b, r.calls, "an answer to a dead life")
			}
		})
	}
}

// late counts what is told to a life that has ended.
type late struct {
	dead  *bool
	calls int
}

func (l *late) note() {
	if *l.dead {
		l.calls++
	}
}

func (l *late) Head(int, []env.WebHeader) { l.note() }
func (l *late) Chunk([]byte)              { l.note() }
func (l *late) End(error)                 { l.note() }

// addresses asks for a host and waits.
func (b *bench) addresses(e *env.Env, host string) ([]netip.Addr, error) {
	b.Helper()
	var got []netip.Addr
	err := b.wait(func(done func(error)) {
		inside := true
		e.Names.Addresses(host, func(list []netip.Addr, err error) {
			assert.False(b, inside, "an answer inside the call")
			got = list
			done(err)
		})
		inside = false
	})
	return got, err
}

func testAddresses(b *bench) {
	e := b.begin()
	if e.Names == nil {
		b.Log("this rig knows no names")
		return
	}
	for _, a := range []string{"127.0.0.1", "10.1.2.3", "::1"} {
		got, err := b.addresses(e, a)
		assert.NoError(b, err)
		assert.Equal(b, []netip.Addr{netip.MustParseAddr(a)}, got, "an address is itself")
	}
	_, err := b.addresses(e, "no-such-host.invalid")
	assert.Error(b, err)
	z, ok := b.Rig.(Zoner)
	if !ok {
		b.Log("this rig has no zone of its own")
		return
	}
	z.SetAddresses("one.example.test", netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("10.9.0.1"))
	got, err := b.addresses(e, "one.example.test")
	assert.NoError(b, err)
	assert.Equal(b, []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")}, got, "sorted")
}

func testServices(b *bench) {
	e := b.begin()
	if e.Names == nil {
		b.Log("this rig knows no names")
		return
	}
	ask := func(domain string) (got []env.Service, err error) {
		err = b.wait(func(done func(error)) {
			e.Names.Services("etcd-server", "tcp", domain, func(list []env.Service, err error) {
				got = list
				done(err)
			})
		})
		return got, err
	}
	_, err := ask("no-such-domain.invalid")
	assert.Error(b, err)
	z, ok := b.Rig.(Zoner)
	if !ok {
		b.Log("this rig has no zone of its own")
		return
	}
	want := []env.Service{{Target: "one.example.test", Port: 2380}, {Target: "two.example.test", Port: 7001}}
	z.SetServices("_etcd-server._tcp.example.test", want...)
	got, err := ask("example.test")
	assert.NoError(b, err)
	slices.SortFunc(got, func(x, y env.Service) int { return strings.Compare(x.Target, y.Target) })
	assert.Equal(b, want, got)
}

func testWork(b *bench) {
	e := b.begin()
	if e.Work == nil {
		b.Log("this rig does no work outside the loop")
		return
	}
	const many = 20
	sums := make([]int, many)
	ended, inside := 0, false
	b.Do(0, func() {
		inside = true
		for i := range many {
			e.Work.Run(func() { sums[i] = i + 1 }, func() {
				assert.False(b, inside, "it ends inside the call")
				assert.Equal(b, i+1, sums[i], "the work comes before its end")
				ended++
			})
		}
		inside = false
	})
	b.until("all work", func() bool { return ended == many })
	dead := make(chan int, 1)
	b.Do(0, func() { e.Work.Run(func() {}, func() { dead <- 1 }) })
	b.Kill(0)
	n := len(dead)
	b.begin()
	b.Wait(50 * time.Millisecond)
	assert.Len(b, dead, n, "the end of a dead life's work")
}

func testDirectories(b *bench) {
	e := b.begin()
	member := env.In(e.Disk, "member")
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Replace("identity", content("me"), done) }))
	require.NoError(b, b.wait(func(done func(error)) { member.Append("wal-1", []byte("log"), done) }))
	require.NoError(b, b.wait(func(done func(error)) { member.Replace("snapshot-1", content("old"), done) }))
	require.NoError(b, b.wait(func(done func(error)) { member.Replace("snapshot-1", content("new"), done) }))
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Append("proxy/cluster", []byte("x"), done) }))
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Remove("proxy/cluster", done) }))
	for _, end := range []func(int){b.Kill, b.lose} {
		end(0)
		b.beginWith(Node{Start: func(e *env.Env) {
			all, err := e.Disk.Names()
			assert.NoError(b, err)
			assert.Equal(b, []string{"identity", "member/snapshot-1", "member/wal-1"}, all)
			inside, err := env.In(e.Disk, "member").Names()
			assert.NoError(b, err)
			assert.Equal(b, []string{"snapshot-1", "wal-1"}, inside)
			p, err := env.In(e.Disk, "member").Load("wal-1")
			assert.NoError(b, err)
			assertHolds(b, "log", p)
			p, err = e.Disk.Load("member/snapshot-1")
			assert.NoError(b, err)
			assert.Equal(b, "new", string(p))
		}})
	}
}

// lose takes the power away where the rig can, and kills otherwise.
func (b *bench) lose(machine int) {
	if p, ok := b.Rig.(PowerLoser); ok {
		p.PowerOff(machine)
		return
	}
	b.Kill(machine)
}
