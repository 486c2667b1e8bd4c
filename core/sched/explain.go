package sched

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/keelson/keelson/core/unit"
)

// Explain says why a unit is where it is, or nowhere.
func (s *State) Explain(name string) Explanation {
	s.settle()
	e := Explanation{Unit: name}
	u := s.units[name]
	switch {
	case u == nil:
		e.Why = "no such unit"
		return e
	case u.Place.Global:
		s.explainGlobal(u, &e)
		return e
	}
	e.Machine = u.Machine
	if !u.wanted() {
		e.Why = "its desired state is " + string(u.State)
		return e
	}
	e.Able, e.Refusals = s.survey([]*item{u})
	switch to, leaving := s.leaving(u); {
	case u.at == nil:
		e.Why = nowhere(e.Able, e.Refusals)
	case s.expelled(u) != "":
		e.Why = "it cannot stay on " + short(u.Machine) + ": " + s.expelled(u)
	case to != "":
		e.Able++
		e.Why = "it was asked to move to " + short(to) + ", and cannot: " + s.stuckBy(u, to)
	case leaving != "":
		e.Able++
		e.Why = leaving + ", and the unit cannot leave: " + s.stuckBy(u, to)
	default:
		e.Able++
		e.Why = "it stays where it was put, as long as it may: " + others(e.Able-1)
	}
	return e
}

// others says how many machines besides the one where a unit is could run it.
func others(n int) string {
	if n == 0 {
		return "no other machine could run it"
	}
	return plural(n, "other machine") + " could run it too"
}

func (s *State) explainGlobal(g *item, e *Explanation) {
	if !g.wanted() {
		e.Why = "its desired state is " + string(g.State)
		return
	}
	counts := map[string]int{}
	for _, h := range s.slotted {
		switch {
		case h == nil || !h.alive:
		case slices.Contains(h.globals, g):
			e.Able++
		default:
			counts[cmp.Or(unmet(g.Place, &h.Machine), clash(g, h))]++
		}
	}
	e.Refusals = ranked(counts)
	e.Why = "global: it runs on " + plural(e.Able, "machine")
}

// survey counts the machines that could take a group, without the one it is on, and the
// reasons of those that cannot.
func (s *State) survey(group []*item) (able int, refusals []Refusal) {
	counts := map[string]int{}
	if len(group) == 1 && countable(group[0]) {
		able = s.tell(group[0], counts)
		return able, ranked(counts)
	}
	for _, h := range s.slotted {
		if h == nil || !h.alive || h == group[0].at {
			continue
		}
		r := s.refusal(group, h)
		if r == "" && group[0].at == nil && len(s.victims(group[0], h)) > 0 {
			if s.clear(group[0], h) {
				s.undo()
			} else {
				r = "Replaces: what is there cannot leave"
			}
		}
		if r == "" {
			able++
		} else {
			counts[r]++
		}
	}
	return able, ranked(counts)
}

// countable reports whether tell knows all that a unit asks for.
func countable(u *item) bool {
	replaces := func(p *pattern) bool { return p.key.replaces }
	p := u.Place
	return p.MachineID == "" && len(p.Peers) == 0 && u.Held == "" && !slices.ContainsFunc(u.fits, replaces) && !slices.ContainsFunc(u.declares, replaces)
}

// tell is survey for most units, by sets of machines.
func (s *State) tell(u *item, counts map[string]int) (able int) {
	left := newSlots(s.words)
	for _, l := range s.levels {
		left.union(l.set)
	}
	if u.at != nil && u.at.slot >= 0 {
		left.del(u.at.slot)
	}
	left.each(func(at int32) {
		if !s.open.has(at) {
			counts[s.refusal(nil, s.slotted[at])]++
			left.del(at)
		}
	})
	for _, d := range demands(u.Place.Metadata) {
		f := s.filter(d)
		out := left.without(f.fits)
		if at, found := out.first(); found {
			counts["MachineMetadata="+unit.Unmet(d, s.slotted[at].Metadata)] += left.strike(out)
		}
		s.dropFilter(f)
	}
	for i, list := range [...][]*pattern{u.declares, u.fits} {
		for _, p := range list {
			out := newSlots(s.words)
			[...]*tally{&p.hosts, &p.declarers}[i].into(out)
			if n := left.strike(out); n > 0 {
				counts["Conflicts="+p.key.glob] += n
			}
		}
	}
	if len(u.Place.Resources)+u.Place.MaxPerMachine > 0 {
		left.each(func(at int32) {
			if r := full([]*item{u}, s.slotted[at]); r != "" {
				counts[r]++
				left.del(at)
			}
		})
	}
	return left.size()
}

// demands takes conditions apart that have to hold together, in their order: those of one
// key with "=" are one demand.
func demands(conditions []unit.Condition) (list [][]unit.Condition) {
	at := map[string]int{}
	for _, c := range conditions {
		i, known := at[c.Key]
		if c.Op == "=" && known {
			list[i] = append(list[i], c)
			continue
		}
		if c.Op == "=" {
			at[c.Key] = len(list)
		}
		list = append(list, []unit.Condition{c})
	}
	return list
}

// ranked lists reasons, those that rule out most first.
func ranked(counts map[string]int) []Refusal {
	var list []Refusal
	for _, r := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, Refusal{r, counts[r]})
	}
	slices.SortStableFunc(list, func(a, b Refusal) int { return cmp.Compare(b.Machines, a.Machines) })
	return list
}

// reasonsMax is how many reasons a line names.
const reasonsMax = 4

// nowhere says in a line why a unit is on no machine.
func nowhere(able int, refusals []Refusal) string {
	if able > 0 {
		return "not placed yet: " + plural(able, "machine") + " could run it"
	}
	tried := 0
	var parts []string
	for i, r := range refusals {
		tried += r.Machines
		if i < reasonsMax {
			parts = append(parts, strconv.Itoa(r.Machines)+" "+r.Reason)
		}
	}
	if more := len(refusals) - reasonsMax; more > 0 {
		parts = append(parts, plural(more, "more reason"))
	}
	if tried == 0 {
		return "no machine qualifies: there is none"
	}
	return "no machine qualifies: " + strconv.Itoa(tried) + " tried, " + strings.Join(parts, ", ")
}

// Stuck tells of the units that should leave their machine and cannot, by name: what a
// drain or a move that was asked for waits for.
func (s *State) Stuck() []Stuck {
	s.settle()
	var leaving []*item
	for _, u := range s.items {
		if _, why := s.leaving(u); why != "" {
			leaving = append(leaving, u)
		}
	}
	s.sort(leaving)
	var list []Stuck
	for _, u := range leaving {
		to, _ := s.leaving(u)
		list = append(list, Stuck{u.Name, u.Machine, to, s.stuckBy(u, to)})
	}
	return list
}

// stuckBy says why a unit cannot go where it should, or anywhere.
func (s *State) stuckBy(u *item, to string) string {
	group := s.group(u)
	if to != "" {
		h := s.hosts[to]
		if h == nil || !h.alive {
			return "there is no machine " + short(to)
		}
		return cmp.Or(s.refusal(group, h), hindrance(group, h), "not decided yet")
	}
	able, refusals := s.survey(group)
	return nowhere(able, refusals)
}
