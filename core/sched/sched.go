package sched

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/unit"
)

// Options is how a State differs from the default.
type Options struct{}

// State is the picture that plans are made from: what it was told, and the decisions of
// its own plans.
type State struct {
	machines map[string]*Machine
	units    map[string]*Unit
	from     map[string]string // of this plan: where units were that it has moved
	why      map[string][]string
}

// New gives an empty picture.
func New(Options) *State {
	return &State{machines: map[string]*Machine{}, units: map[string]*Unit{}}
}

// SetMachine tells of a machine that is alive, or of what has changed about it.
func (s *State) SetMachine(m Machine) { s.machines[m.ID] = &m }

// RemoveMachine tells that a machine is gone.
func (s *State) RemoveMachine(id string) { delete(s.machines, id) }

// SetUnit tells of a unit as it is: where the picture has it elsewhere, because a decision
// was not carried out, what is told here counts.
func (s *State) SetUnit(u Unit) { s.units[u.Name] = tidy(u) }

// RemoveUnit tells that a unit is no more.
func (s *State) RemoveUnit(name string) { delete(s.units, name) }

// Clone gives a picture of its own, to try things out on.
func (s *State) Clone() *State {
	c := New(Options{})
	for _, id := range slices.Sorted(maps.Keys(s.machines)) {
		c.SetMachine(*s.machines[id])
	}
	for _, name := range slices.Sorted(maps.Keys(s.units)) {
		c.SetUnit(*s.units[name])
	}
	return c
}

// Plan decides what has to be decided, and takes it for done. Decisions come in the order
// of the names of their units. A unit that may stay where it is does.
func (s *State) Plan() []Decision {
	s.from, s.why = map[string]string{}, map[string][]string{}
	for s.unschedule() || s.schedule() || s.shift() {
	}
	return s.decisions()
}

func (s *State) decisions() []Decision {
	var ds []Decision
	for _, name := range slices.Sorted(maps.Keys(s.from)) {
		if u := s.units[name]; u.Machine != s.from[name] {
			ds = append(ds, Decision{name, s.from[name], u.Machine, strings.Join(s.why[name], "; ")})
		}
	}
	return ds
}

func (s *State) put(u *Unit, id, why string) {
	if _, known := s.from[u.Name]; !known {
		s.from[u.Name] = u.Machine
	}
	u.Machine = id
	s.why[u.Name] = append(s.why[u.Name], why)
}

// sweep calls fn for each ordinary unit by name, and says whether any was changed.
func (s *State) sweep(fn func(u *Unit) bool) bool {
	changed := false
	for _, name := range slices.Sorted(maps.Keys(s.units)) {
		changed = fn(s.units[name]) || changed
	}
	return changed
}

func (s *State) unschedule() bool {
	return s.sweep(func(u *Unit) bool {
		if u.Machine == "" {
			return false
		}
		why := s.expelled(u)
		if why == "" {
			for _, a := range s.on(u.Machine) {
				if replaces(u, a) && !s.move(a, "", "replaced by "+u.Name) {
					why = a.Name + " cannot leave, which it replaces"
				}
			}
		}
		if why != "" {
			s.put(u, "", why)
		}
		return why != ""
	})
}

// expelled says why a unit may not stay where it is, or "".
func (s *State) expelled(u *Unit) string {
	m := s.machines[u.Machine]
	if !u.wanted() {
		return "not wanted"
	}
	if u.Place.Global {
		return "global"
	}
	if m == nil {
		return "machine " + short(u.Machine) + " is gone"
	}
	if r := unmet(u.Place, m); r != "" {
		return r
	}
	if r := s.astray(u, m.ID, nil); r != "" {
		return r
	}
	return s.clash(u, m.ID, nil)
}

// astray gives the first MachineOf that is not on a machine, except for members of group.
func (s *State) astray(u *Unit, id string, group []*Unit) string {
	for _, p := range u.Place.Peers {
		t := s.units[p]
		if slices.Contains(group, t) && t != u {
			continue
		}
		if p == u.Name || t == nil || !t.wanted() || !(t.Machine == id && !t.Place.Global || t.Place.Global && slices.Contains(s.GlobalsOn(id), p)) {
			return "MachineOf=" + p
		}
	}
	return ""
}

// clash gives the first conflict with a unit on a machine, except for members of group.
func (s *State) clash(u *Unit, id string, group []*Unit) string {
	for _, o := range append(s.on(id), s.globals(id)...) {
		if slices.Contains(group, o) {
			continue
		}
		if g := conflict(u, o); g != "" {
			return "Conflicts=" + g
		}
	}
	return ""
}

// on gives the wanted units assigned to a machine, by name.
func (s *State) on(id string) []*Unit {
	var list []*Unit
	s.sweep(func(u *Unit) bool {
		if u.Machine == id && u.wanted() && !u.Place.Global {
			list = append(list, u)
		}
		return false
	})
	return list
}

func (s *State) globals(id string) []*Unit {
	var all []*Unit
	s.sweep(func(u *Unit) bool {
		if u.Place.Global {
			all = append(all, u)
		}
		return false
	})
	if s.machines[id] == nil {
		return nil
	}
	return admitted(s.machines[id], s.on(id), all)
}

// GlobalsOn gives the names of the global units that run on a machine, in their order.
func (s *State) GlobalsOn(id string) []string {
	var names []string
	for _, g := range s.globals(id) {
		names = append(names, g.Name)
	}
	return names
}

func (s *State) load(id string) int {
	n := 0
	for _, u := range append(s.on(id), s.globals(id)...) {
		n += u.weight()
	}
	return n
}

// refusal says why a machine cannot take the units of a group, which are on one other
// machine or on none, or "".
func (s *State) refusal(group []*Unit, m *Machine) string {
	if m.Draining || m.Cordoned {
		return "cordoned"
	}
	for _, u := range group {
		if r := unmet(u.Place, m); r != "" {
			return r
		}
	}
	for _, u := range group {
		if r := s.astray(u, m.ID, group); r != "" {
			return r
		}
		if u.Held != "" && u.Held != m.ID && u.Held != u.Machine {
			return "still held by " + short(u.Held)
		}
		if r := s.clash(u, m.ID, group); r != "" {
			return r
		}
		for _, o := range s.on(m.ID) {
			if replaces(o, u) {
				return "replaced there by " + o.Name
			}
		}
	}
	return s.full(group, m)
}

// full says what a machine has too little of for a group, or "".
func (s *State) full(group []*Unit, m *Machine) string {
	need := map[string]int64{}
	kin := map[string]int{}
	for _, u := range group {
		kin[family(u.Name)]++
		for _, q := range u.Place.Resources {
			need[q.Name] += q.Amount
		}
	}
	on := s.on(m.ID)
	for _, name := range slices.Sorted(maps.Keys(need)) {
		free, known := amount(m.Capacity, name)
		if !known {
			return "Resources: no " + name + " announced"
		}
		for _, o := range append(on, s.globals(m.ID)...) {
			n, _ := amount(o.Place.Resources, name)
			free -= n
		}
		if need[name] > free {
			return "Resources: too little " + name
		}
	}
	for _, u := range group {
		n := kin[family(u.Name)]
		for _, o := range on {
			if family(o.Name) == family(u.Name) {
				n++
			}
		}
		if u.Place.MaxPerMachine > 0 && n > u.Place.MaxPerMachine {
			return fmt.Sprintf("MaxPerMachine=%d", u.Place.MaxPerMachine)
		}
	}
	return ""
}

// choose gives the best machine for a group other than the one it is on, or nil.
func (s *State) choose(group []*Unit) *Machine {
	var best *Machine
	u := group[0]
	for _, id := range slices.Sorted(maps.Keys(s.machines)) {
		m := s.machines[id]
		if id == u.Machine || s.refusal(group, m) != "" || len(s.victims(group, id)) > 0 && !s.canClear(group, id) {
			continue
		}
		if best == nil || s.better(u, m, best) {
			best = m
		}
	}
	return best
}

// better reports whether u would rather be on a than on b, which has the smaller ID.
func (s *State) better(u *Unit, a, b *Machine) bool {
	return cmp.Or(
		cmp.Compare(liked(u, b), liked(u, a)),
		cmp.Compare(s.crowd(u, a), s.crowd(u, b)),
		cmp.Compare(s.room(u, b), s.room(u, a)),
		cmp.Compare(s.load(a.ID), s.load(b.ID)),
	) < 0
}

// liked is how many preferences of u a machine meets.
func liked(u *Unit, m *Machine) int {
	n := 0
	for _, c := range u.Place.Prefer {
		if c.Holds(m.Metadata) {
			n++
		}
	}
	return n
}

// crowd is how many of u's family are on machines with the same value of its Spread key.
func (s *State) crowd(u *Unit, m *Machine) int {
	if u.Place.Spread == "" {
		return 0
	}
	n := 0
	s.sweep(func(o *Unit) bool {
		at := s.machines[o.Machine]
		if o != u && o.wanted() && !o.Place.Global && at != nil && family(o.Name) == family(u.Name) &&
			at.Metadata[u.Place.Spread] == m.Metadata[u.Place.Spread] {
			n++
		}
		return false
	})
	return n
}

// room is how much of its scarcest resource a machine would have left, in thousandths.
func (s *State) room(u *Unit, m *Machine) int64 {
	if !u.Place.MostFree {
		return 0
	}
	left := int64(1000)
	for _, c := range m.Capacity {
		need, asked := amount(u.Place.Resources, c.Name)
		if c.Amount <= 0 || !asked && len(u.Place.Resources) > 0 {
			continue
		}
		free := c.Amount - need
		for _, o := range append(s.on(m.ID), s.globals(m.ID)...) {
			n, _ := amount(o.Place.Resources, c.Name)
			free -= n
		}
		left = min(left, share(free, c.Amount))
	}
	return left
}

// share is how many thousandths of the whole a part is.
func share(part, whole int64) int64 {
	if whole > 1<<50 {
		return part / (whole / 1000)
	}
	return part * 1000 / whole
}

// victims gives the units on a machine that one of the group replaces.
func (s *State) victims(group []*Unit, id string) []*Unit {
	var list []*Unit
	for _, o := range s.on(id) {
		if slices.ContainsFunc(group, func(u *Unit) bool { return replaces(u, o) }) {
			list = append(list, o)
		}
	}
	return list
}

// canClear reports whether all that group replaces on a machine can go elsewhere.
func (s *State) canClear(group []*Unit, id string) bool {
	try := s.Clone()
	try.from, try.why = map[string]string{}, map[string][]string{}
	for _, v := range s.victims(group, id) {
		if at := try.units[v.Name]; at.Machine == id && !try.move(at, "", "") {
			return false
		}
	}
	for _, u := range group {
		if v := try.units[u.Name]; v.Machine == "" && try.refusal([]*Unit{v}, try.machines[id]) != "" {
			return false
		}
	}
	return true
}

func (s *State) clear(group []*Unit, id string) {
	for _, v := range s.victims(group, id) {
		if v.Machine == id {
			s.move(v, "", "replaced by "+group[0].Name)
		}
	}
}

func (s *State) schedule() bool {
	return s.sweep(func(u *Unit) bool {
		if u.Machine != "" || !u.wanted() || u.Place.Global {
			return false
		}
		alone := []*Unit{u}
		if m := s.machines[u.Move]; m != nil && s.refusal(alone, m) == "" && s.canClear(alone, m.ID) {
			s.clear(alone, m.ID)
			s.put(u, m.ID, "asked to move")
			return true
		}
		m := s.choose(alone)
		if m == nil {
			return false
		}
		s.clear(alone, m.ID)
		s.put(u, m.ID, fmt.Sprintf("least loaded: %s", plural(s.load(m.ID), "unit")))
		return true
	})
}

// group gives a unit and all that must be where it is, u first and the others by name.
func (s *State) group(u *Unit) []*Unit {
	list := []*Unit{u}
	on := s.on(u.Machine)
	for i := 0; i < len(list); i++ {
		for _, o := range on {
			tied := slices.Contains(o.Place.Peers, list[i].Name) || slices.Contains(list[i].Place.Peers, o.Name)
			if tied && !slices.Contains(list, o) {
				list = append(list, o)
			}
		}
	}
	slices.SortStableFunc(list[1:], byName)
	return list
}

// move takes a unit and all that is tied to it elsewhere: to a machine asked for or, where
// that is "", to the best. It reports whether it could.
func (s *State) move(u *Unit, to, why string) bool {
	group := s.group(u)
	m := s.machines[to]
	if to == "" {
		m = s.choose(group)
	}
	if m == nil || s.refusal(group, m) != "" || !s.canClear(group, m.ID) {
		return false
	}
	id := m.ID
	if slices.ContainsFunc(group, func(u *Unit) bool { return u.Held != "" && u.Held != id }) {
		id = "" // and on, once it has been let go of
	} else {
		s.clear(group, id)
	}
	for _, g := range group {
		s.put(g, id, why)
	}
	return true
}

// shift moves what was asked to move or is on a machine that is drained.
func (s *State) shift() bool {
	return s.sweep(func(u *Unit) bool {
		to, why := s.leaving(u)
		return why != "" && s.move(u, to, why)
	})
}

// leaving says whether a unit should go elsewhere, and where to if that was asked.
func (s *State) leaving(u *Unit) (to, why string) {
	if u.Machine == "" || !u.wanted() || u.Place.Global {
		return "", ""
	}
	if u.Move != "" && u.Move != u.Machine {
		return u.Move, "asked to move"
	}
	if m := s.machines[u.Machine]; m != nil && m.Draining {
		return "", "machine " + short(m.ID) + " is drained"
	}
	return "", ""
}

// Stuck tells of the units that should leave their machine and cannot, by name. It is true
// of what the last plan left.
func (s *State) Stuck() []Stuck {
	var list []Stuck
	s.sweep(func(u *Unit) bool {
		if to, why := s.leaving(u); why != "" {
			list = append(list, Stuck{u.Name, u.Machine, to, s.hindrance(u, to)})
		}
		return false
	})
	return list
}

func (s *State) hindrance(u *Unit, to string) string {
	if m := s.machines[to]; m != nil {
		return s.refusal(s.group(u), m)
	}
	if to != "" {
		return "machine " + short(to) + " is gone"
	}
	_, refusals := s.survey(s.group(u))
	return nowhere(refusals)
}

// survey counts the machines that could take a group, and the reasons of the others.
func (s *State) survey(group []*Unit) (able int, refusals []Refusal) {
	counts := map[string]int{}
	for _, id := range slices.Sorted(maps.Keys(s.machines)) {
		m := s.machines[id]
		if id == group[0].Machine {
			continue
		}
		r := s.refusal(group, m)
		if r == "" && !s.canClear(group, id) {
			r = "Replaces: what is there cannot leave"
		}
		if r == "" {
			able++
		} else {
			counts[r]++
		}
	}
	for _, r := range slices.Sorted(maps.Keys(counts)) {
		refusals = append(refusals, Refusal{r, counts[r]})
	}
	slices.SortStableFunc(refusals, func(a, b Refusal) int { return cmp.Compare(b.Machines, a.Machines) })
	return able, refusals
}

// nowhere says in a line why no machine qualifies.
func nowhere(refusals []Refusal) string {
	n := 0
	var parts []string
	for _, r := range refusals {
		n += r.Machines
		parts = append(parts, fmt.Sprintf("%d %s", r.Machines, r.Reason))
	}
	if n == 0 {
		return "no machine qualifies: there is none"
	}
	return fmt.Sprintf("no machine qualifies: %d tried, %s", n, strings.Join(parts, ", "))
}

// Explain says why a unit is where it is, or nowhere.
func (s *State) Explain(name string) Explanation {
	e := Explanation{Unit: name}
	u := s.units[name]
	if u == nil {
		e.Why = "unknown unit"
		return e
	}
	e.Machine = u.Machine
	switch {
	case !u.wanted():
		e.Why = "not wanted: its desired state is " + string(unit.Inactive)
	default:
		e.Able, e.Refusals = s.survey([]*Unit{u})
		if u.Machine != "" {
			e.Able++
			e.Why = "it may stay on " + short(u.Machine)
		} else {
			e.Why = nowhere(e.Refusals)
		}
	}
	return e
}

// Rebalance decides on at most budget moves from the machines with most to those with
// least, and takes them for done.
func (s *State) Rebalance(budget int) []Decision {
	s.from, s.why = map[string]string{}, map[string][]string{}
	return s.decisions()
}
