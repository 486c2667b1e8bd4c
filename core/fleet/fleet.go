package fleet

import (
	"cmp"
	"fmt"

	"github.com/keelson/keelson/core/agent"
	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/engine"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/fleetapi"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/registry"
)

// Host is what a machine's daemon offers to its units.
type Host struct {
	// Source is the store: of a member all of it, of any other machine at least what
	// registry.Keys.Worker names.
	Source control.Source
	// Member says that the machine is a member: then it has an engine and the API.
	Member bool
	// Lead tells whether the machine leads the cluster. Only a member's is asked.
	Lead func() bool
	// Gate judges requests by users and roles; nil lets everybody do everything. Only a
	// member has one.
	Gate fleetapi.Gate
	// Members lists where members answer, for a machine that is none.
	Members func() []string
}

// Fleet is one machine's part in the units of the cluster. Its methods are called on the
// loop.
type Fleet struct {
	cfg     Config
	model   *registry.Model // of a member
	engine  *engine.Engine  // of a member
	agent   *agent.Agent    // nil where the machine runs no units
	machine *fleetapi.Machine
	api     *fleetapi.Server // of a member
}

// Open begins a machine's part.
func Open(cfg Config, e *env.Env, h Host) (*Fleet, error) {
	cfg.Prefix = cmp.Or(cfg.Prefix, registry.DefaultPrefix)
	f := &Fleet{cfg: cfg}
	if cfg.Machine == "" {
		return nil, fmt.Errorf("fleet: the ID of this machine is missing")
	}
	if err := registry.CheckMachine(cfg.Machine); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	keys := registry.Keys{Prefix: cfg.Prefix}
	if !h.Member && h.Members != nil {
		h.Gate = &fleetapi.Elsewhere{Web: e.Web, Members: h.Members}
	}
	if err := f.openAgent(e, h, keys); err != nil {
		return nil, err
	}
	if h.Member {
		f.model = registry.Open(h.Source, keys, e.Log)
		f.engine = engine.Open(engine.Config{
			Machine: cfg.Machine, Reconcile: cfg.Reconcile, Disabled: cfg.DisableEngine, Lead: h.Lead,
		}, e, h.Source, f.model)
		f.api = fleetapi.New(e, h.Source, f.model, h.Gate, fleetapi.Options{
			Version: cfg.Version, Keys: keys, Page: cfg.Page, LineMax: cfg.LineMax, Machine: f.machine,
		})
	}
	return f, nil
}

func (f *Fleet) openAgent(e *env.Env, h Host, keys registry.Keys) error {
	if f.cfg.NoAgent {
		return nil
	}
	a, err := agent.Open(agent.Config{
		Machine: f.cfg.Machine, Boot: f.cfg.Boot, Facts: facts(&f.cfg, h.Member), Keys: keys,
		TTL: f.cfg.TTL, LineMax: f.cfg.LineMax, Drain: f.cfg.DrainAtStop,
	}, e, h.Source)
	if err != nil {
		return err
	}
	f.agent = a
	f.machine = &fleetapi.Machine{
		ID: f.cfg.Machine, Version: f.cfg.Version, Env: e, Gate: h.Gate, Keys: keys,
		Restart: a.Restart,
	}
	return nil
}

// facts is what the machine says of itself.
func facts(c *Config, member bool) agent.Facts {
	return agent.Facts{
		Host: c.Host, PublicIP: c.PublicIP, API: c.API, Metadata: c.Metadata, Capacity: c.Capacity, Version: c.Version,
		Engine: member && !c.DisableEngine,
	}
}

// Set takes what has changed about the machine: its address, name, metadata and capacity.
// Everything else is decided at start.
func (f *Fleet) Set(c Config) {
	f.cfg.Host, f.cfg.PublicIP, f.cfg.API, f.cfg.Metadata, f.cfg.Capacity = c.Host, c.PublicIP, c.API, c.Metadata, c.Capacity
	if f.agent != nil {
		f.agent.Set(facts(&f.cfg, f.api != nil))
	}
}

// Handles tells whether a request is for this machine's part.
func (f *Fleet) Handles(req *gateway.Request) bool {
	return f.machine != nil && f.machine.Handles(req) || f.api != nil && f.api.Handles(req)
}

// Serve answers a request, as gateway.Mux.Serve does.
func (f *Fleet) Serve(req *gateway.Request, r gateway.Responder) (cancel func()) {
	if f.machine != nil && f.machine.Handles(req) {
		return f.machine.Serve(req, r)
	}
	return f.api.Serve(req, r)
}

// Always is the answer to requests that is the same on every machine, whatever it is up
// to; nil where there is none.
func Always(cfg *Config, req *gateway.Request) *gateway.Reply {
	if !fleetapi.IsRoot(req) {
		return nil
	}
	return fleetapi.Root(req, cfg.Version)
}

// NotYet is the answer of a process that looks for its cluster to a request for the units
// API; nil where the request is for something else.
func NotYet(cfg *Config, req *gateway.Request) *gateway.Reply {
	return fleetapi.NotYet(req, cfg.Version)
}

// Flush ends a turn.
func (f *Fleet) Flush() {
	if f.engine != nil {
		f.engine.Flush()
	}
}

// Stop ends in order and calls done in a later turn: the engine gives up its lease, and
// units stay as they are unless they are to be drained. Meanwhile the store must go on.
func (f *Fleet) Stop(done func()) {
	if f.api != nil {
		f.api.Stop()
	}
	f.stopEngine(func() {
		if f.agent == nil {
			done()
			return
		}
		f.agent.Stop(done)
	})
}

func (f *Fleet) stopEngine(then func()) {
	if f.engine == nil {
		then()
		return
	}
	f.engine.Stop(func() {
		f.model.Stop()
		then()
	})
}

// Agent is what makes units here run, or nil.
func (f *Fleet) Agent() *agent.Agent { return f.agent }

// Engine is this machine's engine, or nil.
func (f *Fleet) Engine() *engine.Engine { return f.engine }

// Model is a member's picture of the registry, or nil.
func (f *Fleet) Model() *registry.Model { return f.model }
