package sched

import (
	"slices"
	"strings"
)

// task is one of the three things that a unit may be due for.
type task int

const (
	checks task = iota // may it stay where it is
	places             // find a machine for it
	shifts             // move it, as it was asked to or since its machine is drained
	tasks
)

// agenda is which units are due for what. A sweep does one task for those that are due,
// by name; a unit that becomes due meanwhile joins it if its name is still to come.
type agenda struct {
	due      [tasks][]*item
	joined   []*item // a heap
	sweeping bool
	task     task
	at       string // the name the sweep is at
	// waiting are units that no machine can take, or that cannot leave theirs: they are
	// due again when something has changed that may help.
	waiting  []*item
	planning bool
	refused  refused
}

// changes are moves that are made, whose consequences have still to be drawn or which may
// be taken back, and what the plan has changed.
type changes struct {
	steps   []step
	shaken  []*item // globals that came to a machine or went from it
	touched []*item
}

type step struct {
	u    *item
	from string
	why  string
}

// Plan decides what has to be decided, and takes it for done. Decisions come in the order
// of the names of their units. A unit that may stay where it is does.
func (s *State) Plan() []Decision {
	s.settle()
	s.refused.u = nil
	s.planning = true
	for round := 0; round < roundsMax; round++ {
		if !s.sweep(checks, s.check) && !s.sweep(places, s.place) && !s.sweep(shifts, s.shift) {
			break
		}
	}
	s.planning = false
	s.catchUp()
	return s.decisions()
}

// roundsMax bounds the rounds of one plan. What is still due then waits for the next.
const roundsMax = 100

func (s *State) decisions() []Decision {
	list := s.touched
	s.touched = nil
	s.sort(list)
	ds := make([]Decision, 0, len(list))
	for _, u := range list {
		if u.Machine != u.from {
			ds = append(ds, Decision{u.Name, u.from, u.Machine, u.why})
		}
		u.touched, u.from, u.why = false, "", ""
	}
	return ds
}

// sort sorts units by name. None of them is there twice.
func (s *State) sort(list []*item) {
	inOrder := func(a, b *item) int { return strings.Compare(a.Name, b.Name) }
	if slices.IsSortedFunc(list, inOrder) {
		return
	}
	names := make([]string, len(list))
	for i, u := range list {
		names[i] = u.Name
	}
	slices.Sort(names)
	for i, name := range names {
		list[i] = s.units[name]
	}
}

// sweep does a task for all units that are due for it, and says whether that has changed
// anything.
func (s *State) sweep(t task, do func(u *item) bool) bool {
	due := slices.DeleteFunc(s.due[t], func(u *item) bool { return u.gone })
	s.due[t] = nil
	s.sort(due)
	s.sweeping, s.task = true, t
	changed := false
	for len(due) > 0 || len(s.joined) > 0 {
		var u *item
		if len(s.joined) == 0 || len(due) > 0 && due[0].Name < s.joined[0].Name {
			u, due = due[0], due[1:]
		} else {
			u = s.pop()
		}
		s.at = u.Name
		u.marked &^= 1 << t
		if do(u) {
			s.commit()
			changed = true
		}
	}
	s.sweeping = false
	return changed
}

// tidy strikes units that are gone off the agenda of a picture that seldom plans.
func (s *State) tidy() {
	for t, due := range s.due {
		if len(due) > 2*len(s.items)+s.limits.idle {
			s.due[t] = slices.DeleteFunc(due, func(u *item) bool { return u.gone })
		}
	}
}

// mark makes a unit due for a task.
func (s *State) mark(u *item, t task) {
	if u.gone || u.marked&(1<<t) != 0 {
		return
	}
	u.marked |= 1 << t
	if s.sweeping && s.task == t && u.Name > s.at {
		s.push(u)
		return
	}
	s.due[t] = append(s.due[t], u)
}

// push and pop keep the heap of those that joined.
func (s *State) push(u *item) {
	h := append(s.joined, u)
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up].Name < h[i].Name {
			break
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
	s.joined = h
}

func (s *State) pop() *item {
	h := s.joined
	first, last := h[0], len(h)-1
	h[0] = h[last]
	h[last] = nil
	h = h[:last]
	for i := 0; ; {
		next := 2*i + 1
		if next >= last {
			break
		}
		if next+1 < last && h[next+1].Name < h[next].Name {
			next++
		}
		if h[i].Name < h[next].Name {
			break
		}
		h[i], h[next] = h[next], h[i]
		i = next
	}
	s.joined = h
	return first
}

// rouse makes a unit due for what may concern it.
func (s *State) rouse(u *item) {
	if u.Machine != "" {
		s.mark(u, checks)
		if _, why := s.leaving(u); why != "" {
			s.mark(u, shifts)
		}
		return
	}
	if u.ordinary() {
		s.mark(u, places)
	}
}

func (s *State) rouseAll(list []*item) {
	for _, u := range list {
		s.rouse(u)
	}
}

// rouseFollowers does so for the units that have to be where u is.
func (s *State) rouseFollowers(u *item) {
	if len(s.followers) > 0 {
		s.rouseAll(s.followers[u.Name])
	}
}

// rouseRelated does so for those that wait and may have waited for u to leave a machine.
func (s *State) rouseRelated(u *item) {
	for _, w := range s.waiting {
		if s.hinders(u, w) {
			s.rouse(w)
		}
	}
}

// hinders reports whether w may be able to run on a machine once u is no longer on it.
func (s *State) hinders(u, w *item) bool {
	switch {
	case len(w.Place.Replaces) > 0, w.at != nil && s.tied(w):
		return true // it takes others with it, whom u may hinder
	case len(w.Place.Resources) > 0 && len(u.Place.Resources) > 0:
		return true
	case w.Place.MaxPerMachine > 0 && w.kin == u.kin:
		return true
	}
	related := func(a, b *item) bool {
		return slices.ContainsFunc(a.declares, func(p *pattern) bool { return slices.Contains(b.fits, p) })
	}
	return related(u, w) || related(w, u)
}

// wait notes that a unit waits.
func (s *State) wait(u *item) {
	if u.waitAt == 0 {
		s.waiting = append(s.waiting, u)
		u.waitAt = len(s.waiting)
	}
}

func (s *State) unwait(u *item) {
	if u.waitAt == 0 {
		return
	}
	last := len(s.waiting) - 1
	s.waiting[u.waitAt-1] = s.waiting[last]
	s.waiting[u.waitAt-1].waitAt = u.waitAt
	s.waiting[last] = nil
	s.waiting = s.waiting[:last]
	u.waitAt = 0
}

// content ends the wait of a unit that has nothing to wait for.
func (s *State) content(u *item) {
	if _, why := s.leaving(u); why == "" && (u.Machine != "" || !u.ordinary()) {
		s.unwait(u)
	}
}

// put makes a move. Commit draws its consequences, undo takes it back.
func (s *State) put(u *item, h *host, why string) {
	s.saveUnit(u.Name)
	s.steps = append(s.steps, step{u, u.Machine, why})
	s.detach(u)
	if h == nil {
		u.Machine = ""
		return
	}
	u.Machine = h.ID
	s.attachTo(u, h)
}

func (s *State) commit() {
	for _, t := range s.steps {
		u := t.u
		if !u.touched {
			u.touched, u.from, u.why = true, t.from, t.why
			s.touched = append(s.touched, u)
		} else {
			u.why += "; " + t.why
		}
		if t.from != "" && len(s.waiting) > 0 {
			s.rouseRelated(u)
		}
		if u.Machine == "" {
			s.mark(u, places)
		} else if _, why := s.leaving(u); why != "" {
			s.mark(u, shifts)
		}
		s.rouseFollowers(u)
	}
	for _, g := range s.shaken {
		s.rouseFollowers(g)
		s.rouseRelated(g)
	}
	s.steps, s.shaken = s.steps[:0], s.shaken[:0]
}

func (s *State) undo() {
	var left []*host
	for i := len(s.steps) - 1; i >= 0; i-- {
		t := s.steps[i]
		left = append(left, t.u.at)
		s.detach(t.u)
		t.u.Machine = t.from
		s.attach(t.u)
		left = append(left, t.u.at)
	}
	for _, h := range left {
		s.vacated(h)
	}
	s.steps, s.shaken = s.steps[:0], s.shaken[:0]
}

// vacated finds the globals of a machine again that units have left.
func (s *State) vacated(h *host) {
	if h != nil && (h.barred || len(h.globals) > 0) {
		s.admit(h)
	}
}

// check takes a unit off its machine if it may not stay there.
func (s *State) check(u *item) bool {
	if u.Machine == "" {
		return false
	}
	why := s.expelled(u)
	if why == "" && len(u.Place.Replaces) > 0 && len(s.victims(u, u.at)) > 0 {
		if s.clear(u, u.at) {
			return true
		}
		why = "what it replaces cannot leave"
	}
	if why == "" {
		return false
	}
	h := u.at
	s.put(u, nil, why)
	s.vacated(h)
	return true
}

// expelled says why a unit may not stay where it is, or "".
func (s *State) expelled(u *item) string {
	switch h := u.at; {
	case !u.wanted():
		return "no longer wanted"
	case u.Place.Global:
		return "it is global now"
	case !h.alive:
		return "machine " + short(u.Machine) + " is gone"
	default:
		return s.unfit(u, h)
	}
}

// unfit gives the first of a unit's demands that a machine does not meet, counting only
// what would take it away from there, or "".
func (s *State) unfit(u *item, h *host) string {
	if r := unmet(u.Place, &h.Machine); r != "" {
		return r
	}
	if r := s.astray(u, h, nil); r != "" {
		return r
	}
	return clash(u, h)
}

// astray gives the first MachineOf that is not on a machine, except for those in group.
func (s *State) astray(u *item, h *host, group []*item) string {
	for _, name := range u.Place.Peers {
		p := s.units[name]
		if p != nil && p != u && slices.Contains(group, p) {
			continue
		}
		if p == nil || p == u || p.at != h && !slices.Contains(h.globals, p) {
			return "MachineOf=" + name
		}
	}
	return ""
}

// clash gives the first conflict of a unit with another on a machine, or "".
func clash(u *item, h *host) string {
	if len(u.declares)+len(u.fits) == 0 {
		return ""
	}
	for _, on := range [...][]*item{h.on, h.globals} {
		for _, o := range on {
			if g := against(u, o); g != "" {
				return "Conflicts=" + g
			}
		}
	}
	return ""
}

// place finds a machine for a unit.
func (s *State) place(u *item) bool {
	if u.Machine != "" || !u.ordinary() {
		s.content(u)
		return false
	}
	if s.refused.covers(u) {
		s.wait(u)
		return false
	}
	h, why := s.destination(u)
	if h == nil {
		s.refused.note(u)
		s.wait(u)
		return false
	}
	s.unwait(u)
	s.put(u, h, why)
	return true
}

// refused is the last unit that no machine could have, while nothing has changed since.
// Its siblings, which follow it by name, need not be tried.
type refused struct{ u *item }

// covers reports whether u asks for the same as the unit that was refused.
func (r *refused) covers(u *item) bool {
	return r.u != nil && plainDemands(u) && r.u.filter == u.filter &&
		slices.Equal(r.u.declares, u.declares) && slices.Equal(r.u.fits, u.fits)
}

func (r *refused) note(u *item) {
	if plainDemands(u) {
		r.u = u
	}
}

// plainDemands reports whether a unit asks for nothing but metadata and conflicts.
func plainDemands(u *item) bool {
	p := u.Place
	return p.MachineID == "" && len(p.Peers)+len(p.Resources)+len(p.Replaces)+p.MaxPerMachine == 0 && u.Held == "" && u.Move == ""
}

// destination gives the machine for a unit that is on none, cleared of what it replaces,
// or nil.
func (s *State) destination(u *item) (*host, string) {
	alone := []*item{u}
	if h := s.hosts[u.Move]; h != nil && h.alive {
		if u.Held != "" && u.Held != h.ID {
			return nil, "" // it waits until it has been let go of
		}
		if s.refusal(alone, h) == "" && s.clear(u, h) {
			return h, "it was asked to move there"
		}
	}
	if len(u.Place.Replaces) == 0 {
		h := s.best(s.query(&s.scratch, alone))
		if h == nil {
			return nil, ""
		}
		return h, s.whyBest(u, h)
	}
	q := s.query(&query{}, alone)
	for {
		h := s.best(q)
		if h == nil {
			return nil, ""
		}
		why := s.whyBest(u, h)
		if s.clear(u, h) {
			return h, why
		}
		q.deny.add(h.slot)
	}
}

// victims gives the units on a machine that u replaces, by name.
func (s *State) victims(u *item, h *host) []*item {
	var list []*item
	if len(u.Place.Replaces) == 0 {
		return nil
	}
	for _, o := range h.on {
		if supersedes(u, o) {
			list = append(list, o)
		}
	}
	s.sort(list)
	return list
}

// clear moves what u replaces away from a machine, all of it or nothing, and reports
// whether u can be there then.
func (s *State) clear(u *item, h *host) bool {
	victims := s.victims(u, h)
	for _, v := range victims {
		if v.at != h {
			continue // it went with one before it
		}
		group := s.group(v)
		if slices.Contains(group, u) || !s.take(group, s.elsewhere(group), "replaced by "+u.Name) {
			s.undo()
			return false
		}
	}
	if len(victims) > 0 && u.at == nil && s.refusal([]*item{u}, h) != "" {
		s.undo()
		return false
	}
	return true
}

// tied reports whether a unit has to be where others are, or others where it is.
func (s *State) tied(u *item) bool { return len(u.Place.Peers) > 0 || len(s.followers[u.Name]) > 0 }

// group gives a unit on a machine and all on it that have to be where it is, u first and
// the others by name.
func (s *State) group(u *item) []*item {
	list := []*item{u}
	if !s.tied(u) {
		return list
	}
	add := func(o *item) {
		if o != nil && o.at == u.at && !slices.Contains(list, o) {
			list = append(list, o)
		}
	}
	for i := 0; i < len(list); i++ {
		for _, name := range list[i].Place.Peers {
			add(s.units[name])
		}
		for _, o := range s.followers[list[i].Name] {
			add(o)
		}
	}
	s.sort(list[1:])
	return list
}

// elsewhere gives the best machine for a group that is on another, or nil.
func (s *State) elsewhere(group []*item) *host {
	return s.best(s.query(&s.scratch, group))
}

// take moves a group to a machine that can have it. Where one of them is still held where
// it is, they leave first and are placed when it has been let go of.
func (s *State) take(group []*item, h *host, why string) bool {
	if h == nil {
		return false
	}
	from := group[0].at
	if held(group, h) {
		h = nil
	}
	for _, u := range group {
		s.put(u, h, why)
	}
	s.vacated(from)
	return true
}

func held(group []*item, h *host) bool {
	return slices.ContainsFunc(group, func(u *item) bool { return u.Held != "" && u.Held != h.ID })
}

// leaving says why a unit should go elsewhere, and where to if that was asked, or "".
func (s *State) leaving(u *item) (to, why string) {
	switch {
	case u.at == nil:
		return "", ""
	case u.Move != "" && u.Move != u.Machine:
		return u.Move, "it was asked to move there"
	case u.at.alive && u.at.Draining:
		return "", "machine " + short(u.Machine) + " is drained"
	}
	return "", ""
}

// shift moves a unit that should go elsewhere.
func (s *State) shift(u *item) bool {
	to, why := s.leaving(u)
	if why == "" {
		s.content(u)
		return false
	}
	group := s.group(u)
	var h *host
	if to == "" {
		h = s.elsewhere(group)
	} else if t := s.hosts[to]; t != nil && hindrance(group, t) == "" && s.refusal(group, t) == "" {
		h = t
	}
	if !s.take(group, h, why) {
		s.wait(u)
		return false
	}
	s.unwait(u)
	return true
}

// hindrance says what in a group keeps it from going to the machine that the first of it
// was asked to move to, or "".
func hindrance(group []*item, h *host) string {
	for _, u := range group[1:] {
		if u.Move != "" && u.Move != h.ID {
			return u.Name + ", which has to be with it, was asked to move to " + short(u.Move)
		}
	}
	if len(group) > 1 && held(group, h) {
		return "Singleton: it cannot move together with others"
	}
	return ""
}
