package httpd

import (
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/keelson/keelson/core/gateway"
)

const (
	bufSize   = 4 << 10
	bufKept   = 64 << 10 // a larger buffer is given up after the request
	bodyPlain = 1 << 20  // a longer body is for net/http to read
	bodyApart = 16 << 10 // a longer answer is not copied behind its head
)

// conn is one connection of a client, read by the goroutine of run.
type conn struct {
	server *Server
	nc     net.Conn
	raw    syscall.RawConn // nil where bytes cannot be written without waiting

	buf      []byte // what was read and not used yet is buf[from:to]
	from, to int
	out      []byte
	deadline time.Time // of reads, as last set
	hurried  bool      // it is that of a request under way

	head head
	req  gateway.Request
	x    atomic.Pointer[exchange] // of this request or the next

	busy   atomic.Bool            // a request is under way
	stream atomic.Pointer[stream] // the watch under way
	gone   atomic.Bool
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{server: s, nc: nc, buf: make([]byte, bufSize)}
	c.x.Store(newExchange(s, c))
	switch socket := nc.(type) {
	case *net.TCPConn:
		c.raw, _ = socket.SyscallConn()
	case *net.UnixConn:
		c.raw, _ = socket.SyscallConn()
	}
	return c
}

// run serves one request after the other.
func (c *conn) run() {
	defer c.server.forget(c)
	for {
		switch c.readHead() {
		case unfinished:
			c.nc.Close()
			return
		case unusual:
			c.handOver()
			return
		}
		if !c.readBody() || !c.serve() {
			c.nc.Close()
			return
		}
		c.busy.Store(false)
		c.tidy()
	}
}

// readHead reads until the head of a request is there; unfinished says that the
// connection is over before.
func (c *conn) readHead() verdict {
	for {
		if c.to > c.from {
			c.busy.Store(true) // also what came while the last answer was written
			if c.server.takesWhole() || c.server.isStranger(c.nc) {
				return unusual
			}
			if v := parseHead(c.buf[c.from:c.to], &c.head); v != unfinished {
				if v == plain && c.head.length > bodyPlain {
					return unusual
				}
				return v
			}
		}
		if !c.fill() {
			return unfinished
		}
	}
}

// fill reads more into the buffer. The limits are those of a head and of an idle
// connection; the deadline is moved only now and then, which is cheaper than at
// each request.
func (c *conn) fill() bool {
	limit := c.server.opts.IdleTimeout
	now := time.Now()
	left := c.deadline.Sub(now)
	switch {
	case c.to > c.from && !c.hurried:
		c.hurry(now.Add(c.server.opts.HeadTimeout))
	case c.to == c.from && left < limit/2:
		c.setReadDeadline(now.Add(limit))
	}
	return c.read()
}

// hurry sets a short deadline for a request that comes in pieces.
func (c *conn) hurry(t time.Time) {
	c.setReadDeadline(t)
	c.hurried = true
}

func (c *conn) setReadDeadline(t time.Time) {
	c.deadline = t
	c.nc.SetReadDeadline(t)
}

// read takes what there is, making room first.
func (c *conn) read() bool {
	if c.to == len(c.buf) {
		c.room(1)
	}
	n, err := c.nc.Read(c.buf[c.to:])
	if n > 0 {
		c.busy.Store(true)
	}
	c.to += n
	return err == nil && n > 0
}

// room makes sure that n more bytes fit behind what was read.
func (c *conn) room(n int) {
	have := c.to - c.from
	if len(c.buf)-c.to >= n {
		return
	}
	next := c.buf
	if have+n > len(c.buf) {
		next = make([]byte, max(2*len(c.buf), have+n))
	}
	copy(next, c.buf[c.from:c.to])
	c.buf, c.from, c.to = next, 0, have
}

// readBody reads until the whole body is in the buffer and fills in the request.
func (c *conn) readBody() bool {
	want := c.head.size + int(c.head.length)
	if missing := want - (c.to - c.from); missing > 0 {
		c.room(missing)
		c.hurry(time.Now().Add(c.server.opts.BodyTimeout))
		if _, err := io.ReadFull(c.nc, c.buf[c.to:c.to+missing]); err != nil {
			return false
		}
		c.to += missing
	}
	if c.hurried {
		c.hurried = false
		c.setReadDeadline(time.Now().Add(c.server.opts.IdleTimeout))
	}
	c.req = gateway.Request{
		Method:      c.head.method,
		Path:        c.head.path,
		Query:       c.head.query,
		ContentType: c.head.contentType,
		User:        c.head.user,
		Password:    c.head.password,
		Body:        c.buf[c.from+c.head.size : c.from+want],
	}
	c.from += want
	return true
}

// tidy makes the buffer ready for the next request.
func (c *conn) tidy() {
	if c.from < c.to {
		return
	}
	c.from, c.to = 0, 0
	if len(c.buf) > bufKept {
		c.buf = make([]byte, bufSize)
	}
}

// serve answers the request. False says that the connection is over.
func (c *conn) serve() bool {
	r := c.server.localRead(&c.req)
	if r == nil {
		var op *gateway.Operation
		if op, r = c.server.parse(&c.req); r == nil {
			return c.ask(op)
		}
	}
	c.server.observe(c.head.method, r.Status)
	return c.write(r)
}

// ask has the node answer. Whoever has the answer writes it, while this goroutine
// reads on: that is how it learns that the client went away, or what it asks for
// next. False says that the connection is over.
func (c *conn) ask(op *gateway.Operation) bool {
	x := c.x.Load()
	x.renew()
	if !x.ask(&c.req, op) {
		r := stopped()
		c.server.observe(c.head.method, r.Status)
		return c.write(r)
	}
	if op == nil { // the loop still reads the request's memory
		<-x.ready
	}
	for !x.over.Load() && !c.gone.Load() {
		if c.to > c.from {
			// Another request waits; one at a time. It may have come between the
			// last bytes of a watch and the note that they were the last, so
			// reading on could wait for a client that waits for us.
			<-x.ready
			continue
		}
		if !c.read() {
			c.quit(x)
			return false
		}
	}
	if c.stream.Swap(nil) != nil {
		c.x.Store(newExchange(c.server, c)) // the old one may be called until it is dropped
	}
	return !c.gone.Load() && !x.last
}

// quit drops a request because its client is gone.
func (c *conn) quit(x *exchange) {
	if st := c.stream.Load(); st != nil {
		st.quit()
		return
	}
	x.drop()
}

// deliver writes the answer of x without waiting for the client; what the socket
// does not take at once is left to a goroutine. It is called once for each
// request, after the turn in which the node answered.
func (c *conn) deliver(x *exchange) {
	r := x.reply
	x.last = c.last()
	c.server.observe(c.head.method, r.Status)
	out := appendHead(c.out[:0], r, x.last)
	switch {
	case r.More && len(r.Body) > 0:
		var f framer
		out = append(out, f.frame([][]byte{r.Body}, false)...)
	case len(r.Body) <= bodyApart:
		c.out = append(out, r.Body...)
		out = c.out
	default:
		out = append(out, r.Body...)
	}
	if x.stream != nil {
		x.stream.closing = x.last
		c.stream.Store(x.stream)
	}
	n, err := c.tryWrite(out)
	switch {
	case err != nil:
		c.nc.Close()
	case n < len(out):
		go c.push(x, out[n:])
	default:
		c.delivered(x)
	}
}

// push writes the rest of an answer, waiting for the client.
func (c *conn) push(x *exchange, p []byte) {
	c.nc.SetWriteDeadline(time.Now().Add(c.server.opts.WriteTimeout + time.Duration(len(p))*time.Microsecond))
	_, err := c.nc.Write(p)
	c.nc.SetWriteDeadline(time.Time{})
	if err != nil {
		c.nc.Close()
		return
	}
	c.delivered(x)
}

// delivered follows the answer, or the head of one that goes on.
func (c *conn) delivered(x *exchange) {
	if x.stream != nil {
		c.nc.SetReadDeadline(time.Time{})
		x.stream.begin()
		return
	}
	x.end()
}

// last reports whether the connection ends with this answer.
func (c *conn) last() bool { return c.head.close || c.server.draining.Load() }

func (c *conn) write(r *gateway.Reply) bool {
	last := c.last()
	c.out = appendHead(c.out[:0], r, last)
	var err error
	switch {
	case len(r.Body) <= bodyApart:
		c.out = append(c.out, r.Body...)
		_, err = c.nc.Write(c.out)
	default:
		c.nc.SetWriteDeadline(time.Now().Add(c.server.opts.WriteTimeout + time.Duration(len(r.Body))*time.Microsecond))
		pieces := net.Buffers{c.out, r.Body}
		_, err = pieces.WriteTo(c.nc)
		c.nc.SetWriteDeadline(time.Time{})
	}
	return err == nil && !last
}

// tryWrite writes what the socket takes at once.
func (c *conn) tryWrite(p []byte) (n int, err error) {
	if c.raw == nil {
		return 0, nil
	}
	werr := c.raw.Write(func(fd uintptr) bool {
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
		err = werr
	}
	return max(n, 0), err
}

// handOver gives the connection, and what was read from it, to net/http.
func (c *conn) handOver() {
	c.nc.SetReadDeadline(time.Time{})
	if !c.server.handed.give(&handedConn{Conn: c.nc, first: c.buf[c.from:c.to]}) {
		c.nc.Close()
	}
}

// closeIdle ends a connection that nothing is asked on.
func (c *conn) closeIdle() {
	if !c.busy.Load() {
		c.nc.Close()
	}
}

// endWatch ends the body of a watch.
func (c *conn) endWatch() {
	if st := c.stream.Load(); st != nil {
		st.leave()
	}
}

// abandon ends the connection whatever it does.
func (c *conn) abandon() {
	c.gone.Store(true)
	c.nc.Close()
	signal(c.x.Load().ready)
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
