package options

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// oldOptions are those of the first releases, for command lines that were written
// down then.
var oldOptions = append([]option{
	{
		name: "addr", kind: "HOST:PORT",
		doc: "Stands for advertise-client-urls. Without bind-addr clients are served there, and on loopback at the same port.",
		set: func(r *reading, v string) error { r.addr = v; return hostPort(v) },
	},
	{
		name: "bind-addr", kind: "HOST[:PORT]",
		doc: "Stands for listen-client-urls. The port is that of addr where none is said.",
		set: func(r *reading, v string) error { r.bindAddr = v; return nonEmpty(v) },
	},
	{
		name: "peer-addr", kind: "HOST:PORT",
		doc: "Stands for initial-advertise-peer-urls. Without peer-bind-addr members are served there.",
		set: func(r *reading, v string) error { r.peerAddr = v; return hostPort(v) },
	},
	{
		name: "peer-bind-addr", kind: "HOST[:PORT]",
		doc: "Stands for listen-peer-urls. The port is that of peer-addr where none is said.",
		set: func(r *reading, v string) error { r.peerBindAddr = v; return nonEmpty(v) },
	},
	{
		name: "peers", kind: "HOST:PORT,…",
		doc: "The peer addresses of the other machines: a cluster of them and this one.",
		set: func(r *reading, v string) error { return r.setPeers(strings.Split(v, ",")) },
	},
	{
		name: "peers-file", kind: "FILE",
		doc: "A file with the value of peers; lines are as good as commas.",
		set: func(r *reading, v string) error {
			if r.source.ReadFile == nil {
				return errors.New("no file can be read here")
			}
			text, err := r.source.ReadFile(v)
			if err != nil {
				return err
			}
			return r.setPeers(strings.FieldsFunc(string(text), func(c rune) bool { return c == ',' || c == '\n' || c == '\r' }))
		},
	},
}, obsolete()...)

// obsolete are accepted and have no effect.
func obsolete() (all []option) {
	for _, name := range []string{
		"cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config", "max-result-buffer",
		"max-retry-attempts", "peer-heartbeat-interval", "peer-election-timeout", "retry-interval",
	} {
		all = append(all, option{name: name, kind: "VALUE", ignored: "it belongs to 0.4", doc: "Without effect."})
	}
	for _, name := range []string{"force", "snapshot", "v", "vv"} {
		all = append(all, option{name: name, ignored: "it belongs to 0.4", doc: "Without effect."})
	}
	return all
}

func (r *reading) setPeers(list []string) error {
	for _, p := range list {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		p = strings.TrimSuffix(strings.TrimPrefix(p, "http://"), "/")
		if err := hostPort(p); err != nil {
			return fmt.Errorf("%q: %w", p, err)
		}
		r.Daemon.Bootstrap.Peers = append(r.Daemon.Bootstrap.Peers, p)
	}
	return nil
}

func hostPort(v string) error {
	host, port, err := net.SplitHostPort(v)
	if err != nil || host == "" || port == "" {
		return errors.New("want host:port")
	}
	return nil
}

// applyOld turns the old addresses into URLs.
func (r *reading) applyOld() error {
	for _, p := range []struct {
		old, name string
		listens   bool
		addr      string
		base      string // of which addr may be a part
		tls       bool
		into      *[]string
	}{
		{"addr", "advertise-client-urls", false, r.addr, "", r.ClientTLS.Enabled(), &r.advertiseClient},
		{"peer-addr", "initial-advertise-peer-urls", false, r.peerAddr, "", r.PeerTLS.Enabled(), &r.advertisePeer},
		{"bind-addr", "listen-client-urls", true, r.bindAddr, r.addr, r.ClientTLS.Enabled(), &r.ListenClient},
		{"peer-bind-addr", "listen-peer-urls", true, r.peerBindAddr, r.peerAddr, r.PeerTLS.Enabled(), &r.ListenPeer},
	} {
		if p.addr != "" && r.given[p.name] != "" {
			return fmt.Errorf("--%s=%s: it stands for --%s, which is given too: leave one of them out", p.old, p.addr, p.name)
		}
		scheme := "http://"
		if p.tls {
			scheme = "https://"
		}
		switch {
		case r.given[p.name] != "", p.addr == "" && p.base == "":
		case p.listens:
			all, err := bindAddresses(p.addr, p.base, p.old == "bind-addr")
			if err != nil {
				return fmt.Errorf("--%s=%s: %w", p.old, p.addr, err)
			}
			for _, a := range all {
				*p.into = append(*p.into, scheme+a)
			}
		default:
			*p.into = []string{scheme + p.addr}
		}
	}
	return nil
}

// bindAddresses is where to listen: at bind, with the port of base where it has
// none; without bind at base, and for clients of this machine also on loopback.
func bindAddresses(bind, base string, clients bool) ([]string, error) {
	host, port, err := net.SplitHostPort(bind)
	if err != nil {
		_, basePort, err := net.SplitHostPort(base)
		if err != nil && bind != "" {
			return nil, errors.New("want host:port")
		}
		host, port = strings.Trim(bind, "[]"), basePort
	}
	if bind == "" {
		host, port, _ = net.SplitHostPort(base)
		if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
			host = "0.0.0.0" // a name may stand for any address of this machine
		}
	}
	if a, err := netip.ParseAddr(host); err != nil && host != "localhost" {
		return nil, fmt.Errorf("want an IP address or localhost to listen on, not %q", host)
	} else if bind == "" && clients && err == nil && !a.IsLoopback() && !a.IsUnspecified() {
		return []string{net.JoinHostPort(host, port), net.JoinHostPort("127.0.0.1", port)}, nil
	}
	return []string{net.JoinHostPort(host, port)}, nil
}
