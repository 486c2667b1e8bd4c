// Package secure makes TLS configurations from files, and follows the files when certificates and authorities are renewed.
//
// Always true:
//
//   - What is in use was good as a whole: certificate, key and authorities are read
//     and judged together. Files that are half written change nothing.
//   - Connections that stand are left alone; new content counts from the next one.
package secure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keelson/keelson/core/env"
)

// Options are a keeper's choices. Log is required.
type Options struct {
	Log env.Log
	// Side is what log lines call it: client or peer.
	Side string
	// Strangers lets in those who show no certificate although ClientAuth asks for
	// one. Whoever serves the connection must then look at IsStranger.
	Strangers bool
	// Poll is how often the files are looked at; 1 s.
	Poll time.Duration
	// Now is the wall clock; that of the system if nil.
	Now func() time.Time
}

// Keeper holds the certificates of one side. Its methods may be called from anywhere.
type Keeper struct {
	files Files
	opts  Options
	state atomic.Pointer[state]

	stop  chan struct{}
	once  sync.Once
	tasks sync.WaitGroup

	mu     sync.Mutex // of Check
	said   string     // the error that was logged last
	warned time.Time  // when somebody was last told of an end that comes near
}

// Open reads the files and follows them until Close.
func Open(f Files, o Options) (*Keeper, error) {
	if o.Poll == 0 {
		o.Poll = time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	k := &Keeper{files: f, opts: o, stop: make(chan struct{})}
	content, err := f.read()
	if err != nil {
		return nil, err
	}
	s, err := f.parse(content, o.Now())
	if err != nil {
		return nil, err
	}
	k.use(s)
	if f != (Files{}) {
		k.tasks.Go(k.follow)
	}
	return k, nil
}

// Close stops following the files.
func (k *Keeper) Close() {
	k.once.Do(func() { close(k.stop) })
	k.tasks.Wait()
}

func (k *Keeper) follow() {
	poll := time.NewTicker(k.opts.Poll)
	defer poll.Stop()
	for {
		k.Check()
		select {
		case <-poll.C:
		case <-k.stop:
			return
		}
	}
}

// Check looks at the files now. The error says why what they hold is not used.
func (k *Keeper) Check() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.reload()
	if err == nil {
		k.said = ""
	} else if text := err.Error(); text != k.said {
		k.said = text
		k.opts.Log.Log(env.Error, "certificates not renewed, the old ones stay in use", "side", k.opts.Side, "error", text)
	}
	k.warn()
	return err
}

func (k *Keeper) reload() error {
	content, err := k.files.read()
	if err != nil {
		return err
	}
	if k.state.Load().isSame(content) {
		return nil
	}
	s, err := k.files.parse(content, k.opts.Now())
	if err != nil {
		return err
	}
	k.use(s)
	k.opts.Log.Log(env.Info, "certificates renewed", "side", k.opts.Side, "until", date(s.until()))
	return nil
}

// WarnBefore is how long before the end of a certificate the log begins to say so.
const WarnBefore = 7 * 24 * time.Hour

// warn says once a day which certificates come to their end.
func (k *Keeper) warn() {
	now := k.opts.Now()
	if now.Sub(k.warned) < 24*time.Hour {
		return
	}
	for _, d := range k.state.Load().dated {
		left := d.cert.NotAfter.Sub(now)
		switch {
		case left > WarnBefore:
			continue
		case left > 0:
			k.opts.Log.Log(env.Warn, "certificate expires soon: renew it", "side", k.opts.Side, "file", d.file, "subject", d.cert.Subject, "until", date(d.cert.NotAfter))
		default:
			k.opts.Log.Log(env.Error, "certificate has expired: renew it", "side", k.opts.Side, "file", d.file, "subject", d.cert.Subject, "until", date(d.cert.NotAfter))
		}
		k.warned = now
	}
}

// use makes s what new connections get.
func (k *Keeper) use(s *state) {
	s.server = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if s.pair != nil {
		s.server.Certificates = []tls.Certificate{*s.pair}
	}
	if k.files.ClientAuth {
		s.server.ClientCAs = s.pool
		s.server.ClientAuth = tls.RequireAndVerifyClientCert
		if k.opts.Strangers {
			s.server.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	k.state.Store(s)
}

// until is when the first certificate of s comes to its end.
func (s *state) until() time.Time {
	var first time.Time
	for _, d := range s.dated {
		if first.IsZero() || d.cert.NotAfter.Before(first) {
			first = d.cert.NotAfter
		}
	}
	return first
}

// Expiry is when this side's own certificate comes to its end; zero if it has none.
func (k *Keeper) Expiry() time.Time {
	if pair := k.state.Load().pair; pair != nil {
		return pair.Leaf.NotAfter
	}
	return time.Time{}
}

// Client gives the configuration for one connection to host, which its certificate
// must name. It must not be kept: the next connection may need another.
func (k *Keeper) Client(host string) *tls.Config {
	s := k.state.Load()
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: host,
		RootCAs:    s.pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if s.pair == nil {
				return &tls.Certificate{}, nil
			}
			return s.pair, nil // also where the server names other authorities: its refusal says more than none
		},
	}
}

// ClientOfPublic is Client for a host that the system's authorities may vouch for, too.
func (k *Keeper) ClientOfPublic(host string) *tls.Config {
	c := k.Client(host)
	c.RootCAs = nil
	if all := k.state.Load().authorities; len(all) > 0 {
		if pool, err := x509.SystemCertPool(); err == nil {
			for _, a := range all {
				pool.AddCert(a)
			}
			c.RootCAs = pool
		}
	}
	return c
}

// Dial encrypts a connection that was made to address, host:port, and checks who
// answered. The connection is closed where there is an error.
func (k *Keeper) Dial(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		conn.Close()
		return nil, err
	}
	c := &Conn{Conn: tls.Client(conn, k.Client(host))}
	if err := c.shake(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	return c, nil
}
