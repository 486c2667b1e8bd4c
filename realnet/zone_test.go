package realnet_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/keelson/keelson/core/env"
)

// zone is a small server of the domain name system.
type zone struct {
	conn net.PacketConn

	mu        sync.Mutex
	services  map[string][]env.Service
	addresses map[string][]netip.Addr
}

func newZone(t *testing.T) *zone {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	z := &zone{conn: conn, services: make(map[string][]env.Service), addresses: make(map[string][]netip.Addr)}
	go z.serve()
	return z
}

func (z *zone) setServices(name string, list []env.Service) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.services[name+"."] = list
}

func (z *zone) setAddresses(host string, list []netip.Addr) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.addresses[host+"."] = list
}

// resolver asks the zone about everything.
func (z *zone) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", z.conn.LocalAddr().String())
	}}
}

func (z *zone) serve() {
	p := make([]byte, 1500)
	for {
		n, from, err := z.conn.ReadFrom(p)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(p[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		if answer, err := z.answer(&m); err == nil {
			z.conn.WriteTo(answer, from)
		}
	}
}

func (z *zone) answer(m *dnsmessage.Message) ([]byte, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	q := m.Questions[0]
	name := strings.ToLower(q.Name.String())
	m.Response, m.Additionals = true, nil
	add := func(body dnsmessage.ResourceBody) {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: body})
	}
	switch q.Type {
	case dnsmessage.TypeSRV:
		for _, s := range z.services[name] {
			add(&dnsmessage.SRVResource{Port: s.Port, Target: dnsmessage.MustNewName(s.Target + ".")})
		}
	case dnsmessage.TypeA:
		for _, a := range z.addresses[name] {
			if a.Is4() {
				add(&dnsmessage.AResource{A: a.As4()})
			}
		}
	}
	if z.services[name] == nil && z.addresses[name] == nil {
		m.RCode = dnsmessage.RCodeNameError
	}
	return m.Pack()
}
