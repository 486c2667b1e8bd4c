package registry

import (
	"maps"
	"slices"
	"strconv"

	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// Model is a picture of the registry in memory, kept up from a source. A change costs as
// much as what it changes, whatever else there is.
//
// Always true: between two turns the model is what the view of its source says, and
// equal views make equal models, whatever led to them. A document that cannot be read is
// named in the log, once, and counts as missing.
//
// What it hands out is immutable and may be kept.
type Model struct {
	keys     Keys
	log      env.Log
	src      control.Source
	prefixes []string
	cancels  []func()
	ready    bool
	index    store.Index

	jobs     map[string]*job
	contents map[string]*contents // by hash
	machines map[string]*machine
	states   crossing[*UnitState] // by unit and machine
	assigned crossing[Document]   // by unit and machine; "" is all machines: global
	launched crossing[struct{}]   // by unit and machine: job-state
	claims   crossing[struct{}]
	lease    leaf
	version  leaf
	bad      map[string]string // values of documents that cannot be read, by key

	names []string // of units, sorted
	ids   []string // of machines, sorted
	dirty dirty
	tell  []*listener
}

// leaf is a key as it is stored; modified is 0 where it is not there.
type leaf struct {
	value             string
	created, modified store.Index
}

func leafOf(n *store.Node) leaf { return leaf{n.Value, n.Created, n.Modified} }

func (l leaf) there() bool { return l.modified != 0 }

// job is all that is stored of a unit by its name.
type job struct {
	object, desired, target, launcher, claim, move leaf

	hash  unit.Hash // of object, where it is a good document
	known bool      // object is one
	unit  *Unit     // nil where it is not known
}

func (j *job) empty() bool {
	return !j.object.there() && !j.desired.there() && !j.target.there() && !j.launcher.there() && !j.claim.there() && !j.move.there()
}

// contents is one stored unit file and who has it.
type contents struct {
	hash  unit.Hash
	leaf  leaf
	raw   string
	file  *unit.File
	users map[string]struct{}
}

// machine is all that is stored of a machine, but for what is assigned to it.
type machine struct {
	object, cordon leaf
	static         *Machine // of object; nil where it is not there or bad
	dynamic        map[string]string
	shown          *Machine
}

// Document is an assignment as it is stored.
type Document struct {
	*Assignment // nil where it cannot be read
	Index       store.Index
}

// Change is what is different from before. All says that everything may be; then the lists
// are empty.
type Change struct {
	All      bool
	Units    []string    // sorted
	Machines []string    // sorted; a lease that was only refreshed is no change
	States   []Pair      // sorted
	Assigned []Pair      // sorted; without a machine: global
	Unused   []unit.Hash // contents that no unit has any more
	Engine   bool        // the lease or the version of the engine
}

// Pair is a unit on a machine.
type Pair struct{ Unit, Machine string }

// Pairs is a set of pairs. No name of a unit holds a slash, so the keys are unique.
type Pairs map[string]Pair

// Add puts a pair into the set.
func (s Pairs) Add(name, machine string) { s[name+"/"+machine] = Pair{name, machine} }

// List gives the pairs in the order of their keys.
func (s Pairs) List() []Pair { return inOrder(s) }

// empty reports whether there is nothing to tell.
func (c *Change) empty() bool {
	return !c.All && !c.Engine && len(c.Units)+len(c.Machines)+len(c.States)+len(c.Assigned)+len(c.Unused) == 0
}

type listener struct {
	fn   func(Change)
	over bool
}

// Open makes a model of the registry at k. On a machine whose source has a part of it
// only, prefixes name that part: see Keys.Worker.
func Open(src control.Source, k Keys, log env.Log, prefixes ...string) *Model {
	m := &Model{keys: k, log: log, src: src, prefixes: prefixes}
	if len(prefixes) == 0 {
		m.prefixes = []string{k.Prefix}
	}
	m.reset()
	for _, p := range m.prefixes {
		m.cancels = append(m.cancels, src.Follow(p, m.hear))
	}
	if src.View() != nil {
		m.list()
		m.flush()
	}
	return m
}

// Stop ends the following. The model stays as it is.
func (m *Model) Stop() {
	for _, cancel := range m.cancels {
		cancel()
	}
	m.cancels = nil
}

// OnChange has fn called with every later change, after the model shows it.
func (m *Model) OnChange(fn func(Change)) (cancel func()) {
	l := &listener{fn: fn}
	m.tell = append(m.tell, l)
	return func() {
		l.over = true
		m.tell = slices.DeleteFunc(slices.Clone(m.tell), func(have *listener) bool { return have == l })
	}
}

// Ready reports whether anything was read yet.
func (m *Model) Ready() bool { return m.ready }

// Index is an index at which the registry was what the model shows: that of the last
// change of it, or a later one.
func (m *Model) Index() store.Index { return m.index }

// Keys says where the registry lies.
func (m *Model) Keys() Keys { return m.keys }

// Names lists the units that there are, sorted. The list is shared and must not be changed.
func (m *Model) Names() []string { return m.names }

// Units lists the units, sorted by name.
func (m *Model) Units() []*Unit {
	all := make([]*Unit, len(m.names))
	for i, name := range m.names {
		all[i] = m.jobs[name].unit
	}
	return all
}

// Unit gives a unit, or nil where there is none of that name.
func (m *Model) Unit(name string) *Unit {
	if j := m.jobs[name]; j != nil {
		return j.unit
	}
	return nil
}

// Machines lists the machines of which anything is stored, sorted by ID. Those that are
// not alive have no record: only what was set at run time is known of them.
func (m *Model) Machines() []*Machine {
	all := make([]*Machine, len(m.ids))
	for i, id := range m.ids {
		all[i] = m.machines[id].shown
	}
	return all
}

// Machine gives a machine, or nil where nothing is stored of it.
func (m *Model) Machine(id string) *Machine {
	if x := m.machines[id]; x != nil {
		return x.shown
	}
	return nil
}

// Alive reports whether the lease of a machine has not run out.
func (m *Model) Alive(id string) bool {
	x := m.machines[id]
	return x != nil && x.shown.Alive
}

// States lists what living machines say about a unit, sorted by machine.
func (m *Model) States(name string) (all []*UnitState) {
	for _, id := range m.states.columns(name) {
		if m.Alive(id) {
			all = append(all, m.states.rows[name][id])
		}
	}
	return all
}

// State is what a living machine says about a unit, or nil.
func (m *Model) State(name, machine string) *UnitState {
	if !m.Alive(machine) {
		return nil
	}
	return m.states.rows[name][machine]
}

// Said is what a machine, alive or not, has said about a unit, or nil.
func (m *Model) Said(name, machine string) *UnitState { return m.states.rows[name][machine] }

// StatesOf lists what a machine says about units, sorted by name, also one that is not
// alive any more.
func (m *Model) StatesOf(machine string) (all []*UnitState) {
	for _, name := range m.states.of(machine) {
		all = append(all, m.states.rows[name][machine])
	}
	return all
}

// Stated lists the names for which there are states, sorted: also of units that were
// destroyed.
func (m *Model) Stated() []string { return slices.Sorted(maps.Keys(m.states.rows)) }

// StatedAt lists the machines that have said something about a unit, alive or not, sorted.
func (m *Model) StatedAt(name string) []string { return m.states.columns(name) }

// LaunchedBy lists the units whose job-state names a machine, sorted.
func (m *Model) LaunchedBy(machine string) []string { return m.launched.of(machine) }

// ClaimedBy lists the units whose claim names a machine, sorted.
func (m *Model) ClaimedBy(machine string) []string { return m.claims.of(machine) }

// Assigned lists the machines that are told to have a unit, sorted; "" stands for all.
func (m *Model) Assigned(name string) []string { return m.assigned.columns(name) }

// AssignedNames lists the units that some machine is told to have, sorted.
func (m *Model) AssignedNames() []string { return slices.Sorted(maps.Keys(m.assigned.rows)) }

// AssignedTo lists the names of the units that a machine is told to have, sorted; "" gives
// the global ones.
func (m *Model) AssignedTo(machine string) []string { return m.assigned.of(machine) }

// Assignment is what a machine, or "" for all of them, is told of a unit. False says that
// there is no such document.
func (m *Model) Assignment(name, machine string) (Document, bool) {
	d, ok := m.assigned.rows[name][machine]
	return d, ok
}

// Lease is who decides, and the index at which the lease was created; 0 is nobody.
func (m *Model) Lease() (l Lease, created, modified store.Index) {
	if !m.lease.there() {
		return l, 0, 0
	}
	l, _ = DecodeLease(m.lease.value) // who cannot be told holds it all the same
	return l, m.lease.created, m.lease.modified
}

// Version is the version of the engine that the cluster has, 0 where nobody has said so.
func (m *Model) Version() int {
	n, err := strconv.Atoi(m.version.value)
	if err != nil {
		return 0
	}
	return n
}

// Unused lists the contents that no unit has, with their modified indexes, sorted.
func (m *Model) Unused() (all []unit.Hash) {
	for _, c := range inOrder(m.contents) {
		if _, unused := m.UnusedIndex(c.hash); unused {
			all = append(all, c.hash)
		}
	}
	return all
}

// UnusedIndex is the modified index of contents that are stored but that no unit has.
func (m *Model) UnusedIndex(h unit.Hash) (store.Index, bool) {
	c := m.contents[h.String()]
	if c == nil || !c.leaf.there() || len(c.users) > 0 {
		return 0, false
	}
	return c.leaf.modified, true
}

// Contents is a stored unit file, or nil.
func (m *Model) Contents(h unit.Hash) *unit.File {
	if c := m.contents[h.String()]; c != nil {
		return c.file
	}
	return nil
}

// Left is a key that nobody needs any more.
type Left struct {
	Key   string
	Value string
	Index store.Index // modified
}

// Leftovers lists the keys of a unit that is not known any more: in job/NAME, and the move.
func (m *Model) Leftovers(name string) (left []Left) {
	j := m.jobs[name]
	if j == nil || j.object.there() {
		return nil
	}
	for _, l := range []struct {
		key  string
		leaf leaf
	}{
		{m.keys.TargetState(name), j.desired},
		{m.keys.Target(name), j.target},
		{m.keys.JobState(name), j.launcher},
		{m.keys.Claim(name), j.claim},
		{m.keys.Move(name), j.move},
	} {
		if l.leaf.there() {
			left = append(left, Left{l.key, l.leaf.value, l.leaf.modified})
		}
	}
	return left
}

// Jobs lists the names of which anything is stored below job/, sorted.
func (m *Model) Jobs() []string { return slices.Sorted(maps.Keys(m.jobs)) }

// Holder is the machine that has the claim of a unit, known or not, and its index.
func (m *Model) Holder(name string) (machine string, index store.Index) {
	if j := m.jobs[name]; j != nil && j.claim.there() {
		return j.claim.value, j.claim.modified
	}
	return "", 0
}

// Current is what a unit is, in the cluster's terms: "" for a global one.
//
// It is launched where its machine says both that it has launched it and what systemd
// says of it; loaded where only the latter; and inactive otherwise. A machine that is not
// alive says nothing.
func (m *Model) Current(u *Unit) unit.State {
	switch {
	case u.Global():
		return ""
	case u.Target == "" || m.State(u.Name, u.Target) == nil:
		return unit.Inactive
	case u.Launcher == u.Target:
		return unit.Launched
	}
	return unit.Loaded
}
