package proxy

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/retry"
)

// Proxy is a machine's door to a cluster. Its methods are called on the loop.
type Proxy struct {
	cfg     Config
	env     *env.Env
	name    string // in Via, different in each life
	peers   []string
	cluster string      // as the members name it; "" until one answered
	eps     []*endpoint // in the order in which they are asked
	own     map[string]bool
	search  *search // under way
	timer   env.Timer
	looked  env.Instant // when the last search ended
	note    note
	calls   calls
	failing bool // the last search found nobody
	stopped bool
}

// Open makes a proxy. The disk of e is the proxy's directory.
func Open(cfg Config, e *env.Env) (*Proxy, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	p := &Proxy{cfg: cfg, env: e, name: "keelson-" + strconv.FormatUint(e.Rand.Uint64(), 16), own: make(map[string]bool)}
	for _, u := range cfg.OwnURLs {
		p.own[plain(u)] = true
	}
	if err := p.recall(); err != nil {
		return nil, err
	}
	p.timer = e.Clock.After(0, p.look)
	return p, nil
}

// Endpoints lists the members that would be asked now, in order.
func (p *Proxy) Endpoints() []string {
	urls := []string{}
	for _, at := range p.usable() {
		urls = append(urls, at.url)
	}
	return urls
}

// Ready says whether a member is known that requests can be passed on to.
func (p *Proxy) Ready() bool { return len(p.eps) > 0 }

// PeerURLs lists where the members are, as far as is known.
func (p *Proxy) PeerURLs() []string { return append([]string(nil), p.peers...) }

// configPath is the one page that is the proxy's own.
const configPath = "/v2/config/local/proxy"

// Serve passes req on and hands the answer to r. After cancel, r is not called any
// more; a write that was cancelled may still happen.
func (p *Proxy) Serve(req *gateway.Request, r gateway.Responder) (cancel func()) {
	if own := p.answer(req); own != nil {
		r.Reply(own)
		return func() {}
	}
	return p.forward(req, r)
}

// answer gives what the proxy says by itself, or nil.
func (p *Proxy) answer(req *gateway.Request) *gateway.Reply {
	switch {
	case p.cfg.ReadOnly && req.Method != "GET":
		return &gateway.Reply{Status: 501}
	case p.stopped:
		return failure(503, "proxy: this server is stopping", retry.Unsent)
	case req.Peer:
		return failure(404, "proxy: this server is not a member", retry.Unsent)
	case req.Path == configPath:
		return p.config(req.Method)
	case p.looped(req):
		p.env.Rare.Mark("proxy: loop refused")
		return failure(508, loopText, retry.Unsent)
	case req.BodyTooBig || len(req.Body) > gateway.BodyMax:
		return failure(413, fmt.Sprintf("proxy: the body is longer than %d bytes", gateway.BodyMax), retry.Unsent)
	}
	return nil
}

const loopText = "proxy: the request has come this way before: the advertise-client-urls of a member lead to a proxy; correct them and restart that member"

func (p *Proxy) config(method string) *gateway.Reply {
	if method != "GET" {
		return &gateway.Reply{Status: 405, Body: []byte("Method Not Allowed\n"), Header: []gateway.Header{
			{Name: "Content-Type", Value: "text/plain; charset=utf-8"},
			{Name: "Allow", Value: "GET"},
		}}
	}
	return &gateway.Reply{Status: 200, Header: jsonType(), Body: append(encode(struct {
		Endpoints []string `json:"endpoints"`
	}{p.Endpoints()}), '\n')}
}

// failure is an answer of the proxy itself. Outcome says whether a member acted.
func failure(status int, text, outcome string) *gateway.Reply {
	body := encode(struct {
		Message string `json:"message"`
	}{text})
	return &gateway.Reply{
		Status: status, Body: body,
		Header: append(jsonType(), gateway.Header{Name: retry.Header, Value: outcome}),
	}
}

func jsonType() []gateway.Header {
	return []gateway.Header{{Name: "Content-Type", Value: "application/json"}}
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings always encode
	}
	return text
}

// Flush ends a turn.
func (p *Proxy) Flush() { p.write() }

// Stop answers what is pending and calls done in this or a later turn.
func (p *Proxy) Stop(done func()) {
	p.stopped = true
	if p.timer != nil {
		p.timer.Stop()
	}
	if p.search != nil {
		p.search.cancel()
	}
	for p.calls.first != nil {
		p.calls.first.stop()
	}
	if p.note.writing {
		p.note.idle = done
		return
	}
	done()
}
