package httpd

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/store"
)

var (
	errGone   = errors.New("the client is gone")
	errBroken = errors.New("the rest of the answer will not come")
)

// serveHTTP answers what net/http has read.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if page := s.opts.Welcome[r.URL.Path]; page != nil {
		page.ServeHTTP(w, r)
		return
	}
	if r.Context().Value(strangerKey{}) != nil {
		s.turnAway(w)
		return
	}
	if page := s.opts.Pages[r.URL.Path]; page != nil {
		page.ServeHTTP(w, r)
		return
	}
	if s.draining.Load() || Mode(s.mode.Load()) == Starting {
		w.Header().Set("Connection", "close")
	}
	if s.cors(w, r) {
		return
	}
	req, err := s.requestOf(w, r)
	if err != nil {
		refusal := &store.Error{Code: store.CodeInvalidForm, Cause: err.Error()}
		w.Header().Set("Connection", "close") // where the next request begins is not known
		s.send(w, r, &gateway.Reply{
			Status: refusal.Code.Status(),
			Header: []gateway.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "X-Etcd-Index", Value: "0"}},
			Body:   gateway.AppendError(nil, refusal),
		})
		return
	}
	var op *gateway.Operation
	if s.takesWhole() || !strings.HasPrefix(req.Path, keysPath) {
		whole(req, r)
	} else if reply := s.localRead(req); reply != nil {
		s.send(w, r, reply)
		return
	} else if op, reply = s.parse(req); reply != nil {
		s.send(w, r, reply)
		return
	}
	x := newExchange(s, nil)
	if !x.ask(req, op) {
		s.send(w, r, stopped())
		return
	}
	select {
	case <-x.ready:
	case <-r.Context().Done():
		x.drop()
		return
	}
	s.send(w, r, x.reply)
	if x.stream != nil {
		s.pour(w, r.Context(), x.stream)
	}
}

// strangerKey is where the context of a connection says that it is a stranger's.
type strangerKey struct{}

// isStranger reports whether the other end of a connection has not said who it is,
// where it has to.
func (s *Server) isStranger(nc net.Conn) bool { return s.opts.Stranger != nil && s.opts.Stranger(nc) }

// introduce notes in the context of a connection that it is a stranger's.
func (s *Server) introduce(ctx context.Context, nc net.Conn) context.Context {
	if h, ok := nc.(*handedConn); ok && s.isStranger(h.Conn) {
		return context.WithValue(ctx, strangerKey{}, true)
	}
	return ctx
}

// turnAway answers a stranger.
func (s *Server) turnAway(w http.ResponseWriter) {
	refusal := &store.Error{Code: store.CodeUnauthorized, Cause: "a client certificate is required"}
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(refusal.Code.Status())
	w.Write(gateway.AppendError(nil, refusal))
}

// requestOf reads the body, up to the largest that the gateway takes.
func (s *Server) requestOf(w http.ResponseWriter, r *http.Request) (*gateway.Request, error) {
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(s.opts.BodyTimeout))
	body, err := io.ReadAll(io.LimitReader(r.Body, gateway.BodyMax+1))
	control.SetReadDeadline(time.Time{})
	if err != nil {
		return nil, err
	}
	req := &gateway.Request{Method: r.Method, ContentType: r.Header.Get("Content-Type"), Body: body, Peer: s.opts.Peer}
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		req.Socket = a.Network() == "unix"
	}
	if len(body) > gateway.BodyMax {
		req.Body, req.BodyTooBig = nil, true
	}
	req.User, req.Password, _ = r.BasicAuth()
	req.Path, req.Query, _ = strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(req.Path, "/") { // the absolute form, as proxies get it
		req.Path, req.Query = r.URL.EscapedPath(), r.URL.RawQuery
	}
	return req, nil
}

// whole adds what only servers of whole requests look at.
func whole(req *gateway.Request, r *http.Request) {
	req.Remote = r.RemoteAddr
	if r.Host != "" {
		req.Header = append(req.Header, gateway.Header{Name: "Host", Value: r.Host})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, value := range r.Header[name] {
			req.Header = append(req.Header, gateway.Header{Name: name, Value: value})
		}
	}
}

// cors tells browsers which pages may see the answer. True says that this was all
// that was asked.
func (s *Server) cors(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if len(s.opts.CORS) == 0 || origin == "" {
		return false
	}
	allowed := ""
	switch {
	case slices.Contains(s.opts.CORS, "*"):
		allowed = "*"
	case slices.Contains(s.opts.CORS, origin):
		allowed = origin
		w.Header().Add("Vary", "Origin")
	}
	if allowed != "" {
		w.Header().Set("Access-Control-Allow-Origin", allowed)
		w.Header().Set("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE")
		w.Header().Set("Access-Control-Allow-Headers", "accept, content-type, authorization")
	}
	return r.Method == http.MethodOptions
}

// send writes the head of an answer, and its body if that is whole.
func (s *Server) send(w http.ResponseWriter, r *http.Request, reply *gateway.Reply) {
	s.observe(r.Method, reply.Status)
	header := w.Header()
	for _, h := range reply.Header {
		header[h.Name] = append(header[h.Name], h.Value)
	}
	w.WriteHeader(reply.Status)
	if reply.Content != nil {
		s.encode(w, reply.Content)
		return
	}
	w.Write(reply.Body)
}

// encode writes a body of any length. One that cannot be finished is cut, so that
// nobody takes it for whole.
func (s *Server) encode(w http.ResponseWriter, content io.WriterTo) {
	control := http.NewResponseController(w)
	_, err := content.WriteTo(&timely{w: w, control: control, limit: s.opts.WriteTimeout})
	control.SetWriteDeadline(time.Time{})
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

// timely bounds each write by itself, however long the body takes.
type timely struct {
	w       io.Writer
	control *http.ResponseController
	limit   time.Duration
}

// Write implements io.Writer.
func (t *timely) Write(p []byte) (int, error) {
	t.control.SetWriteDeadline(time.Now().Add(t.limit))
	return t.w.Write(p)
}

// pour writes chunks as they come.
func (s *Server) pour(w http.ResponseWriter, ctx context.Context, st *stream) {
	defer st.quit()
	control := http.NewResponseController(w)
	st.begin()
	for {
		control.Flush()
		select {
		case <-st.wake:
		case <-s.leaving:
			return
		case <-ctx.Done():
			return
		}
		chunks, last := st.takeAll()
		if st.mustBreak() {
			panic(http.ErrAbortHandler) // how net/http is told to cut an answer off
		}
		control.SetWriteDeadline(time.Now().Add(s.opts.WriteTimeout))
		for _, p := range chunks {
			if _, err := w.Write(p); err != nil {
				return
			}
		}
		control.SetWriteDeadline(time.Time{})
		if last {
			return
		}
	}
}

// takeAll gives the chunks that wait.
func (st *stream) takeAll() (chunks [][]byte, last bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	chunks = st.queue
	st.empty()
	return chunks, st.ended
}

// handedConn is a connection of which something was read already.
type handedConn struct {
	net.Conn
	first []byte
}

// Read implements net.Conn.
func (c *handedConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// CloseWrite lets net/http end a connection without cutting off what it wrote.
func (c *handedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// handedListener is where net/http accepts the connections handed to it.
type handedListener struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func newHandedListener() *handedListener {
	return &handedListener{conns: make(chan net.Conn), over: make(chan struct{})}
}

func (l *handedListener) give(c net.Conn) bool {
	select {
	case l.conns <- c:
		return true
	case <-l.over:
		return false
	}
}

// Accept implements net.Listener.
func (l *handedListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *handedListener) Close() error {
	l.once.Do(func() { close(l.over) })
	return nil
}

// Addr implements net.Listener.
func (l *handedListener) Addr() net.Addr { return &net.TCPAddr{} }
