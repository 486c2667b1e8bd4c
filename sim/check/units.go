package check

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
	"github.com/keelson/keelson/sim"
	"github.com/keelson/keelson/sim/systemd"
)

// The oracles of units.
const (
	Decision  = "unique decision" // a unit is decided to be in two places, or not where its target says
	Placement = "placement"       // a decision that breaks what units and machines ask for
	Overlap   = "overlap"         // a singleton runs twice, or is let go of while it runs
	Stopped   = "healthy unit stopped"
	UnitsAPI  = "units api" // what was acknowledged is not what is seen
	Strays    = "strays"    // what runs, lies there or is said is not what was decided
)

// UnitsOptions says what WatchUnits holds a cluster to.
type UnitsOptions struct {
	Prefix string        // registry.DefaultPrefix
	TTL    time.Duration // of the machines' leases; registry.DefaultTTL
	// DriftPPM is the drift of clocks up to which singletons never overlap.
	DriftPPM int64
}

// Units is the oracles of units: what is decided, what runs, and which of it is allowed.
type Units struct {
	c *sim.Cluster
	o UnitsOptions
	p *picture

	wants  map[string]map[string]*want // by machine ID and unit
	placed map[string]map[string]store.Index
	runs   map[*sim.Machine]map[string]*running
	// hindered is when a machine was last seen unable to do what its agent should.
	hindered map[*sim.Machine]time.Duration
	paused   map[*sim.Machine]time.Duration // since when those that are stand still
	excused  map[string]time.Duration       // units that somebody had restarted
	sampled  time.Duration

	// Allowed counts overlaps of singletons that were beyond the promise.
	Allowed int
	// Moves counts the changes of targets of each unit, Moved when the last one was.
	Moves map[string]int
	Moved time.Duration
}

// want is what a machine is to do with a unit, and since when.
type want struct {
	state unit.State // "" is nothing
	hash  string
	// changes is the indexes at which that became another, the last ones.
	changes []store.Index
}

// running is a unit that runs.
type running struct {
	hash string
	life int         // of the daemon, when it began
	view store.Index // what the machine had read when the unit was last started
}

// WatchUnits puts the oracles in place.
func WatchUnits(c *sim.Cluster, o UnitsOptions) *Units {
	o.TTL = cmp.Or(o.TTL, registry.DefaultTTL)
	o.DriftPPM = cmp.Or(o.DriftPPM, 50_000)
	u := &Units{
		c: c, o: o, p: newPicture(c, o.Prefix), wants: map[string]map[string]*want{}, placed: map[string]map[string]store.Index{},
		runs: map[*sim.Machine]map[string]*running{}, hindered: map[*sim.Machine]time.Duration{}, paused: map[*sim.Machine]time.Duration{}, excused: map[string]time.Duration{},
		Moves: map[string]int{},
	}
	c.OnTurn(u.turn)
	c.OnRan(u.ran)
	c.OnAsked(u.asked)
	return u
}

// Excuse says that somebody asks for a restart of a unit now.
func (u *Units) Excuse(name string) { u.excused[name] = u.c.Now() }

func (u *Units) turn(m *sim.Machine) {
	u.sample()
	n := sim.NodeOf(m)
	if n == nil || !u.c.Inside(m) || !u.p.learn(n.View()) {
		return
	}
	u.released()
	for _, late := range u.p.late {
		u.c.Fail(Decision, "the decision of a deposed engine counts: %s", late)
	}
	u.p.late = nil
	machines, units := u.p.look()
	globals := u.p.globals()
	for _, id := range machines {
		u.judge(id, u.p.assigned(id), globals)
	}
	for _, name := range units {
		u.unique(name)
	}
	u.p.judged = u.p.index
}

// sampleEvery is how often machines are asked whether their agents can do their work.
const sampleEvery = 50 * time.Millisecond

func (u *Units) sample() {
	now := u.c.Now()
	if now-u.sampled < sampleEvery && now != 0 {
		return
	}
	u.sampled = now
	for _, m := range u.c.Machines() {
		if !m.Paused() {
			delete(u.paused, m)
		} else if _, was := u.paused[m]; !was {
			u.paused[m] = now
		}
		if u.hinders(m) {
			u.hindered[m] = now
		}
	}
}

// pausePart is of the TTL for how long an agent may stand still and stop its singletons in
// time all the same. Its own clock must tell it how long that was.
const pausePart = 10

// hinders says that the agent of a machine cannot do its work, or that its clock is
// beyond what is promised.
func (u *Units) hinders(m *sim.Machine) bool {
	drift := m.Clock().Drift()
	d := sim.DaemonOf(m)
	since, paused := u.paused[m]
	paused = paused && (m.Clock().Asleep() || u.c.Now()-since > u.o.TTL/pausePart)
	return d == nil || d.Member() == nil && d.Proxy() == nil || paused || m.Slow() || m.Systemd().Hampered() ||
		drift > u.o.DriftPPM || drift < -u.o.DriftPPM
}

// lately says that a machine was hindered so shortly ago that its agent may not have
// noticed in time that its lease ran out.
func (u *Units) lately(m *sim.Machine) bool {
	at, ever := u.hindered[m]
	return u.hinders(m) || ever && u.c.Now()-at < 2*u.o.TTL
}

// judge looks at what is decided for one machine.
func (u *Units) judge(id string, docs, globals []*doc) {
	m, changed := u.p.machine(id)
	before := u.placed[id]
	now := map[string]store.Index{}
	for _, d := range docs {
		now[d.Name] = d.created
		if old, was := before[d.Name]; (!was || old != d.created) && d.created > u.p.judged {
			u.fits(id, m, changed, d, docs, globals)
		}
		for _, o := range docs {
			if d.Name < o.Name {
				u.apart(id, d, o)
			}
		}
	}
	u.placed[id] = now
	u.renew(id, m, docs, globals)
}

// fits holds a new decision to what the unit asks of a machine, as far as whoever
// decided can have known.
func (u *Units) fits(id string, m *registry.Machine, changed store.Index, d *doc, docs, globals []*doc) {
	fail := func(format string, args ...any) {
		u.c.Fail(Placement, "%s was put on machine %s, decided at index %d: %s", d.Name, id, d.Since, fmt.Sprintf(format, args...))
	}
	if d.place == nil {
		return
	}
	if asked := d.place.MachineID; asked != "" && asked != id && asked != id[:8] {
		fail("it asks for machine %s", asked)
	}
	if d.place.Global {
		fail("it is global")
	}
	for _, peer := range d.place.Peers {
		if !slices.ContainsFunc(docs, named(peer)) && !slices.ContainsFunc(globals, named(peer)) {
			fail("%s, with which it is to be, is not there", peer)
		}
	}
	if m == nil || changed > d.Since {
		return
	}
	if m.Cordon != "" {
		fail("the machine is %s", m.Cordon)
	}
	if !metadata(d.place.Metadata, m.Metadata) {
		fail("the machine's metadata %v are not what it asks for: %v", m.Metadata, d.place.Metadata)
	}
}

func named(name string) func(*doc) bool { return func(d *doc) bool { return d.Name == name } }

// apart holds two units on one machine to their conflicts.
func (u *Units) apart(id string, a, b *doc) {
	if conflicts(a, b) && max(a.modified, b.modified) > u.p.judged {
		u.c.Fail(Placement, "%s and %s, which conflict, are both on machine %s after index %d", a.Name, b.Name, id, u.p.index)
	}
}

func conflicts(a, b *doc) bool {
	return a.place != nil && fitsAny(a.place.Conflicts, b.Name) || b.place != nil && fitsAny(b.place.Conflicts, a.Name)
}

func fitsAny(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(g string) bool {
		ok, err := path.Match(g, name)
		return ok && err == nil
	})
}

// metadata holds plain conditions: those of one key are alternatives, those of
// different keys hold together. Others are left to the scheduler's own tests.
func metadata(asked []unit.Condition, have map[string]string) bool {
	met := map[string]bool{}
	for _, c := range asked {
		if c.Op != "=" || len(c.Values) != 1 {
			continue
		}
		met[c.Key] = met[c.Key] || have[c.Key] == c.Values[0]
	}
	for _, key := range sortedKeys(met) {
		if !met[key] {
			return false
		}
	}
	return true
}

// unique holds the decisions about one unit to each other.
func (u *Units) unique(name string) {
	var on []string
	for _, id := range u.p.below("machines") {
		if _, ok := u.p.get("machines", id, "units", name); ok {
			on = append(on, id)
		}
	}
	if len(on) > 1 {
		u.c.Fail(Decision, "after index %d %s is to be on %s", u.p.index, name, strings.Join(on, " and on "))
	}
	target, ok := u.p.get("job", name, "target")
	if ok && len(on) == 1 && on[0] != target.value {
		u.c.Fail(Decision, "after index %d %s is to be on %s, but its target is %s", u.p.index, name, on[0], target.value)
	}
	if ok && target.modified > u.p.judged {
		u.Moves[name]++
		u.Moved = u.c.Now()
	}
}

// renew notes what a machine is to do from now on.
func (u *Units) renew(id string, m *registry.Machine, docs, globals []*doc) {
	next := map[string]*doc{}
	for _, d := range docs {
		next[d.Name] = d
	}
	if m != nil {
		var here []*doc
		for _, g := range globals {
			if !admits(g, id, m, docs, here) {
				continue
			}
			here = append(here, g)
			next[g.Name] = g
		}
	}
	have := u.wants[id]
	if have == nil {
		have = map[string]*want{}
		u.wants[id] = have
	}
	for _, name := range sortedKeys(next) {
		if have[name] == nil {
			have[name] = &want{}
		}
	}
	for _, name := range sortedKeys(have) {
		w, state, hash := have[name], unit.State(""), ""
		if d := next[name]; d != nil {
			state, hash = d.State, d.hash
		}
		if w.state != state || w.hash != hash {
			w.state, w.hash = state, hash
			w.changes = append(w.changes, u.p.index)
			if len(w.changes) > changesKept {
				w.changes = slices.Clone(w.changes[1:])
			}
		}
	}
}

// changesKept is how many changes of what is wanted are remembered.
const changesKept = 50

// admits says that a global unit runs on a machine.
func admits(g *doc, id string, m *registry.Machine, docs, here []*doc) bool {
	if g.place == nil || g.place.MachineID != "" && g.place.MachineID != id || !metadata(g.place.Metadata, m.Metadata) {
		return false
	}
	against := func(o *doc) bool { return o.Name != g.Name && conflicts(g, o) }
	return !slices.ContainsFunc(docs, against) && !slices.ContainsFunc(here, against)
}

// viewOf is what a machine's daemon has read by now.
func viewOf(m *sim.Machine) store.Index {
	d := sim.DaemonOf(m)
	if d == nil || d.View() == nil {
		return 0
	}
	return d.View().Index()
}

// asked looks at what a machine's daemon asks its service manager for.
func (u *Units) asked(m *sim.Machine, a systemd.Asked) {
	if a.Foreign {
		return
	}
	r := u.runs[m][a.Unit]
	if a.Verb == env.JobStart {
		u.starting(m, a.Unit).view = viewOf(m)
		u.claimed(m, a.Unit)
		return
	}
	if r == nil || !a.Running || a.Was.Active != "active" {
		return
	}
	w := u.wants[m.MachineID()][a.Unit]
	u.markStop(m, a.Unit, r, w)
	if w == nil || w.state != unit.Launched || w.hash != r.hash || u.singleton(m, a.Unit) || r.view == 0 {
		return
	}
	if at, ok := u.excused[a.Unit]; ok && u.c.Now()-at < excuseMax {
		return
	}
	now := viewOf(m)
	if slices.ContainsFunc(w.changes, func(at store.Index) bool { return at > r.view && at <= max(now, r.view) }) {
		return
	}
	u.c.Fail(Stopped, "%s asks for a %s of %s, which runs as decided: it was started when index %d was read, now %d is, and nothing between them says so",
		m.Name(), a.Verb, a.Unit, r.view, now)
}

// markStop notes stops of what was decided while this machine could not hear of it.
func (u *Units) markStop(m *sim.Machine, name string, r *running, w *want) {
	if w != nil && w.state != "" {
		return
	}
	if r.life != m.Life() {
		u.c.Mark("check: left-over of an earlier life stopped")
	}
	if target, ok := u.p.get("job", name, "target"); ok && target.value != m.MachineID() {
		u.c.Mark("check: unit stopped where it was before it moved")
	}
}

// claimed holds the start of a singleton to its fence.
func (u *Units) claimed(m *sim.Machine, name string) {
	if !u.singleton(m, name) || u.lately(m) {
		return
	}
	if claim, _ := u.p.get("job", name, "claim"); claim.value != m.MachineID() {
		u.c.Fail(Overlap, "%s starts %s, whose claim is %q", m.Name(), name, claim.value)
	}
}

// excuseMax is how long a restart that somebody asked for may take to arrive.
const excuseMax = 30 * time.Second

// singleton says that a unit on a machine is one.
func (u *Units) singleton(m *sim.Machine, name string) bool {
	return strings.Contains(m.Systemd().Text(name), "\nSingleton=true")
}

func (u *Units) starting(m *sim.Machine, name string) *running {
	if u.runs[m] == nil {
		u.runs[m] = map[string]*running{}
	}
	if u.runs[m][name] == nil {
		u.runs[m][name] = &running{}
	}
	return u.runs[m][name]
}

// ran looks at units that begin to run, or end.
func (u *Units) ran(m *sim.Machine, r systemd.Ran) {
	if !r.On {
		if r.Why == "power" {
			delete(u.runs[m], r.Unit)
		}
		return
	}
	u.starting(m, r.Unit).hash, u.starting(m, r.Unit).life = r.Hash, m.Life()
	if !u.singleton(m, r.Unit) {
		return
	}
	for _, o := range u.c.Machines() {
		if o == m || !o.Powered() || !o.Systemd().Runs(r.Unit) {
			continue
		}
		if u.lately(m) || u.lately(o) {
			u.Allowed++
			u.c.Mark("check: allowed overlap of a singleton")
			continue
		}
		u.c.Fail(Overlap, "%s runs on %s while it runs on %s", r.Unit, m.Name(), o.Name())
	}
}

// released looks at claims that were let go of.
func (u *Units) released() {
	gone := u.p.gone
	u.p.gone = nil
	for _, g := range gone {
		m := u.c.ByMachineID(g.machine)
		record, _ := u.p.machine(g.machine)
		if m == nil || record == nil || !m.Powered() || !m.Systemd().Runs(g.unit) {
			continue
		}
		if !u.singleton(m, g.unit) {
			continue
		}
		u.c.Fail(Overlap, "%s let go of its claim to %s at index %d, while it runs there", m.Name(), g.unit, g.index)
	}
}
