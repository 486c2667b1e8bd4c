package transport

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/peer"
)

// sender keeps a stream to one node and writes to it what is queued.
type sender struct {
	t       *Transport
	id      *identity // of this node
	to      env.NodeID
	urls    []string // as they were set
	usable  []*url.URL
	guest   bool // not of the group: it is answered as long as it is heard
	alive   context.Context
	stop    context.CancelFunc
	wake    chan struct{} // one token: frames wait
	kick    chan struct{} // one token: the node has just been heard of
	sent    atomic.Uint64
	dropped atomic.Uint64

	mu      sync.Mutex
	raw     syscall.RawConn // of the stream that stands; nil where writing may wait
	writing bool            // the sender's goroutine writes
	rest    []byte          // the rest of a frame of which the socket took a part
	queue   [][]byte
	bytes   int
	down    bool // the last attempt failed: drop what is sent
	up      bool
}

// directMax is the longest frame that is written by the loop itself where nothing
// waits before it and the socket has room: it spares a lone message a change of
// goroutines at each step of its way.
const directMax = 16 << 10

// newSender starts a sender. The transport's mutex is held.
func (t *Transport) newSender(p env.Peer, usable []*url.URL, id *identity, guest bool) *sender {
	s := &sender{t: t, id: id, to: p.ID, urls: p.URLs, usable: usable, guest: guest, wake: make(chan struct{}, 1), kick: make(chan struct{}, 1)}
	s.alive, s.stop = context.WithCancel(t.alive)
	t.tasks.Go(s.run)
	return s
}

func (s *sender) send(frame []byte) bool {
	if len(frame) > peer.MaxFrame {
		return false
	}
	s.mu.Lock()
	if s.down || s.bytes > 0 && s.bytes+len(frame) > s.t.opts.QueueBytes {
		s.mu.Unlock()
		s.dropped.Add(1)
		return false
	}
	if s.raw != nil && !s.writing && len(s.queue) == 0 && s.rest == nil && len(frame) <= directMax && s.direct(frame) {
		s.mu.Unlock()
		return true
	}
	s.queue = append(s.queue, frame)
	s.bytes += len(frame)
	first := len(s.queue) == 1
	s.mu.Unlock()
	if first {
		signal(s.wake)
	}
	return true
}

// direct writes frame if the socket takes it. False says that it must be queued;
// what was taken of it by then is not written again.
func (s *sender) direct(frame []byte) bool {
	p := peer.AppendStream(make([]byte, 0, peer.LengthSize+len(frame)), frame)
	n, err := writeNow(s.raw, p)
	s.sent.Add(uint64(n))
	if err != nil || n == 0 {
		return false // the goroutine will meet the error
	}
	if n < len(p) {
		s.rest = p[n:]
		s.bytes += len(s.rest)
		signal(s.wake)
	}
	return true
}

// writeNow writes what the socket takes at once.
func writeNow(raw syscall.RawConn, p []byte) (n int, err error) {
	rawErr := raw.Write(func(fd uintptr) bool {
		for {
			n, err = syscall.Write(int(fd), p)
			if err != syscall.EINTR {
				return true
			}
		}
	})
	if err == syscall.EAGAIN {
		return 0, nil
	}
	if err == nil {
		err = rawErr
	}
	return max(n, 0), err
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *sender) stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Peer: s.to, Up: s.up, SentBytes: s.sent.Load(), DroppedFrames: s.dropped.Load(), QueuedBytes: s.bytes}
}

// run dials, writes until the stream breaks, and dials again.
func (s *sender) run() {
	wait := s.t.opts.RetryMin
	said := ""
	for try := 0; s.alive.Err() == nil; try++ {
		address := s.usable[try%len(s.usable)]
		conn, err := s.connect(address)
		if err == nil {
			s.setUp(conn)
			said = ""
			wait = s.t.opts.RetryMin
			s.t.opts.Log.Log(env.Info, "peer connected", "peer", s.to, "address", address)
			err = s.write(conn)
			conn.Close()
		}
		s.setDown()
		if s.alive.Err() != nil {
			return
		}
		if why := reason(err); why != said {
			said = why
			s.t.opts.Log.Log(env.Warn, "peer unreachable", "peer", s.to, "address", address, "error", err)
		}
		if s.guest && s.t.forget(s) {
			return // if it is heard again it is met again
		}
		s.pause(wait)
		wait = min(2*wait, s.t.opts.RetryMax)
	}
}

// pause waits between half of d and d, less if the node is heard of.
func (s *sender) pause(d time.Duration) {
	timer := time.NewTimer(d/2 + rand.N(d/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.kick:
	case <-s.alive.Done():
	}
}

func (s *sender) setUp(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up, s.down = true, false
	if tcp, ok := conn.(*net.TCPConn); ok {
		s.raw, _ = tcp.SyscallConn()
	}
}

func (s *sender) setDown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped.Add(uint64(len(s.queue)))
	s.up, s.down = false, true
	s.raw, s.writing, s.rest = nil, false, nil
	s.queue, s.bytes = nil, 0
}

// connect dials and exchanges hellos.
func (s *sender) connect(address *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.alive, handshakeTimeout)
	defer cancel()
	conn, err := s.t.opts.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	theirs, err := s.greet(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	setUserTimeout(conn, s.t.opts.WriteTimeout)
	if !theirs.TakesNotes() {
		return conn, nil
	}
	conn.SetWriteDeadline(time.Now().Add(handshakeTimeout))
	if _, err := conn.Write(peer.AppendNote(nil, s.t.where())); err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetWriteDeadline(time.Time{})
	return conn, nil
}

// where is this node, for those who do not know it yet.
func (t *Transport) where() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.own
}

// greet says who calls whom and hears who answered.
func (s *sender) greet(conn net.Conn) (peer.Hello, error) {
	conn.SetDeadline(time.Now().Add(handshakeTimeout))
	defer conn.SetDeadline(time.Time{})
	mine := peer.Hello{Cluster: s.id.cluster, From: s.id.self, To: s.to}
	if _, err := conn.Write(peer.AppendHello(nil, mine)); err != nil {
		return mine, err
	}
	theirs, err := readHello(conn)
	if err != nil {
		return theirs, err
	}
	if err := theirs.Check(s.id.cluster, s.id.self); err != nil {
		return theirs, err
	}
	if theirs.From != s.to {
		return theirs, fmt.Errorf("node %v answers there", theirs.From)
	}
	return theirs, nil
}

func readHello(r io.Reader) (peer.Hello, error) {
	p := make([]byte, peer.HelloSize)
	if _, err := io.ReadFull(r, p); err != nil {
		return peer.Hello{}, fmt.Errorf("no greeting: %w", err)
	}
	return peer.ParseHello(p)
}

// write sends what is queued until the stream breaks; the error says why.
func (s *sender) write(conn net.Conn) error {
	gone := make(chan error, 1)
	s.t.tasks.Go(func() { gone <- watch(conn) })
	stop := context.AfterFunc(s.alive, func() { conn.Close() })
	defer stop()
	var lengths []byte
	var pieces net.Buffers
	out := gathering(conn)
	for {
		begun, frames, size := s.take()
		if begun == nil && len(frames) == 0 {
			select {
			case <-s.wake:
				continue
			case err := <-gone:
				return err
			}
		}
		lengths, pieces = layOut(lengths[:0], append(pieces[:0], begun), frames)
		conn.SetWriteDeadline(time.Now().Add(s.t.opts.WriteTimeout))
		rest := pieces
		n, err := out(rest)
		s.sent.Add(uint64(n))
		conn.SetWriteDeadline(time.Time{}) // an old one would stop direct
		clear(pieces)
		if err != nil {
			return err
		}
		s.release(size)
	}
}

// gathering writes pieces to conn as one: by one call of the system where that takes
// many, else gathered in a buffer, because TLS makes a record of each write.
func gathering(conn net.Conn) func(net.Buffers) (int64, error) {
	if _, ok := conn.(*net.TCPConn); ok {
		return func(p net.Buffers) (int64, error) { return p.WriteTo(conn) }
	}
	buffer := bufio.NewWriterSize(conn, 32<<10)
	return func(p net.Buffers) (int64, error) {
		n, err := p.WriteTo(buffer)
		if err == nil {
			err = buffer.Flush()
		}
		return n, err
	}
}

// watch returns when the other side, which never says anything, hangs up.
func watch(conn net.Conn) error {
	var p [1]byte
	n, err := conn.Read(p[:])
	if n > 0 {
		return fmt.Errorf("stream: unexpected byte %#x", p[0])
	}
	return err
}

// layOut gives the pieces of one write: each frame behind its length.
func layOut(lengths []byte, pieces net.Buffers, frames [][]byte) ([]byte, net.Buffers) {
	for _, f := range frames {
		lengths = appendLength(lengths, len(f))
	}
	for i, f := range frames {
		pieces = append(pieces, lengths[i*peer.LengthSize:(i+1)*peer.LengthSize], f)
	}
	return lengths, pieces
}

// take gives all that waits: the rest of a frame, and whole ones. They count
// against the queue's bound until they are written.
func (s *sender) take() (begun []byte, frames [][]byte, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	begun, s.rest = s.rest, nil
	frames, s.queue = s.queue, nil
	size = len(begun)
	for _, f := range frames {
		size += len(f)
	}
	s.writing = begun != nil || len(frames) > 0
	return begun, frames, size
}

func (s *sender) release(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= size
	s.writing = false
}

// appendLength writes the length before a frame, as package peer lays it out.
func appendLength(dst []byte, n int) []byte {
	return binary.LittleEndian.AppendUint32(dst, uint32(n))
}
