package fleetapi_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/control/controltest"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/fleetapi"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// moves is what plan, rebalance and cordon answer.
type moves struct {
	Moves []struct{ From, To, Unit, Why string }
	Stay  []explanation
}

type explanation struct {
	Able      int
	MachineID string
	Name, Why string
	Refusals  []struct {
		Machines int
		Reason   string
	}
}

func (w *world) shows(t *testing.T, line string, into any) {
	t.Helper()
	r := w.ask(0, line)
	require.Equal(t, 200, r.reply.Status, r.line())
	require.NoError(t, json.Unmarshal(r.reply.Body, into))
}

const onSSD = `{"desiredState":"launched","options":[{"section":"X-Fleet","name":"MachineMetadata","value":"disk=%s"}]}`

func on(disk string) string { return strings.ReplaceAll(onSSD, "%s", disk) }

func TestWhy(t *testing.T) {
	w := newWorld(t, 1, 1, fleetapi.Options{})
	w.machines()
	w.is(t, "PUT /fleet/v1/units/x.service "+on("tape"), "201")
	var e explanation
	w.shows(t, "GET /fleet/v1/units/x.service/why", &e)
	assert.Equal(t, "x.service", e.Name)
	assert.Zero(t, e.Able)
	require.Len(t, e.Refusals, 1)
	assert.Equal(t, 3, e.Refusals[0].Machines)
	assert.Contains(t, e.Refusals[0].Reason, "disk=tape")
	w.is(t, "GET /fleet/v1/units/none.service/why", problem(404, "unit does not exist"))

	var list struct{ Units []struct{ Why explanation } }
	w.shows(t, "GET /fleet/v1/units?details=true", &list)
	assert.Equal(t, e, list.Units[0].Why)
	assert.NotContains(t, w.ask(0, "GET /fleet/v1/units").line(), "why", "the original's clients see what they know")

	w.is(t, `PATCH /fleet/v1/machines [{"op":"add","path":"/`+m2+`/metadata/disk","value":"tape"}]`, "204")
	w.shows(t, "GET /fleet/v1/units/x.service/why", &e)
	assert.Equal(t, 1, e.Able, "the picture follows")
}

func TestPlan(t *testing.T) {
	w := newWorld(t, 1, 1, fleetapi.Options{})
	w.machines()
	before := w.Truth().Index()
	var m moves
	w.shows(t, `POST /fleet/v1/plan {"units":[`+
		`{"name":"a.service","options":[{"section":"X-Fleet","name":"MachineMetadata","value":"disk=hdd"}]},`+
		`{"name":"b.service","options":[{"section":"X-Fleet","name":"MachineOf","value":"b.service"}]},`+
		`{"name":"g.service","options":[{"section":"X-Fleet","name":"Global","value":"true"},{"section":"X-Fleet","name":"MachineMetadata","value":"disk=ssd"}]}]}`, &m)
	require.Len(t, m.Moves, 3, "%+v", m)
	assert.Equal(t, "a.service", m.Moves[0].Unit)
	assert.Equal(t, m2, m.Moves[0].To)
	assert.Equal(t, []string{m1, m3}, []string{m.Moves[1].To, m.Moves[2].To})
	require.Len(t, m.Stay, 1)
	assert.Equal(t, "b.service", m.Stay[0].Name)
	assert.Equal(t, before, w.Truth().Index(), "it is a plan")
	w.is(t, `POST /fleet/v1/plan {"units":[{"name":"a"}]}`, problem(400, `a: unit name must contain "."`))
	w.is(t, `POST /fleet/v1/plan {"units":[{"name":"a.service","options":[{"section":"X-Fleet","name":"Weight","value":"0"}]}]}`,
		problem(400, `a.service: Weight: "0": want a number from 1 to 1000000`))
	w.is(t, `POST /fleet/v1/plan {}`, "200 {}")

	w.is(t, "PUT /fleet/v1/units/a.service "+on("hdd"), "201")
	w.run("a.service", m2, unit.Launched)
	w.shows(t, `POST /fleet/v1/plan {"units":[{"name":"a.service","options":[{"section":"X-Fleet","name":"MachineMetadata","value":"az=c"}]}]}`, &m)
	assert.Equal(t, []string{m2, m3}, []string{m.Moves[0].From, m.Moves[0].To})
}

func TestCordonAndRebalance(t *testing.T) {
	w := newWorld(t, 1, 1, fleetapi.Options{})
	w.machines()
	for _, name := range []string{"a", "b", "c"} {
		w.is(t, "PUT /fleet/v1/units/"+name+`.service {"desiredState":"launched","options":[{"section":"S","name":"A","value":"b"}]}`, "201")
		w.run(name+".service", m1, unit.Launched)
	}
	w.is(t, "PUT /fleet/v1/units/p.service "+`{"desiredState":"launched","options":[{"section":"X-Fleet","name":"MachineID","value":"1a1a1a1a"}]}`, "201")
	w.run("p.service", m1, unit.Launched)

	var m moves
	w.shows(t, `POST /fleet/v1/rebalance {"dryRun":true}`, &m)
	require.NotEmpty(t, m.Moves)
	assert.Empty(t, w.models[0].Unit(m.Moves[0].Unit).Move, "a dry run asks for nothing")
	w.shows(t, `POST /fleet/v1/rebalance {"budget":1}`, &m)
	require.Len(t, m.Moves, 1)
	assert.Equal(t, m.Moves[0].To, w.models[0].Unit(m.Moves[0].Unit).Move)
	w.is(t, `POST /fleet/v1/rebalance {"budget":-1}`, problem(400, "budget must not be below 0"))

	w.is(t, `PUT /fleet/v1/machines/`+m1+`/cordon {"state":"off"}`, problem(400, "state must be cordoned or draining"))
	w.is(t, `PUT /fleet/v1/machines/none/cordon {"state":"cordoned"}`, problem(404, "machine does not exist"))
	w.is(t, `PUT /fleet/v1/machines/`+m1+`/cordon {"state":"cordoned"}`, "200 {}")
	m = moves{}
	w.shows(t, `PUT /fleet/v1/machines/`+m1+`/cordon {"state":"draining"}`, &m)
	assert.Len(t, m.Moves, 3, "%+v", m)
	require.Len(t, m.Stay, 1, "%+v", m)
	assert.Equal(t, "p.service", m.Stay[0].Name)
	assert.Contains(t, w.ask(0, "GET /fleet/v1/machines?details=true").line(), `"cordon":"draining","host":"core-01","id":"`+m1)
	w.is(t, `DELETE /fleet/v1/machines/`+m1+`/cordon`, "204")
	w.is(t, `DELETE /fleet/v1/machines/`+m1+`/cordon`, "204")
	assert.NotContains(t, w.ask(0, "GET /fleet/v1/machines?details=true").line(), "cordon")
}

func TestEvents(t *testing.T) {
	w := newWorld(t, 1, 2, fleetapi.Options{})
	w.machines()
	w.Run(time.Second, nil)
	r := w.ask(0, "GET /fleet/v1/events")
	require.Equal(t, 200, r.reply.Status)
	assert.True(t, r.reply.More)
	require.Equal(t, 201, w.ask(1, "PUT /fleet/v1/units/x.service "+sleep).reply.Status)
	w.says("x.service", m1, "active", "running")
	w.Run(time.Second, nil)
	require.Len(t, r.chunks, 2)
	var e struct {
		Index                   uint64
		Units, States, Machines []string
	}
	require.NoError(t, json.Unmarshal([]byte(r.chunks[0]), &e))
	assert.Equal(t, []string{"x.service"}, e.Units)
	assert.NotZero(t, e.Index)
	assert.Contains(t, r.chunks[1], `"states":["x.service"]`)
	assert.True(t, strings.HasSuffix(r.chunks[1], "}\n"))
	w.Run(time.Minute, nil)
	assert.Equal(t, "\n", r.chunks[2], "quiet streams show that they are alive")

	r.behind = true
	w.says("x.service", m1, "inactive", "dead")
	w.Run(time.Second, nil)
	assert.True(t, r.ended, "a reader who is too far behind is let go")
	chunks := len(r.chunks)
	gone := w.ask(0, "GET /fleet/v1/events")
	gone.cancel()
	w.says("x.service", m1, "active", "running")
	w.Run(time.Minute, nil)
	assert.Empty(t, gone.chunks)
	assert.Len(t, r.chunks, chunks)
}

// machine is one with a journal and an agent.
type machine struct {
	env.Systemd
	lines     []string
	err       error
	follow    env.JournalReceiver
	query     env.JournalQuery
	over      bool
	restarted []string
}

func (m *machine) Read(q env.JournalQuery, r env.JournalReceiver) (cancel func()) {
	m.query = q
	for _, l := range m.lines {
		r.Chunk([]byte(l))
	}
	if m.follow = r; !q.Follow {
		r.End(m.err)
	}
	return func() { m.over = true }
}

func (m *machine) Status(name string, done func([]byte, int, error)) {
	done([]byte("● "+name+"\n"), 3, m.err)
}

// Units tells of those that the daemon has put there.
func (m *machine) Units(done func([]env.UnitStatus, error)) {
	done([]env.UnitStatus{{Name: "g.service"}, {Name: "there.service"}}, nil)
}

func (m *machine) restart(name string, done func(error)) {
	m.restarted = append(m.restarted, name)
	done(m.err)
}

// web carries requests to machines.
type web struct {
	to   *fleetapi.Machine
	sent []*env.WebRequest
	err  error
}

func (n *web) Do(req *env.WebRequest, r env.WebReceiver) (cancel func()) {
	n.sent = append(n.sent, req)
	if n.err != nil {
		r.End(n.err)
		return func() {}
	}
	_, rest, _ := strings.Cut(strings.TrimPrefix(req.URL, "http://"), "/")
	path, query, _ := strings.Cut("/"+rest, "?")
	return n.to.Serve(&gateway.Request{Method: req.Method, Path: path, Query: query, Body: req.Body}, &wire{r})
}

// wire makes chunks of an answer.
type wire struct{ to env.WebReceiver }

func (w *wire) Reply(r *gateway.Reply) {
	var header []env.WebHeader
	for _, h := range r.Header {
		header = append(header, env.WebHeader(h))
	}
	w.to.Head(r.Status, header)
	if !r.More {
		w.to.Chunk(r.Body)
		w.to.End(nil)
	}
}

func (w *wire) Chunk(p []byte) bool {
	w.to.Chunk(p)
	return true
}
func (w *wire) End()   { w.to.End(nil) }
func (w *wire) Break() { w.to.End(errors.New("cut short")) }

// withMachines is a world in which m1 is the member's own machine and m2 is reached
// through the web.
func withMachines(t *testing.T) (w *world, here, there *machine, n *web) {
	here, there = &machine{lines: []string{"one\n", "two\n"}}, &machine{lines: []string{"far\n"}}
	n = &web{}
	w = &world{World: controltest.New(1, 1), t: t}
	e := w.Env()
	e.Journal, e.Web = here, n
	far := w.Env()
	far.Journal, far.Systemd = there, there
	n.to = &fleetapi.Machine{ID: m2, Version: version, Env: far, Restart: there.restart}
	model := registry.Open(w.Members[0], keys, e.Log)
	w.models = append(w.models, model)
	w.servers = append(w.servers, fleetapi.New(e, w.Members[0], model, nil, fleetapi.Options{
		Version: version, Machine: &fleetapi.Machine{ID: m1, Version: version, Env: e, Restart: here.restart},
	}))
	w.Run(time.Second, nil)
	w.machines()
	w.set(keys.MachineObject(m2), registry.EncodeMachine(&registry.Machine{ID: m2, API: "http://10.78.0.12:2379"}))
	for name, m := range map[string]string{"here.service": m1, "there.service": m2, "mute.service": m3, "lost.service": "4d4d4d4d00000000000000000000dddd", "idle.service": ""} {
		require.Equal(t, 201, w.ask(0, "PUT /fleet/v1/units/"+name+" "+sleep).reply.Status)
		if m != "" {
			w.set(keys.Target(name), m)
		}
	}
	w.is(t, `PUT /fleet/v1/units/g.service {"options":[{"section":"X-Fleet","name":"Global","value":"1"}]}`, "201")
	return w, here, there, n
}

func TestJournalAndStatus(t *testing.T) {
	w, here, there, n := withMachines(t)
	r := w.ask(0, "GET /fleet/v1/units/here.service/journal?lines=2&output=cat")
	assert.Equal(t, []string{"one\n", "two\n"}, r.chunks)
	assert.True(t, r.ended)
	assert.Equal(t, env.JournalQuery{Unit: "here.service", Lines: 2, Output: "cat"}, here.query)

	r = w.ask(0, "GET /fleet/v1/units/there.service/journal?follow=true")
	assert.Equal(t, []string{"far\n"}, r.chunks)
	assert.Equal(t, env.JournalQuery{Unit: "there.service", Lines: 10, Follow: true, Output: "short"}, there.query)
	assert.True(t, n.sent[0].Stream)
	there.follow.Chunk([]byte("more\n"))
	assert.Equal(t, []string{"far\n", "more\n"}, r.chunks)
	r.cancel()
	assert.True(t, there.over, "nobody reads on when the reader is gone")

	r = w.ask(0, "GET /fleet/v1/units/there.service/status")
	assert.Equal(t, "200 ● there.service", r.line())
	assert.Equal(t, "3", r.header("X-Keelson-Exit-Status"))
	assert.Equal(t, "200 ● here.service", w.ask(0, "GET /fleet/v1/units/here.service/status").line())
	w.is(t, "POST /fleet/v1/units/there.service/restart", `200 {"result":"done"}`)
	w.is(t, "POST /fleet/v1/units/here.service/restart", `200 {"result":"done"}`)
	assert.Equal(t, []string{"here.service"}, here.restarted)
	assert.Equal(t, []string{"there.service"}, there.restarted)

	w.is(t, "GET /fleet/v1/units/none.service/journal", problem(404, "unit does not exist"))
	w.is(t, "GET /fleet/v1/units/idle.service/journal", problem(409, "unit idle.service is on no machine"))
	w.is(t, "GET /fleet/v1/units/mute.service/status", problem(503, "machine "+m3+" does not say where it answers"))
	w.is(t, "GET /fleet/v1/units/lost.service/status", problem(404, "machine 4d4d4d4d00000000000000000000dddd is not known"))
	w.is(t, "GET /fleet/v1/units/here.service/journal?lines=x", problem(400, "lines must be a number"))
	w.is(t, "GET /fleet/v1/units/here.service/journal?output=--root", problem(400, "output must be a format of journalctl, such as short, cat or json"))
	w.is(t, "GET /fleet/v1/units/g.service/status", problem(409, "unit g.service is global: say of which machine by machineID="))
	w.says("g.service", m2, "active", "running")
	assert.Equal(t, "200 ● g.service", w.ask(0, "GET /fleet/v1/units/g.service/status").line())
	assert.Equal(t, "200 ● g.service", w.ask(0, "GET /fleet/v1/units/g.service/status?machineID="+m1).line())

	w.set(keys.Target("idle.service"), m2)
	w.is(t, "GET /fleet/v1/units/idle.service/status", problem(404, "unit idle.service is not on this machine"))
	there.err = errors.New("no bus")
	w.is(t, "GET /fleet/v1/units/there.service/status", problem(500, "status of unit there.service: no bus"))
	w.is(t, "POST /fleet/v1/units/there.service/restart", problem(409, "restart of unit there.service: no bus"))
	there.lines = nil
	w.is(t, "GET /fleet/v1/units/there.service/journal", problem(500, "journal: no bus"))
	n.err = errors.New("refused")
	w.is(t, "GET /fleet/v1/units/there.service/status", problem(503, "machine "+m2+" does not answer: refused"))
	assert.True(t, strings.HasPrefix(n.sent[0].URL, "http://10.78.0.12:2379/machine/v1/journal?"), n.sent[0].URL)
}

// servers are members as a machine elsewhere sees them.
type servers struct {
	w    *world
	gone map[string]bool
}

func (s *servers) Do(req *env.WebRequest, r env.WebReceiver) (cancel func()) {
	host, rest, _ := strings.Cut(strings.TrimPrefix(req.URL, "http://"), "/")
	if s.gone[host] {
		r.End(errors.New("gone"))
		return func() {}
	}
	in := &gateway.Request{Method: req.Method, Path: "/" + rest, Body: req.Body, ContentType: "application/json"}
	for _, h := range req.Header {
		if h.Name == "Authorization" {
			in.User = h.Value
		}
	}
	return s.w.servers[0].Serve(in, &wire{r})
}

// A machine that is no member asks one whether somebody may see its journals.
func TestElsewhere(t *testing.T) {
	w, g := withGate(t)
	s := &servers{w, map[string]bool{"a": true}}
	m := &fleetapi.Machine{ID: m1, Env: w.Env(), Version: version, Restart: func(_ string, done func(error)) { done(nil) }}
	m.Env.Journal = &machine{lines: []string{"one\n"}}
	m.Gate = &fleetapi.Elsewhere{Web: s, Members: func() []string { return []string{"http://a", "http://b"} }}
	ask := func(line string) string {
		req := request(line)
		req.User, req.Password = "ann", "secret"
		r := &reader{}
		m.Serve(req, r)
		w.Run(time.Second, nil)
		return r.line()
	}
	g.rights = readOnly
	assert.Equal(t, "200", ask("GET /machine/v1/journal?unit=x.service"))
	assert.Equal(t, "Basic YW5uOnNlY3JldA==", g.user)
	assert.Equal(t, problem(401, "Insufficient credentials"), ask("POST /machine/v1/restart?unit=x.service"))
	g.rights = auth.Everything()
	assert.Equal(t, `200 {"result":"done"}`, ask("POST /machine/v1/restart?unit=x.service"))
	s.gone["b"] = true
	assert.Equal(t, problem(401, "no member of the cluster says whether this is allowed"), ask("GET /machine/v1/journal?unit=x.service"))
	assert.Equal(t, problem(400, `unit name must contain "."`), ask("GET /machine/v1/journal?unit=x"))
	assert.Equal(t, problem(404, ""), ask("GET /machine/v1/none"))
	assert.Equal(t, problem(405, "only POST supported against this resource"), ask("GET /machine/v1/restart"))
}

// gate allows what its rights do, and counts its changes.
type gate struct {
	rights auth.Rights
	guard  store.Index
	user   string // who asked last
	late   bool   // the next request is judged by users and roles that have changed since
}

func (g *gate) Admit(a *gateway.Admission) (cancel func()) {
	g.user = a.Request.User
	guard := g.guard
	if g.late {
		guard--
	}
	g.late = false
	if a.May(g.rights) {
		a.Then(gateway.Ticket{Guarded: true, Guard: guard})
	} else {
		a.Refused("Insufficient credentials")
	}
	return func() {}
}

func withGate(t *testing.T) (*world, *gate) {
	w := &world{World: controltest.New(1, 1), t: t}
	e := w.Env()
	g := &gate{}
	model := registry.Open(w.Members[0], keys, e.Log)
	w.models = append(w.models, model)
	w.servers = append(w.servers, fleetapi.New(e, w.Members[0], model, g, fleetapi.Options{Version: version}))
	w.Run(time.Second, nil)
	return w, g
}

func rights(read, write string) auth.Rights {
	s := &auth.State{Enabled: true, Roles: []auth.Role{{Name: "r", Read: []string{read}, Write: []string{write}}}}
	return s.Of(&auth.User{Roles: []string{"r"}})
}

var readOnly = rights(registry.DefaultPrefix+"/*", "/other")

func TestRights(t *testing.T) {
	w, g := withGate(t)
	denied := problem(401, "Insufficient credentials")
	g.rights = rights("/other/*", "/other/*")
	w.is(t, "GET /fleet/v1/units", denied)
	g.rights = readOnly
	w.is(t, "GET /fleet/v1/units", "200 {}")
	w.is(t, "PUT /fleet/v1/units/x.service "+sleep, denied)
	w.is(t, `POST /fleet/v1/rebalance {}`, denied)
	stream := w.ask(0, "GET /fleet/v1/events")
	g.rights = rights("/*", "/*")
	w.is(t, "PUT /fleet/v1/units/x.service "+sleep, "201")
	w.Run(time.Second, nil)
	assert.Len(t, stream.chunks, 1)
	g.rights = auth.Rights{}
	w.set(keys.Target("x.service"), m1)
	w.Run(time.Second, nil)
	assert.True(t, stream.ended, "who may not read any more is told no more")

	// Users change while a write is under way: it is judged again, and then done.
	g.rights = auth.Everything()
	w.set(store.SecretKey, "{}")
	g.guard = w.Truth().Index()
	g.late = true
	w.is(t, "PUT /fleet/v1/units/y.service "+sleep, "201")
	assert.False(t, g.late)
}
