package sched

import (
	"cmp"
	"maps"
	"slices"
)

// reference is placement as it is written down, over the whole picture each time: slow,
// and right by reading.
type reference struct {
	machines map[string]*Machine
	units    map[string]*Unit
	from     map[string]string // of this plan: where the units were that it has touched
	sorted   []*Unit           // the units by name, or nil
}

func (r *reference) set(u Unit) {
	r.units[u.Name] = tidy(u)
	r.sorted = nil
}

func (r *reference) remove(name string) {
	delete(r.units, name)
	r.sorted = nil
}

func newReference() *reference {
	return &reference{machines: map[string]*Machine{}, units: map[string]*Unit{}}
}

func (r *reference) copy() *reference {
	c := newReference()
	c.machines = maps.Clone(r.machines)
	for _, u := range r.byName() {
		c.set(*u)
	}
	c.from = map[string]string{}
	return c
}

func (r *reference) byName() []*Unit {
	if r.sorted == nil {
		for _, name := range slices.Sorted(maps.Keys(r.units)) {
			r.sorted = append(r.sorted, r.units[name])
		}
	}
	return r.sorted
}

func (r *reference) plan() []Decision {
	r.from = map[string]string{}
	for rounds := 0; r.sweep(r.check) || r.sweep(r.place) || r.sweep(r.shift); rounds++ {
		if rounds > 50 {
			panic("it does not settle")
		}
	}
	var ds []Decision
	for _, name := range slices.Sorted(maps.Keys(r.from)) {
		if u := r.units[name]; u.Machine != r.from[name] {
			ds = append(ds, Decision{Unit: name, From: r.from[name], To: u.Machine})
		}
	}
	return ds
}

func (r *reference) sweep(do func(*Unit) bool) bool {
	changed := false
	for _, u := range r.byName() {
		changed = do(u) || changed
	}
	return changed
}

func (r *reference) put(u *Unit, id string) {
	if _, known := r.from[u.Name]; !known {
		r.from[u.Name] = u.Machine
	}
	u.Machine = id
}

func (u *Unit) counts() bool { return u.wanted() && !u.Place.Global }

// on gives the units assigned to a machine, here the globals that run there.
func (r *reference) on(id string) (list []*Unit) {
	for _, u := range r.byName() {
		if u.Machine == id && u.counts() {
			list = append(list, u)
		}
	}
	return list
}

func (r *reference) here(id string) (list []*Unit) {
	m := r.machines[id]
	if m == nil {
		return nil
	}
	var assigned, globals []Unit
	for _, u := range r.on(id) {
		assigned = append(assigned, *u)
	}
	for _, u := range r.byName() {
		if u.Place.Global {
			globals = append(globals, *u)
		}
	}
	for _, name := range GlobalsHere(*m, assigned, globals) {
		list = append(list, r.units[name])
	}
	return list
}

func (r *reference) load(id string) (n int) {
	for _, u := range append(r.on(id), r.here(id)...) {
		n += u.weight()
	}
	return n
}

// mayStay says whether a unit on a machine meets what would take it away.
func (r *reference) mayStay(u *Unit) bool {
	m := r.machines[u.Machine]
	return u.counts() && m != nil && unmet(u.Place, m) == "" && r.withPeers(u, m.ID, nil) && !r.conflicts(u, m.ID, nil)
}

func (r *reference) withPeers(u *Unit, id string, group []*Unit) bool {
	for _, name := range u.Place.Peers {
		p := r.units[name]
		if p == nil || p == u {
			return false
		}
		if slices.Contains(group, p) {
			continue
		}
		if !(p.counts() && p.Machine == id) && !slices.Contains(r.here(id), p) {
			return false
		}
	}
	return true
}

func (r *reference) conflicts(u *Unit, id string, group []*Unit) bool {
	for _, o := range append(r.on(id), r.here(id)...) {
		if !slices.Contains(group, o) && conflict(u, o) != "" {
			return true
		}
	}
	return false
}

// able says whether a group, on one other machine or none, could run on a machine.
func (r *reference) able(group []*Unit, id string) bool {
	m := r.machines[id]
	if m == nil || m.Cordoned || m.Draining {
		return false
	}
	need, kin := map[string]int64{}, map[string]int{}
	for _, u := range group {
		if unmet(u.Place, m) != "" || !r.withPeers(u, id, group) || r.conflicts(u, id, group) {
			return false
		}
		if u.Held != "" && u.Held != id && u.Held != u.Machine {
			return false
		}
		for _, o := range r.on(id) {
			if replaces(o, u) || u.Machine != "" && replaces(u, o) {
				return false
			}
		}
		kin[family(u.Name)]++
		for _, q := range u.Place.Resources {
			need[q.Name] += q.Amount
		}
	}
	for name, n := range need {
		if free, known := r.free(m, name); !known || n > free {
			return false
		}
	}
	for _, u := range group {
		n := kin[family(u.Name)]
		for _, o := range r.on(id) {
			if family(o.Name) == family(u.Name) {
				n++
			}
		}
		if u.Place.MaxPerMachine > 0 && n > u.Place.MaxPerMachine {
			return false
		}
	}
	return true
}

func (r *reference) free(m *Machine, name string) (int64, bool) {
	free, known := amount(m.Capacity, name)
	for _, o := range append(r.on(m.ID), r.here(m.ID)...) {
		n, _ := amount(o.Place.Resources, name)
		free -= n
	}
	return free, known
}

// choices gives the machines that could have a group, the best first.
func (r *reference) choices(group []*Unit) []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(r.machines)) {
		if id != group[0].Machine && r.able(group, id) {
			ids = append(ids, id)
		}
	}
	u := group[0]
	slices.SortStableFunc(ids, func(a, b string) int {
		return cmp.Or(
			cmp.Compare(r.liked(u, b), r.liked(u, a)),
			cmp.Compare(r.crowd(u, a), r.crowd(u, b)),
			cmp.Compare(r.room(u, b), r.room(u, a)),
			cmp.Compare(r.load(a), r.load(b)),
		)
	})
	return ids
}

func (r *reference) liked(u *Unit, id string) (n int) {
	for _, c := range u.Place.Prefer {
		if c.Holds(r.machines[id].Metadata) {
			n++
		}
	}
	return n
}

func (r *reference) crowd(u *Unit, id string) (n int) {
	key := u.Place.Spread
	if key == "" {
		return 0
	}
	for _, o := range r.byName() {
		at := r.machines[o.Machine]
		if o != u && o.counts() && at != nil && family(o.Name) == family(u.Name) && at.Metadata[key] == r.machines[id].Metadata[key] {
			n++
		}
	}
	return n
}

func (r *reference) room(u *Unit, id string) int64 {
	left := int64(1000)
	if !u.Place.MostFree {
		return left
	}
	for _, c := range r.machines[id].Capacity {
		need, asked := amount(u.Place.Resources, c.Name)
		if asked || len(u.Place.Resources) == 0 {
			free, _ := r.free(r.machines[id], c.Name)
			left = min(left, share(free-need, c.Amount))
		}
	}
	return max(left, 0)
}

func (r *reference) check(u *Unit) bool {
	if u.Machine == "" {
		return false
	}
	if !r.mayStay(u) {
		r.put(u, "")
		return true
	}
	victims := r.victims(u, u.Machine)
	if len(victims) == 0 {
		return false
	}
	if !r.clear(u, u.Machine) {
		r.put(u, "")
	}
	return true
}

func (r *reference) place(u *Unit) bool {
	if u.Machine != "" || !u.counts() {
		return false
	}
	if r.machines[u.Move] != nil {
		if u.Held != "" && u.Held != u.Move {
			return false
		}
		if r.able([]*Unit{u}, u.Move) && r.clear(u, u.Move) {
			r.put(u, u.Move)
			return true
		}
	}
	for _, id := range r.choices([]*Unit{u}) {
		if r.clear(u, id) {
			r.put(u, id)
			return true
		}
	}
	return false
}

func (r *reference) victims(u *Unit, id string) (list []*Unit) {
	for _, o := range r.on(id) {
		if replaces(u, o) {
			list = append(list, o)
		}
	}
	return list
}

// clear moves what u replaces off a machine: all of it, or nothing.
func (r *reference) clear(u *Unit, id string) bool {
	try := r.copy()
	t := try.units[u.Name]
	for _, v := range try.victims(t, id) {
		if v.Machine != id {
			continue
		}
		group := try.group(v)
		to := try.choices(group)
		if slices.Contains(group, t) || len(to) == 0 {
			return false
		}
		try.take(group, to[0])
	}
	if t.Machine == "" && !try.able([]*Unit{t}, id) {
		return false
	}
	for _, name := range slices.Sorted(maps.Keys(try.from)) {
		r.put(r.units[name], try.units[name].Machine)
	}
	return true
}

// group gives a unit and all on its machine that are tied to it.
func (r *reference) group(u *Unit) []*Unit {
	list := []*Unit{u}
	for i := 0; i < len(list); i++ {
		for _, o := range r.on(u.Machine) {
			tied := slices.Contains(o.Place.Peers, list[i].Name) || slices.Contains(list[i].Place.Peers, o.Name)
			if tied && !slices.Contains(list, o) {
				list = append(list, o)
			}
		}
	}
	return list
}

func (r *reference) take(group []*Unit, id string) {
	if isHeld(group, id) {
		id = ""
	}
	for _, u := range group {
		r.put(u, id)
	}
}

func isHeld(group []*Unit, id string) bool {
	return slices.ContainsFunc(group, func(u *Unit) bool { return u.Held != "" && u.Held != id })
}

func (r *reference) shift(u *Unit) bool {
	if u.Machine == "" || !u.counts() {
		return false
	}
	group := r.group(u)
	if u.Move != "" && u.Move != u.Machine {
		other := func(o *Unit) bool { return o.Move != "" && o.Move != u.Move }
		if !r.able(group, u.Move) || len(group) > 1 && isHeld(group, u.Move) || slices.ContainsFunc(group, other) {
			return false
		}
		r.take(group, u.Move)
		return true
	}
	if m := r.machines[u.Machine]; m == nil || !m.Draining {
		return false
	}
	to := r.choices(group)
	if len(to) == 0 {
		return false
	}
	r.take(group, to[0])
	return true
}
