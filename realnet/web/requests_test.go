package web

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/realnet"
)

// ended collects one answer.
type ended struct {
	status int
	header []env.WebHeader
	body   string
	err    chan error
}

func (e *ended) Head(status int, header []env.WebHeader) { e.status, e.header = status, header }
func (e *ended) Chunk(p []byte)                          { e.body += string(p) }
func (e *ended) End(err error)                           { e.err <- err }

func requests(t *testing.T, o RequestsOptions) (*Requests, *realnet.Loop) {
	t.Helper()
	loop := realnet.NewLoop()
	o.Post = loop.Post
	q := NewRequests(o)
	go loop.Run(func() {})
	t.Cleanup(func() {
		loop.Stop()
		<-loop.Stopped()
		q.Close()
	})
	return q, loop
}

func fetch(t *testing.T, q *Requests, loop *realnet.Loop, ask *env.WebRequest) (*ended, error) {
	t.Helper()
	e := &ended{err: make(chan error, 1)}
	loop.Post(func() { q.Do(ask, e) })
	select {
	case err := <-e.err:
		return e, err
	case <-time.After(10 * time.Second):
		t.Fatal("no end")
		return nil, nil
	}
}

func TestRequestsGoThroughAProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "proxied "+r.RequestURI)
	}))
	defer proxy.Close()
	q, loop := requests(t, RequestsOptions{})
	e, err := fetch(t, q, loop, &env.WebRequest{Method: "GET", URL: "http://discovery.invalid/t", Proxy: proxy.URL})
	require.NoError(t, err)
	assert.Equal(t, "proxied http://discovery.invalid/t", e.body)
	_, err = fetch(t, q, loop, &env.WebRequest{Method: "GET", URL: "http://discovery.invalid/t", Proxy: ":"})
	assert.ErrorIs(t, err, env.ErrUnsent)
}

func TestRequestsOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "secret") }))
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	var asked string
	q, loop := requests(t, RequestsOptions{TLS: func(host string) *tls.Config {
		asked = host
		return &tls.Config{RootCAs: pool}
	}})
	e, err := fetch(t, q, loop, &env.WebRequest{Method: "GET", URL: server.URL})
	require.NoError(t, err)
	assert.Equal(t, "secret", e.body)
	assert.Equal(t, "127.0.0.1", asked)

	q, loop = requests(t, RequestsOptions{})
	_, err = fetch(t, q, loop, &env.WebRequest{Method: "POST", URL: server.URL})
	assert.ErrorIs(t, err, env.ErrUnsent, "a server of unknown name is told nothing")
}

// A kept connection that the server has closed is no reason to doubt.
func TestWhetherARequestWasSent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	q, loop := requests(t, RequestsOptions{})
	url := "http://" + l.Addr().String()

	accept := func(do func(net.Conn)) chan struct{} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			if c, err := l.Accept(); err == nil {
				do(c)
			}
		}()
		return done
	}
	seen := accept(func(c net.Conn) { // reads the request and says nothing
		io.ReadAtLeast(c, make([]byte, 1000), 10)
		c.Close()
	})
	_, err = fetch(t, q, loop, &env.WebRequest{Method: "POST", URL: url, Body: []byte("x")})
	<-seen
	require.Error(t, err)
	assert.NotErrorIs(t, err, env.ErrUnsent)

	_, err = fetch(t, q, loop, &env.WebRequest{Method: "POST", URL: "http://192.0.2.1:9", Connect: 50 * time.Millisecond})
	assert.ErrorIs(t, err, env.ErrUnsent, "there was no connection")

	seen = accept(func(c net.Conn) { // half an answer
		io.ReadAtLeast(c, make([]byte, 1000), 10)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		c.Close()
	})
	e, err := fetch(t, q, loop, &env.WebRequest{Method: "GET", URL: url})
	<-seen
	assert.Equal(t, 200, e.status)
	assert.Equal(t, "half", e.body)
	assert.True(t, errors.Is(err, io.ErrUnexpectedEOF), err)
}

// The library sends a write again if its header says that this does no harm and a
// connection that was used before breaks. Members know nothing of such headers.
func TestNoHeaderMakesAWriteGoTwice(t *testing.T) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		for _, body := range []string{"", "value=1"} {
			var writes atomic.Int32
			var key atomic.Value
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "GET" {
					return // so that there is a connection to use again
				}
				writes.Add(1)
				key.Store(r.Header.Get(name))
				c, _, err := w.(http.Hijacker).Hijack()
				if assert.NoError(t, err) {
					c.Close()
				}
			}))
			q, loop := requests(t, RequestsOptions{})
			_, err := fetch(t, q, loop, &env.WebRequest{Method: "GET", URL: server.URL})
			require.NoError(t, err)
			_, err = fetch(t, q, loop, &env.WebRequest{Method: "POST", URL: server.URL, Body: []byte(body), Header: []env.WebHeader{{Name: name, Value: "7"}}})
			require.Error(t, err)
			assert.NotErrorIs(t, err, env.ErrUnsent)
			assert.EqualValues(t, 1, writes.Load(), "%s with %q", name, body)
			assert.Equal(t, "7", key.Load())
			server.Close()
		}
	}
}
