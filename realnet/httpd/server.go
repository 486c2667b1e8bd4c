// Package httpd carries HTTP requests to a node and its answers back.
//
// The common requests of the keys API are read and answered by a small server of
// our own: parsing happens on the connection's goroutine, only what touches the
// node runs on its loop, and an answer is one write. Whatever is unusual in any
// way is handed, untouched, to net/http on the same connection, so that there is
// one judge of what HTTP allows.
package httpd

import (
	"bytes"
	"context"
	"log"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/store"
)

// Options are a server's choices. Post, Serve, Do and Log are required.
type Options struct {
	// Post has a function run on the loop; false says that it never will.
	Post func(func()) bool
	// Serve answers a request, on the loop.
	Serve func(req *gateway.Request, r gateway.Responder) (cancel func())
	// Do answers an operation that was parsed already, on the loop.
	Do  func(op *gateway.Operation, r gateway.Responder) (cancel func())
	Log env.Log
	// ReadDefaultLocal makes a plain GET a local read.
	ReadDefaultLocal bool
	// Pages are answered by net/http before the node is asked, such as /metrics.
	Pages map[string]http.Handler
	// Stranger reports whether the other end of a connection has yet to say who it is.
	// It is asked once something was read. Strangers get the Welcome pages only;
	// these are for everybody. Nil is that nobody is one.
	Stranger func(nc net.Conn) bool
	Welcome  map[string]http.Handler
	// Peer marks every request as one that came in where members call. Such a server
	// hands requests over whole.
	Peer bool
	// CORS are the origins whose pages may ask from a browser; * is all.
	CORS []string
	// Observe, if not nil, is told of each answer, on any goroutine.
	Observe func(method string, status int)
	// HeadTimeout bounds how long a request's head may take from its first byte,
	// BodyTimeout its body, IdleTimeout the wait for the next request and
	// WriteTimeout how long a reader may take nothing: 10 s, 60 s, 5 min, 30 s.
	HeadTimeout, BodyTimeout, IdleTimeout, WriteTimeout time.Duration
}

// Server answers clients on any number of listeners. Publish and AfterTurn are
// for the loop's goroutine; the other methods may be called from anywhere.
type Server struct {
	opts   Options
	local  *gateway.Mux // only for LocalGet
	state  atomic.Pointer[state]
	slow   *http.Server
	handed *handedListener

	mode     atomic.Int32
	draining atomic.Bool
	leaving  chan struct{} // closed when draining begins
	watchers atomic.Int64
	waiting  atomic.Int64 // bytes that all streams hold

	// The loop's own: what this turn brought.
	answered []*exchange
	moved    []*stream

	mu        sync.Mutex
	closed    bool
	listeners []net.Listener
	conns     map[*conn]struct{}
	tasks     sync.WaitGroup
}

// state is what a local read is answered from.
type state struct {
	view *store.View
	info *gateway.Info
}

// Mode says what is done with a request.
type Mode int32

const (
	// Parsed has requests for keys parsed here and answered by Do, as a member wants
	// them. All others are handed to Serve whole.
	Parsed Mode = iota
	// Whole hands every request to Serve with all its header lines and the caller's
	// address, as a proxy wants them.
	Whole
	// Starting is Whole for a moment: connections end with each answer, so that those
	// which come back find what the process has become.
	Starting
)

// SetMode says what is done with requests from now on.
func (s *Server) SetMode(m Mode) { s.mode.Store(int32(m)) }

// takesWhole reports whether requests are handed over as they came.
func (s *Server) takesWhole() bool { return s.opts.Peer || Mode(s.mode.Load()) != Parsed }

// New makes a server without listeners.
func New(o Options) *Server {
	setDefault(&o.HeadTimeout, 10*time.Second)
	setDefault(&o.BodyTimeout, 60*time.Second)
	setDefault(&o.IdleTimeout, 5*time.Minute)
	setDefault(&o.WriteTimeout, 30*time.Second)
	s := &Server{
		opts:   o,
		local:  gateway.New(nil, gateway.Options{ReadDefaultLocal: o.ReadDefaultLocal}),
		handed: newHandedListener(),
		conns:  make(map[*conn]struct{}),

		leaving: make(chan struct{}),
	}
	s.slow = &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: o.HeadTimeout,
		IdleTimeout:       o.IdleTimeout,
		ConnContext:       s.introduce,
		ErrorLog:          log.New(logWriter{o.Log}, "", 0),
	}
	s.tasks.Go(func() { s.slow.Serve(s.handed) })
	return s
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// Serve accepts connections from l until Drain or Close. It takes ownership of l.
func (s *Server) Serve(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.draining.Load() {
		l.Close()
		return
	}
	s.listeners = append(s.listeners, l)
	s.tasks.Go(func() { s.accept(l) })
}

func (s *Server) accept(l net.Listener) {
	for {
		nc, err := l.Accept()
		if err != nil {
			if s.draining.Load() || s.isClosed() {
				return
			}
			s.opts.Log.Log(env.Warn, "accept client", "address", l.Addr(), "error", err)
			time.Sleep(50 * time.Millisecond) // out of file descriptors, most likely
			continue
		}
		c := newConn(s, nc)
		s.mu.Lock()
		if s.closed {
			nc.Close()
		} else {
			s.conns[c] = struct{}{}
			s.tasks.Go(c.run)
		}
		s.mu.Unlock()
	}
}

// Take serves a connection that somebody else accepted and of which first was read
// already.
func (s *Server) Take(nc net.Conn, first []byte) {
	if !s.handed.give(&handedConn{Conn: nc, first: first}) {
		nc.Close()
	}
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Publish sets what local reads are answered from. Both values must never change
// again.
func (s *Server) Publish(view *store.View, info *gateway.Info) { s.state.Store(&state{view, info}) }

// AfterTurn lets the answers of the turn go. It must be called after each flush
// and after Publish, so that a client that has its answer finds its write in a
// local read.
func (s *Server) AfterTurn() {
	var batch []*exchange
	for i, x := range s.answered {
		s.answered[i] = nil
		if x.wire == nil {
			signal(x.ready)
			continue
		}
		batch = append(batch, x)
	}
	s.answered = s.answered[:0]
	if len(batch) == 1 {
		deliverAll(batch) // nobody else waits: spare the one client a change of goroutines
	} else {
		spread(batch, 16, deliverAll)
	}
	moved := s.moved
	s.moved = nil
	for _, st := range moved {
		st.inTurn = false
	}
	spread(moved, 64, writeStreams)
}

func deliverAll(batch []*exchange) {
	for _, x := range batch {
		x.wire.deliver(x)
	}
}

// spread has fn work on list in the background, in parts of about each but no
// more of them than there are processors.
func spread[T any](list []T, each int, fn func([]T)) {
	if len(list) == 0 {
		return
	}
	parts := min(runtime.GOMAXPROCS(0), 1+len(list)/each)
	for p := range parts {
		go fn(list[p*len(list)/parts : (p+1)*len(list)/parts])
	}
}

// Watchers is how many watches are open.
func (s *Server) Watchers() int { return int(s.watchers.Load()) }

// drainGrace is how long a client that is busy has to learn, from an answer, that
// its connection will not be served for much longer.
const drainGrace = 250 * time.Millisecond

// Drain stops accepting and lets the requests under way finish. Each further
// answer tells its client to use another connection; those that ask nothing for
// a moment are closed. Watches end at once: their clients ask again elsewhere.
// It returns when no connection is left, or with the context's error.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	if !s.draining.Swap(true) {
		close(s.leaving)
	}
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()
	slow := make(chan error, 1)
	go func() {
		time.Sleep(drainGrace)
		slow <- s.slow.Shutdown(ctx)
	}()
	grace := time.After(drainGrace)
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	over := false
	for !over || s.left() > 0 {
		s.each((*conn).endWatch)
		if over {
			s.each((*conn).closeIdle)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-grace:
			over = true
		case <-poll.C:
			if s.left() == 0 {
				over = true
			}
		}
	}
	return <-slow
}

func (s *Server) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *Server) each(fn func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		fn(c)
	}
}

// Close ends everything at once and waits until no goroutine of the server is
// left. The loop may have stopped before.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for _, l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.abandon()
	}
	s.mu.Unlock()
	s.slow.Close()
	s.handed.Close()
	s.tasks.Wait()
}

func (s *Server) observe(method string, status int) {
	if s.opts.Observe != nil {
		s.opts.Observe(method, status)
	}
}

// localRead answers req without the loop, where that is what it asks for.
func (s *Server) localRead(req *gateway.Request) *gateway.Reply {
	st := s.state.Load()
	if st == nil || st.view == nil || !s.mayBeLocal(req) {
		return nil
	}
	r, ok := s.local.LocalGet(st.view, st.info, req)
	if !ok {
		return nil
	}
	return r
}

// logWriter takes the lines of net/http, which are about single connections.
type logWriter struct{ log env.Log }

// Write implements io.Writer.
func (w logWriter) Write(p []byte) (int, error) {
	w.log.Log(env.Debug, "http", "error", string(bytes.TrimSpace(p)))
	return len(p), nil
}
