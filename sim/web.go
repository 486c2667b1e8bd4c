package sim

import (
	"encoding/base64"
	"fmt"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// nodeWeb is env.Web for one life of a node: connections like those of programs,
// from machine to machine.
type nodeWeb struct {
	m    *Machine
	life int
}

var _ env.Web = (*nodeWeb)(nil)

// webCall is one request of a node, the client's end of it.
type webCall struct {
	m      *Machine
	r      env.WebReceiver
	c      *conn // nil: there is nobody to call
	err    error // why the call ends, besides the connection's own reasons
	headed bool  // the head was told
	over   bool  // nothing more is told
	queued bool  // what is new waits in the inbox
}

var _ caller = (*webCall)(nil)

// Do implements env.Web.
func (n *nodeWeb) Do(req *env.WebRequest, r env.WebReceiver) (cancel func()) {
	m := n.m
	if n.life != m.life {
		return func() {}
	}
	call := &webCall{m: m, r: r}
	m.calls = append(m.calls, call)
	call.dial(req)
	return call.cancel
}

func (c *webCall) dial(req *env.WebRequest) {
	w := c.m.w
	q, to, err := w.webWire(c.m.id, req)
	switch {
	case err != nil:
		c.endLater(0, err)
		return
	case to == nil:
		c.endLater(connectMax(req), fmt.Errorf("dial %s: i/o timeout: %w", req.URL, env.ErrUnsent))
		return
	}
	c.c = w.net.dial(c, c.m.id, to, q)
	w.push(w.now+connectMax(req), callOf(c, func() {
		if !c.c.accepted {
			c.giveUp(fmt.Errorf("dial %s: i/o timeout: %w", to.name, env.ErrUnsent))
		}
	}))
	if req.Timeout <= 0 {
		return
	}
	w.push(w.now+req.Timeout, callOf(c, func() {
		switch {
		case req.Stream && c.c.head != nil:
		case !c.c.sent:
			c.giveUp(fmt.Errorf("dial %s: i/o timeout: %w", to.name, env.ErrUnsent))
		default:
			c.giveUp(fmt.Errorf("%s %s: no answer within %v", req.Method, req.URL, req.Timeout))
		}
	}))
}

// connectMax is how long a call waits for a connection.
func connectMax(r *env.WebRequest) time.Duration {
	most := dialMax
	for _, d := range []time.Duration{r.Timeout, r.Connect} {
		if d > 0 {
			most = min(most, d)
		}
	}
	return most
}

// callOf is fn as an event that does nothing once c is over.
func callOf(c *webCall, fn func()) call {
	return func() {
		if !c.over && c.err == nil {
			fn()
		}
	}
}

func (c *webCall) endLater(d time.Duration, err error) {
	c.m.w.push(c.m.w.now+d, callOf(c, func() {
		c.err = err
		c.wake()
	}))
}

// giveUp ends the call from this side.
func (c *webCall) giveUp(err error) {
	c.err = err
	c.c.close()
	c.wake()
}

// webWire is a node's request as a server gets it, and the machine it goes to: nil
// where an address is nobody's.
func (w *World) webWire(from env.NodeID, r *env.WebRequest) (*gateway.Request, *Machine, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", err, env.ErrUnsent)
	}
	q := &gateway.Request{
		Method: r.Method, Path: u.EscapedPath(), Query: u.RawQuery, Body: slices.Clone(r.Body), Remote: w.remote(from),
	}
	for _, h := range r.Header {
		q.Header = append(q.Header, gateway.Header(h))
		switch h.Name {
		case "Content-Type":
			q.ContentType = h.Value
		case "Authorization":
			q.User, q.Password = basic(h.Value)
		}
	}
	to, peer, err := w.resolve(from, u.Scheme+"://"+u.Host)
	if err != nil && w.nobody(u.Hostname()) {
		return q, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", err, env.ErrUnsent)
	}
	q.Peer = peer
	return q, to, nil
}

// basic reads the header of basic authentication.
func basic(header string) (user, password string) {
	text, ok := strings.CutPrefix(header, "Basic ")
	if !ok {
		return "", ""
	}
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", ""
	}
	user, password, _ = strings.Cut(string(plain), ":")
	return user, password
}

// wake implements caller: there is something to tell.
func (c *webCall) wake() {
	if c.over || c.queued {
		return
	}
	c.queued = true
	c.m.input((*webNews)(c))
}

// closed implements caller.
func (*webCall) closed(*conn) {}

// mayReuse implements caller. A process that ended has said so, and its idle
// connections are gone; a machine that lost its power has not.
func (*webCall) mayReuse(m *Machine) bool { return m.node != nil || !m.powered }

// cancel ends the call as the node asks for.
func (c *webCall) cancel() {
	if c.over {
		return
	}
	c.end()
	if c.c != nil {
		c.c.close()
	}
}

func (c *webCall) end() {
	c.over = true
	c.m.calls = slices.DeleteFunc(c.m.calls, func(o *webCall) bool { return o == c })
}

// died is the end of the process that called: its system closes what was open,
// unless the power is gone too.
func (c *webCall) died(power bool) {
	c.over = true
	switch {
	case c.c == nil:
	case power:
		c.c.gone = true
		c.c.up.closed, c.c.down.closed = true, true
	default:
		c.c.close()
	}
}

// webNews is the input that progress of a call is.
type webNews webCall

func (n *webNews) live() bool    { return !n.over }
func (n *webNews) drop(*Machine) {}

func (n *webNews) deliver(m *Machine) {
	c := (*webCall)(n)
	c.queued = false
	m.w.record(KindDone, m.id, 0, 0, 0, "web")
	c.tell()
}

// tell hands over what has come since the last time.
func (c *webCall) tell() {
	x := c.c
	if x != nil && x.head != nil && !c.headed {
		c.headed = true
		c.r.Head(x.head.Status, webHeader(x.head.Header))
	}
	if x != nil && c.headed && len(x.body) > 0 && !c.over {
		p := x.body
		x.body = nil
		x.behind -= len(p)
		c.r.Chunk(p)
	}
	switch {
	case c.over:
	case c.err != nil:
		c.finish(c.err)
	case x == nil:
	case x.ended:
		c.finish(nil)
	case x.err != nil && !x.sent:
		c.finish(fmt.Errorf("dial %s: %w: %w", x.m.name, x.err, env.ErrUnsent))
	case x.err != nil:
		c.finish(fmt.Errorf("%s http://%s%s: %w", x.req.Method, x.m.name, x.req.Path, x.err))
	}
}

func (c *webCall) finish(err error) {
	c.end()
	c.r.End(err)
}

func webHeader(header []gateway.Header) []env.WebHeader {
	list := make([]env.WebHeader, 0, len(header))
	for _, h := range header {
		list = append(list, env.WebHeader{Name: textproto.CanonicalMIMEHeaderKey(h.Name), Value: h.Value})
	}
	return list
}
