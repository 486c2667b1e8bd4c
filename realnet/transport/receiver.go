package transport

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/peer"
)

// receiver reads one stream. What it has read and the loop has not yet seen is
// bounded: beyond that it leaves the rest to TCP, which slows the sender down.
type receiver struct {
	conn net.Conn

	mu     sync.Mutex
	room   sync.Cond
	unseen int // bytes
	closed bool
}

func newReceiver(conn net.Conn) *receiver {
	r := &receiver{conn: conn}
	r.room.L = &r.mu
	return r
}

func (r *receiver) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.room.Broadcast()
	r.conn.Close()
}

// hold waits for room for n bytes. False says that the stream is closed.
func (r *receiver) hold(n, limit int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.closed && r.unseen > 0 && r.unseen+n > limit {
		r.room.Wait()
	}
	r.unseen += n
	return !r.closed
}

func (r *receiver) seen(n int) {
	r.mu.Lock()
	r.unseen -= n
	r.mu.Unlock()
	r.room.Signal()
}

// accept takes connections from l until the transport closes.
func (t *Transport) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if t.alive.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if errors.Is(err, net.ErrClosed) {
			return // whoever opened it wants no more
		}
		if err != nil {
			t.opts.Log.Log(env.Warn, "accept peer", "address", l.Addr(), "error", err)
			time.Sleep(50 * time.Millisecond) // out of file descriptors, most likely
			continue
		}
		t.tasks.Go(func() { t.receive(newReceiver(conn)) })
	}
}

// receive runs one stream from hello to end.
func (t *Transport) receive(r *receiver) {
	first, err := opening(r.conn)
	if err == nil && !peer.Opens(first) && t.opts.Other != nil {
		t.opts.Other(r.conn, first)
		return
	}
	defer r.close()
	var from env.NodeID
	id := t.self.Load()
	if err == nil {
		from, err = t.answer(r.conn, first, id)
	}
	if errors.Is(err, errNobody) {
		t.opts.Log.Log(env.Debug, "peer called early", "address", r.conn.RemoteAddr())
		return
	}
	if err != nil {
		if t.alive.Err() == nil {
			t.refused(r.conn.RemoteAddr(), err)
		}
		return
	}
	count, ok := t.adopt(from, r, id)
	if !ok {
		return
	}
	defer t.dismiss(from, r)
	if s := (*t.senders.Load())[from]; s != nil {
		signal(s.kick) // it is there: no need to wait before calling back
	}
	err = t.read(from, r, count)
	if t.alive.Err() == nil {
		t.opts.Log.Log(env.Debug, "peer stream ended", "peer", from, "error", err)
	}
}

// One line in a while for each machine and reason: who is refused comes again.
const (
	refusedEvery = time.Minute
	refusedMax   = 1000
)

func (t *Transport) refused(from net.Addr, err error) {
	host, _, _ := net.SplitHostPort(from.String())
	key := host + " " + reason(err)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.said) > refusedMax {
		clear(t.said)
	}
	if now := time.Now(); now.Sub(t.said[key]) > refusedEvery {
		t.said[key] = now
		t.opts.Log.Log(env.Warn, "peer refused", "address", from, "error", err)
	}
}

// reason is what err says without the ports of the one connection.
func reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op + " " + op.Err.Error()
	}
	return err.Error()
}

// opening reads what tells a stream of ours from another protocol.
func opening(conn net.Conn) ([]byte, error) {
	conn.SetDeadline(time.Now().Add(handshakeTimeout))
	defer conn.SetDeadline(time.Time{})
	first := make([]byte, peer.OpeningSize)
	if _, err := io.ReadFull(conn, first); err != nil {
		return nil, fmt.Errorf("no greeting: %w", err)
	}
	return first, nil
}

// answer hears a hello that begins with first, says its own and judges the one
// heard. Its own comes before the verdict, so that the other side can tell what is
// wrong.
func (t *Transport) answer(conn net.Conn, first []byte, id *identity) (env.NodeID, error) {
	if id == nil {
		return 0, errNobody
	}
	conn.SetDeadline(time.Now().Add(handshakeTimeout))
	defer conn.SetDeadline(time.Time{})
	theirs, err := readHello(io.MultiReader(bytes.NewReader(first), conn))
	if err != nil {
		return 0, err
	}
	mine := peer.Hello{Cluster: id.cluster, From: id.self, To: theirs.From}
	if _, err := conn.Write(peer.AppendHello(nil, mine)); err != nil {
		return 0, err
	}
	if err := theirs.Check(id.cluster, id.self); err != nil || t.opts.Admit == nil {
		return theirs.From, err
	}
	var urls []string
	if s := (*t.senders.Load())[theirs.From]; s != nil {
		urls = s.urls
	}
	return theirs.From, t.opts.Admit(conn, urls)
}

// adopt makes r the stream of from; an older one ends, for a node that dials
// again has given up on it.
func (t *Transport) adopt(from env.NodeID, r *receiver, id *identity) (*atomic.Uint64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.self.Load() != id {
		return nil, false
	}
	if old := t.incoming[from]; old != nil {
		old.close()
	}
	t.incoming[from] = r
	if t.received[from] == nil {
		t.received[from] = new(atomic.Uint64)
	}
	return t.received[from], true
}

func (t *Transport) dismiss(from env.NodeID, r *receiver) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.incoming[from] == r {
		delete(t.incoming, from)
	}
}

// read hands each frame to the loop.
func (t *Transport) read(from env.NodeID, r *receiver, count *atomic.Uint64) error {
	in := bufio.NewReaderSize(r.conn, 64<<10)
	var where []string // it can be called, as it says
	for {
		var length [peer.LengthSize]byte
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return err
		}
		if n, isNote, err := peer.NoteLength(length); isNote || err != nil {
			note := make([]byte, n)
			if _, readErr := io.ReadFull(in, note); err != nil || readErr != nil {
				return cmp.Or(err, readErr)
			}
			where = peer.ParseNote(note)
			continue
		}
		size := binary.LittleEndian.Uint32(length[:])
		if size > peer.MaxFrame {
			return fmt.Errorf("stream out of step: a frame of %d bytes", size)
		}
		n := int(size) // only now: an int may have 32 bits
		if !r.hold(n, t.opts.QueueBytes) {
			return net.ErrClosed
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(in, frame); err != nil {
			return err
		}
		count.Add(uint64(peer.LengthSize + n))
		urls := where
		if !t.opts.Post(func() {
			t.meet(from, urls)
			t.opts.Receive(from, frame)
			r.seen(n)
		}) {
			return net.ErrClosed
		}
	}
}

// setUserTimeout ends a connection whose sent bytes nobody acknowledges for d: a
// machine that vanished is noticed that soon, however little is written.
func setUserTimeout(conn net.Conn, d time.Duration) {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn() // below TLS
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}
