package fleetapi

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/unit"
)

// Machine answers for the units of one machine, to clients and to other machines, under
// /machine/v1. Every machine that runs units has one, a member of the cluster or not.
type Machine struct {
	ID      string
	Version string
	Env     *env.Env
	// Restart has systemd restart a unit, if it is launched here, and calls done when the
	// job is over: nil says that it went well.
	Restart func(name string, done func(error))
	// Gate judges requests of other machines and clients: that of the API on a member, an
	// Elsewhere on others. Nil lets everybody do everything.
	Gate Gate
	Keys registry.Keys // of what those who ask must have the right to; only with Gate
}

// machineBase is where machines answer each other.
const machineBase = "/machine/v1/"

// statusHeader carries the exit status of systemctl status.
const statusHeader = "X-Keelson-Exit-Status"

// Handles tells whether a request is for this machine.
func (m *Machine) Handles(req *gateway.Request) bool {
	return strings.HasPrefix(req.Path, machineBase) && !req.Peer
}

// Serve answers a request of another machine, as gateway.Mux.Serve does.
func (m *Machine) Serve(req *gateway.Request, r gateway.Responder) (cancel func()) {
	c := &call{s: &Server{env: m.Env, gate: m.Gate, o: Options{Version: m.Version, Keys: m.Keys, Machine: m}}, req: req, r: r}
	what := strings.TrimPrefix(req.Path, machineBase)
	method, known := map[string]string{"journal": "GET", "status": "GET", "restart": "POST"}[what]
	switch {
	case !known:
		c.refuse(404, "")
	case method != req.Method:
		c.refuse(405, "only "+method+" supported against this resource")
	default:
		c.query, _ = url.ParseQuery(req.Query)
		name := c.query.Get("unit")
		if err := unit.CheckName(name); err != nil {
			c.refuseBy(err)
			break
		}
		c.admit(func() { c.own(name, func() { c.here(what, name) }) })
	}
	return c.cancel
}

// own calls then if the file of the unit is in the daemon's directory: whoever asks a
// machine about units is told nothing of what else runs there.
func (c *call) own(name string, then func()) {
	manager := c.s.env.Systemd
	if manager == nil {
		then()
		return
	}
	manager.Units(func(units []env.UnitStatus, err error) {
		switch {
		case c.over:
		case err != nil:
			c.refuse(503, "unit "+name+": "+err.Error(), unsent)
		case !slices.ContainsFunc(units, func(u env.UnitStatus) bool { return u.Name == name }):
			c.refuse(404, "unit "+name+" is not on this machine")
		default:
			then()
		}
	})
}

func (c *call) status()  { c.on("status") }
func (c *call) journal() { c.on("journal") }
func (c *call) restart() { c.on("restart") }

// on has the machine of a unit answer.
func (c *call) on(what string) {
	c.fresh(func() {
		u := c.known()
		if u == nil {
			return
		}
		id := c.query.Get("machineID")
		if id == "" {
			id = c.s.whereabouts(u)
		}
		m := c.s.model.Machine(id)
		switch {
		case id == "" && u.Global():
			c.refuse(409, "unit "+u.Name+" is global: say of which machine by machineID=")
		case id == "":
			c.refuse(409, "unit "+u.Name+" is on no machine")
		case c.s.o.Machine != nil && id == c.s.o.Machine.ID:
			c.here(what, u.Name)
		case m == nil || !m.Alive:
			c.refuse(404, "machine "+id+" is not known")
		case m.API == "":
			c.refuse(503, "machine "+id+" does not say where it answers", unsent)
		default:
			c.there(what, u.Name, m)
		}
	})
}

// whereabouts is the machine that can tell of a unit: its target, or the only one that
// says anything of a global unit.
func (s *Server) whereabouts(u *registry.Unit) string {
	if !u.Global() {
		return u.Target
	}
	if states := s.model.States(u.Name); len(states) == 1 {
		return states[0].MachineID
	}
	return ""
}

// here answers for a unit of this machine.
func (c *call) here(what, name string) {
	m := c.s.o.Machine
	switch {
	case what == "restart" && m.Restart != nil:
		m.Restart(name, func(err error) { c.restarted(name, err) })
	case what == "restart" || m.Env.Journal == nil:
		c.refuse(501, "this machine runs no units")
	case what == "status":
		m.status(c, name)
	default:
		m.journal(c, name)
	}
}

func (c *call) restarted(name string, err error) {
	if err != nil {
		c.refuse(409, "restart of unit "+name+": "+err.Error())
		return
	}
	c.show(struct {
		Result env.JobResult `json:"result"`
	}{env.JobDone})
}

func (m *Machine) status(c *call, name string) {
	m.Env.Journal.Status(name, func(text []byte, code int, err error) {
		switch {
		case c.over:
		case err != nil:
			c.refuse(500, "status of unit "+name+": "+err.Error())
		default:
			c.text(text, gateway.Header{Name: statusHeader, Value: strconv.Itoa(code)})
		}
	})
}

const contentText = "text/plain; charset=utf-8"

// text answers with text for people.
func (c *call) text(body []byte, more ...gateway.Header) {
	c.over = true
	header := []gateway.Header{{Name: "Server", Value: "fleetd/" + c.s.o.Version}, {Name: "Content-Type", Value: contentText}}
	c.r.Reply(&gateway.Reply{Status: 200, Header: append(header, more...), Body: body})
}

// linesDefault is how many lines a journal shows unless told otherwise.
const linesDefault = 10

// outputs are the formats of journalctl.
const outputs = " short short-full short-iso short-iso-precise short-precise short-monotonic short-unix verbose export json json-pretty json-sse json-seq cat with-unit "

func (m *Machine) journal(c *call, name string) {
	q := env.JournalQuery{Unit: name, Lines: linesDefault, Follow: c.query.Get("follow") == "true", Output: c.query.Get("output")}
	if q.Output == "" {
		q.Output = "short"
	}
	if lines := c.query.Get("lines"); lines != "" {
		n, err := strconv.ParseInt(lines, 10, 32)
		if err != nil {
			c.refuse(400, "lines must be a number")
			return
		}
		q.Lines = int(n)
	}
	if !strings.Contains(outputs, " "+q.Output+" ") {
		c.refuse(400, "output must be a format of journalctl, such as short, cat or json")
		return
	}
	if q.Follow {
		c.begin(contentText)
	}
	c.stop = m.Env.Journal.Read(q, (*journalAnswer)(c))
}

// journalAnswer passes lines on. The head of the answer leaves with the first of them, or
// at once where lines are followed.
type journalAnswer call

func (a *journalAnswer) Chunk(p []byte) bool {
	c := (*call)(a)
	if c.over {
		return false
	}
	if !c.more {
		c.begin(contentText)
	}
	if c.r.Chunk(p) {
		return true
	}
	c.finish(false)
	return false
}

func (a *journalAnswer) End(err error) {
	c := (*call)(a)
	switch {
	case c.over:
	case c.more:
		c.finish(err != nil)
	case err != nil:
		c.refuse(500, "journal: "+err.Error())
	default:
		c.text(nil)
	}
}

// finish ends an answer in chunks; broken lets the reader see that it is not whole.
func (c *call) finish(broken bool) {
	if c.over {
		return
	}
	c.over, c.stop = true, nil
	if b, ok := c.r.(gateway.Breaker); ok && broken {
		b.Break()
		return
	}
	c.r.End()
}

// Time limits of questions to other machines: for a connection, and for the head of an
// answer, which for a restart comes when the job is over.
const (
	connectTimeout = 3 * time.Second
	headTimeout    = 10 * time.Second
)

// there has another machine answer for a unit of its own.
func (c *call) there(what, name string, m *registry.Machine) {
	q := url.Values{"unit": {name}}
	for _, key := range []string{"lines", "follow", "output"} {
		if c.query.Has(key) {
			q.Set(key, c.query.Get(key))
		}
	}
	out := &env.WebRequest{
		Method: c.req.Method, URL: strings.TrimSuffix(m.API, "/") + machineBase + what + "?" + q.Encode(),
		Connect: connectTimeout, Timeout: headTimeout, Stream: what == "journal",
	}
	if what == "restart" {
		out.Timeout = 0
	}
	out.Header = append(out.Header, authorization(c.req)...)
	c.stop = c.s.env.Web.Do(out, &passage{c: c, machine: m.ID})
}

// passage hands another machine's answer on: as it comes where it is a journal.
type passage struct {
	c       *call
	machine string
	head    bool
	status  int
	header  []gateway.Header
	body    []byte
}

// Head begins to pass on what is no error. Errors are small, and are taken whole.
func (p *passage) Head(status int, header []env.WebHeader) {
	p.head, p.status = true, status
	for _, h := range header {
		if h.Name == "Content-Type" || h.Name == statusHeader {
			p.header = append(p.header, gateway.Header(h))
		}
	}
	if p.streams() && !p.c.over {
		p.c.begin(contentText)
	}
}

func (p *passage) streams() bool {
	return p.status == 200 && strings.HasSuffix(p.c.req.Path, "/journal")
}

func (p *passage) Chunk(chunk []byte) {
	switch {
	case p.c.over:
	case !p.streams():
		p.body = append(p.body, chunk...)
	case !p.c.r.Chunk(chunk):
		stop := p.c.stop
		p.c.finish(false)
		if stop != nil {
			stop()
		}
	}
}

func (p *passage) End(err error) {
	c := p.c
	switch {
	case c.over:
	case c.more:
		c.finish(err != nil)
	case !p.head || err != nil:
		c.refuse(503, "machine "+p.machine+" does not answer: "+reason(err))
	default:
		c.over = true
		header := []gateway.Header{{Name: "Server", Value: "fleetd/" + c.s.o.Version}}
		c.r.Reply(&gateway.Reply{Status: p.status, Header: append(header, p.header...), Body: p.body})
	}
}

func reason(err error) string {
	if err == nil {
		return "an empty answer"
	}
	return err.Error()
}
