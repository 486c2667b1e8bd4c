package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/keelson/keelson/core/env"
)

// Zone is what the domain name system of a world says, besides the names of its
// machines, which everybody knows.
type Zone struct {
	w         *World
	rand      *random
	services  map[string][]env.Service
	addresses map[string][]netip.Addr
	slow      time.Duration
	failing   bool
}

func newZone(w *World) *Zone {
	return &Zone{w: w, rand: w.stream("names"), services: make(map[string][]env.Service), addresses: make(map[string][]netip.Addr)}
}

// SetServices sets the SRV records of a name such as _etcd-server._tcp.example.com;
// none removes it. Answers give them in any order.
func (z *Zone) SetServices(name string, records ...env.Service) {
	z.services[name] = slices.Clone(records)
	z.w.record(KindNet, 0, 0, len(records), 0, "services of "+name)
}

// AddService adds one SRV record to those of a name.
func (z *Zone) AddService(name string, record env.Service) {
	z.SetServices(name, append(slices.Clone(z.services[name]), record)...)
}

// SetAddresses sets the address records of a host; none removes it.
func (z *Zone) SetAddresses(host string, addresses ...netip.Addr) {
	z.addresses[host] = slices.Clone(addresses)
	z.w.places++
	z.w.record(KindNet, 0, 0, len(addresses), 0, "addresses of "+host)
}

// SetSlow makes every answer take that much longer.
func (z *Zone) SetSlow(d time.Duration) {
	z.slow = d
	z.w.record(KindNet, 0, 0, 0, uint64(d), "slow names")
}

// SetFailing has every question answered with an error.
func (z *Zone) SetFailing(on bool) {
	z.failing = on
	z.w.places++
	z.w.record(KindNet, 0, 0, 0, b2u(on), "failing names")
}

func (z *Zone) latency() time.Duration {
	return z.slow + 200*time.Microsecond + z.rand.tail(500*time.Microsecond)
}

func (z *Zone) findServices(name string) ([]env.Service, error) {
	list := slices.Clone(z.services[name])
	switch {
	case z.failing:
		return nil, fmt.Errorf("lookup %s: server misbehaving", name)
	case len(list) == 0:
		return nil, fmt.Errorf("lookup %s: no such host", name)
	}
	z.rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list, nil
}

func (z *Zone) findAddresses(from *Machine, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if host == "localhost" {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	if m := from.w.byName[host]; m != nil {
		return []netip.Addr{m.address}, nil
	}
	list := slices.SortedFunc(slices.Values(z.addresses[host]), netip.Addr.Compare)
	switch {
	case z.failing:
		return nil, fmt.Errorf("lookup %s: server misbehaving", host)
	case len(list) == 0:
		return nil, fmt.Errorf("lookup %s: no such host", host)
	}
	return list, nil
}

// host gives the machine behind a host name or address, or nil.
func (w *World) host(name string) *Machine {
	if m := w.byName[name]; m != nil {
		return m
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return w.at(a)
	}
	if w.zone.failing {
		return nil
	}
	for _, a := range w.zone.addresses[name] {
		if m := w.at(a); m != nil {
			return m
		}
	}
	return nil
}

// at gives the machine of an address, or nil.
func (w *World) at(a netip.Addr) *Machine {
	for _, m := range w.machines {
		if m.address == a {
			return m
		}
	}
	return nil
}

// nobody says that a host is an address at which there is no machine: what is sent
// there is lost in silence.
func (w *World) nobody(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && !a.IsLoopback() && w.at(a) == nil
}

func loopback(host string) bool { return host == "127.0.0.1" || host == "localhost" || host == "::1" }

// Addresses are given in the order in which machines and client hosts are made.
func machineAddress(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
}

// remote is the address and port that a host calls from.
func (w *World) remote(from env.NodeID) string {
	if m := w.byID[from]; m != nil {
		return m.address.String() + ":40000"
	}
	n := uint64(from - clientBase)
	return netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}).String() + ":" + strconv.Itoa(40000)
}

// Address is where the machine is on the network; 10.0.0.1 for the first.
func (m *Machine) Address() netip.Addr { return m.address }

// SetAddress gives the machine another address, which nobody else must have.
func (m *Machine) SetAddress(a netip.Addr) {
	m.address = a
	m.w.places++
	m.note(KindNet, "address "+a.String(), 0)
}

// nodeNames is env.Names for one life of a node.
type nodeNames struct {
	m    *Machine
	life int
}

var _ env.Names = (*nodeNames)(nil)

// Services implements env.Names.
func (n *nodeNames) Services(service, proto, domain string, done func([]env.Service, error)) {
	name := "_" + service + "._" + proto + "." + domain
	z := n.m.w.zone
	n.ask(name, func() func() {
		list, err := z.findServices(name)
		return func() { done(list, err) }
	})
}

// Addresses implements env.Names.
func (n *nodeNames) Addresses(host string, done func([]netip.Addr, error)) {
	z := n.m.w.zone
	n.ask(host, func() func() {
		list, err := z.findAddresses(n.m, host)
		return func() { done(list, err) }
	})
}

// ask finds an answer after a while and hands it over as an input.
func (n *nodeNames) ask(name string, find func() func()) {
	w := n.m.w
	if n.life != n.m.life {
		return
	}
	w.record(KindSend, n.m.id, 0, len(name), hashString(1, name), "lookup "+name)
	w.push(w.now+w.zone.latency(), call(func() {
		if n.life == n.m.life {
			n.m.input(&answer{"lookup " + name, find()})
		}
	}))
}

// answer is the input that the completion of a question or of work is.
type answer struct {
	what string
	done func()
}

func (*answer) live() bool    { return true }
func (*answer) drop(*Machine) {}

func (a *answer) deliver(m *Machine) {
	m.w.record(KindDone, m.id, 0, 0, 0, a.what)
	a.done()
}
