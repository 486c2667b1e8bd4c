package registry

import (
	"cmp"
	"maps"
	"slices"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// rawMax is how long a line of stored contents may be. Whoever stored them has judged it.
const rawMax = 1 << 30

// crossing is a table of units and machines that can be read both ways.
type crossing[V any] struct {
	rows map[string]map[string]V
	cols map[string]map[string]struct{}
}

func newCrossing[V any]() crossing[V] {
	return crossing[V]{map[string]map[string]V{}, map[string]map[string]struct{}{}}
}

func (c *crossing[V]) put(name, machine string, v V) {
	if c.rows[name] == nil {
		c.rows[name] = map[string]V{}
	}
	if c.cols[machine] == nil {
		c.cols[machine] = map[string]struct{}{}
	}
	c.rows[name][machine], c.cols[machine][name] = v, struct{}{}
}

func (c *crossing[V]) drop(name, machine string) {
	delete(c.rows[name], machine)
	if len(c.rows[name]) == 0 {
		delete(c.rows, name)
	}
	delete(c.cols[machine], name)
	if len(c.cols[machine]) == 0 {
		delete(c.cols, machine)
	}
}

// columns lists the machines of a unit, sorted.
func (c *crossing[V]) columns(name string) []string { return slices.Sorted(maps.Keys(c.rows[name])) }

// of lists the units of a machine, sorted.
func (c *crossing[V]) of(machine string) []string { return slices.Sorted(maps.Keys(c.cols[machine])) }

// dirty is what has to be told, and of it the units and machines that have to be made
// anew before.
type dirty struct {
	all      bool
	units    map[string]struct{}
	machines map[string]struct{}
	states   Pairs
	assigned Pairs
	unused   map[string]unit.Hash
	engine   bool
}

func newDirty() dirty {
	return dirty{
		units: map[string]struct{}{}, machines: map[string]struct{}{}, states: Pairs{},
		assigned: Pairs{}, unused: map[string]unit.Hash{},
	}
}

func (m *Model) reset() {
	m.jobs, m.contents, m.machines = map[string]*job{}, map[string]*contents{}, map[string]*machine{}
	m.states, m.assigned = newCrossing[*UnitState](), newCrossing[Document]()
	m.launched, m.claims = newCrossing[struct{}](), newCrossing[struct{}]()
	m.lease, m.version, m.bad = leaf{}, leaf{}, map[string]string{}
	m.names, m.ids = nil, nil
	m.dirty = newDirty()
}

// hear takes what the source tells.
func (m *Model) hear(events []*store.Event) {
	if events == nil {
		m.list()
	}
	for _, e := range events {
		m.take(e)
	}
	m.flush()
}

// list reads everything.
func (m *Model) list() {
	m.reset()
	m.dirty.all = true
	view := m.src.View()
	if view == nil {
		return
	}
	m.ready = true
	for _, p := range m.prefixes {
		view.Whole(p, func(n *store.Node) {
			if !n.Dir {
				m.set(n)
			}
		})
	}
}

// take takes one event.
func (m *Model) take(e *store.Event) {
	m.ready = true
	m.index = max(m.index, e.Index)
	switch {
	case !e.Node.Deleted && !e.Node.Dir:
		m.set(e.Node)
	case e.Node.Deleted:
		m.remove(e.Node.Key)
	default: // a directory: it may be in the place of a file
		if s, _ := m.keys.split(e.Node.Key); s.kind > isDir {
			m.remove(e.Node.Key)
		}
	}
}

// set takes a file.
func (m *Model) set(n *store.Node) {
	s, _ := m.keys.split(n.Key)
	l := leafOf(n)
	switch s.kind {
	case isObject, isTargetState, isTarget, isJobState, isClaim, isMove:
		m.setJob(n.Key, s, l)
	case isContents:
		m.setContents(n.Key, s.a, l)
	case isState:
		m.setState(n.Key, s, l)
	case isMachine, isCordon, isMetadata:
		m.setMachine(n.Key, s, l)
	case isAssignment:
		m.setAssignment(n.Key, s.b, s.a, l)
	case isGlobal:
		m.setAssignment(n.Key, s.a, "", l)
	case isLease:
		m.dirty.engine = m.dirty.engine || m.lease.value != l.value || m.lease.created != l.created
		m.lease = l
	case isVersion:
		m.version, m.dirty.engine = l, true
	}
}

// remove takes the removal of a file or a directory.
func (m *Model) remove(key string) {
	s, e := m.keys.split(key)
	delete(m.bad, key)
	switch s.kind {
	case isDir:
		m.removeDir(e)
	case isObject, isTargetState, isTarget, isJobState, isClaim, isMove:
		m.setJob(key, s, leaf{})
	case isContents:
		m.setContents(key, s.a, leaf{})
	case isState:
		m.dropState(s.a, s.b)
	case isMachine, isCordon, isMetadata:
		m.setMachine(key, s, leaf{})
	case isAssignment:
		m.dropAssignment(s.b, s.a)
	case isGlobal:
		m.dropAssignment(s.a, "")
	case isLease:
		m.lease, m.dirty.engine = leaf{}, true
	case isVersion:
		m.version, m.dirty.engine = leaf{}, true
	}
}

// removeDir takes the removal of a directory of ours, or of one above.
func (m *Model) removeDir(e []string) {
	if len(e) == 0 {
		m.reset()
		m.dirty.all = true
		return
	}
	below := func(all func() []string) []string { // directories of single units and machines come and go all the time
		if len(e) > 1 {
			return e[1:2]
		}
		return all()
	}
	switch e[0] {
	case "job":
		for _, name := range below(m.Jobs) {
			m.removeJob(name)
		}
	case "unit":
		for _, hash := range slices.Sorted(maps.Keys(m.contents)) {
			m.setContents("", hash, leaf{})
		}
	case "states":
		for _, name := range below(m.Stated) {
			for _, id := range m.states.columns(name) {
				m.dropState(name, id)
			}
		}
	case "machines":
		for _, id := range below(func() []string { return unionSorted(m.machines, m.assigned.cols) }) {
			if id != "" {
				m.removeMachine(id, e[min(2, len(e)):])
			}
		}
	case "global":
		for _, name := range m.assigned.of("") {
			m.dropAssignment(name, "")
		}
	case "moves":
		for _, name := range m.Jobs() {
			m.setJob("", slot{kind: isMove, a: name}, leaf{})
		}
	case "lease":
		m.lease, m.dirty.engine = leaf{}, true
	case "engine":
		m.version, m.dirty.engine = leaf{}, true
	}
}

func unionSorted[A, B any](a map[string]A, b map[string]B) []string {
	all := append(slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b))...)
	slices.Sort(all)
	return slices.Compact(all)
}

func (m *Model) removeJob(name string) {
	for _, k := range []kind{isObject, isTargetState, isTarget, isJobState, isClaim} {
		m.setJob("", slot{kind: k, a: name}, leaf{})
	}
}

// removeMachine forgets all of a machine, or its metadata or units.
func (m *Model) removeMachine(id string, only []string) {
	if x := m.machines[id]; x != nil {
		if len(only) == 0 {
			m.setMachine("", slot{kind: isMachine, a: id}, leaf{})
			m.setMachine("", slot{kind: isCordon, a: id}, leaf{})
		}
		if len(only) == 0 || only[0] == "metadata" {
			for _, key := range slices.Sorted(maps.Keys(x.dynamic)) {
				m.setMachine("", slot{isMetadata, id, key}, leaf{})
			}
		}
	}
	if len(only) == 0 || only[0] == "units" {
		for _, name := range m.assigned.of(id) {
			m.dropAssignment(name, id)
		}
	}
}

// refuse names a document that cannot be read, once.
func (m *Model) refuse(key, value string, err error) {
	if have, known := m.bad[key]; known && have == value {
		return
	}
	m.bad[key] = value
	m.log.Log(env.Warn, "a document of the unit registry cannot be read and is passed over; remove it, or write it as docs/units-internals.md says", "key", key, "reason", err)
}

// good forgets that a document could not be read.
func (m *Model) good(key string) {
	if len(m.bad) > 0 {
		delete(m.bad, key)
	}
}

func (m *Model) setJob(key string, s slot, l leaf) {
	if err := unit.CheckName(s.a); err != nil {
		if l.there() {
			m.refuse(key, l.value, err)
		}
		return
	}
	j := m.jobs[s.a]
	if j == nil {
		if !l.there() {
			return
		}
		j = &job{}
		m.jobs[s.a] = j
	}
	switch s.kind {
	case isObject:
		m.setObject(key, s.a, j, l)
	case isTargetState:
		j.desired = l
	case isTarget:
		j.target = l
	case isJobState:
		m.cross(&m.launched, s.a, j.launcher, l)
		j.launcher = l
	case isClaim:
		m.cross(&m.claims, s.a, j.claim, l)
		j.claim = l
	case isMove:
		j.move = l
	}
	m.dirty.units[s.a] = struct{}{}
}

// cross keeps a table of units and the machines that a leaf names.
func (m *Model) cross(c *crossing[struct{}], name string, was, is leaf) {
	if was.there() {
		c.drop(name, was.value)
	}
	if is.there() {
		c.put(name, is.value, struct{}{})
	}
}

func (m *Model) setObject(key, name string, j *job, l leaf) {
	was, had := j.hash, j.known
	j.object, j.known = l, false
	if l.there() {
		_, h, err := DecodeObject(l.value)
		if err != nil {
			m.refuse(key, l.value, err)
		} else {
			m.good(key)
			j.hash, j.known = h, true
		}
	}
	if had && (!j.known || was != j.hash) {
		m.release(was, name)
	}
	if j.known {
		m.contentsOf(j.hash).users[name] = struct{}{}
	}
}

// contentsOf gives the entry of a hash, which need not be stored.
func (m *Model) contentsOf(h unit.Hash) *contents {
	c := m.contents[h.String()]
	if c == nil {
		c = &contents{hash: h, users: map[string]struct{}{}}
		m.contents[h.String()] = c
	}
	return c
}

// release says that a unit does not have contents any more.
func (m *Model) release(h unit.Hash, name string) {
	c := m.contents[h.String()]
	delete(c.users, name)
	m.unused(h, c)
}

// unused tells of contents that nobody has, or forgets them where they are not stored.
func (m *Model) unused(h unit.Hash, c *contents) {
	switch {
	case len(c.users) > 0:
	case c.leaf.there():
		m.dirty.unused[h.String()] = h
	default:
		delete(m.contents, h.String())
	}
}

func (m *Model) setContents(key, name string, l leaf) {
	h, err := contentsHash(name)
	if err != nil {
		if l.there() {
			m.refuse(key, l.value, err)
		}
		return
	}
	c := m.contentsOf(h)
	same := c.leaf.value == l.value && c.leaf.there() == l.there()
	c.leaf = l
	if !same {
		m.readContents(key, c)
		for _, name := range slices.Sorted(maps.Keys(c.users)) {
			m.dirty.units[name] = struct{}{}
		}
	}
	m.unused(h, c)
}

func (m *Model) readContents(key string, c *contents) {
	c.raw, c.file = "", nil
	if !c.leaf.there() {
		return
	}
	raw, err := DecodeContents(c.leaf.value)
	if err == nil {
		c.raw = raw
		c.file, err = unit.Parse(raw, rawMax)
	}
	if err != nil {
		m.refuse(key, c.leaf.value, err)
		return
	}
	m.good(key)
}

func (m *Model) setState(key string, s slot, l leaf) {
	u, err := DecodeState(s.a, s.b, l.value)
	if e := cmp.Or(unit.CheckName(s.a), CheckMachine(s.b), err); e != nil {
		m.refuse(key, l.value, e)
		m.dropState(s.a, s.b)
		return
	}
	m.good(key)
	u.Modified = l.modified
	if was := m.states.rows[s.a][s.b]; was == nil || !sameState(was, u) {
		m.dirty.states.Add(s.a, s.b)
	}
	m.states.put(s.a, s.b, u)
}

func sameState(a, b *UnitState) bool {
	x, y := *a, *b
	x.Modified, y.Modified = 0, 0
	return x == y
}

func (m *Model) dropState(name, machine string) {
	if m.states.rows[name][machine] == nil {
		return
	}
	m.states.drop(name, machine)
	m.dirty.states.Add(name, machine)
}

func (m *Model) setAssignment(key, name, machine string, l leaf) {
	if err := unit.CheckName(name); err != nil {
		m.refuse(key, l.value, err)
		return
	}
	a, err := DecodeAssignment(name, l.value)
	if err != nil {
		m.refuse(key, l.value, err)
		a = nil
	} else {
		m.good(key)
	}
	m.assigned.put(name, machine, Document{a, l.modified})
	m.dirty.assigned.Add(name, machine)
}

func (m *Model) dropAssignment(name, machine string) {
	if _, there := m.assigned.rows[name][machine]; !there {
		return
	}
	m.assigned.drop(name, machine)
	m.dirty.assigned.Add(name, machine)
}

func (m *Model) setMachine(key string, s slot, l leaf) {
	if err := CheckMachine(s.a); err != nil {
		if l.there() {
			m.refuse(key, l.value, err)
		}
		return
	}
	x := m.machines[s.a]
	if x == nil {
		if !l.there() {
			return
		}
		x = &machine{dynamic: map[string]string{}}
		m.machines[s.a] = x
	}
	switch s.kind {
	case isCordon:
		x.cordon = l
	case isMetadata:
		if x.dynamic[s.b] = l.value; !l.there() {
			delete(x.dynamic, s.b)
		}
	case isMachine:
		m.setRecord(key, s.a, x, l)
	}
	m.dirty.machines[s.a] = struct{}{}
}

func (m *Model) setRecord(key, id string, x *machine, l leaf) {
	same := x.static != nil && x.object.value == l.value
	x.object = l
	if same && l.there() {
		return // a beat
	}
	x.static = nil
	if !l.there() {
		return
	}
	static, err := DecodeMachine(id, l.value)
	if err != nil {
		m.refuse(key, l.value, err)
		return
	}
	m.good(key)
	x.static = static
}

// flush makes units and machines anew that are not what they were, and tells of the change.
func (m *Model) flush() {
	d := m.dirty
	m.dirty = newDirty()
	if v := m.src.View(); v != nil {
		m.index = max(m.index, v.Index())
	}
	c := Change{All: d.all, Engine: d.engine}
	var came, left []string
	for _, name := range slices.Sorted(maps.Keys(d.units)) {
		was := m.Unit(name)
		if m.makeUnit(name) {
			c.Units = append(c.Units, name)
		}
		note(name, was != nil, m.Unit(name) != nil, &came, &left)
	}
	m.names = merge(m.names, came, left)
	came, left = nil, nil
	for _, id := range slices.Sorted(maps.Keys(d.machines)) {
		was := m.Machine(id)
		if m.makeMachine(id) {
			c.Machines = append(c.Machines, id)
		}
		note(id, was != nil, m.Machine(id) != nil, &came, &left)
	}
	m.ids = merge(m.ids, came, left)
	if d.all {
		c.Units, c.Machines, c.Engine = nil, nil, false
	} else {
		c.States, c.Assigned = d.states.List(), d.assigned.List()
		c.Unused = inOrder(d.unused)
	}
	if c.empty() {
		return
	}
	for _, l := range m.tell {
		if !l.over {
			l.fn(c)
		}
	}
}

// note adds a name to those that have come or left.
func note(name string, was, is bool, came, left *[]string) {
	switch {
	case is && !was:
		*came = append(*came, name)
	case was && !is:
		*left = append(*left, name)
	}
}

// merge gives a sorted list with some names more and some less. The list itself may have
// been handed out: it stays as it is.
func merge(list, came, left []string) []string {
	if len(came)+len(left) == 0 {
		return list
	}
	merged := make([]string, 0, len(list)+len(came))
	for _, name := range list {
		for len(came) > 0 && came[0] < name {
			merged, came = append(merged, came[0]), came[1:]
		}
		if len(left) > 0 && left[0] == name {
			left = left[1:]
			continue
		}
		merged = append(merged, name)
	}
	return append(merged, came...)
}

// inOrder lists the values of a map by their keys.
func inOrder[V any](set map[string]V) (list []V) {
	for _, key := range slices.Sorted(maps.Keys(set)) {
		list = append(list, set[key])
	}
	return list
}

// makeUnit makes a unit of its keys, and tells whether anything about it is new.
func (m *Model) makeUnit(name string) bool {
	j := m.jobs[name]
	was := j.unit
	j.unit = nil
	if j.known {
		j.unit = m.unitOf(name, j, was)
	}
	if j.empty() {
		delete(m.jobs, name)
	}
	return was == nil || j.unit == nil || !sameUnit(was, j.unit)
}

func (m *Model) unitOf(name string, j *job, was *Unit) *Unit {
	u := &Unit{
		Name: name, Hash: j.hash, Desired: unit.State(j.desired.value), Target: j.target.value,
		Launcher: j.launcher.value, Claim: j.claim.value, Move: j.move.value, Created: j.object.created, DesiredCreated: j.desired.created,
		ObjectIndex: j.object.modified, DesiredIndex: j.desired.modified, TargetIndex: j.target.modified,
		LauncherIndex: j.launcher.modified, ClaimIndex: j.claim.modified, MoveIndex: j.move.modified,
	}
	if !u.Desired.Valid() {
		if j.desired.there() {
			m.refuse(m.keys.TargetState(name), j.desired.value, errNoState)
		}
		u.Desired = unit.Inactive
	}
	if c := m.contents[j.hash.String()]; c != nil {
		u.File, u.Raw = c.file, c.raw
	}
	switch {
	case u.File == nil:
	case was != nil && was.File == u.File:
		u.Place, u.PlaceErr = was.Place, was.PlaceErr
	default:
		u.Place, u.PlaceErr = u.File.Placement(name)
	}
	return u
}

// sameUnit compares all but the errors, which follow from the file.
func sameUnit(a, b *Unit) bool {
	x, y := *a, *b
	x.PlaceErr, y.PlaceErr = nil, nil
	return x == y
}

// makeMachine makes a machine of its keys, and tells whether anything but the time of its
// last beat is new.
func (m *Model) makeMachine(id string) bool {
	x := m.machines[id]
	was := x.shown
	if !x.object.there() && !x.cordon.there() && len(x.dynamic) == 0 {
		delete(m.machines, id)
		return was != nil
	}
	x.shown = machineOf(id, x)
	return was == nil || !sameMachine(was, x.shown)
}

func machineOf(id string, x *machine) *Machine {
	shown := Machine{ID: id}
	if x.static != nil {
		shown = *x.static
		shown.Alive = true
	}
	shown.Cordon, shown.Created, shown.Modified = x.cordon.value, x.object.created, x.object.modified
	if len(x.dynamic) > 0 {
		shown.Dynamic = maps.Clone(x.dynamic)
	}
	return &shown
}

func sameMachine(a, b *Machine) bool {
	return a.ID == b.ID && a.PublicIP == b.PublicIP && a.Version == b.Version && a.Host == b.Host && a.API == b.API &&
		a.Instance == b.Instance && a.Boot == b.Boot && a.Engine == b.Engine && a.Cordon == b.Cordon &&
		a.Alive == b.Alive && a.Created == b.Created && maps.Equal(a.Metadata, b.Metadata) &&
		maps.Equal(a.Dynamic, b.Dynamic) && slices.Equal(a.Capacity, b.Capacity)
}
