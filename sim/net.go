package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/planted"
)

// LinkConfig says how one direction between two hosts behaves. Chances are in [0,1].
//
// Between machines it carries frames, which may be lost, doubled and reordered.
// Between a client and a machine it carries connections, as TCP does: a loss costs
// time, a flipped bit or Reset breaks the connection, the order is kept.
type LinkConfig struct {
	Latency    time.Duration // least
	Jitter     time.Duration // mean of an exponential tail on top
	Stray      float64       // chance that a frame takes 50 times as long
	Loss       float64       // chance that a frame is lost
	BurstStart float64       // chance per frame that a burst begins, in which all is lost
	BurstEnd   float64       // chance per frame that it ends; default 0.2
	Duplicate  float64       // chance that a frame arrives a second time
	DupDelay   time.Duration // mean of how much later; default 1 s
	Corrupt    float64       // chance that a bit is flipped; breaks a client's connection
	Reset      float64       // chance per message that a client's connection breaks
	Ordered    bool          // frames never overtake each other
	Hold       bool          // a cut keeps frames as a TCP queue does, instead of losing them
	Bandwidth  int           // bytes per second; 0: no limit
	MaxFrame   int           // larger frames vanish; 0: no limit
	Buffer     int           // most bytes in flight; Send is false beyond; default 4 MiB
}

// DefaultLink is a good local network.
func DefaultLink() LinkConfig {
	return LinkConfig{Latency: 100 * time.Microsecond, Jitter: 200 * time.Microsecond, Hold: true}
}

const (
	strayFactor   = 50
	bufferDefault = 4 << 20
)

// clientBase is above all IDs of machines that a test would choose.
const clientBase env.NodeID = 0xc11e_0000_0000_0000

func isClient(id env.NodeID) bool { return id >= clientBase && id < clientBase+1<<32 }

// Net is all links of a world. Hosts are machines and clients; both have a NodeID.
type Net struct {
	w       *World
	rand    *random
	conf    LinkConfig
	links   []*Link
	byEnds  map[ends]*Link
	cuts    []*Cut
	version uint64 // of cuts

	clients     []env.NodeID
	clientNames map[string]env.NodeID
	connRand    *random
	nextConn    uint64
}

type ends struct{ from, to env.NodeID }

func newNet(w *World) *Net {
	return &Net{
		w: w, rand: w.stream("net"), conf: w.opts.Link, byEnds: make(map[ends]*Link), version: 1,
		clientNames: make(map[string]env.NodeID), connRand: w.stream("connections"),
	}
}

// Client gives the ID of the client host of that name, which it makes if needed.
func (n *Net) Client(name string) env.NodeID {
	id, ok := n.clientNames[name]
	if !ok {
		id = clientBase + env.NodeID(len(n.clients))
		n.clientNames[name] = id
		n.clients = append(n.clients, id)
		n.version++ // a cut may reach it
	}
	return id
}

// Clients lists all client hosts in the order they were made.
func (n *Net) Clients() []env.NodeID { return n.clients }

// Link gives the link of one direction, which may be changed through it.
func (n *Net) Link(from, to env.NodeID) *Link {
	l, ok := n.byEnds[ends{from, to}]
	if !ok {
		l = &Link{net: n, from: from, to: to, conf: n.conf}
		n.byEnds[ends{from, to}] = l
		n.links = append(n.links, l)
	}
	return l
}

// Each calls fn for every ordered pair of different machines.
func (n *Net) Each(fn func(*Link)) {
	for _, a := range n.w.machines {
		for _, b := range n.w.machines {
			if a != b {
				fn(n.Link(a.id, b.id))
			}
		}
	}
}

// SetAll sets the behaviour of all links, made or still to be made.
func (n *Net) SetAll(c LinkConfig) {
	n.conf = c
	for _, l := range n.links {
		l.Set(c)
	}
}

// Cut is a set of links that carry nothing. Cuts add up: a link works again
// when the last one on it is healed.
type Cut struct {
	net     *Net
	has     func(from, to env.NodeID) bool
	healed  bool
	element string
}

func (n *Net) cut(what string, has func(from, to env.NodeID) bool) *Cut {
	c := &Cut{net: n, has: has, element: what}
	n.cuts = append(n.cuts, c)
	n.version++
	n.w.record(KindNet, 0, 0, 0, 0, "cut "+what)
	return c
}

// Partition cuts all links between hosts that share no group. Hosts in no group
// keep all their links; a host in two groups is a bridge.
func (n *Net) Partition(groups ...[]env.NodeID) *Cut {
	member := make(map[env.NodeID]uint64)
	for i, g := range groups {
		for _, id := range g {
			member[id] |= 1 << uint(i)
		}
	}
	return n.cut(fmt.Sprint(groups), func(from, to env.NodeID) bool {
		a, b := member[from], member[to]
		return a != 0 && b != 0 && a&b == 0
	})
}

// CutOneWay cuts the links from any of from to any of to.
func (n *Net) CutOneWay(from, to []env.NodeID) *Cut {
	a, b := set(from), set(to)
	return n.cut(fmt.Sprint(from, "to", to), func(from, to env.NodeID) bool { return a[from] && b[to] && from != to })
}

// Isolate cuts a machine off from all other machines, and from clients too.
func (n *Net) Isolate(id env.NodeID) *Cut {
	return n.cut(fmt.Sprint("around ", id), func(from, to env.NodeID) bool { return from != to && (from == id || to == id) })
}

// CutClients cuts machines off from all clients, and from nobody else.
func (n *Net) CutClients(machines ...env.NodeID) *Cut {
	m := set(machines)
	return n.cut(fmt.Sprint("clients from ", machines), func(from, to env.NodeID) bool {
		return m[from] && isClient(to) || isClient(from) && m[to]
	})
}

func set(ids []env.NodeID) map[env.NodeID]bool {
	m := make(map[env.NodeID]bool, len(ids))
	for _, id := range ids {
		m[id] = true
	}
	return m
}

// Heal ends the cut; twice does nothing more.
func (c *Cut) Heal() {
	if c.healed {
		return
	}
	c.healed = true
	n := c.net
	kept := n.cuts[:0]
	for _, o := range n.cuts {
		if o != c {
			kept = append(kept, o)
		}
	}
	n.cuts = kept
	n.version++
	n.w.record(KindNet, 0, 0, 0, 0, "heal "+c.element)
	for _, l := range n.links {
		l.release()
	}
}

// HealAll ends every cut and every clog.
func (n *Net) HealAll() {
	for len(n.cuts) > 0 {
		n.cuts[len(n.cuts)-1].Heal()
	}
	for _, l := range n.links {
		l.Unclog()
	}
}

// Break resets every client connection of a machine.
func (n *Net) Break(id env.NodeID) {
	m := n.w.byID[id]
	if m == nil {
		return
	}
	n.w.record(KindNet, id, 0, 0, 0, "break connections")
	for _, c := range append([]*conn(nil), m.conns...) {
		c.reset("connection reset by peer")
	}
}

// Link is one direction between two hosts.
type Link struct {
	net      *Net
	from, to env.NodeID
	conf     LinkConfig
	stats    LinkStats

	cutAt   uint64 // the version of Net.cuts for which isCut holds
	isCut   bool
	bursts  bool
	idleAt  time.Duration // when the bandwidth is free again
	last    time.Duration // when the latest frame arrives
	clogged time.Duration
	held    []*frame // frames that wait for a cut or clog to end
	queued  []*frame // frames that wait for bandwidth, and some that have arrived
}

// LinkStats are counters of one link. Bytes are of frames that were sent and
// neither lost nor taken by the receiver.
type LinkStats struct {
	Sent, Delivered, Dropped, Refused uint64 // frames
	Bytes, BytesMax                   int    // in flight now, and the most ever
}

// From is the sending host.
func (l *Link) From() env.NodeID { return l.from }

// To is the receiving host.
func (l *Link) To() env.NodeID { return l.to }

// Config is how the link behaves now.
func (l *Link) Config() LinkConfig { return l.conf }

// Set changes how the link behaves from the next frame on. What waited for more
// bandwidth than there was goes at once if there is enough now.
func (l *Link) Set(c LinkConfig) {
	narrow := l.conf.Bandwidth > 0 && c.Bandwidth == 0
	l.conf = c
	if !narrow {
		return
	}
	queued := l.queued
	l.queued, l.idleAt = nil, 0
	for _, f := range queued {
		if !f.under {
			continue
		}
		again := *f
		f.under, f.void = false, true
		l.net.w.push(l.net.w.now+l.latency(), &again)
	}
}

// Stats reads the counters.
func (l *Link) Stats() LinkStats { return l.stats }

// BufferMax is the bound that Stats().Bytes keeps.
func (l *Link) BufferMax() int {
	if l.conf.Buffer > 0 {
		return l.conf.Buffer
	}
	return bufferDefault
}

// Cut says whether the link is cut.
func (l *Link) Cut() bool {
	if l.cutAt == l.net.version {
		return l.isCut
	}
	l.cutAt, l.isCut = l.net.version, false
	for _, c := range l.net.cuts {
		if c.has(l.from, l.to) {
			l.isCut = true
			break
		}
	}
	return l.isCut
}

// Clog holds everything until d from now, when all of it arrives at once.
func (l *Link) Clog(d time.Duration) {
	w := l.net.w
	l.clogged = max(l.clogged, w.now+d)
	w.record(KindNet, l.from, l.to, 0, uint64(d), "clog")
	w.push(l.clogged, call(l.release))
}

// Unclog ends a clog early.
func (l *Link) Unclog() {
	if l.clogged > l.net.w.now {
		l.clogged = l.net.w.now
		l.net.w.record(KindNet, l.from, l.to, 0, 0, "unclog")
	}
	l.release()
}

// blocked says whether nothing passes now.
func (l *Link) blocked() bool { return l.clogged > l.net.w.now || l.Cut() }

// release lets go of the frames that were held.
func (l *Link) release() {
	if len(l.held) == 0 || l.blocked() {
		return
	}
	held := l.held
	l.held = nil
	for _, f := range held {
		l.net.w.push(l.net.w.now, f)
	}
}

// frame is one frame under way.
type frame struct {
	link    *Link
	from    env.NodeID // the sender as its group knows it
	cluster uint64     // of the sender
	p       []byte
	sum     uint64 // of p when it was sent; 0: it was damaged on the way
	copy    bool   // a second copy, which is not in flight as far as the sender knows

	under bool // it waits for bandwidth
	void  bool // it was put on its way anew
}

// send takes a frame from a node.
func (l *Link) send(by *nodeNet, p []byte) bool {
	w := l.net.w
	if l.stats.Bytes+len(p) > l.BufferMax() && !planted.On(planted.PeerQueueUnbounded) {
		l.stats.Refused++
		w.record(KindDrop, l.from, l.to, len(p), 0, "full")
		return false
	}
	f := &frame{link: l, from: by.self, cluster: by.cluster, p: p, sum: hashBytes(1, p) | 1}
	l.stats.Sent++
	l.stats.Bytes += len(p)
	l.stats.BytesMax = max(l.stats.BytesMax, l.stats.Bytes)
	w.record(KindSend, l.from, l.to, len(p), f.sum, "")
	if l.lost(len(p)) {
		f.lose("lost")
		return true
	}
	l.carry(f, l.arrival(len(p)))
	if l.net.rand.chance(l.conf.Duplicate) {
		twin := &frame{link: l, from: by.self, cluster: by.cluster, p: append([]byte(nil), p...), sum: f.sum, copy: true}
		delay := l.conf.DupDelay
		if delay <= 0 {
			delay = time.Second
		}
		w.push(w.now+l.latency()+l.net.rand.tail(delay), twin)
	}
	return true
}

func (l *Link) carry(f *frame, at time.Duration) {
	if l.net.rand.chance(l.conf.Corrupt) && len(f.p) > 0 {
		f.p = append([]byte(nil), f.p...)
		f.p[l.net.rand.IntN(len(f.p))] ^= 1 << l.net.rand.IntN(8)
		f.sum = 0
	}
	if l.conf.Bandwidth > 0 {
		f.under = true
		if len(l.queued) >= queuedMost {
			l.queued = slices.DeleteFunc(l.queued, func(o *frame) bool { return !o.under })
		}
		l.queued = append(l.queued, f)
	}
	l.net.w.push(at, f)
}

// queuedMost is how many frames may wait for bandwidth before those that have
// arrived are forgotten.
const queuedMost = 256

// lost draws whether the link loses a frame of that size.
func (l *Link) lost(size int) bool {
	r, c := l.net.rand, &l.conf
	switch {
	case c.MaxFrame > 0 && size > c.MaxFrame:
		return true
	case l.Cut() && !c.Hold:
		return true
	}
	if l.bursts {
		end := c.BurstEnd
		if end <= 0 {
			end = 0.2
		}
		l.bursts = !r.chance(end)
	} else {
		l.bursts = r.chance(c.BurstStart)
	}
	return l.bursts || r.chance(c.Loss)
}

func (l *Link) latency() time.Duration {
	d := l.conf.Latency + l.net.rand.tail(l.conf.Jitter)
	if l.net.rand.chance(l.conf.Stray) {
		d *= strayFactor
	}
	return d
}

// arrival draws when something of that size that is sent now arrives.
func (l *Link) arrival(size int) time.Duration {
	at := l.net.w.now
	if l.conf.Bandwidth > 0 {
		l.idleAt = max(l.idleAt, at) + time.Duration(size)*time.Second/time.Duration(l.conf.Bandwidth)
		at = l.idleAt
	}
	at += l.latency()
	if l.conf.Ordered {
		at = max(at, l.last)
		l.last = at
	}
	return at
}

func (f *frame) run(w *World) {
	if f.void {
		return
	}
	f.under = false
	l := f.link
	if l.blocked() {
		if l.Cut() && !l.conf.Hold {
			f.lose("cut")
			return
		}
		l.held = append(l.held, f)
		return
	}
	m := w.byID[l.to]
	if m == nil || m.node == nil {
		f.lose("nobody")
		return
	}
	m.input(f)
}

func (f *frame) lose(why string) {
	f.leave()
	f.link.stats.Dropped++
	f.link.net.w.record(KindDrop, f.link.from, f.link.to, len(f.p), 0, why)
}

// leave ends the time that a frame counts as in flight.
func (f *frame) leave() {
	if !f.copy {
		f.link.stats.Bytes -= len(f.p)
		f.copy = true
	}
}

func (f *frame) live() bool { return true }

func (f *frame) drop(*Machine) { f.lose("nobody") }

func (f *frame) deliver(m *Machine) {
	f.leave()
	l := f.link
	l.stats.Delivered++
	m.w.record(KindFrame, m.id, l.from, len(f.p), f.sum, "")
	if f.sum != 0 && hashBytes(1, f.p)|1 != f.sum {
		m.w.fail(&Failure{Oracle: "ownership", Node: l.from, Message: "a frame was changed after Send"})
		return
	}
	if m.nic.self == 0 {
		return // it belongs to no group yet: nobody listens
	}
	m.nic.hear(f)
	m.node.Receive(f.from, f.p)
}
