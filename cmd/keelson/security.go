package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/keelson/keelson/cmd/cli/options"
	"github.com/keelson/keelson/realnet"
	"github.com/keelson/keelson/realnet/authority"
	"github.com/keelson/keelson/realnet/metrics"
	"github.com/keelson/keelson/realnet/secure"
	"github.com/keelson/keelson/realnet/transport"
)

// security is how this process tells who is at the other end, and keeps others from
// listening.
type security struct {
	clients, peers func(net.Listener) net.Listener                         // for what listens at https URLs
	dial           func(ctx context.Context, u *url.URL) (net.Conn, error) // to a member
	admit          func(conn net.Conn, urls []string) error                // a member that calls
	web            func(host string) *tls.Config                           // for requests to others
	// welcome are the pages for those who have no certificate yet; stranger tells who
	// that is. Nil where nobody comes that far without one.
	welcome      map[string]http.Handler
	stranger     func(net.Conn) bool
	certificates func() []metrics.Certificate
	close        func()
}

// openSecurity reads what the options name.
func openSecurity(o *options.Serve, log realnet.Log) (*security, error) {
	s := &security{admit: secure.CheckName}
	desk := o.ClientTLS.Enabled() && hasAuthority(o.TLSDir)
	clients, err := secure.Open(filesOf(&o.ClientTLS), secure.Options{Log: log, Side: "client", Strangers: desk})
	if err != nil {
		return nil, fmt.Errorf("certificates for clients: %w", err)
	}
	peers, err := secure.Open(filesOf(&o.PeerTLS), secure.Options{Log: log, Side: "peer"})
	if err != nil {
		clients.Close()
		return nil, fmt.Errorf("certificates for members: %w", err)
	}
	if desk {
		if o.ClientTLS.ClientCertAuth {
			s.stranger = secure.IsStranger
		}
		s.welcome = map[string]http.Handler{authority.JoinPath: &authority.Desk{Dir: o.TLSDir, Log: log}}
	}
	s.clients = func(l net.Listener) net.Listener {
		return clients.Listen(l, secure.LogRefused(log, "client refused"))
	}
	s.peers = func(l net.Listener) net.Listener { return peers.Listen(l, nil) } // the transport says whom it refuses
	s.dial = dialWith(peers)
	s.web = webWith(peers, o.Daemon.Bootstrap.Discovery)
	s.certificates = func() (all []metrics.Certificate) {
		for side, k := range map[string]*secure.Keeper{"client": clients, "peer": peers} {
			if until := k.Expiry(); !until.IsZero() {
				all = append(all, metrics.Certificate{Side: side, Until: until})
			}
		}
		return all
	}
	s.close = func() {
		clients.Close()
		peers.Close()
	}
	return s, nil
}

func filesOf(t *options.TLS) secure.Files {
	return secure.Files{Cert: t.CertFile, Key: t.KeyFile, CA: t.TrustedCAFile, ClientAuth: t.ClientCertAuth}
}

// hasAuthority reports whether this is the machine that gives out certificates.
func hasAuthority(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, authority.KeyFile))
	return err == nil
}

// dialWith reaches members in the way that their URLs say.
func dialWith(k *secure.Keeper) func(context.Context, *url.URL) (net.Conn, error) {
	return func(ctx context.Context, u *url.URL) (net.Conn, error) {
		if u.Scheme != "https" {
			return transport.DialPlain(ctx, u)
		}
		conn, err := transport.DialTCP(ctx, u.Host)
		if err != nil {
			return nil, err
		}
		return k.Dial(ctx, conn, u.Host)
	}
}

// webWith trusts what members trust, and where the discovery service is also the
// authorities of the system: it may be a public one.
func webWith(k *secure.Keeper, discovery string) func(host string) *tls.Config {
	public := ""
	if u, err := url.Parse(discovery); err == nil {
		public = u.Hostname()
	}
	return func(host string) *tls.Config {
		if host == public {
			return k.ClientOfPublic(host)
		}
		return k.Client(host)
	}
}
