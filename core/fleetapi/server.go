package fleetapi

import (
	"net/url"
	"strings"
	"time"

	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/retry"
)

// Options are the choices of one server. The zero value of each stands for the default
// that registry and unit name.
type Options struct {
	Version string
	Keys    registry.Keys
	Page    int // entries of a page
	LineMax int // bytes of a line of a unit file
	// Machine answers for the units of this machine; nil where it runs none.
	Machine *Machine
}

// Gate judges requests by users and roles, as gateway.Mux does. A nil Gate lets everybody
// do everything.
type Gate interface {
	Admit(a *gateway.Admission) (cancel func())
}

// Server answers requests. Its methods are called on the loop.
type Server struct {
	env     *env.Env
	src     control.Source
	model   *registry.Model
	gate    Gate
	o       Options
	picture picture
	events  events
	stated  []*registry.UnitState // all states, sorted; nil where they have changed since
}

// New makes a server over a model of what src shows.
func New(e *env.Env, src control.Source, model *registry.Model, gate Gate, o Options) *Server {
	if o.Page <= 0 {
		o.Page = registry.DefaultPage
	}
	if o.Keys.Prefix == "" {
		o.Keys.Prefix = registry.DefaultPrefix
	}
	s := &Server{env: e, src: src, model: model, gate: gate, o: o}
	model.OnChange(s.changed)
	return s
}

// bases are where the API lies: the second is an older name of the first.
var bases = []string{"/fleet/v1", "/v1-alpha"}

// Handles tells whether a request is for this API.
func (s *Server) Handles(req *gateway.Request) bool {
	_, ok := inside(req.Path)
	return ok && !req.Peer
}

// IsRoot tells whether a request is for the root of the original's own server, which is
// known by its socket: on ports it is the store's.
func IsRoot(req *gateway.Request) bool { return req.Socket && req.Path == "/" }

// Root is the answer to such a request.
func Root(req *gateway.Request, version string) *gateway.Reply {
	var answer atOnce
	c := &call{s: &Server{o: Options{Version: version}}, req: req, r: &answer}
	c.refuse(405, "")
	return answer.reply
}

// inside gives the part of a path below a base.
func inside(path string) (rest string, ok bool) {
	for _, base := range bases {
		rest, ok := strings.CutPrefix(path, base)
		if ok && (rest == "" || rest[0] == '/') {
			return rest, true
		}
	}
	return "", false
}

// Serve answers a request, as gateway.Mux.Serve does. A path that is not the API's is
// answered as the original does on a server of its own.
func (s *Server) Serve(req *gateway.Request, r gateway.Responder) (cancel func()) {
	c := &call{s: s, req: req, r: r}
	rest, ok := inside(req.Path)
	switch {
	case !s.model.Ready():
		c.unavailable()
	case req.Path == "/" || ok && rest == "":
		c.refuse(405, "")
	case !ok:
		c.refuse(404, "")
	default:
		c.route(rest)
	}
	return c.cancel
}

// NotYet is the answer to a request for this API of a process that has no cluster yet; nil
// where the request is for something else.
func NotYet(req *gateway.Request, version string) *gateway.Reply {
	if _, ok := inside(req.Path); !ok || req.Peer {
		return nil
	}
	var answer atOnce
	c := &call{s: &Server{o: Options{Version: version}}, req: req, r: &answer}
	c.unavailable()
	return answer.reply
}

// atOnce keeps an answer that comes at once.
type atOnce struct{ reply *gateway.Reply }

func (o *atOnce) Reply(r *gateway.Reply) { o.reply = r }
func (o *atOnce) Chunk([]byte) bool      { return false }
func (o *atOnce) End()                   {}

// call is one request on its way.
type call struct {
	s      *Server
	req    *gateway.Request
	names  []string // what the path has in the place of NAME or ID
	query  url.Values
	ticket gateway.Ticket
	r      gateway.Responder
	over   bool
	wrote  bool   // a command of it was applied
	more   bool   // the answer goes on in chunks
	stop   func() // of what the call waits for, or nil
}

func (c *call) cancel() {
	c.over = true
	if stop := c.stop; stop != nil {
		c.stop = nil
		stop()
	}
}

// freshMax is how long a request waits for a fresh model. Clients wait three seconds, and
// an answer tells them more than none.
const freshMax = 2500 * time.Millisecond

// fresh calls then once the model holds all that was acknowledged before, and whoever
// asks may do what he does.
func (c *call) fresh(then func()) {
	timer := c.s.env.Clock.After(freshMax, c.unavailable)
	c.stop = timer.Stop
	c.s.src.Barrier(func(err error) {
		timer.Stop()
		switch {
		case c.over:
		case err != nil || !c.s.model.Ready():
			c.unavailable()
		default:
			c.stop = nil
			c.admit(then)
		}
	})
}

func (c *call) admit(then func()) {
	if c.s.gate == nil {
		then()
		return
	}
	judged := false
	stop := c.s.gate.Admit(&gateway.Admission{
		Request: c.req, May: c.may,
		Then: func(t gateway.Ticket) {
			judged, c.stop, c.ticket = true, nil, t
			then()
		},
		Refused: func(cause string) {
			judged, c.stop = true, nil
			c.refuse(401, cause)
		},
	})
	if !judged {
		c.stop = stop
	}
}

// may is what a request needs of the rights to the registry's keys.
func (c *call) may(r auth.Rights) bool {
	all := r.WriteAll
	if c.req.Method == "GET" {
		all = r.ReadAll
	}
	prefix := c.s.o.Keys.Prefix
	return all(prefix) || all(prefix+"/")
}

// reply gives the answer, unless it was given or nobody waits any more.
func (c *call) reply(status int, body []byte, more ...gateway.Header) {
	if c.over {
		return
	}
	c.over = true
	header := []gateway.Header{{Name: "Server", Value: "fleetd/" + c.s.o.Version}}
	if body != nil {
		header = append(header, gateway.Header{Name: "Content-Type", Value: "application/json"})
	}
	if c.req.Method == "HEAD" {
		body = nil
	}
	c.r.Reply(&gateway.Reply{Status: status, Header: append(header, more...), Body: body})
}

// show answers with a document.
func (c *call) show(v any) { c.reply(200, encode(v)) }

// done answers that it is done, with nothing to show.
func (c *call) done() { c.reply(204, nil) }

// refuse answers with an error; nothing was done.
func (c *call) refuse(status int, message string, more ...gateway.Header) {
	var e errorText
	e.Error.Code, e.Error.Message = status, message
	c.reply(status, encode(e), more...)
}

// refuseBy answers that the request is wrong.
func (c *call) refuseBy(err error) { c.refuse(400, err.Error()) }

// unsent says that nothing was done, so that the request may be sent elsewhere.
var unsent = gateway.Header{Name: retry.Header, Value: retry.Unsent}

// unavailable answers where nobody can tell what is true.
func (c *call) unavailable() {
	if c.wrote {
		c.refuse(500, "the outcome is unknown: a part was done, and the store is away now")
		return
	}
	c.refuse(503, "fleet server unable to communicate with etcd", unsent)
}
