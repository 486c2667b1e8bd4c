package web

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keelson/keelson/core/env"
)

// RequestsOptions are the choices of a Requests.
type RequestsOptions struct {
	// Post has a function run on the loop; false says that it never will.
	Post func(func()) bool
	// TLS gives the configuration for talking to a host; nil is the system's.
	TLS func(host string) *tls.Config
}

// Requests implements env.Web over HTTP/1.1 with connections that are kept.
type Requests struct {
	post      func(func()) bool
	transport *http.Transport
	alive     context.Context
	stop      context.CancelFunc
	tasks     sync.WaitGroup
}

// proxyKey is where a request's context has its proxy.
type proxyKey struct{}

// NewRequests makes a Requests.
func NewRequests(o RequestsOptions) *Requests {
	q := &Requests{post: o.Post}
	q.alive, q.stop = context.WithCancel(context.Background())
	q.transport = &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			u, _ := r.Context().Value(proxyKey{}).(*url.URL)
			return u, nil
		},
		DialContext:         dialCounted,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}
	if o.TLS != nil {
		q.transport.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialTLS(ctx, network, addr, o.TLS)
		}
	}
	return q
}

// Close ends all requests, and waits until no goroutine of theirs is left. The loop
// may have stopped before.
func (q *Requests) Close() {
	q.stop()
	q.tasks.Wait()
	q.transport.CloseIdleConnections()
}

// Forget lets go of connections that nothing is asked on, so that the next request
// is made with certificates as they are now.
func (q *Requests) Forget() { q.transport.CloseIdleConnections() }

func dialCounted(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: conn}, nil
}

func dialTLS(ctx context.Context, network, addr string, config func(string) *tls.Config) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	c := config(host)
	if c == nil {
		c = &tls.Config{}
	}
	c = c.Clone()
	c.ServerName = cmp.Or(c.ServerName, host)
	conn, err := dialCounted(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, c)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

// countedConn knows whether anything was written, and can be sealed: then nothing is
// any more, so that the answer stays true.
type countedConn struct {
	net.Conn
	mu     sync.Mutex
	writes int
	sealed bool
}

var errSealed = errors.New("the request was given up")

func (c *countedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.sealed {
		c.mu.Unlock()
		return 0, errSealed
	}
	c.writes++
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *countedConn) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

// seal ends writing and tells how often it was done.
func (c *countedConn) seal() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sealed = true
	return c.writes
}

// counted finds the connection below TLS.
func counted(conn net.Conn) *countedConn {
	for {
		switch c := conn.(type) {
		case *countedConn:
			return c
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}

// request is one on its way. Only the loop touches over.
type request struct {
	q    *Requests
	ask  *env.WebRequest
	to   env.WebReceiver
	over bool

	ctx     context.Context
	cancel  context.CancelCauseFunc
	connect *time.Timer // gives up on a connection
	limit   *time.Timer // gives up on everything
	room    chan struct{}

	mu   sync.Mutex
	used []use
}

// use is a connection that the request got, and how often had been written to it by
// then.
type use struct {
	conn   *countedConn // nil where that cannot be told
	before int
}

// unseenMax bounds the pieces of an answer that wait for the loop.
const unseenMax = 16

var errTimeout = errors.New("timed out")

// Do implements env.Web.
func (q *Requests) Do(ask *env.WebRequest, to env.WebReceiver) (cancel func()) {
	r := &request{q: q, ask: ask, to: to, room: make(chan struct{}, unseenMax)}
	r.ctx, r.cancel = context.WithCancelCause(q.alive)
	if ask.Timeout > 0 {
		r.limit = time.AfterFunc(ask.Timeout, func() { r.cancel(errTimeout) })
	}
	if ask.Connect > 0 {
		r.connect = time.AfterFunc(ask.Connect, func() { r.cancel(errTimeout) })
	}
	q.tasks.Go(r.run)
	return func() {
		r.over = true
		r.cancel(context.Canceled)
	}
}

// run asks and hands over what comes.
func (r *request) run() {
	defer r.cancel(nil)
	defer r.quiet()
	req, err := r.build()
	if err != nil {
		r.end(fmt.Errorf("%w: %w", env.ErrUnsent, err))
		return
	}
	resp, err := r.q.transport.RoundTrip(req)
	if err != nil {
		r.end(r.failure(err))
		return
	}
	defer resp.Body.Close()
	if r.ask.Stream && r.limit != nil {
		r.limit.Stop()
	}
	header := headerOf(resp.Header)
	if !r.tell(func() { r.to.Head(resp.StatusCode, header) }) {
		return
	}
	r.end(r.pour(resp.Body))
}

// quiet stops the clocks.
func (r *request) quiet() {
	for _, t := range []*time.Timer{r.connect, r.limit} {
		if t != nil {
			t.Stop()
		}
	}
}

func (r *request) build() (*http.Request, error) {
	ctx := httptrace.WithClientTrace(r.ctx, &httptrace.ClientTrace{GotConn: r.got})
	if r.ask.Proxy != "" {
		u, err := url.Parse(r.ask.Proxy)
		if err != nil {
			return nil, err
		}
		ctx = context.WithValue(ctx, proxyKey{}, u)
	}
	req, err := http.NewRequestWithContext(ctx, r.ask.Method, r.ask.URL, bytes.NewReader(r.ask.Body))
	if err != nil {
		return nil, err
	}
	req.Header["User-Agent"] = nil // none but what is asked for
	for _, h := range r.ask.Header {
		if h.Name == "Host" {
			req.Host = h.Value
			continue
		}
		name := lineName(h.Name)
		req.Header[name] = append(req.Header[name], h.Value)
	}
	return req, nil
}

// lineName is a header's name as it is sent. In their usual form two of them would
// have the library send a write again on its own, where a connection that was used
// before breaks; in small letters it does not know them.
func lineName(name string) string {
	switch small := strings.ToLower(name); small {
	case "idempotency-key", "x-idempotency-key":
		return small
	}
	return name
}

// got notes a connection. The transport may call it again when it begins anew on
// another one.
func (r *request) got(info httptrace.GotConnInfo) {
	if r.connect != nil {
		r.connect.Stop()
	}
	u := use{conn: counted(info.Conn)}
	if u.conn != nil {
		u.before = u.conn.count()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used = append(r.used, u)
}

// failure says what a failed round trip means. The connections are sealed before they
// are asked, because the transport may still be about to write.
func (r *request) failure(err error) error {
	if cause := context.Cause(r.ctx); cause != nil {
		err = cause
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.used {
		if u.conn == nil || u.conn.seal() > u.before {
			return err
		}
	}
	return fmt.Errorf("%w: %w", env.ErrUnsent, err)
}

// headerOf gives the lines of a head in the order of their names.
func headerOf(h http.Header) (all []env.WebHeader) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[name] {
			all = append(all, env.WebHeader{Name: name, Value: value})
		}
	}
	return all
}

// pour hands the body over in pieces, no faster than the loop takes them.
func (r *request) pour(body io.Reader) error {
	for {
		p := make([]byte, 32<<10)
		n, err := body.Read(p)
		if n > 0 {
			select {
			case r.room <- struct{}{}:
			case <-r.ctx.Done():
				return context.Cause(r.ctx)
			}
			piece := p[:n:n]
			if !r.tell(func() {
				r.to.Chunk(piece)
			}, func() { <-r.room }) {
				return nil
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && context.Cause(r.ctx) != nil:
			return context.Cause(r.ctx)
		case err != nil:
			return err
		}
	}
}

func (r *request) end(err error) {
	r.tell(func() {
		r.over = true
		r.to.End(err)
	})
}

// tell runs fn on the loop unless the request is over by then, and always after it
// whatever always has.
func (r *request) tell(fn func(), always ...func()) bool {
	return r.q.post(func() {
		if !r.over {
			fn()
		}
		for _, f := range always {
			f()
		}
	})
}

var _ env.Web = (*Requests)(nil)
