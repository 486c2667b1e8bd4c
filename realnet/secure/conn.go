package secure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keelson/keelson/core/env"
)

// handshakeMax bounds how long the other end may take to say who it is.
const handshakeMax = 10 * time.Second

// Conn is an encrypted connection. Its errors say whose certificate was refused,
// and why.
type Conn struct {
	*tls.Conn
	refused func(error) // told once of a handshake that failed; nil is nobody
	once    sync.Once
	err     error
}

// shake makes the handshake, once.
func (c *Conn) shake(ctx context.Context) error {
	c.once.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, handshakeMax)
		defer cancel()
		err := c.HandshakeContext(ctx)
		answerPlain(err)
		c.err = Explain(err)
		if c.err != nil && c.refused != nil {
			c.refused(c.err)
		}
	})
	return c.err
}

// answerPlain tells a client that speaks plain HTTP what it should have done.
func answerPlain(err error) {
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil {
		record.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		record.Conn.Write([]byte("HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nHere https is spoken, not http.\n"))
	}
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.shake(context.Background()); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	return n, Explain(err)
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.shake(context.Background()); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Listen encrypts what l accepts. The handshake is made by whoever first reads from a
// connection. Refused is told of those that fail; nil leaves it to the reader.
func (k *Keeper) Listen(l net.Listener, refused func(net.Addr, error)) net.Listener {
	return &listener{l, k, refused}
}

type listener struct {
	net.Listener
	keeper  *Keeper
	refused func(net.Addr, error)
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: tls.Server(nc, l.keeper.state.Load().server)}
	if l.refused != nil {
		c.refused = func(err error) { l.refused(nc.RemoteAddr(), err) }
	}
	return c, nil
}

// LogRefused logs handshakes that failed, one line a minute for each machine and
// reason.
func LogRefused(log env.Log, msg string) func(net.Addr, error) {
	const every, most = time.Minute, 1000
	var mu sync.Mutex
	said := make(map[string]time.Time)
	return func(from net.Addr, err error) {
		host, _, _ := net.SplitHostPort(from.String())
		mu.Lock()
		defer mu.Unlock()
		if len(said) > most {
			clear(said)
		}
		line := host + err.Error()
		if now := time.Now(); now.Sub(said[line]) > every {
			said[line] = now
			log.Log(env.Warn, msg, "address", from, "error", err)
		}
	}
}

// Explain has an error of a handshake say whose certificate was refused, and where
// to look.
func Explain(err error) error {
	var unverified *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var remote *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unverified) && len(unverified.UnverifiedCertificates) > 0:
		c := unverified.UnverifiedCertificates[0]
		return fmt.Errorf("the certificate of %q, issued by %q, is refused: %w", c.Subject, c.Issuer, unverified.Err)
	case errors.As(err, &record):
		return errors.New("no TLS is spoken there: http:// where https:// is meant, or the other way about?")
	case errors.As(err, &remote) && remote.Op == "remote error":
		return fmt.Errorf("the other end refuses this one's certificate, or its way of TLS: %w", remote.Err)
	}
	return err
}

// IsStranger reports whether c is an encrypted connection whose other end has shown no
// certificate. It is known after the first read.
func IsStranger(c net.Conn) bool {
	t, ok := c.(*Conn)
	return ok && len(t.ConnectionState().PeerCertificates) == 0
}

// CheckName makes sure that the certificate shown on c is that of a node with these
// URLs: it must name one of their hosts, or the address that c comes from, or have a name
// of that address. The URLs may be old, so one that moved must still be let in, to tell. Of
// a node that is not known, and where no certificate was shown, there is nothing to
// check.
func CheckName(c net.Conn, urls []string) error {
	t, ok := c.(*Conn)
	if !ok || len(urls) == 0 || len(t.ConnectionState().PeerCertificates) == 0 {
		return nil
	}
	leaf, from := t.ConnectionState().PeerCertificates[0], hostOf(c.RemoteAddr())
	err := checkName(leaf, append(hosts(urls), from))
	if err != nil && anyResolves(leaf.DNSNames, from) {
		return nil
	}
	return err
}

func checkName(leaf *x509.Certificate, names []string) error {
	for _, name := range names {
		if leaf.VerifyHostname(name) == nil {
			return nil
		}
	}
	return fmt.Errorf("the certificate of %q names none of %s", leaf.Subject, strings.Join(names, ", "))
}

// Bounds of asking for the addresses of names.
const (
	resolveMax   = 2 * time.Second
	resolveNames = 8
)

// anyResolves reports whether address is one of a name's.
func anyResolves(names []string, address string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), resolveMax)
	defer cancel()
	for _, name := range names[:min(len(names), resolveNames)] {
		if name == "localhost" || strings.HasPrefix(name, "*") {
			continue
		}
		all, err := net.DefaultResolver.LookupHost(ctx, name)
		if err == nil && slices.Contains(all, address) {
			return true
		}
	}
	return false
}

func hostOf(a net.Addr) string {
	host, _, _ := net.SplitHostPort(a.String())
	return host
}

func hosts(urls []string) (all []string) {
	for _, raw := range urls {
		if u, err := url.Parse(raw); err == nil {
			all = append(all, u.Hostname())
		}
	}
	return all
}
