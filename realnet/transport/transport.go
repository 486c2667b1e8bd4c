// Package transport carries frames between nodes over TCP, one stream in each direction.
//
// Whoever has frames to send dials; the other side only reads. Frames that wait
// for a stream leave in one write. Nothing is promised, as env.Net says: where a
// node cannot be reached frames are dropped at once, so that it is not fed with
// what is long out of date when it comes back.
package transport

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keelson/keelson/core/env"
)

// Options say how a node reaches others. Post, Receive and Log are required.
type Options struct {
	// Post has a function run on the loop.
	Post func(func()) bool
	// Receive takes a frame, on the loop. It owns the frame.
	Receive func(from env.NodeID, frame []byte)
	Log     env.Log
	// Dial opens a connection to a node's URL; plain TCP, and for http alone, if nil.
	Dial func(ctx context.Context, u *url.URL) (net.Conn, error)
	// Admit judges a caller that says it is the node with these URLs, none where that
	// node is not known. Nil admits all.
	Admit func(conn net.Conn, urls []string) error
	// Other takes a connection that opens like no stream of ours, with the bytes that
	// were read of it. Nil refuses.
	Other func(conn net.Conn, first []byte)
	// QueueBytes bounds what waits for one node, in either direction; 32 MiB.
	QueueBytes int
	// WriteTimeout ends a stream whose other side takes nothing for so long; 5 s.
	WriteTimeout time.Duration
	// RetryMin and RetryMax bound the wait between attempts to reach a node: 50 ms
	// and 1 s.
	RetryMin, RetryMax time.Duration
}

// handshakeTimeout bounds dialing and the exchange of hellos.
const handshakeTimeout = 3 * time.Second

// Transport implements env.Net. Send is for the loop's goroutine; the other
// methods may be called from anywhere.
type Transport struct {
	opts  Options
	alive context.Context
	stop  context.CancelFunc
	tasks sync.WaitGroup

	senders atomic.Pointer[map[env.NodeID]*sender] // replaced, never changed
	self    atomic.Pointer[identity]               // nil before the first Set

	mu        sync.Mutex
	group     env.Group            // as last set
	said      map[string]time.Time // when a machine was refused for a reason
	own       []string             // where this node is, as the group has it
	closed    bool
	listeners []net.Listener
	incoming  map[env.NodeID]*receiver // the newest stream of each
	received  map[env.NodeID]*atomic.Uint64
}

// New makes a transport that neither listens nor knows anybody yet.
func New(o Options) *Transport {
	if o.QueueBytes == 0 {
		o.QueueBytes = 32 << 20
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = 5 * time.Second
	}
	if o.RetryMin == 0 {
		o.RetryMin = 50 * time.Millisecond
	}
	if o.RetryMax == 0 {
		o.RetryMax = time.Second
	}
	if o.Dial == nil {
		o.Dial = DialPlain
	}
	t := &Transport{
		opts:     o,
		incoming: make(map[env.NodeID]*receiver),
		received: make(map[env.NodeID]*atomic.Uint64),
		said:     make(map[string]time.Time),
	}
	t.alive, t.stop = context.WithCancel(context.Background())
	t.senders.Store(&map[env.NodeID]*sender{})
	return t
}

// identity is who this node is.
type identity struct {
	cluster uint64
	self    env.NodeID
}

var errNobody = errors.New("this node does not know yet who it is")

// DialPlain opens a connection without TLS.
func DialPlain(ctx context.Context, u *url.URL) (net.Conn, error) {
	if u.Scheme != "http" {
		return nil, fmt.Errorf("dial %s: no certificate is set up to speak TLS with", u)
	}
	return DialTCP(ctx, u.Host)
}

// DialTCP is the one place where a connection to another node is made.
func DialTCP(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	return d.DialContext(ctx, "tcp", address)
}

// Serve accepts streams from l until Close. It takes ownership of l.
func (t *Transport) Serve(l net.Listener) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		l.Close()
		return
	}
	t.listeners = append(t.listeners, l)
	t.tasks.Go(func() { t.accept(l) })
}

// Set implements env.Net. Streams that stand are kept where nothing changes for
// them; another cluster or another self ends them all.
func (t *Transport) Set(g env.Group) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.self.Load() != nil && same(t.group, g) {
		return
	}
	t.group = g
	have := *t.senders.Load()
	id := t.self.Load()
	if id == nil || *id != (identity{g.Cluster, g.Self}) {
		id = &identity{g.Cluster, g.Self}
		t.self.Store(id)
		for _, r := range t.incoming {
			r.close()
		}
	}
	next := make(map[env.NodeID]*sender, len(g.Peers))
	t.own = nil
	for _, p := range g.Peers {
		if p.ID == g.Self {
			t.own = p.URLs
		}
	}
	for _, p := range g.Peers {
		urls := t.usable(p)
		switch s := have[p.ID]; {
		case p.ID == g.Self, len(urls) == 0:
		case s != nil && !s.guest && s.id == id && slices.Equal(s.urls, p.URLs):
			next[p.ID] = s
		default:
			next[p.ID] = t.newSender(p, urls, id, false)
		}
	}
	t.senders.Store(&next)
	for id, s := range have {
		if next[id] != s {
			s.stop()
		}
	}
}

// strangersMax bounds the nodes that can be answered although they are not in the
// group.
const strangersMax = 64

// meet lets a node be answered that was heard and is not in the group: it has said
// where it is.
func (t *Transport) meet(from env.NodeID, urls []string) {
	have := *t.senders.Load()
	if have[from] != nil || len(urls) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	id := t.self.Load()
	p := env.Peer{ID: from, URLs: urls}
	usable := t.usable(p)
	if t.closed || id == nil || from == id.self || len(usable) == 0 || len(have) > len(t.group.Peers)+strangersMax {
		return
	}
	next := maps.Clone(have)
	next[from] = t.newSender(p, usable, id, true)
	t.senders.Store(&next)
}

// forget ends the calls to a node that is not in the group, unless it is there.
func (t *Transport) forget(s *sender) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.incoming[s.to] != nil {
		return false
	}
	s.stop()
	if have := *t.senders.Load(); have[s.to] == s {
		next := maps.Clone(have)
		delete(next, s.to)
		t.senders.Store(&next)
	}
	return true
}

func same(a, b env.Group) bool {
	return a.Cluster == b.Cluster && a.Self == b.Self && slices.EqualFunc(a.Peers, b.Peers, func(p, q env.Peer) bool {
		return p.ID == q.ID && slices.Equal(p.URLs, q.URLs)
	})
}

// usable gives the URLs at which a node can be called.
func (t *Transport) usable(p env.Peer) (all []*url.URL) {
	for _, raw := range p.URLs {
		u, err := url.Parse(raw)
		if err == nil && (u.Hostname() == "" || u.Port() == "") {
			err = errors.New("want http://host:port or https://host:port")
		}
		if err != nil {
			t.opts.Log.Log(env.Warn, "URL of a peer cannot be used", "peer", p.ID, "url", raw, "error", err)
			continue
		}
		all = append(all, u)
	}
	return all
}

// Send implements env.Net.
func (t *Transport) Send(to env.NodeID, frame []byte) bool {
	s := (*t.senders.Load())[to]
	return s != nil && s.send(frame)
}

// Close ends all streams and waits until no goroutine of the transport is left.
// The loop may have stopped before.
func (t *Transport) Close() {
	t.mu.Lock()
	t.closed = true
	t.stop()
	for _, l := range t.listeners {
		l.Close()
	}
	for _, r := range t.incoming {
		r.close()
	}
	t.mu.Unlock()
	t.tasks.Wait()
}

// Stats are the figures of one peer since the start.
type Stats struct {
	Peer                     env.NodeID
	Up                       bool // a stream to it stands
	SentBytes, ReceivedBytes uint64
	DroppedFrames            uint64 // not sent, because it was down or its queue full
	QueuedBytes              int
}

// Stats gives the figures of all peers, sorted by their IDs.
func (t *Transport) Stats() []Stats {
	senders := *t.senders.Load()
	var all []Stats
	for _, id := range slices.Sorted(maps.Keys(senders)) {
		all = append(all, senders[id].stats())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range all {
		if n := t.received[all[i].Peer]; n != nil {
			all[i].ReceivedBytes = n.Load()
		}
	}
	return all
}

var _ env.Net = (*Transport)(nil)
