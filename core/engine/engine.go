package engine

import (
	"cmp"
	"time"

	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/sched"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// Version is the version of the engine, as the original counts: one that is newer may
// take the lease from an older one, which does nothing any more from then on.
const Version = 1

// Config is what an engine is told at start. Machine is required.
type Config struct {
	Machine   string
	Reconcile time.Duration // registry.DefaultReconcile
	// Disabled has the engine never decide.
	Disabled bool
	// Lead tells whether this machine leads the cluster, so that its engine should decide.
	// Nil is never.
	Lead func() bool
}

const (
	// leaseIntervals is the TTL of the lease, and vacantIntervals how long nobody must
	// have held it before an engine takes it that does not lead the cluster.
	leaseIntervals  = 5
	vacantIntervals = 3
	// unusedGrace is how long contents must have been unused before they are removed:
	// the original's clients store contents first and the unit after.
	unusedGrace = 10 * time.Second
	// commandsMax and bytesMax bound what one pass proposes. The next goes on.
	commandsMax = 8 << 10
	bytesMax    = 8 << 20
)

// phase is where an engine stands: see the package comment.
type phase uint8

const (
	waiting phase = iota
	taking
	deciding
)

func (p phase) String() string { return [...]string{"waiting", "taking", "deciding"}[p] }

// Engine decides where units run. Its methods are called on the loop.
type Engine struct {
	cfg   Config
	env   *env.Env
	src   control.Source
	model *registry.Model
	keys  registry.Keys

	phase   phase
	fence   store.Index // when the lease was created that is held
	led     bool        // what Lead said last
	vacant  env.Instant // since when nobody holds the lease; 0 is somebody does
	said    string      // the last reason for not deciding that was logged
	tick    env.Timer
	forget  func() // the model
	woken   bool
	stopped bool

	round  *control.Round
	sched  *sched.State // nil unless deciding
	dirty  dirty
	retry  map[string]struct{} // units of which something was not done: again after a while
	unused map[string]garbage  // by hash
	passes int
}

// garbage is contents that no unit has.
type garbage struct {
	hash  unit.Hash
	index store.Index
	since env.Instant
}

// Open makes an engine. It begins by itself when its turn comes.
func Open(cfg Config, e *env.Env, src control.Source, m *registry.Model) *Engine {
	cfg.Reconcile = cmp.Or(cfg.Reconcile, registry.DefaultReconcile)
	g := &Engine{cfg: cfg, env: e, src: src, model: m, keys: m.Keys(), dirty: newDirty(), retry: map[string]struct{}{}}
	g.round = control.NewRound(e, g.pass)
	g.forget = m.OnChange(g.changed)
	g.later(0)
	return g
}

// Deciding reports whether this engine holds the lease and decides.
func (g *Engine) Deciding() bool { return g.phase == deciding }

// Fence is when the lease was created under which this engine decides; 0 if it does not.
func (g *Engine) Fence() store.Index {
	if g.phase != deciding {
		return 0
	}
	return g.fence
}

// Passes counts the passes so far that wrote something, for tests.
func (g *Engine) Passes() int { return g.passes }

// Flush ends a turn. An engine that has begun to lead does not wait for its next look.
func (g *Engine) Flush() {
	if lead := g.lead(); lead != g.led && !g.stopped {
		g.led = lead
		g.wake()
	}
}

// Stop gives the lease up and calls done in a later turn.
func (g *Engine) Stop(done func()) {
	held := g.phase == deciding
	g.stopped = true
	g.forget()
	g.round.Stop()
	if g.tick != nil {
		g.tick.Stop()
	}
	_, created, modified := g.model.Lease()
	if !held || created != g.fence {
		g.env.Clock.After(0, done)
		return
	}
	over := false
	finish := func() {
		if !over {
			over = true
			done()
		}
	}
	g.env.Clock.After(stopMax, finish)
	g.src.Propose(store.Command{Op: store.OpCompareAndDelete, Key: g.keys.EngineLease(), PrevIndex: modified, Fence: g.under()}, func(store.Result) {
		g.env.Clock.After(0, finish)
	})
}

// stopMax is how long the end waits for the lease to be gone.
const stopMax = time.Second

func (g *Engine) lead() bool { return g.cfg.Lead != nil && g.cfg.Lead() && !g.cfg.Disabled }

func (g *Engine) under() store.Fence {
	return store.Fence{Key: g.keys.EngineLease(), Created: g.fence}
}

// become is the only place where the phase changes.
func (g *Engine) become(p phase, why string) {
	if p == g.phase {
		return
	}
	g.env.Log.Log(env.Info, "unit engine "+p.String(), "was", g.phase, "reason", why)
	g.phase = p
	if p != deciding {
		g.sched, g.unused, g.retry = nil, nil, map[string]struct{}{}
	}
	if p == waiting {
		g.dirty = newDirty()
	}
}

// say logs why this engine does not decide, once.
func (g *Engine) say(why string) {
	if why != g.said {
		g.said = why
		g.env.Log.Log(env.Warn, "the unit engine of this machine does not decide", "reason", why)
	}
}

// later has the engine look again after d.
func (g *Engine) later(d time.Duration) {
	if g.tick != nil {
		g.tick.Stop()
	}
	g.tick = g.env.Clock.After(d, g.look)
}

// wake has the engine look in the next turn.
func (g *Engine) wake() {
	if g.woken || g.stopped {
		return
	}
	g.woken = true
	g.env.Clock.After(0, func() {
		g.woken = false
		if !g.stopped {
			g.attend()
		}
	})
}

// look is what happens at least once in an interval.
func (g *Engine) look() {
	g.later(g.cfg.Reconcile)
	if g.phase == deciding {
		g.renew()
		g.sweep()
		for _, name := range sorted(g.retry) {
			g.dirty.unit(name)
		}
		clear(g.retry)
	}
	g.attend()
}

// attend does what is to be done now.
func (g *Engine) attend() {
	lease, created, _ := g.model.Lease()
	g.notice(created)
	if g.phase == deciding && created != g.fence {
		g.env.Rare.Mark("engine: lease lost")
		g.become(waiting, "the lease is "+cmp.Or(lease.MachineID, "nobody")+"'s")
	}
	switch g.phase {
	case waiting:
		if g.may(lease, created) {
			g.take(created)
		}
	case deciding:
		g.pass()
	}
}

// notice keeps since when nobody holds the lease.
func (g *Engine) notice(created store.Index) {
	switch {
	case created != 0:
		g.vacant = 0
	case g.vacant == 0:
		g.vacant = max(g.env.Clock.Now(), 1)
	}
}

// may says whether this engine should take the lease.
func (g *Engine) may(lease registry.Lease, created store.Index) bool {
	switch {
	case g.cfg.Disabled || !g.model.Ready():
		return false
	case created != 0 && lease.Version > Version:
		g.say("machine " + lease.MachineID + " has a newer one, which is left in charge")
		return false
	case g.model.Version() > Version:
		g.say("the cluster has had a newer one; update this machine")
		return false
	case g.lead(), created != 0 && created == g.fence:
		return true
	}
	vacancy := vacantIntervals * g.cfg.Reconcile
	return created == 0 && g.vacant != 0 && g.env.Clock.Now().Sub(g.vacant) >= vacancy
}

// take makes the lease this engine's, whoever has it.
func (g *Engine) take(created store.Index) {
	c := store.Command{
		Op: store.OpSet, Key: g.keys.EngineLease(), Value: registry.EncodeLease(registry.Lease{MachineID: g.cfg.Machine, Version: Version}),
		HasTTL: true, TTL: leaseIntervals * g.cfg.Reconcile,
	}
	why := "this machine leads the cluster"
	if created == 0 && !g.lead() {
		g.env.Rare.Mark("engine: lease taken by a machine that does not lead")
		c.Op, why = store.OpCreate, "nobody decides"
	}
	g.become(taking, why)
	g.src.Propose(c, func(r store.Result) {
		switch {
		case g.stopped || g.phase != taking:
		case r.Err != nil || r.Event == nil:
			g.refused("the lease cannot be taken", r.Err)
		default:
			g.fence = r.Event.Node.Created
			g.confirm()
		}
	})
}

func (g *Engine) refused(what string, err *store.Error) {
	why := what
	if err != nil {
		why += ": " + err.Cause
	}
	if err != nil && err.Code == store.CodeRaftInternal {
		g.say(why)
	}
	g.become(waiting, why)
}

// confirm writes under the fence. Once that is seen done, so is all that was written
// before, and all members can read fences.
func (g *Engine) confirm() {
	g.src.Propose(g.renewal(), func(r store.Result) {
		switch _, created, _ := g.model.Lease(); {
		case g.stopped || g.phase != taking:
		case r.Err != nil:
			g.refused("no decision can be written", r.Err)
		case created != g.fence:
			g.refused("the lease was taken by another", nil)
		default:
			g.begin()
		}
	})
}

// renewal is a sign of life of the holder of the lease.
func (g *Engine) renewal() store.Command {
	return store.Command{
		Op: store.OpUpdate, Key: g.keys.EngineLease(), Refresh: true, HasTTL: true, TTL: leaseIntervals * g.cfg.Reconcile, Fence: g.under(),
	}
}

func (g *Engine) renew() {
	g.src.Propose(g.renewal(), func(store.Result) {}) // what became of it, the model tells
}

// begin begins to decide: everything is looked at once.
func (g *Engine) begin() {
	g.said = ""
	g.become(deciding, "the lease is held")
	g.sched, g.unused = sched.New(sched.Options{}), map[string]garbage{}
	g.dirty.everything(g.model)
	g.announce()
	g.pass()
}

// announce writes the version of this engine down, so that older ones rest.
func (g *Engine) announce() {
	if g.model.Version() < Version {
		g.src.Propose(store.Command{Op: store.OpSet, Key: g.keys.EngineVersion(), Value: "1", Fence: g.under()}, func(store.Result) {})
	}
}

// changed takes what is new in the registry.
func (g *Engine) changed(c registry.Change) {
	switch {
	case g.phase != deciding:
	case c.All:
		g.env.Rare.Mark("engine: everything read anew")
		g.sched = sched.New(sched.Options{})
		g.dirty.everything(g.model)
	default:
		g.dirty.add(c)
	}
	if g.phase == deciding || c.Engine || c.All {
		g.wake()
	}
}

// sweep removes contents that have been unused for a while.
func (g *Engine) sweep() {
	now := g.env.Clock.Now()
	for _, key := range sorted(g.unused) {
		was := g.unused[key]
		index, still := g.model.UnusedIndex(was.hash)
		switch {
		case !still:
			delete(g.unused, key)
		case index != was.index:
			g.unused[key] = garbage{was.hash, index, now}
		case now.Sub(was.since) >= unusedGrace:
			g.unused[key] = garbage{was.hash, index, now} // again later, should it fail
			g.src.Propose(store.Command{Op: store.OpCompareAndDelete, Key: g.keys.Contents(was.hash), PrevIndex: index, Fence: g.under()}, func(store.Result) {})
		}
	}
}
