package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/retry"
)

// call is one request on its way to a member that answers. It is answered once, or
// cancelled.
type call struct {
	p      *Proxy
	r      gateway.Responder
	method string
	path   string // with the query
	header []env.WebHeader
	body   []byte
	watch  bool
	left   []*endpoint
	tried  int
	looped bool // one of those tried led back here
	at     *attempt
	over   bool
	before *call // in calls
	after  *call
}

// calls is every call that is not over, in the order they began.
type calls struct{ first, last *call }

func (l *calls) add(c *call) {
	c.before = l.last
	if l.last != nil {
		l.last.after = c
	} else {
		l.first = c
	}
	l.last = c
}

func (l *calls) remove(c *call) {
	if c.before != nil {
		c.before.after = c.after
	} else {
		l.first = c.after
	}
	if c.after != nil {
		c.after.before = c.before
	} else {
		l.last = c.before
	}
}

func (p *Proxy) forward(req *gateway.Request, r gateway.Responder) (cancel func()) {
	c := &call{
		p: p, r: r, method: req.Method, path: target(req), watch: watches(req),
		header: p.outgoing(req), body: bytes.Clone(req.Body), left: p.usable(),
	}
	if len(c.left) == 0 {
		if p.leadsBack() {
			r.Reply(failure(508, loopText, retry.Unsent))
			return func() {}
		}
		p.hurry()
		r.Reply(failure(503, "proxy: zero endpoints currently available", retry.Unsent))
		return func() {}
	}
	p.calls.add(c)
	c.next()
	return c.drop
}

// target is the path and query as they came.
func target(req *gateway.Request) string {
	path := req.Path
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if req.Query != "" {
		path += "?" + req.Query
	}
	return path
}

// watches reports whether the answer may come in pieces for ever: a watch of keys, a
// journal that is followed, or the events of units.
func watches(req *gateway.Request) bool {
	if req.Method != "GET" {
		return false
	}
	q, _ := url.ParseQuery(req.Query) // what is well formed in it
	wait, _ := strconv.ParseBool(q.Get("wait"))
	follow, _ := strconv.ParseBool(q.Get("follow"))
	return wait || follow || strings.HasSuffix(req.Path, "/events")
}

// next asks the next member.
func (c *call) next() {
	at := c.left[0]
	c.left = c.left[1:]
	c.tried++
	now := c.p.env.Clock.Now()
	if !at.owes {
		at.owes, at.since = true, now
	}
	a := &attempt{c: c, to: at, asked: now}
	c.at = a
	a.cancel = c.p.env.Web.Do(&env.WebRequest{
		Method: c.method, URL: strings.TrimSuffix(at.url, "/") + c.path, Header: c.header, Body: c.body,
		Timeout: c.p.cfg.WriteTimeout + answerMax, Connect: c.p.cfg.DialTimeout, Stream: true,
	}, a)
	a.listen()
	if retry.Reads(c.method) && len(c.left) > 0 {
		a.patience = c.p.env.Clock.After(silenceMax, a.silent)
	}
}

// lost follows an attempt that brought no answer.
func (c *call) lost(o retry.Outcome, why string) {
	do := retry.Of(o).For(c.method)
	if do == retry.GiveUnknown && planted.On(planted.ProxyResendsWrite) {
		do = retry.TryNext
	}
	switch {
	case do == retry.GiveUnknown:
		c.p.env.Rare.Mark("proxy: outcome unknown")
		c.reply(failure(502, "proxy: the outcome is unknown: "+why, retry.Lost))
	case len(c.left) > 0:
		c.p.env.Rare.Mark("proxy: next member")
		c.next()
	case c.looped:
		c.reply(failure(508, loopText, retry.Unsent))
	default:
		c.p.hurry()
		c.reply(failure(502, fmt.Sprintf("proxy: unable to get response from %d endpoint(s)", c.tried), retry.Unsent))
	}
}

func (c *call) reply(r *gateway.Reply) {
	c.end()
	if c.method == "HEAD" {
		r = &gateway.Reply{Status: r.Status, Header: r.Header}
	}
	c.r.Reply(r)
}

func (c *call) end() {
	if !c.over {
		c.over = true
		c.p.calls.remove(c)
	}
}

// drop forgets a call that nobody waits for any more.
func (c *call) drop() {
	if !c.over {
		c.end()
		c.at.quit()
	}
}

// stop ends a call because the proxy goes away.
func (c *call) stop() {
	a := c.at
	a.quit()
	switch {
	case a.begun:
		a.finish(errStopped)
	case retry.Reads(c.method):
		c.reply(failure(503, "proxy: this server is stopping", retry.Unsent))
	default:
		c.reply(failure(502, "proxy: the outcome is unknown: this server is stopping", retry.Lost))
	}
}

var errStopped = errors.New("this server is stopping")

// attempt is a call at one member. It implements env.WebReceiver.
type attempt struct {
	c      *call
	to     *endpoint
	asked  env.Instant
	cancel func()
	quiet  env.Timer // of ReadTimeout
	// patience ends where another member is asked the same; nil for writes and for the
	// last member.
	patience env.Timer
	status   int
	header   []gateway.Header
	kept     []byte // of the body, not handed on yet
	begun    bool   // the head was handed on
}

// listen begins to wait for the next sign of life, where that is bounded.
func (a *attempt) listen() {
	limit := a.c.p.cfg.ReadTimeout
	if limit == 0 {
		return
	}
	if a.quiet != nil {
		a.quiet.Stop()
	}
	a.quiet = a.c.p.env.Clock.After(limit, func() {
		a.quit()
		a.End(fmt.Errorf("nothing came for %v", limit))
	})
}

// quit gives the attempt up.
func (a *attempt) quit() {
	a.cancel()
	a.rest()
	if a.to.owes && a.to.since == a.asked && a.c.p.env.Clock.Now().Sub(a.asked) < silenceMax {
		a.to.owes = false // it had no time to answer
	}
}

// rest stops the timers.
func (a *attempt) rest() {
	for _, t := range []env.Timer{a.quiet, a.patience} {
		if t != nil {
			t.Stop()
		}
	}
}

// silent asks another member for what this one keeps back. It may be gone without a
// word, or there may be no leader: then the last one that is asked is waited for.
func (a *attempt) silent() {
	a.c.p.env.Rare.Mark("proxy: next member for a read that waits")
	a.quit()
	a.c.next()
}

// Head takes the beginning of an answer.
func (a *attempt) Head(status int, header []env.WebHeader) {
	if a.patience != nil {
		a.patience.Stop()
	}
	a.listen()
	if status >= 500 && value(header, retry.Header) == retry.Unsent {
		a.to.loops = status == 508
		a.c.looped = a.c.looped || a.to.loops
		a.quit()
		a.miss(retry.NotSent, fmt.Sprintf("it answered %d and that nobody acted on the request", status))
		return
	}
	a.to.heard()
	a.status, a.header = status, incoming(header, a.c.method == "HEAD")
	if a.c.watch && status == 200 {
		a.begin()
	}
}

// begin hands the head on before the body has come.
func (a *attempt) begin() {
	a.begun = true
	a.c.r.Reply(&gateway.Reply{Status: a.status, Header: a.header, More: true})
}

// Chunk takes a part of the body.
func (a *attempt) Chunk(b []byte) {
	a.listen()
	a.to.heard()
	a.kept = append(a.kept, b...)
	switch {
	case a.c.watch && a.begun:
		// Events end with a newline.
		if end := bytes.LastIndexByte(a.kept, '\n') + 1; end > 0 {
			a.pass(end)
		}
	case len(a.kept) > keepMax && !a.begun:
		a.begin()
		if !a.c.over {
			a.pass(len(a.kept))
		}
	case a.begun:
		a.pass(len(a.kept))
	}
}

// pass hands on the first n bytes of what is kept. A reader too far behind loses the
// connection: that of a watch asks again from where it was, any other learns that what it
// has is not whole.
func (a *attempt) pass(n int) {
	piece := a.kept[:n:n]
	a.kept = bytes.Clone(a.kept[n:])
	if !a.c.r.Chunk(piece) && !a.c.over {
		a.c.p.env.Rare.Mark("proxy: reader too slow")
		a.c.end()
		a.quit()
		a.c.close(errTooSlow)
	}
}

// End takes the end of the answer, or the reason why there is none.
func (a *attempt) End(err error) {
	a.rest()
	switch {
	case a.begun:
		if err != nil {
			a.c.p.failed(a.to, err.Error())
		}
		a.finish(err)
	case err == nil && a.status != 0:
		a.c.reply(&gateway.Reply{Status: a.status, Header: a.header, Body: a.kept})
	case errors.Is(err, env.ErrUnsent):
		a.miss(retry.NotSent, err.Error())
	case err == nil:
		a.miss(retry.Unknown, "an answer without a head")
	default:
		a.miss(retry.Unknown, err.Error())
	}
}

func (a *attempt) miss(o retry.Outcome, why string) {
	a.c.p.failed(a.to, why)
	a.c.lost(o, a.to.url+": "+why)
}

// finish ends an answer whose beginning was handed on. A watch that is cut ends
// behind its last whole event, as it does when a member stops: its reader asks again.
// Of anything else that is cut the reader must learn that it is not whole.
func (a *attempt) finish(err error) {
	c := a.c
	if err == nil && len(a.kept) > 0 {
		a.pass(len(a.kept))
	}
	if c.over {
		return
	}
	c.end()
	c.close(err)
}

var errTooSlow = errors.New("the reader is too slow")

// close ends what the reader is told, so that it sees whether that is whole.
func (c *call) close(err error) {
	if b, ok := c.r.(gateway.Breaker); ok && err != nil && !c.watch {
		b.Break()
		return
	}
	c.r.End()
}
