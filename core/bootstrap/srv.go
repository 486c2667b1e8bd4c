package bootstrap

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// The services under which a domain names its members, and what they are reached by.
var srvServices = [...]struct{ service, scheme string }{
	{"etcd-server-ssl", "https"},
	{"etcd-server", "http"},
}

// services asks the domain for the members and goes on with their list. Whoever has
// this node's address is this node; the others are named by their number.
func (b *Bootstrap) services(then func([]gateway.Member)) {
	b.waits("asking %s for its members", b.cfg.DiscoverySRV)
	var found [len(srvServices)][]string
	var errs []string
	waiting := len(srvServices)
	for i, s := range srvServices {
		b.env.Names.Services(s.service, "tcp", b.cfg.DiscoverySRV, func(records []env.Service, err error) {
			if b.over {
				return
			}
			if err != nil {
				errs = append(errs, fmt.Sprintf("_%s._tcp: %v", s.service, err))
			}
			found[i] = srvURLs(s.scheme, records)
			if waiting--; waiting > 0 {
				return
			}
			if len(errs) == len(srvServices) {
				b.fail(fmt.Errorf("discovery-srv=%s: cannot look up its members: %s: correct the domain, or start again once its name servers answer", b.cfg.DiscoverySRV, strings.Join(errs, "; ")))
				return
			}
			b.recorded(append(found[0], found[1]...), then)
		})
	}
}

func srvURLs(scheme string, records []env.Service) (urls []string) {
	for _, r := range records {
		host := strings.TrimSuffix(r.Target, ".")
		if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
			host = "[" + host + "]"
		}
		urls = append(urls, scheme+"://"+host+":"+strconv.Itoa(int(r.Port)))
	}
	return urls
}

func (b *Bootstrap) recorded(urls []string, then func([]gateway.Member)) {
	names := append([]string(nil), urls...)
	b.resolve(hostNames(append(names, b.cfg.PeerURLs...)), func(resolved map[string]string) {
		members, err := b.cfg.fromRecords(urls, resolved)
		if err != nil {
			b.fail(err)
			return
		}
		then(members)
	})
}

// fromRecords makes members of URLs. Those without an address are passed over.
func (c *Config) fromRecords(urls []string, resolved map[string]string) ([]gateway.Member, error) {
	own := make(map[string]bool)
	for _, u := range resolvedSet(c.PeerURLs, resolved) {
		own[address(u)] = true
	}
	var pairs []string
	number, self := 0, false
	for _, raw := range urls {
		if _, err := parseURL(raw); err != nil || unknown(raw, resolved) {
			continue // it was said when it could not be resolved
		}
		name := strconv.Itoa(number)
		if own[address(hostOf(raw, resolved))] && !c.proxies() {
			name, self = c.Name, true
		} else {
			number++
		}
		pairs = append(pairs, name+"="+raw)
	}
	switch {
	case !self && !c.proxies():
		return nil, fmt.Errorf("cannot find local etcd member %q in SRV records: none of %s is one of --initial-advertise-peer-urls=%s: add a record for this machine, or correct the option",
			c.Name, strings.Join(urls, ","), strings.Join(c.PeerURLs, ","))
	case len(pairs) == 0:
		return nil, fmt.Errorf("discovery-srv=%s: none of its %d records can be used", c.DiscoverySRV, len(urls))
	}
	return parseCluster(strings.Join(pairs, ","), c.Token)
}

// address leaves out the scheme: a record says where, and only by its service how.
func address(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	return rest
}

func unknown(raw string, resolved map[string]string) bool {
	names := hostNames([]string{raw})
	return len(names) == 1 && resolved[names[0]] == ""
}
