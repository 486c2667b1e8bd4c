package engine

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/sched"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// pass looks at what has changed and writes what follows. One runs at a time: it ends
// when the outcomes of all that it wrote are known and shown by the model.
func (g *Engine) pass() {
	if g.stopped || g.phase != deciding || g.dirty.empty() || !g.round.Begin() {
		return
	}
	p := g.plan()
	if len(p.writes) == 0 {
		g.finish()
		return
	}
	g.passes++
	if g.env.Rare.Chance("engine: decisions leave late") { // as when this process was halted between the two
		g.env.Clock.After(time.Duration(g.env.Rand.Int64N(int64(lateMax))), func() { g.carryOut(p) })
		return
	}
	g.carryOut(p)
}

// lateMax bounds how late decisions leave in the simulator.
const lateMax = 4 * time.Second

// plan is what a pass writes.
type plan struct {
	g         *Engine
	fence     store.Fence
	decisions map[string]sched.Decision
	writes    []write
	bytes     int
}

// write is one command and the unit that it is about, or "".
type write struct {
	c    store.Command
	unit string
}

// add writes c under the fence.
func (p *plan) add(name string, c store.Command) {
	c.Fence = p.fence
	p.writes = append(p.writes, write{c, name})
	p.bytes += len(c.Key) + len(c.Value)
}

func (p *plan) full() bool { return len(p.writes) >= commandsMax || p.bytes >= bytesMax }

// drop removes a key if it is still the one that was read.
func (p *plan) drop(name, key string, index store.Index) {
	p.add(name, store.Command{Op: store.OpCompareAndDelete, Key: key, PrevIndex: index})
}

// plan makes a plan of what is dirty, and takes that for done.
func (g *Engine) plan() *plan {
	p := &plan{g: g, fence: g.under(), decisions: map[string]sched.Decision{}}
	d := g.dirty
	g.dirty = newDirty()
	for _, id := range sorted(d.machines) {
		g.tellMachine(id)
		if !g.model.Alive(id) {
			d.mourn(g.model, id)
		}
	}
	for _, name := range sorted(d.units) {
		g.tellUnit(name)
	}
	for _, decision := range g.sched.Plan() {
		p.decisions[decision.Unit] = decision
		d.unit(decision.Unit)
	}
	p.units(sorted(d.units))
	p.states(d.states)
	for _, id := range sorted(d.machines) {
		p.bury(id)
	}
	g.note(d.unused)
	if d.all {
		p.lumber()
	}
	return p
}

// mourn adds what a machine that is gone leaves behind.
func (d *dirty) mourn(m *registry.Model, id string) {
	for _, name := range m.LaunchedBy(id) {
		d.unit(name)
	}
	for _, name := range m.ClaimedBy(id) {
		d.unit(name)
	}
	for _, s := range m.StatesOf(id) {
		d.states.Add(s.Name, id)
	}
}

func (g *Engine) tellMachine(id string) {
	if x := g.model.Machine(id); x != nil && x.Alive {
		g.sched.SetMachine(MachineOf(x))
		return
	}
	g.sched.RemoveMachine(id)
}

func (g *Engine) tellUnit(name string) {
	if u := g.model.Unit(name); u != nil {
		if told, ok := UnitOf(g.model, u); ok {
			g.sched.SetUnit(told)
			return
		}
	}
	g.sched.RemoveUnit(name)
}

// units writes what follows for units: those that leave a machine first.
func (p *plan) units(names []string) {
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(p.rank(a), p.rank(b)) })
	for i, name := range names {
		if p.full() {
			p.g.env.Rare.Mark("engine: a pass that is full")
			for _, rest := range names[i:] {
				p.g.dirty.unit(rest)
			}
			return
		}
		p.unit(name)
	}
}

func (p *plan) rank(name string) int {
	if d, ok := p.decisions[name]; ok && d.From != "" {
		return 0
	}
	return 1
}

func (p *plan) unit(name string) {
	u := p.g.model.Unit(name)
	if u == nil {
		p.assign(name, "", nil)
		p.leftovers(name)
		return
	}
	target := p.target(u)
	switch {
	case u.Desired == unit.Inactive:
		p.assign(name, "", nil)
	case u.File == nil: // of a global one the target is "", where all are told
		p.assign(name, target, p.kept(u, target))
	case target == "" && !u.Global():
		p.assign(name, "", nil)
	case u.Global():
		p.assign(name, "", p.assignment(u))
	default:
		p.assign(name, target, p.assignment(u))
	}
	if u.Launcher != "" && !p.g.model.Alive(u.Launcher) {
		p.drop(name, p.g.keys.JobState(name), u.LauncherIndex)
	}
	if u.Claim != "" && !p.g.model.Alive(u.Claim) {
		p.drop(name, p.g.keys.Claim(name), u.ClaimIndex)
	}
	p.moved(u, target)
}

// target writes where a unit is placed, and tells it.
func (p *plan) target(u *registry.Unit) string {
	d, decided := p.decisions[u.Name]
	if !decided || d.To == u.Target {
		return u.Target
	}
	key := p.g.keys.Target(u.Name)
	switch {
	case u.TargetIndex == 0:
		p.add(u.Name, store.Command{Op: store.OpCreate, Key: key, Value: d.To})
	case d.To == "":
		p.drop(u.Name, key, u.TargetIndex)
	default:
		p.add(u.Name, store.Command{Op: store.OpCompareAndSwap, Key: key, Value: d.To, PrevIndex: u.TargetIndex})
	}
	p.g.env.Log.Log(env.Info, "unit placed", "unit", u.Name, "from", cmp.Or(u.Target, "nowhere"), "to", cmp.Or(d.To, "nowhere"), "why", d.Why)
	return d.To
}

func (p *plan) assignment(u *registry.Unit) *registry.Assignment {
	return &registry.Assignment{Name: u.Name, Raw: u.File.String(), State: u.Desired, Since: p.g.model.Index()}
}

// kept is what a machine was told of a unit whose contents are missing now.
func (p *plan) kept(u *registry.Unit, machine string) *registry.Assignment {
	d, _ := p.g.model.Assignment(u.Name, machine)
	if d.Assignment == nil {
		return nil
	}
	kept := *d.Assignment
	kept.State, kept.Since = u.Desired, p.g.model.Index()
	return &kept
}

// assign has machine told a, or all machines where it is "", and nobody else told
// anything.
func (p *plan) assign(name, machine string, a *registry.Assignment) {
	k := p.g.keys
	key := func(id string) string {
		if id == "" {
			return k.Global(name)
		}
		return k.Assignment(id, name)
	}
	told := false
	for _, id := range p.g.model.Assigned(name) {
		have, _ := p.g.model.Assignment(name, id)
		switch {
		case a == nil || id != machine:
			p.drop(name, key(id), have.Index)
			continue
		case have.Assignment == nil || have.Raw != a.Raw || have.State != a.State:
			p.add(name, store.Command{Op: store.OpCompareAndSwap, Key: key(id), Value: registry.EncodeAssignment(a), PrevIndex: have.Index})
		}
		told = true
	}
	if a != nil && !told {
		p.add(name, store.Command{Op: store.OpCreate, Key: key(machine), Value: registry.EncodeAssignment(a)})
	}
}

// moved removes the request to move a unit once it is met, or cannot be.
func (p *plan) moved(u *registry.Unit, target string) {
	if u.MoveIndex == 0 {
		return
	}
	if target != u.Move {
		if target == "" && u.Claim != "" && p.g.model.Alive(u.Claim) && u.Desired != unit.Inactive {
			return // its machine has not let go of it yet
		}
		p.g.env.Log.Log(env.Warn, "unit not moved", "unit", u.Name, "to", u.Move, "reason", p.hindrance(u))
	}
	p.drop(u.Name, p.g.keys.Move(u.Name), u.MoveIndex)
}

func (p *plan) hindrance(u *registry.Unit) string {
	for _, s := range p.g.sched.Stuck() {
		if s.Unit == u.Name {
			return s.Why
		}
	}
	return p.g.sched.Explain(u.Name).Why
}

// leftovers removes what a unit that is no more leaves behind. What a living machine has
// written, it removes itself when it has stopped the unit.
func (p *plan) leftovers(name string) {
	dir := p.g.keys.Job(name)
	inside := p.inside(dir)
	for _, l := range p.g.model.Leftovers(name) {
		written := strings.HasSuffix(l.Key, "/job-state") || strings.HasSuffix(l.Key, "/claim")
		if written && p.g.model.Alive(l.Value) {
			continue
		}
		p.drop(name, l.Key, l.Index)
		if store.Within(l.Key, dir) {
			inside--
		}
	}
	p.tidy(dir, inside)
}

// inside counts what is in a directory, also what is not of the registry; below 0 says
// that there is none.
func (p *plan) inside(dir string) int {
	keys, isDir := -1, false
	p.g.src.View().Whole(dir, func(n *store.Node) {
		keys++
		isDir = isDir || n.Key == dir && n.Dir
	})
	if !isDir {
		return -1
	}
	return keys
}

// tidy removes a directory in which there will be nothing any more. Where somebody puts
// something into it meanwhile, it stays.
func (p *plan) tidy(dir string, left int) {
	if left == 0 {
		p.add("", store.Command{Op: store.OpDelete, Key: dir, Dir: true})
	}
}

// bury removes the directories of a machine of which nothing is known any more.
func (p *plan) bury(id string) {
	if p.g.model.Machine(id) != nil || len(p.g.model.AssignedTo(id)) > 0 || id == "" {
		return
	}
	var dirs []string
	files := false
	p.g.src.View().Whole(p.g.keys.Machine(id), func(n *store.Node) {
		dirs = append(dirs, n.Key)
		files = files || !n.Dir
	})
	if files || p.full() {
		return
	}
	for _, dir := range slices.Backward(dirs) { // what is inside first
		p.tidy(dir, 0)
	}
}

// states removes what machines that are gone have said.
func (p *plan) states(pairs registry.Pairs) {
	m := p.g.model
	for _, x := range pairs.List() {
		if p.full() {
			p.g.dirty.states.Add(x.Unit, x.Machine)
			continue
		}
		switch s := m.Said(x.Unit, x.Machine); {
		case s != nil && !m.Alive(x.Machine):
			p.drop("", p.g.keys.State(x.Unit, x.Machine), s.Modified)
			p.tidy(p.g.keys.States(x.Unit), p.inside(p.g.keys.States(x.Unit))-1)
		case s == nil && len(m.StatedAt(x.Unit)) == 0:
			p.tidy(p.g.keys.States(x.Unit), p.inside(p.g.keys.States(x.Unit)))
		}
	}
}

// lumber removes directories in which there is nothing any more. Those of units that there
// are come up when something about them changes.
func (p *plan) lumber() {
	for _, dir := range []string{p.g.keys.Job(""), p.g.keys.States("")} {
		for _, kid := range p.within(dir) {
			if p.g.model.Unit(kid) == nil && !p.full() {
				p.tidy(dir+kid, p.inside(dir+kid))
			}
		}
	}
	for _, id := range p.within(p.g.keys.Machine("")) {
		p.bury(id)
	}
}

// within lists the names in a directory, whose key ends in a slash.
func (p *plan) within(dir string) (names []string) {
	n, err := p.g.src.View().Get(strings.TrimSuffix(dir, "/"), false)
	if err != nil {
		return nil
	}
	for _, kid := range n.Nodes {
		names = append(names, strings.TrimPrefix(kid.Key, dir))
	}
	return names
}

// note keeps which contents are unused, and since when.
func (g *Engine) note(hashes map[string]unit.Hash) {
	for _, key := range sorted(hashes) {
		h := hashes[key]
		if index, still := g.model.UnusedIndex(h); still {
			g.unused[key] = garbage{h, index, g.env.Clock.Now()}
		}
	}
}

// carryOut writes a plan: all of it in one turn, so that it shares an entry of the log.
func (g *Engine) carryOut(p *plan) {
	left, unknown := len(p.writes), false
	for _, w := range p.writes {
		g.src.Propose(w.c, func(r store.Result) {
			if r.Err != nil {
				unknown = unknown || r.Err.Code == store.CodeRaftInternal
				if w.unit != "" {
					g.retry[w.unit] = struct{}{}
				}
			}
			if left--; left == 0 {
				g.outcome(p.fence.Created, unknown)
			}
		})
	}
}

// outcome ends a pass. Where it is not known what became of it, some of it may still be
// done later, against what is decided next: then the lease is taken anew, so that it
// cannot be.
func (g *Engine) outcome(fence store.Index, unknown bool) {
	if unknown && g.phase == deciding && g.fence == fence {
		g.env.Rare.Mark("engine: outcome of a decision unknown")
		g.become(waiting, "the outcome of a decision is unknown")
	}
	g.finish()
}

// finish ends a round. What has become dirty meanwhile gets another.
func (g *Engine) finish() {
	g.round.End()
	if g.phase != deciding || !g.dirty.empty() {
		g.wake()
	}
}
