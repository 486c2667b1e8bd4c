package httpd

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/store"
)

// exchange is one request on its way through the loop. It implements
// gateway.Responder.
type exchange struct {
	server *Server
	ready  chan struct{} // one token: something happened that somebody may wait for
	reply  *gateway.Reply
	stream *stream     // of a reply that goes on
	wire   *conn       // nil where net/http writes the answer
	over   atomic.Bool // the whole answer is written
	last   bool        // and the connection ends with it

	cancel func() // the loop's
}

func newExchange(s *Server, wire *conn) *exchange {
	return &exchange{server: s, ready: make(chan struct{}, 1), wire: wire}
}

// renew makes x ready for the next request.
func (x *exchange) renew() {
	x.reply, x.stream, x.cancel = nil, nil, nil
	x.over.Store(false)
	select {
	case <-x.ready:
	default:
	}
}

// end says that the whole answer is written.
func (x *exchange) end() {
	if x.last {
		x.wire.nc.Close()
	}
	x.wire.busy.Store(false)
	x.over.Store(true)
	signal(x.ready)
}

// Reply implements gateway.Responder. The answer leaves after the turn.
func (x *exchange) Reply(r *gateway.Reply) {
	x.reply = r
	if r.More {
		x.stream = newStream(x)
	}
	x.server.answered = append(x.server.answered, x)
}

// Chunk implements gateway.Responder.
func (x *exchange) Chunk(p []byte) bool { return x.stream.add(p) }

// End implements gateway.Responder.
func (x *exchange) End() { x.stream.end() }

// Break implements gateway.Breaker.
func (x *exchange) Break() { x.stream.fail() }

// ask runs a request on the loop: op where it was parsed already. False says that
// the loop has stopped.
func (x *exchange) ask(req *gateway.Request, op *gateway.Operation) bool {
	return x.server.opts.Post(func() {
		if op != nil {
			x.cancel = x.server.opts.Do(op, x)
			return
		}
		x.cancel = x.server.opts.Serve(req, x)
	})
}

// drop says that nobody waits for the answer any more.
func (x *exchange) drop() {
	x.server.opts.Post(func() {
		if x.cancel != nil {
			x.cancel()
		}
	})
}

// parse tells what req asks for. An answer is given where none is needed from
// the node; a nil operation without one must be parsed again on the loop, because
// the refusal names the cluster.
func (s *Server) parse(req *gateway.Request) (*gateway.Operation, *gateway.Reply) {
	op, err := gateway.Parse(req)
	if refusal, ok := err.(*gateway.Refusal); ok {
		return nil, refusal.Reply
	}
	if err != nil {
		return nil, nil
	}
	return &op, nil
}

// stopped is the answer where the loop is gone.
func stopped() *gateway.Reply {
	return &gateway.Reply{
		Status: http.StatusInternalServerError,
		Header: []gateway.Header{{Name: "Content-Type", Value: "application/json"}},
		Body:   gateway.AppendError(nil, &store.Error{Code: store.CodeRaftInternal, Cause: "etcdserver: server stopped"}),
	}
}

// appendHead appends the status line and headers of an answer written here.
func appendHead(dst []byte, r *gateway.Reply, close bool) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(r.Status)...)
	dst = append(dst, "\r\n"...)
	sized := r.More
	for _, h := range r.Header {
		dst = append(dst, h.Name...)
		dst = append(dst, ": "...)
		dst = append(dst, h.Value...)
		dst = append(dst, "\r\n"...)
		sized = sized || h.Name == "Content-Length"
	}
	dst = append(dst, "Date: "...)
	dst = append(dst, date()...)
	if r.More {
		dst = append(dst, "\r\nTransfer-Encoding: chunked"...)
	}
	if !sized {
		dst = append(dst, "\r\nContent-Length: "...)
		dst = strconv.AppendInt(dst, int64(len(r.Body)), 10)
	}
	if close {
		dst = append(dst, "\r\nConnection: close"...)
	}
	return append(dst, "\r\n\r\n"...)
}

type dateText struct {
	second int64
	text   string
}

var lastDate atomic.Pointer[dateText]

// date is the Date header of now. It is formatted once a second.
func date() string {
	now := time.Now()
	if d := lastDate.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &dateText{now.Unix(), now.UTC().Format(http.TimeFormat)}
	lastDate.Store(d)
	return d.text
}
