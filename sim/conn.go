package sim

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

const (
	dialMax       = 30 * time.Second       // a dial without any answer gives up
	resend        = 200 * time.Millisecond // first repetition of a lost segment; it doubles
	resendMax     = 10 * time.Second
	keepAlive     = 15 * time.Second // between probes of a silent connection
	keepAliveMax  = 3                // unanswered probes that break it
	connBufferMax = 1 << 20          // bytes that a reader may be behind
	headBytes     = 200              // of a request or reply, roughly
)

// caller is the client's end of a connection.
type caller interface {
	wake()        // something has arrived, or nothing more will
	closed(*conn) // the connection is not the caller's any more
	// mayReuse says that a connection to m may be open from an earlier request.
	mayReuse(m *Machine) bool
}

// conn is one request's connection, seen from both ends. Each direction is a
// stream: segments arrive in order, late where the link loses them, or not at
// all once the connection is broken.
//
//	dial ──▶ open ──request──▶ served ──reply──▶ body… ──▶ over
//	  └────────┴──────────────────┴── reset, timeout, close ──▶ over
type conn struct {
	w    *World
	id   uint64
	from env.NodeID
	who  caller
	m    *Machine
	req  *gateway.Request
	size int // of the request with its head, in bytes
	up   flow
	down flow

	// The client's end.
	accepted bool
	sent     bool // the request may have reached the node
	head     *gateway.Reply
	body     []byte
	ended    bool // the body is complete
	stream   bool // the body may take for ever
	err      error
	gone     bool // the client no longer cares
	silent   int  // keep-alive probes without an answer

	// The server's end.
	life    int // of the process that accepted; 0: none
	cancel  func()
	served  bool // Serve has been called
	replied bool
	more    bool
	over    bool // nothing more may come from the node
	behind  int  // bytes sent that the client has not read
}

// flow is one direction of a connection.
type flow struct {
	link    *Link
	queue   []segment
	last    time.Duration
	retries int
	armed   bool
	closed  bool
}

type segment struct {
	at time.Duration
	fn func()
}

func (n *Net) dial(who caller, from env.NodeID, m *Machine, req *gateway.Request) *conn {
	n.nextConn++
	c := &conn{w: n.w, id: n.nextConn, from: from, who: who, m: m, req: req}
	c.size = headBytes + len(req.Path) + len(req.Query) + len(req.Body)
	if len(req.Body) > gateway.BodyMax {
		req.Body, req.BodyTooBig = nil, true
	}
	c.up.link, c.down.link = n.Link(from, m.id), n.Link(m.id, from)
	c.w.record(KindClient, from, m.id, len(req.Body), hashBytes(hashString(c.id, req.Path), req.Body), req.Method)
	// Half of all requests find a connection that is open already, and so leave
	// without knowing whether anybody is still there.
	if n.connRand.chance(0.5) && who.mayReuse(m) {
		c.accepted, c.sent = true, true
		c.push(&c.up, c.size, c.arrive)
	} else {
		c.push(&c.up, headBytes, c.knock)
	}
	c.probeLater()
	return c
}

// push puts a segment on the way.
func (c *conn) push(f *flow, size int, fn func()) {
	if f.closed {
		return
	}
	r := c.w.net.connRand
	if r.chance(f.link.conf.Reset) || r.chance(f.link.conf.Corrupt) {
		c.reset("connection reset by peer")
		return
	}
	at := c.w.now + c.latency(f.link, size)
	for try := resend; r.chance(f.link.conf.Loss) && try < resendMax; try *= 2 {
		at += try
	}
	f.last = max(f.last, at)
	f.queue = append(f.queue, segment{f.last, fn})
	c.arm(f, f.last)
}

// latency is drawn from the connections' stream, not from the network's.
func (c *conn) latency(l *Link, size int) time.Duration {
	r := c.w.net.connRand
	d := l.conf.Latency + r.tail(l.conf.Jitter)
	if c.from == c.m.id {
		d = 10 * time.Microsecond // loopback
	}
	if r.chance(l.conf.Stray) {
		d *= strayFactor
	}
	if l.conf.Bandwidth > 0 {
		d += time.Duration(size) * time.Second / time.Duration(l.conf.Bandwidth)
	}
	return d
}

func (c *conn) arm(f *flow, at time.Duration) {
	if !f.armed {
		f.armed = true
		c.w.push(at, &flowEvent{c, f})
	}
}

// flowEvent delivers the segments of one direction that are due.
type flowEvent struct {
	c *conn
	f *flow
}

func (e *flowEvent) run(w *World) {
	c, f := e.c, e.f
	f.armed = false
	if f.closed || len(f.queue) == 0 {
		return
	}
	if c.from != c.m.id && f.link.blocked() {
		wait := min(resend<<min(f.retries, 10), resendMax)
		f.retries++
		c.arm(f, w.now+wait)
		return
	}
	f.retries = 0
	for len(f.queue) > 0 && f.queue[0].at <= w.now && !f.closed {
		fn := f.queue[0].fn
		f.queue = f.queue[1:]
		fn()
	}
	if len(f.queue) > 0 && !f.closed {
		c.arm(f, max(f.queue[0].at, w.now))
	}
}

// knock is the first segment at the machine: its system answers, not its node.
func (c *conn) knock() {
	switch {
	case !c.m.powered:
		c.up.closed = true // nobody there; the client's patience decides
	case c.m.node == nil:
		c.push(&c.down, headBytes, func() { c.fail(errRefused) })
	default:
		c.push(&c.down, headBytes, func() {
			c.accepted, c.sent = true, true
			c.push(&c.up, c.size, c.arrive)
		})
	}
}

// arrive is the request at the machine.
func (c *conn) arrive() {
	switch {
	case !c.m.powered:
		c.up.closed = true
	case c.m.node == nil:
		c.push(&c.down, headBytes, func() { c.fail(errReset) })
	default:
		c.life = c.m.life
		c.m.conns = append(c.m.conns, c)
		c.m.input((*connRequest)(c))
	}
}

var (
	errRefused = errors.New("connection refused")
	errReset   = errors.New("connection reset by peer")
	errSilent  = errors.New("no answer to keep-alive probes")
)

// reset breaks the connection for both ends at once.
func (c *conn) reset(string) {
	c.hangUp()
	c.fail(errReset)
}

// fail breaks the client's end.
func (c *conn) fail(err error) {
	if c.err == nil && !c.ended && !c.gone {
		c.err = err
		c.w.record(KindClient, c.from, c.m.id, 0, c.id, err.Error())
	}
	c.up.closed, c.down.closed = true, true
	c.who.wake()
}

// hangUp is the end of the connection as the server sees it.
func (c *conn) hangUp() {
	if c.life == 0 || c.over {
		return
	}
	c.over = true
	c.detach()
	if c.served && c.m.life == c.life {
		c.m.input((*connCancel)(c))
	}
}

func (c *conn) detach() {
	for i, o := range c.m.conns {
		if o == c {
			c.m.conns = append(c.m.conns[:i:i], c.m.conns[i+1:]...)
			return
		}
	}
}

// serverDied is what a connection sees of a process that ended: the system
// resets it, unless the power is gone too and nobody says anything.
func (c *conn) serverDied(power bool) {
	c.over = true
	c.life = 0
	if power {
		c.down.queue = nil
		c.up.closed = true
		return
	}
	c.push(&c.down, headBytes, func() { c.fail(errReset) })
	c.up.closed = true
}

// close is the client's end of it: the server learns of it later.
func (c *conn) close() {
	if c.gone {
		return
	}
	c.gone = true
	c.down.closed = true
	c.who.closed(c)
	if !c.w.closed {
		c.push(&c.up, headBytes, c.hangUp)
	}
}

// probeLater has both ends notice some day that the other is silently gone.
func (c *conn) probeLater() {
	c.w.push(c.w.now+keepAlive, (*probe)(c))
}

type probe conn

func (p *probe) run(*World) {
	c := (*conn)(p)
	clientDone := c.gone || c.ended || c.err != nil
	if clientDone && (c.over || c.life == 0) {
		return
	}
	reach := c.from == c.m.id || !c.up.link.blocked() && !c.down.link.blocked()
	switch {
	case clientDone:
		// The last word of the client may have been lost with a cut link.
		c.hangUp()
		return
	case reach && c.m.powered && c.sent && c.life == 0 && len(c.up.queue) == 0:
		c.fail(errReset) // another boot knows nothing of this connection
		return
	case reach && c.m.powered:
		c.silent = 0
	default:
		c.silent++
	}
	if c.silent >= keepAliveMax {
		c.fail(errSilent)
		c.silent = 0
	}
	c.probeLater()
}

// connRequest is the input that a request is.
type connRequest conn

func (r *connRequest) live() bool { return !r.over }

func (r *connRequest) drop(*Machine) {}

func (r *connRequest) deliver(m *Machine) {
	c := (*conn)(r)
	c.served = true
	m.w.record(KindRequest, m.id, c.from, len(c.req.Body), c.id, "")
	c.cancel = m.node.Serve(c.req, (*responder)(c))
}

// connCancel is the input that a client's going away is.
type connCancel conn

func (*connCancel) live() bool { return true }

func (*connCancel) drop(*Machine) {}

func (x *connCancel) deliver(m *Machine) {
	m.w.record(KindCancel, m.id, x.from, 0, x.id, "")
	if x.cancel != nil {
		x.cancel()
	}
}

// responder implements gateway.Responder for one life of the node. It holds the
// node to the interface: one reply, chunks only after it, nothing after the end.
type responder conn

func (r *responder) Reply(reply *gateway.Reply) {
	c := (*conn)(r)
	if !c.mine() {
		return
	}
	if c.replied {
		panic("sim: a second Reply to one request")
	}
	reply = reply.Whole()
	c.replied, c.more = true, reply.More
	c.w.record(KindReply, c.m.id, c.from, len(reply.Body), hashBytes(uint64(reply.Status), reply.Body), "")
	if !reply.More {
		c.over = true
		c.detach()
	}
	c.behind += len(reply.Body)
	c.push(&c.down, headBytes+len(reply.Body), func() {
		c.head = reply
		c.body = append(c.body, reply.Body...)
		c.ended = !reply.More
		c.who.wake()
	})
}

func (r *responder) Chunk(p []byte) bool {
	c := (*conn)(r)
	if !c.mine() {
		return false
	}
	if !c.more {
		panic("sim: Chunk without a Reply that said More")
	}
	if c.behind+len(p) > connBufferMax {
		return false
	}
	c.behind += len(p)
	c.w.record(KindChunk, c.m.id, c.from, len(p), hashBytes(c.id, p), "")
	c.push(&c.down, len(p), func() {
		c.body = append(c.body, p...)
		c.who.wake()
	})
	return true
}

func (r *responder) End() {
	c := (*conn)(r)
	if !c.mine() {
		return
	}
	if !c.more {
		panic("sim: End without a Reply that said More")
	}
	c.over = true
	c.detach()
	c.push(&c.down, 0, func() {
		c.ended = true
		c.who.wake()
	})
}

// mine says whether the connection still belongs to the life that asks.
func (c *conn) mine() bool { return !c.over && c.life != 0 && c.life == c.m.life }

// do is client.Doer.Do for a Proc whose request leaves from host.
func (p *Proc) do(ctx context.Context, from env.NodeID, req *client.Request) (*client.Response, error) {
	if err := p.stopped(ctx); err != nil {
		return nil, err
	}
	m, peer, err := p.w.resolve(from, req.Endpoint)
	if err != nil {
		return nil, err
	}
	c := p.w.net.dial(p, from, m, p.w.wire(from, peer, req))
	c.stream = req.Stream
	deadline := time.Duration(0)
	if req.Timeout > 0 {
		deadline = p.w.now + req.Timeout
	}
	dialEnd := p.w.now + dialMax
	for {
		switch {
		case c.err != nil:
			return nil, c.failed(c.err)
		case c.head != nil:
			return p.response(ctx, c, deadline), nil
		case deadline > 0 && p.w.now >= deadline:
			err := c.timedOut()
			c.close()
			return nil, err
		case !c.accepted && p.w.now >= dialEnd:
			c.close()
			return nil, fmt.Errorf("dial %s: i/o timeout", m.name)
		}
		if err := p.stopped(ctx); err != nil {
			c.close()
			return nil, c.failed(err)
		}
		wait := deadline
		if !c.accepted && (wait == 0 || dialEnd < wait) {
			wait = dialEnd
		}
		p.park(wait)
	}
}

// failed says what an error means for the request.
func (c *conn) failed(err error) error {
	if !c.sent {
		return fmt.Errorf("dial %s: %w", c.m.name, err)
	}
	return fmt.Errorf("%s http://%s%s: %w: %w", c.req.Method, c.m.name, c.req.Path, err, client.ErrUnknown)
}

func (c *conn) timedOut() error {
	if !c.sent {
		return fmt.Errorf("dial %s: i/o timeout", c.m.name)
	}
	return fmt.Errorf("%s http://%s%s: %w", c.req.Method, c.m.name, c.req.Path, client.ErrTimeout)
}

func (p *Proc) response(ctx context.Context, c *conn, deadline time.Duration) *client.Response {
	h := make(map[string]string, len(c.head.Header))
	for _, l := range c.head.Header {
		h[textproto.CanonicalMIMEHeaderKey(l.Name)] = l.Value
	}
	if c.stream {
		deadline = 0
	}
	if !c.ended {
		p.open = append(p.open, c)
	}
	return &client.Response{Status: c.head.Status, Header: h, Body: &body{c, p, ctx, deadline}}
}

// body reads what follows the head, suspending the Proc while there is nothing.
type body struct {
	c        *conn
	p        *Proc
	ctx      context.Context
	deadline time.Duration
}

func (b *body) Read(dst []byte) (int, error) {
	c, p := b.c, b.p
	for {
		switch {
		case len(dst) == 0:
			return 0, nil
		case c.gone:
			return 0, errors.New("read on a closed body")
		case len(c.body) > 0:
			n := copy(dst, c.body)
			c.body = c.body[n:]
			c.behind -= n
			return n, nil
		case c.ended:
			return 0, io.EOF
		case c.err != nil:
			return 0, fmt.Errorf("read from %s: %w", c.m.name, c.err)
		case b.deadline > 0 && p.w.now >= b.deadline:
			return 0, fmt.Errorf("read from %s: %w", c.m.name, client.ErrTimeout)
		}
		if err := p.stopped(b.ctx); err != nil {
			return 0, err
		}
		p.park(b.deadline)
	}
}

func (b *body) Close() error {
	b.c.close()
	return nil
}

// wire is a client's request as a server gets it.
func (w *World) wire(from env.NodeID, peer bool, r *client.Request) *gateway.Request {
	q := &gateway.Request{
		Method: r.Method, Path: r.Path, Query: r.Query, ContentType: r.ContentType, Body: []byte(r.Body),
		User: r.User, Password: r.Password, Peer: peer, Remote: w.remote(from),
	}
	if r.ContentType != "" {
		q.Header = append(q.Header, gateway.Header{Name: "Content-Type", Value: r.ContentType})
	}
	if r.User != "" {
		q.Header = append(q.Header, gateway.Header{
			Name: "Authorization", Value: "Basic " + base64.StdEncoding.EncodeToString([]byte(r.User+":"+r.Password)),
		})
	}
	return q
}

// resolve finds the machine behind a base URL, and whether its port is that of
// peers.
func (w *World) resolve(from env.NodeID, endpoint string) (m *Machine, peer bool, err error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, false, fmt.Errorf("endpoint %q: %w", endpoint, err)
	}
	m = w.host(u.Hostname())
	if m == nil && loopback(u.Hostname()) {
		m = w.byID[from]
	}
	if m == nil {
		return nil, false, fmt.Errorf("dial %s: no such host", strings.TrimSpace(u.Host))
	}
	switch u.Port() {
	case "2379", "4001":
		return m, false, nil
	case "2380", "7001":
		return m, true, nil
	}
	return nil, false, fmt.Errorf("dial %s: connection refused", u.Host)
}
