// Package web carries client requests over HTTP.
//
// It decides nothing: retries, redirects and the order of endpoints belong to
// core/client. What it adds is the knowledge of whether a failed request may
// have reached the server.
package web

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keelson/keelson/core/client"
)

// Config says how to connect. The zero value is plain HTTP, and HTTPS checked
// against the system's authorities.
type Config struct {
	CertFile, KeyFile string // this client's certificate; both or neither
	CAFile            string // authorities that servers are checked against
	// DialTimeout bounds one connection attempt; 0 stands for 1 s.
	DialTimeout time.Duration
	// Dial makes connections in another way than this machine's own: "tcp" to an address,
	// "unix" to a path.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Doer is a client.Doer over HTTP. It may be used by many goroutines at once.
type Doer struct {
	transport *http.Transport
	origin    time.Time
}

// New makes a Doer. Its errors name the file that could not be read.
func New(c Config) (*Doer, error) {
	tlsConfig, err := tlsOf(c)
	if err != nil {
		return nil, err
	}
	if c.DialTimeout <= 0 {
		c.DialTimeout = time.Second
	}
	proxy, connect := http.ProxyFromEnvironment, c.Dial
	if connect == nil {
		connect = (&net.Dialer{Timeout: c.DialTimeout, KeepAlive: 30 * time.Second}).DialContext
	} else {
		proxy = nil // this machine's has no business there
	}
	return &Doer{
		origin: time.Now(),
		transport: &http.Transport{
			Proxy:                 proxy,
			DialContext:           dial(connect),
			TLSClientConfig:       tlsConfig,
			TLSHandshakeTimeout:   10 * time.Second,
			MaxIdleConnsPerHost:   64,
			IdleConnTimeout:       90 * time.Second,
			DisableCompression:    true,
			ExpectContinueTimeout: time.Second,
		},
	}, nil
}

// unixHost stands in for the path of a socket, which a host name cannot hold.
const unixHost = ".unix"

// dial reaches hosts by TCP, and sockets of the file system by the name that
// unixEndpoint gave them.
func dial(connect func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if name, isUnix := strings.CutSuffix(host, unixHost); err == nil && isUnix {
			var path []byte
			if _, err := fmt.Sscanf(name, "%x", &path); err != nil {
				return nil, fmt.Errorf("dial %s: %w", addr, err)
			}
			return connect(ctx, "unix", string(path))
		}
		return connect(ctx, network, addr)
	}
}

// httpURL gives the address to ask. An endpoint unix:///run/keelson.sock becomes
// a host name that dial understands.
func httpURL(r *client.Request) (*url.URL, error) {
	u, err := url.Parse(r.Endpoint)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "unix" {
		u = &url.URL{Scheme: "http", Host: fmt.Sprintf("%x%s", u.Host+u.Path, unixHost)}
	}
	path, err := url.PathUnescape(r.Path)
	if err != nil {
		return nil, err
	}
	base := strings.TrimSuffix(u.EscapedPath(), "/")
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	u.RawPath = base + r.Path
	u.RawQuery = r.Query
	return u, nil
}

func tlsOf(c Config) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, fmt.Errorf("KeyFile and CertFile must both be present[key: %v, cert: %v]", c.KeyFile, c.CertFile)
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, err
		}
		t.Certificates = []tls.Certificate{cert}
	}
	if c.CAFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, err
	}
	t.RootCAs = x509.NewCertPool()
	if !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read %s: no certificate in PEM form", c.CAFile)
	}
	return t, nil
}

// sentError marks a failure after which the server may have the request.
type sentError struct{ err error }

func (e *sentError) Error() string   { return e.err.Error() }
func (e *sentError) Unwrap() []error { return []error{e.err, client.ErrUnknown} }

// Do sends one request over a kept or new connection.
func (d *Doer) Do(ctx context.Context, r *client.Request) (*client.Response, error) {
	u, err := httpURL(r)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	limit := newLimit(r.Timeout, stop)
	var wrote atomic.Bool
	req, err := http.NewRequestWithContext(traced(ctx, &wrote), r.Method, u.String(), body(r.Body))
	if err != nil {
		limit.end()
		return nil, err
	}
	req.URL = u
	if r.ContentType != "" {
		req.Header.Set("Content-Type", r.ContentType)
	}
	if r.User != "" {
		req.SetBasicAuth(r.User, r.Password)
	}
	// The transport repeats a write by itself only where a kept connection
	// turned out closed before a byte was written, so that stays safe.
	resp, err := d.transport.RoundTrip(req)
	if err != nil {
		cause := context.Cause(ctx)
		limit.end()
		return nil, failure(u.Host, err, cause, wrote.Load())
	}
	if r.Stream {
		limit.lift()
	}
	return &client.Response{
		Status: resp.StatusCode,
		Header: headers(resp.Header),
		Body:   &limited{ReadCloser: resp.Body, limit: limit},
	}, nil
}

// traced notes whether the request has a connection to leave by. The transport
// calls the hooks again when it begins anew.
func traced(ctx context.Context, wrote *atomic.Bool) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { wrote.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { wrote.Store(true) },
	})
}

// failure says what a failed round trip means. A request counts as sent from the
// moment it had a connection: how much of it left is not known.
func failure(host string, err, cause error, sent bool) error {
	if errors.Is(cause, client.ErrTimeout) {
		if sent {
			return client.ErrTimeout
		}
		return fmt.Errorf("dial tcp %s: i/o timeout", host)
	}
	if sent {
		return &sentError{err}
	}
	return err
}

func body(text string) io.Reader {
	if text == "" {
		return http.NoBody
	}
	return strings.NewReader(text)
}

func headers(h http.Header) map[string]string {
	m := make(map[string]string, len(h))
	for name, values := range h {
		if len(values) > 0 {
			m[name] = values[0]
		}
	}
	return m
}

// limit cancels a request when its time is over.
type limit struct {
	stop  context.CancelCauseFunc
	timer *time.Timer
	once  sync.Once
}

func newLimit(d time.Duration, stop context.CancelCauseFunc) *limit {
	l := &limit{stop: stop}
	if d > 0 {
		l.timer = time.AfterFunc(d, func() { stop(client.ErrTimeout) })
	}
	return l
}

// lift takes the bound away; the request may go on for ever.
func (l *limit) lift() {
	if l.timer != nil {
		l.timer.Stop()
	}
}

// end releases everything the request holds.
func (l *limit) end() {
	l.once.Do(func() {
		l.lift()
		l.stop(nil)
	})
}

// limited is a body that releases its request when closed.
type limited struct {
	io.ReadCloser
	limit *limit
}

func (b *limited) Close() error {
	err := b.ReadCloser.Close()
	b.limit.end()
	return err
}

// Sleep waits for d or until the context is done.
func (d *Doer) Sleep(ctx context.Context, wait time.Duration) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Now is the time since the Doer was made, on the monotonic clock.
func (d *Doer) Now() time.Duration { return time.Since(d.origin) }

// Float64 is a random number in [0,1).
func (d *Doer) Float64() float64 { return rand.Float64() }

// Close lets go of the connections that are kept for later requests.
func (d *Doer) Close() { d.transport.CloseIdleConnections() }
