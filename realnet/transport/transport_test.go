package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/peer"
)

// node is one end: frames are taken as they come, on whatever goroutine.
type node struct {
	*Transport
	url    string
	id     env.NodeID
	group  uint64
	frames chan string

	mu  sync.Mutex
	log strings.Builder
}

func (n *node) Log(_ env.Level, msg string, kv ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintln(&n.log, msg, fmt.Sprint(kv...))
}

func (n *node) logged() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.String()
}

func start(t *testing.T, id env.NodeID, address string, change func(*Options)) *node {
	t.Helper()
	n := &node{frames: make(chan string, 10000), id: id, group: 7}
	var loop sync.Mutex
	o := Options{
		Log: n,
		Post: func(fn func()) bool {
			loop.Lock()
			defer loop.Unlock()
			fn()
			return true
		},
		Receive: func(from env.NodeID, frame []byte) {
			n.frames <- fmt.Sprintf("%v:%s", from, bytes.TrimRight(frame, "."))
		},
		RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	n.url = "http://" + l.Addr().String()
	n.Transport = New(o)
	n.Serve(l)
	n.know(nil)
	t.Cleanup(n.Close)
	return n
}

// know sets who can be reached.
func (n *node) know(urls map[env.NodeID][]string) {
	g := env.Group{Cluster: n.group, Self: n.id}
	for _, id := range slices.Sorted(maps.Keys(urls)) {
		g.Peers = append(g.Peers, env.Peer{ID: id, URLs: urls[id]})
	}
	n.Set(g)
}

// frame pads what is sent to the least that a frame can be.
func frame(text string) []byte { return []byte(text + strings.Repeat(".", 64)) }

func (n *node) reach(t *testing.T, others map[env.NodeID]*node) {
	t.Helper()
	urls := make(map[env.NodeID][]string)
	for id, o := range others {
		urls[id] = []string{o.url}
	}
	n.know(urls)
}

func (n *node) expect(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-n.frames:
		require.Equal(t, want, got)
	case <-time.After(5 * time.Second):
		t.Fatalf("%s did not arrive; log: %s", want, n.logged())
	}
}

func TestFramesArriveInOrder(t *testing.T) {
	a, b := start(t, 1, "127.0.0.1:0", nil), start(t, 2, "127.0.0.1:0", nil)
	a.reach(t, map[env.NodeID]*node{1: a, 2: b})
	b.reach(t, map[env.NodeID]*node{1: a, 2: b})
	for i := range 1000 {
		require.True(t, a.Send(2, frame(fmt.Sprint(i))))
	}
	for i := range 1000 {
		b.expect(t, fmt.Sprintf("1:%d", i))
	}
	require.True(t, b.Send(1, frame("back")))
	a.expect(t, "2:back")
	assert.False(t, a.Send(3, frame("x")), "nobody is known there")
	assert.False(t, a.Send(1, frame("x")), "a node does not talk to itself")
	stats := a.Stats()
	require.Len(t, stats, 1)
	assert.True(t, stats[0].Up)
	assert.Greater(t, stats[0].SentBytes, uint64(68000))
}

func TestNodeThatComesBackIsReachedAgain(t *testing.T) {
	a, b := start(t, 1, "127.0.0.1:0", nil), start(t, 2, "127.0.0.1:0", nil)
	a.reach(t, map[env.NodeID]*node{2: b})
	require.True(t, a.Send(2, frame("one")))
	b.expect(t, "1:one")
	b.Close()
	require.Eventually(t, func() bool { return !a.Send(2, frame("lost")) }, 5*time.Second, time.Millisecond, "a node that is down takes nothing")
	b = start(t, 2, strings.TrimPrefix(b.url, "http://"), nil)
	require.Eventually(t, func() bool { return a.Send(2, frame("two")) }, 5*time.Second, time.Millisecond)
	b.expect(t, "1:two")
}

func TestStrangersAreRefusedByName(t *testing.T) {
	a := start(t, 1, "127.0.0.1:0", nil)
	other := start(t, 2, "127.0.0.1:0", nil)
	other.group = 8
	third := start(t, 3, "127.0.0.1:0", nil)
	other.reach(t, map[env.NodeID]*node{1: a})
	third.know(map[env.NodeID][]string{4: {a.url}})
	for _, c := range []struct {
		n    *node
		text string
	}{{a, "another cluster"}, {other, "another cluster"}, {a, "another node"}, {third, "another cluster|another node|answers there"}} {
		require.Eventually(t, func() bool {
			for text := range strings.SplitSeq(c.text, "|") {
				if strings.Contains(c.n.logged(), text) {
					return true
				}
			}
			return false
		}, 5*time.Second, time.Millisecond, "%s in %s", c.text, c.n.logged())
	}
	assert.Empty(t, a.frames)
}

func TestGarbageEndsTheStreamOnly(t *testing.T) {
	a, b := start(t, 1, "127.0.0.1:0", nil), start(t, 2, "127.0.0.1:0", nil)
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: a program that dialed the wrong port\r\n\r\n"))
	require.Eventually(t, func() bool { return strings.Contains(b.logged(), "malformed") }, 5*time.Second, time.Millisecond)
	a.reach(t, map[env.NodeID]*node{2: b})
	require.True(t, a.Send(2, frame("fine")))
	b.expect(t, "1:fine")
}

// Who is in no group is called as long as it calls, and not for ever.
func TestGuestsAreForgotten(t *testing.T) {
	a, guest := start(t, 1, "127.0.0.1:0", nil), start(t, 2, "127.0.0.1:0", nil)
	guest.reach(t, map[env.NodeID]*node{1: a, 2: guest})
	require.True(t, guest.Send(1, frame("here I am")))
	a.expect(t, "2:here I am")
	require.Eventually(t, func() bool { return a.Send(2, frame("welcome")) }, 5*time.Second, time.Millisecond)
	guest.expect(t, "1:welcome")
	guest.Close()
	require.Eventually(t, func() bool { return len(a.Stats()) == 0 }, 5*time.Second, time.Millisecond)
}

// A program of the first stream format takes a note for a frame and hangs up.
func TestNoNotesForTheVersionBefore(t *testing.T) {
	a := start(t, 1, "127.0.0.1:0", nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	for _, reads := range []byte{0, 2} {
		a.know(nil)
		a.know(map[env.NodeID][]string{1: {a.url}, 2: {"http://" + l.Addr().String()}})
		conn, err := l.Accept()
		require.NoError(t, err)
		hello := make([]byte, peer.HelloSize)
		_, err = io.ReadFull(conn, hello)
		require.NoError(t, err)
		mine := peer.AppendHello(nil, peer.Hello{Cluster: 7, From: 2, To: 1})
		binary.LittleEndian.PutUint64(mine[34:], uint64(reads))
		binary.LittleEndian.PutUint32(mine[42:], crc32.Checksum(mine[:42], crc32.MakeTable(crc32.Castagnoli)))
		_, err = conn.Write(mine)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return a.Send(2, frame("x")) }, 5*time.Second, time.Millisecond)
		var length [peer.LengthSize]byte
		_, err = io.ReadFull(conn, length[:])
		require.NoError(t, err)
		_, isNote, err := peer.NoteLength(length)
		require.NoError(t, err)
		assert.Equal(t, reads == 2, isNote)
		conn.Close()
	}
}

func TestQueueIsBounded(t *testing.T) {
	hold := make(chan struct{})
	a := start(t, 1, "127.0.0.1:0", func(o *Options) { o.QueueBytes = 1 << 20; o.WriteTimeout = time.Minute })
	b := start(t, 2, "127.0.0.1:0", func(o *Options) {
		o.QueueBytes = 1 << 20
		o.Receive = func(env.NodeID, []byte) { <-hold }
	})
	defer close(hold)
	a.reach(t, map[env.NodeID]*node{2: b})
	sent := 0
	require.Eventually(t, func() bool {
		for a.Send(2, make([]byte, 64<<10)) {
			sent++
		}
		time.Sleep(20 * time.Millisecond)
		return !a.Send(2, make([]byte, 64<<10))
	}, 10*time.Second, time.Millisecond)
	assert.LessOrEqual(t, a.Stats()[0].QueuedBytes, 1<<20)
	assert.Less(t, sent, 1000, "a node that takes nothing holds up a bounded number of bytes")
}

func TestStuckStreamIsGivenUp(t *testing.T) {
	hold := make(chan struct{})
	a := start(t, 1, "127.0.0.1:0", func(o *Options) { o.WriteTimeout = 50 * time.Millisecond })
	b := start(t, 2, "127.0.0.1:0", func(o *Options) {
		o.QueueBytes = 1
		o.Receive = func(env.NodeID, []byte) { <-hold }
	})
	defer close(hold)
	a.reach(t, map[env.NodeID]*node{2: b})
	require.Eventually(t, func() bool {
		a.Send(2, make([]byte, 8<<20))
		return strings.Contains(a.logged(), "peer unreachable")
	}, 10*time.Second, 5*time.Millisecond)
}

func TestSetIsIdempotentAndPassesOverBadAddresses(t *testing.T) {
	var dials atomic.Int64
	a := start(t, 1, "127.0.0.1:0", func(o *Options) {
		o.RetryMin, o.RetryMax = time.Hour, time.Hour
		o.Dial = func(context.Context, *url.URL) (net.Conn, error) { dials.Add(1); return nil, fmt.Errorf("no route") }
	})
	peers := map[env.NodeID][]string{2: {"http://host", "http://192.0.2.1:2380"}}
	a.know(peers)
	before := (*a.senders.Load())[2]
	a.know(peers)
	assert.True(t, before == (*a.senders.Load())[2])
	assert.Equal(t, 1, strings.Count(a.logged(), "URL of a peer cannot be used"))
	a.know(map[env.NodeID][]string{2: {"http://host"}})
	assert.False(t, a.Send(2, frame("x")))
	a.know(nil)
	assert.False(t, a.Send(2, frame("x")))
	a.Close()
	assert.LessOrEqual(t, dials.Load(), int64(1))
}

func TestNothingArrivesBeforeANodeKnowsWhoItIs(t *testing.T) {
	a, b := start(t, 1, "127.0.0.1:0", nil), start(t, 2, "127.0.0.1:0", nil)
	b.self.Store(nil)
	a.reach(t, map[env.NodeID]*node{2: b})
	require.Eventually(t, func() bool { return strings.Contains(b.logged(), "called early") }, 5*time.Second, time.Millisecond)
	b.reach(t, map[env.NodeID]*node{1: a})
	require.Eventually(t, func() bool { return a.Send(2, frame("now")) }, 5*time.Second, time.Millisecond)
	b.expect(t, "1:now")
}

func TestStreamsEndWhenANodeBecomesAnother(t *testing.T) {
	a, b := start(t, 1, "127.0.0.1:0", nil), start(t, 2, "127.0.0.1:0", nil)
	a.reach(t, map[env.NodeID]*node{2: b})
	require.True(t, a.Send(2, frame("one")))
	b.expect(t, "1:one")
	b.group = 8
	b.know(nil)
	require.Eventually(t, func() bool { return strings.Contains(b.logged(), "another cluster") }, 5*time.Second, time.Millisecond)
	assert.Empty(t, b.frames)
	b.group = 7
	b.know(nil)
	require.Eventually(t, func() bool { return a.Send(2, frame("two")) }, 5*time.Second, time.Millisecond)
	b.expect(t, "1:two")
}

func TestAnotherProtocolIsHandedOn(t *testing.T) {
	got := make(chan string, 1)
	a := start(t, 1, "127.0.0.1:0", func(o *Options) {
		o.Other = func(conn net.Conn, first []byte) {
			rest := make([]byte, 4)
			io.ReadFull(conn, rest)
			got <- string(first) + string(rest)
			conn.Close()
		}
	})
	conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	io.WriteString(conn, "GET /members HTTP/1.1\r\n")
	assert.Equal(t, "GET /members", <-got)
}

func TestCallersAreJudged(t *testing.T) {
	a := start(t, 1, "127.0.0.1:0", nil)
	b := start(t, 2, "127.0.0.1:0", func(o *Options) {
		o.Admit = func(_ net.Conn, urls []string) error { return fmt.Errorf("not as %v", urls) }
	})
	b.know(map[env.NodeID][]string{1: {"http://192.0.2.1:1"}})
	a.reach(t, map[env.NodeID]*node{2: b})
	require.Eventually(t, func() bool { return strings.Contains(b.logged(), "not as [http://192.0.2.1:1]") }, 5*time.Second, time.Millisecond)
}
