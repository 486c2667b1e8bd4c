package fleetapi_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/control/controltest"
	"github.com/keelson/keelson/core/fleetapi"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

const version = "1.0.0"

var keys = registry.Keys{Prefix: registry.DefaultPrefix}

// The machines of the captured session.
const (
	m1 = "1a1a1a1a00000000000000000000aaaa"
	m2 = "2b2b2b2b00000000000000000000bbbb"
	m3 = "3c3c3c3c00000000000000000000cccc"
)

// world is a store with an API on each member.
type world struct {
	*controltest.World
	t       require.TestingT
	servers []*fleetapi.Server
	models  []*registry.Model
}

func newWorld(t require.TestingT, seed uint64, members int, o fleetapi.Options) *world {
	w := &world{World: controltest.New(seed, members), t: t}
	o.Version = version
	for _, m := range w.Members {
		e := w.Env()
		model := registry.Open(m, keys, e.Log)
		w.models = append(w.models, model)
		w.servers = append(w.servers, fleetapi.New(e, m, model, nil, o))
	}
	w.Run(time.Second, nil)
	return w
}

// set writes a key past the API, as agents and engines do.
func (w *world) set(key, value string) {
	require.Nil(w.t, w.Commit(store.Command{Op: store.OpSet, Key: key, Value: value})[0].Err)
}

// machines registers the three machines.
func (w *world) machines() {
	for _, m := range []registry.Machine{
		{ID: m1, PublicIP: "10.78.0.11", Metadata: map[string]string{"az": "a", "disk": "ssd", "region": "us-east"}, Version: version, Host: "core-01"},
		{ID: m2, PublicIP: "10.78.0.12", Metadata: map[string]string{"az": "b", "disk": "hdd", "region": "us-east"}, Version: version, Host: "core-02"},
		{ID: m3, PublicIP: "10.78.0.13", Metadata: map[string]string{"az": "c", "disk": "ssd", "region": "us-west"}, Version: version, Host: "core-03"},
	} {
		w.set(keys.MachineObject(m.ID), registry.EncodeMachine(&m))
	}
}

// run plays the engine and an agent: a unit is placed and brought to a state.
func (w *world) run(name, machine string, now unit.State) {
	w.set(keys.Target(name), machine)
	w.says(name, machine, "active", "running")
	if now == unit.Launched {
		w.set(keys.JobState(name), machine)
	}
}

func (w *world) says(name, machine, active, sub string) {
	hash := ""
	if n, err := w.Truth().Get(keys.Object(name), false); err == nil {
		_, h, _ := registry.DecodeObject(n.Value)
		hash = h.String()
	}
	w.set(keys.State(name, machine), registry.EncodeState(&registry.UnitState{
		Name: name, MachineID: machine, Load: "loaded", Active: active, Sub: sub, Hash: hash,
	}))
}

// reader takes one answer.
type reader struct {
	reply  *gateway.Reply
	chunks []string
	behind bool // takes no more chunks
	ended  bool
	broken bool
	cancel func()
}

func (r *reader) Reply(reply *gateway.Reply) { r.reply = reply }
func (r *reader) Chunk(p []byte) bool {
	if r.behind {
		return false
	}
	r.chunks = append(r.chunks, string(p))
	return true
}
func (r *reader) End()   { r.ended = true }
func (r *reader) Break() { r.broken = true }

// header gives a header of the answer.
func (r *reader) header(name string) string {
	for _, h := range r.reply.Header {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}

// line gives the answer on one line: status and body.
func (r *reader) line() string {
	if r.reply == nil {
		return "no answer"
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", r.reply.Status, r.reply.Body))
}

// request reads "METHOD PATH BODY".
func request(line string) *gateway.Request {
	method, rest, _ := strings.Cut(line, " ")
	path, body, _ := strings.Cut(rest, " ")
	path, query, _ := strings.Cut(path, "?")
	req := &gateway.Request{Method: method, Path: path, Query: query, Body: []byte(body)}
	if body != "" {
		req.ContentType = "application/json"
	}
	return req
}

// begin sends a request to a member.
func (w *world) begin(member int, req *gateway.Request) *reader {
	r := &reader{}
	r.cancel = w.servers[member].Serve(req, r)
	return r
}

// ask sends a request to a member and waits for the answer.
func (w *world) ask(member int, line string) *reader {
	r := w.begin(member, request(line))
	for range 10_000 {
		if r.reply != nil {
			break
		}
		w.Run(10*time.Millisecond, nil)
	}
	require.NotNil(w.t, r.reply, "%s", line)
	return r
}

// is checks the answer of the first member to a request.
func (w *world) is(t *testing.T, line, want string) {
	t.Helper()
	require.Equal(t, want, w.ask(0, line).line(), line)
}
