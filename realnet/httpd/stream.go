package httpd

import (
	"strconv"
	"sync"
	"time"
)

// Bounds of one stream. A reader that was behindMax chunks behind before a turn
// loses the stream in it; what one turn brings is bounded apart, because a burst
// is not the reader's fault. Large values are bounded by their bytes, for one stream
// and for all of them together, whoever is at fault; one chunk is always taken, so
// that a reader who resumes gets on.
const (
	behindMax   = 100
	burstMax    = 10000
	bytesMax    = 8 << 20
	bytesAllMax = 256 << 20
)

// stream is the body of an answer that goes on: a watch.
//
// The loop adds chunks. They are written after the turn by any goroutine, without
// waiting; where the socket is full a goroutine of the stream's own takes over
// until it has caught up. So a thousand watchers of one key cost a thousand
// writes and wake nobody.
type stream struct {
	x       *exchange
	closing bool          // the connection ends with the stream
	wake    chan struct{} // for net/http: there is something to take

	inTurn bool // the loop's: it is in Server.moved

	mu      sync.Mutex
	queue   [][]byte
	bytes   int  // in queue
	flight  int  // taken from queue and not written yet
	behind  int  // chunks that waited when the turn began
	ended   bool // no chunk follows
	broken  bool // and the answer is not whole
	started bool // the head is out
	busy    bool // somebody writes
	done    bool
}

func newStream(x *exchange) *stream {
	st := &stream{x: x}
	if x.wire == nil {
		st.wake = make(chan struct{}, 1)
	}
	x.server.watchers.Add(1)
	return st
}

// add takes a chunk, on the loop.
func (st *stream) add(p []byte) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.inTurn {
		st.behind = len(st.queue)
	}
	if st.behind >= behindMax || len(st.queue) >= burstMax {
		return false
	}
	all := &st.x.server.waiting
	if len(st.queue) > 0 && (st.bytes+len(p) > bytesMax || all.Load()+int64(len(p)) > bytesAllMax) {
		return false
	}
	if !st.done {
		st.queue = append(st.queue, p)
		st.bytes += len(p)
		all.Add(int64(len(p)))
		st.mark()
	}
	return true
}

// empty forgets what waits. The caller holds the lock.
func (st *stream) empty() {
	st.x.server.waiting.Add(-int64(st.bytes + st.flight))
	st.queue, st.bytes, st.flight = nil, 0, 0
}

// landed notes that what was taken is written. The caller holds the lock.
func (st *stream) landed() {
	st.x.server.waiting.Add(-int64(st.flight))
	st.flight = 0
}

// end says that no chunk follows, on the loop.
func (st *stream) end() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.done {
		st.ended = true
		st.mark()
	}
}

// fail says that the rest of the answer will never come, on the loop.
func (st *stream) fail() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.done {
		st.broken, st.ended = true, true
		st.mark()
	}
}

func (st *stream) mark() {
	if !st.inTurn {
		st.inTurn = true
		st.x.server.moved = append(st.x.server.moved, st)
	}
}

// begin lets chunks go: the head is out.
func (st *stream) begin() {
	st.mu.Lock()
	st.started = true
	st.mu.Unlock()
	var f framer
	st.write(&f)
}

// leave ends the stream for the server's reasons.
func (st *stream) leave() {
	st.mu.Lock()
	st.ended = true
	st.mu.Unlock()
	st.x.drop()
	var f framer
	st.write(&f)
}

// quit ends the stream because its reader is gone.
func (st *stream) quit() {
	st.x.drop()
	st.finish(errGone)
}

// finish notes once that the stream is over.
func (st *stream) finish(err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.done {
		return
	}
	st.done = true
	st.empty()
	st.x.server.watchers.Add(-1)
	if c := st.x.wire; c != nil {
		st.x.last = err != nil || st.closing || st.x.server.draining.Load()
		c.nc.SetReadDeadline(time.Now().Add(st.x.server.opts.IdleTimeout))
		st.x.end()
	}
}

// writeStreams writes what a turn brought to some streams.
func writeStreams(streams []*stream) {
	var f framer
	for _, st := range streams {
		st.write(&f)
	}
}

// write sends what waits, as far as the socket takes it at once.
func (st *stream) write(f *framer) {
	if st.wake != nil {
		signal(st.wake)
		return
	}
	if st.mustBreak() {
		st.finish(errBroken)
		return
	}
	p, last, ok := st.take(f)
	if !ok {
		return
	}
	n, err := st.x.wire.tryWrite(p)
	switch {
	case err != nil:
		st.finish(err)
	case n < len(p):
		go st.push(p[n:], last)
	case last:
		st.finish(nil)
	default:
		st.release(f)
	}
}

// mustBreak reports whether the connection has to end in the middle of the answer.
func (st *stream) mustBreak() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.broken && st.started
}

// take gives the bytes that are to be written, if nobody else writes: the caller
// does until it calls finish or release. Last says that the body ends with them.
func (st *stream) take(f *framer) (p []byte, last, ok bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.started || st.busy || st.done || len(st.queue) == 0 && !st.ended {
		return nil, false, false
	}
	st.busy = true
	p = f.frame(st.queue, st.ended)
	st.queue, st.bytes, st.flight = nil, 0, st.bytes
	return p, st.ended, true
}

// release lets others write again, and writes what came meanwhile.
func (st *stream) release(f *framer) {
	st.mu.Lock()
	st.busy = false
	st.landed()
	more := len(st.queue) > 0 || st.ended
	st.mu.Unlock()
	if more {
		st.write(f)
	}
}

// push writes p, waiting for the socket, and whatever follows until the reader
// has caught up.
func (st *stream) push(p []byte, last bool) {
	nc := st.x.wire.nc
	nc.SetWriteDeadline(time.Now().Add(st.x.server.opts.WriteTimeout))
	_, err := nc.Write(p)
	nc.SetWriteDeadline(time.Time{})
	if err != nil || last {
		st.finish(err)
		return
	}
	var f framer
	st.release(&f)
}

// framer lays out chunks as HTTP wants them. It remembers the last, which many
// streams share.
type framer struct {
	chunk  []byte
	ended  bool
	framed []byte
}

const terminator = "0\r\n\r\n"

// frame gives the bytes of some chunks, and the end of the body if ended. The
// result is immutable.
func (f *framer) frame(chunks [][]byte, ended bool) []byte {
	if len(chunks) == 1 && f.framed != nil && ended == f.ended && isSame(chunks[0], f.chunk) {
		return f.framed
	}
	size := len(terminator)
	for _, p := range chunks {
		size += len(p) + 20
	}
	out := make([]byte, 0, size)
	for _, p := range chunks {
		if len(p) == 0 {
			continue // it would end the body
		}
		out = strconv.AppendInt(out, int64(len(p)), 16)
		out = append(out, "\r\n"...)
		out = append(out, p...)
		out = append(out, "\r\n"...)
	}
	if ended {
		out = append(out, terminator...)
	}
	if len(chunks) == 1 {
		f.chunk, f.ended, f.framed = chunks[0], ended, out
	}
	return out
}

// isSame reports whether a and b are the same memory.
func isSame(a, b []byte) bool {
	return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0]
}
