package sim

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

func get(path string) *client.Request {
	return &client.Request{Endpoint: "http://n1:2379", Method: "GET", Path: path, Timeout: 5 * time.Second}
}

// script runs fn as a Proc to its end.
func script(t *testing.T, w *World, fn func(p *Proc)) {
	t.Helper()
	require.True(t, w.Await(w.Spawn("script", fn), 24*time.Hour), "%v", w.Failure())
}

func TestARequestIsAnsweredInVirtualTime(t *testing.T) {
	w := newTestWorld(t, 1, Options{Link: LinkConfig{Latency: 10 * time.Millisecond}})
	addToys(w, 1, func(x *toy) error {
		x.serve = func(q *gateway.Request, r gateway.Responder) func() {
			r.Reply(&gateway.Reply{
				Status: 201, Header: []gateway.Header{{Name: "x-etcd-index", Value: "7"}},
				Body: []byte(q.Method + " " + q.Path + "?" + q.Query + " " + q.ContentType + " " + string(q.Body) + " " + q.User + " " + q.Password),
			})
			return nil
		}
		return nil
	})
	script(t, w, func(p *Proc) {
		for range 20 {
			begin := p.Now()
			resp, err := p.Do(p.Context(), &client.Request{
				Endpoint: "http://n1:4001", Method: "PUT", Path: "/v2/keys/a%20b", Query: "x=1",
				ContentType: "text/plain", Body: "value", User: "u", Password: "pw",
			})
			if !assert.NoError(t, err) {
				return
			}
			took := p.Now() - begin
			assert.True(t, took >= 20*time.Millisecond && took < 60*time.Millisecond, "%v", took)
			assert.Equal(t, 201, resp.Status)
			assert.Equal(t, "7", resp.Header["X-Etcd-Index"])
			body, err := io.ReadAll(resp.Body)
			assert.NoError(t, err)
			assert.Equal(t, "PUT /v2/keys/a%20b?x=1 text/plain value u pw", string(body))
			assert.NoError(t, resp.Body.Close())
		}
	})
}

func TestNobodyThere(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m := addToys(w, 1, nil)[0]
	unknown, clear := 0, 0
	ask := func(p *Proc, r *client.Request) error {
		_, err := p.Do(p.Context(), r)
		if errors.Is(err, client.ErrUnknown) {
			unknown++
		} else {
			clear++
		}
		return err
	}
	script(t, w, func(p *Proc) {
		assert.ErrorContains(t, ask(p, &client.Request{Endpoint: "http://nx:2379"}), "no such host")
		assert.ErrorContains(t, ask(p, &client.Request{Endpoint: "http://n1:80"}), "connection refused")
		assert.Equal(t, 2, clear)
		m.Kill()
		for range 20 {
			begin := p.Now()
			assert.ErrorContains(t, ask(p, get("/")), "connection re", "refused or reset")
			assert.Less(t, p.Now()-begin, time.Second)
		}
		assert.True(t, unknown > 0 && clear > 2, "a connection may be new or an old one")
		m.PowerOff()
		for range 20 {
			begin := p.Now()
			assert.Error(t, ask(p, get("/")))
			assert.Equal(t, 5*time.Second, p.Now()-begin)
		}
	})
}

func TestACrashBetweenRequestAndReplyIsUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(m *Machine)
		want string
		soon bool
	}{
		"kill":  {(*Machine).Kill, "connection reset", true},
		"power": {(*Machine).PowerOff, "no answer in time", false},
	} {
		w := newTestWorld(t, 1, Options{})
		m := addToys(w, 1, func(x *toy) error {
			x.serve = func(*gateway.Request, gateway.Responder) func() {
				x.env.Clock.After(time.Second, func() { c.end(x.m) })
				return nil
			}
			return nil
		})[0]
		script(t, w, func(p *Proc) {
			_, err := p.Do(p.Context(), get("/"))
			assert.ErrorIs(t, err, client.ErrUnknown, name)
			assert.ErrorContains(t, err, c.want)
			assert.Equal(t, c.soon, p.Now() < 2*time.Second)
		})
		assert.Zero(t, m.Connections())
	}
}

func TestACutAfterTheRequestLosesTheReply(t *testing.T) {
	w := newTestWorld(t, 1, Options{Link: LinkConfig{Latency: time.Millisecond}})
	served, cancelled := 0, 0
	var cut *Cut
	addToys(w, 1, func(x *toy) error {
		x.serve = func(_ *gateway.Request, r gateway.Responder) func() {
			served++
			cut = w.Net().CutOneWay([]env.NodeID{1}, w.Net().Clients())
			x.env.Clock.After(time.Millisecond, func() { r.Reply(&gateway.Reply{Status: 200}) })
			return func() { cancelled++ }
		}
		return nil
	})
	script(t, w, func(p *Proc) {
		_, err := p.Do(p.Context(), get("/"))
		assert.ErrorIs(t, err, client.ErrTimeout)
		assert.Equal(t, 1, served)
		cut.Heal()
		p.Pause(time.Minute)
		assert.Zero(t, cancelled, "what is answered is over")
	})
}

func TestACutBeforeTheRequest(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	served := 0
	addToys(w, 1, func(x *toy) error {
		x.serve = func(_ *gateway.Request, r gateway.Responder) func() {
			served++
			r.Reply(&gateway.Reply{Status: 200})
			return nil
		}
		return nil
	})
	unknown := 0
	script(t, w, func(p *Proc) {
		w.Net().Isolate(1)
		for range 20 {
			_, err := p.Do(p.Context(), get("/"))
			assert.Error(t, err)
			if errors.Is(err, client.ErrUnknown) {
				unknown++
			}
		}
	})
	assert.Zero(t, served)
	assert.True(t, unknown > 0 && unknown < 20)
}

// streamer is a toy that answers each request with a body that never ends.
func streamer(w *World) (m *Machine, push func(s string) bool, cancelled *int) {
	var open []gateway.Responder
	cancelled = new(int)
	m = addToys(w, 1, func(x *toy) error {
		open = nil
		x.serve = func(_ *gateway.Request, r gateway.Responder) func() {
			r.Reply(&gateway.Reply{Status: 200, More: true})
			open = append(open, r)
			return func() { *cancelled++ }
		}
		return nil
	})[0]
	push = func(s string) bool {
		ok := true
		for _, r := range open {
			ok = r.Chunk([]byte(s)) && ok
		}
		return ok
	}
	return m, push, cancelled
}

func watch() *client.Request {
	r := get("/watch")
	r.Stream = true
	return r
}

func TestAStreamSuspendsItsReader(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	_, push, cancelled := streamer(w)
	w.After(30*time.Second, "push", func() { push("one") })
	w.After(60*time.Second, "push", func() { push("two") })
	script(t, w, func(p *Proc) {
		resp, err := p.Do(p.Context(), watch())
		assert.NoError(t, err)
		b := make([]byte, 10)
		n, err := resp.Body.Read(b)
		assert.NoError(t, err)
		assert.Equal(t, "one", string(b[:n]))
		assert.InDelta(t, 30, p.Now().Seconds(), 0.1)
		n, _ = resp.Body.Read(b)
		assert.Equal(t, "two", string(b[:n]))
		assert.Zero(t, *cancelled)
		resp.Body.Close()
		p.Pause(time.Second)
		assert.Equal(t, 1, *cancelled)
	})
}

func TestStreamsBreak(t *testing.T) {
	for name, c := range map[string]struct {
		do     func(w *World, m *Machine)
		within time.Duration
	}{
		"kill":            {func(_ *World, m *Machine) { m.Kill() }, time.Second},
		"reset":           {func(w *World, _ *Machine) { w.Net().Break(1) }, time.Second},
		"power off":       {func(_ *World, m *Machine) { m.PowerOff() }, time.Minute},
		"power cycle":     {func(_ *World, m *Machine) { cycle(m) }, 20 * time.Second},
		"half open":       {func(w *World, _ *Machine) { w.Net().CutOneWay([]env.NodeID{1}, w.Net().Clients()) }, time.Minute},
		"half open, back": {func(w *World, _ *Machine) { w.Net().CutOneWay(w.Net().Clients(), []env.NodeID{1}) }, time.Minute},
	} {
		w := newTestWorld(t, 1, Options{})
		m, _, _ := streamer(w)
		script(t, w, func(p *Proc) {
			resp, err := p.Do(p.Context(), watch())
			if !assert.NoError(t, err, name) {
				return
			}
			p.Pause(time.Second)
			begin := p.Now()
			c.do(w, m)
			_, err = resp.Body.Read(make([]byte, 1))
			assert.Error(t, err, name)
			assert.NotErrorIs(t, err, io.EOF, name)
			assert.LessOrEqual(t, p.Now()-begin, c.within, name)
			resp.Body.Close()
			p.Pause(5 * time.Minute)
			assert.Zero(t, m.Connections(), "%s: the server notices too", name)
		})
	}
}

func TestAProgramThatEndsHangsUp(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m, _, cancelled := streamer(w)
	script(t, w, func(p *Proc) {
		_, err := p.Do(p.Context(), watch())
		assert.NoError(t, err)
		assert.Equal(t, 1, m.Connections())
	})
	w.RunFor(time.Second)
	assert.Equal(t, 1, *cancelled)
	assert.Zero(t, m.Connections())
}

func TestASlowReaderIsTold(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	_, push, _ := streamer(w)
	script(t, w, func(p *Proc) {
		resp, err := p.Do(p.Context(), watch())
		assert.NoError(t, err)
		chunk := string(make([]byte, 100<<10))
		n := 0
		for push(chunk) {
			n++
		}
		assert.Equal(t, 10, n)
		_, err = io.ReadFull(resp.Body, make([]byte, 300<<10))
		assert.NoError(t, err)
		assert.True(t, push(chunk))
	})
}

func TestInterrupt(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	streamer(w)
	var errs []error
	p := w.Spawn("p", func(p *Proc) {
		resp, _ := p.Do(p.Context(), watch())
		_, err := resp.Body.Read(make([]byte, 1))
		errs = append(errs, err, p.Sleep(p.Context(), time.Hour), p.Context().Err())
		_, err = p.Do(p.Context(), get("/"))
		errs = append(errs, err)
	})
	w.RunFor(time.Minute)
	assert.Empty(t, errs)
	p.Interrupt()
	assert.True(t, w.Await(p, time.Second))
	require.Len(t, errs, 4)
	for _, err := range errs {
		assert.ErrorIs(t, err, context.Canceled)
	}
}

func TestAPausedNodeStillAcceptsConnections(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m := addToys(w, 1, nil)[0]
	m.Pause(3 * time.Second)
	script(t, w, func(p *Proc) {
		resp, err := p.Do(p.Context(), get("/"))
		assert.NoError(t, err)
		assert.InDelta(t, 3, p.Now().Seconds(), 0.1)
		assert.Equal(t, 200, resp.Status)
	})
}

func TestLoopbackNeedsNoNetwork(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	addToys(w, 2, nil)
	w.Net().Isolate(1)
	script(t, w, func(p *Proc) {
		r := get("/")
		r.Endpoint = "http://127.0.0.1:2379"
		resp, err := p.From(1).Do(p.Context(), r)
		assert.NoError(t, err)
		body, _ := io.ReadAll(resp.Body)
		assert.Equal(t, "hello from n1", string(body))
		_, err = p.From(2).Do(p.Context(), get("/"))
		assert.Error(t, err)
		_, err = p.From(w.Net().Client("other")).Do(p.Context(), get("/"))
		assert.Error(t, err)
	})
}

func TestAPanicOfAProcIsAFinding(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	w.Spawn("p", func(p *Proc) { p.Pause(time.Second); panic("no way") })
	assert.False(t, w.RunFor(time.Minute))
	assert.Contains(t, w.Failure().Message, "p: no way")
	assert.Contains(t, w.Failure().Stack, "TestAPanicOfAProc")
}

func TestCloseUnwindsProcs(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m, _, _ := streamer(w)
	unwound := false
	w.Spawn("p", func(p *Proc) {
		defer func() { unwound = true }()
		resp, _ := p.Do(p.Context(), watch())
		defer resp.Body.Close()
		_, _ = resp.Body.Read(make([]byte, 1))
	})
	w.RunFor(time.Minute)
	require.Equal(t, 1, m.Connections())
	w.Close()
	w.Close()
	assert.True(t, unwound)
	assert.False(t, w.Step())
}

func TestAnswersAreHeldToTheInterface(t *testing.T) {
	for name, fn := range map[string]func(r gateway.Responder){
		"two replies": func(r gateway.Responder) { r.Reply(&gateway.Reply{More: true}); r.Reply(&gateway.Reply{}) },
		"chunk":       func(r gateway.Responder) { r.Chunk(nil) },
		"end":         func(r gateway.Responder) { r.End() },
	} {
		w := newTestWorld(t, 1, Options{})
		addToys(w, 1, func(x *toy) error {
			x.serve = func(_ *gateway.Request, r gateway.Responder) func() { fn(r); return nil }
			return nil
		})
		w.Spawn("p", func(p *Proc) { _, _ = p.Do(p.Context(), get("/")) })
		w.RunFor(time.Minute)
		assert.NotNil(t, w.Failure(), name)
	}
}
