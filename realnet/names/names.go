// Package names asks the domain name system of this machine.
package names

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
)

// timeout bounds one question.
const timeout = 10 * time.Second

// Names implements env.Names.
type Names struct {
	post     func(func()) bool
	resolver *net.Resolver
}

// New makes a Names whose completions are handed to post. A nil resolver is that of
// the system.
func New(post func(func()) bool, resolver *net.Resolver) *Names {
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	return &Names{post, resolver}
}

// Services implements env.Names.
func (n *Names) Services(service, proto, domain string, done func([]env.Service, error)) {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		_, records, err := n.resolver.LookupSRV(ctx, service, proto, domain)
		var all []env.Service
		for _, r := range records { // those that are good, even if others are not
			all = append(all, env.Service{Target: strings.TrimSuffix(r.Target, "."), Port: r.Port})
		}
		if len(all) > 0 {
			err = nil
		} else if err == nil {
			err = fmt.Errorf("look up _%s._%s.%s: no records", service, proto, domain)
		}
		n.post(func() { done(all, err) })
	}()
}

// Addresses implements env.Names.
func (n *Names) Addresses(host string, done func([]netip.Addr, error)) {
	go func() {
		all, err := n.addresses(host)
		n.post(func() { done(all, err) })
	}()
}

func (n *Names) addresses(host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	all, err := n.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i] = all[i].Unmap()
	}
	slices.SortFunc(all, netip.Addr.Compare)
	if all = slices.Compact(all); len(all) == 0 {
		return nil, fmt.Errorf("look up %s: no addresses", host)
	}
	return all, nil
}

var _ env.Names = (*Names)(nil)
