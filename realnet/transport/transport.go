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

// Options say who this node is and how it reaches others. Cluster, Self, Post,
// Receive and Log are required.
type Options struct {
	Cluster uint64
	Self    env.NodeID
	// Post has a function run on the loop.
	Post func(func()) bool
	// Receive takes a frame, on the loop. It owns the frame.
	Receive func(from env.NodeID, frame []byte)
	Log     env.Log
	// Dial opens a connection; plain TCP if nil.
	Dial func(ctx context.Context, address string) (net.Conn, error)
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

	mu        sync.Mutex
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
		o.Dial = dialTCP
	}
	t := &Transport{
		opts:     o,
		incoming: make(map[env.NodeID]*receiver),
		received: make(map[env.NodeID]*atomic.Uint64),
	}
	t.alive, t.stop = context.WithCancel(context.Background())
	t.senders.Store(&map[env.NodeID]*sender{})
	return t
}

// dialTCP is the one place where a connection to another node is made.
func dialTCP(ctx context.Context, address string) (net.Conn, error) {
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

// SetPeers makes the nodes that can be reached exactly peers: for each the URLs to try
// in turn. Setting the same again is free; an address that changes ends its
// stream.
func (t *Transport) SetPeers(peers map[env.NodeID][]string) error {
	want := make(map[env.NodeID][]string, len(peers))
	for _, id := range slices.Sorted(maps.Keys(peers)) {
		if id == t.opts.Self {
			continue
		}
		addresses, err := addressesOf(peers[id])
		if err != nil {
			return fmt.Errorf("peer %v: %w", id, err)
		}
		want[id] = addresses
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return net.ErrClosed
	}
	have := *t.senders.Load()
	next := make(map[env.NodeID]*sender, len(want))
	for id, addresses := range want {
		if s := have[id]; s != nil && slices.Equal(s.addresses, addresses) {
			next[id] = s
			continue
		}
		next[id] = t.newSender(id, addresses)
	}
	t.senders.Store(&next)
	for id, s := range have {
		if next[id] != s {
			s.stop()
		}
	}
	return nil
}

// addressesOf gives the host:port of each URL.
func addressesOf(urls []string) ([]string, error) {
	if len(urls) == 0 {
		return nil, errors.New("no URL")
	}
	var addresses []string
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil {
			return nil, err
		}
		if u.Port() == "" {
			return nil, fmt.Errorf("URL %q: want http://host:port", raw)
		}
		addresses = append(addresses, u.Host)
	}
	return addresses, nil
}

// Set implements env.Net.
func (t *Transport) Set(g env.Group) {
	peers := make(map[env.NodeID][]string)
	for _, p := range g.Peers {
		peers[p.ID] = p.URLs
	}
	if err := t.SetPeers(peers); err != nil {
		t.opts.Log.Log(env.Warn, "peers not set", "error", err)
	}
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
