package sched

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/keelson/keelson/core/unit"
)

// anything is what a unit asks for that asks for nothing.
func anything() *unit.Placement { return &unit.Placement{} }

// wanted reports whether the unit should be on a machine, or on all.
func (u *Unit) wanted() bool { return u.State == unit.Loaded || u.State == unit.Launched }

// weight is how many units it counts for.
func (u *Unit) weight() int { return max(u.Place.Weight, 1) }

// family names the units that MaxPerMachine and Spread count together: the instances of
// one template, or the unit alone.
func family(name string) string {
	if t := unit.Split(name).Template(); t != "" {
		return t
	}
	return name
}

// matching gives the first of the globs that fits name, or "".
func matching(globs []string, name string) string {
	for _, g := range globs {
		if unit.Match(g, name) {
			return g
		}
	}
	return ""
}

// conflict gives the glob by which two units may not be on one machine, or "".
func conflict(a, b *Unit) string {
	if a.Name == b.Name {
		return ""
	}
	if g := matching(a.Place.Conflicts, b.Name); g != "" {
		return g
	}
	return matching(b.Place.Conflicts, a.Name)
}

// replaces reports whether b takes the place of a, and a not that of b.
func replaces(b, a *Unit) bool {
	return b.Name != a.Name && matching(b.Place.Replaces, a.Name) != "" && matching(a.Place.Replaces, b.Name) == ""
}

// idFits reports whether id is what MachineID asks for: the whole of it or its first 8
// characters.
func idFits(asked, id string) bool {
	return asked == "" || asked == id || len(asked) == shortID && strings.HasPrefix(id, asked)
}

const shortID = 8

// short is an ID as people read it.
func short(id string) string { return id[:min(shortID, len(id))] }

// unmet gives what of a unit's demands a machine as such cannot meet, or "".
func unmet(p *unit.Placement, m *Machine) string {
	if !idFits(p.MachineID, m.ID) {
		return "MachineID=" + p.MachineID
	}
	if c := unit.Unmet(p.Metadata, m.Metadata); c != "" {
		return "MachineMetadata=" + c
	}
	return ""
}

// amount gives how much of a quantity the sorted list has; ok is false where the list does
// not name it.
func amount(list []unit.Quantity, name string) (n int64, ok bool) {
	at, ok := slices.BinarySearchFunc(list, name, func(q unit.Quantity, name string) int { return strings.Compare(q.Name, name) })
	if !ok {
		return 0, false
	}
	return list[at].Amount, true
}

// GlobalsHere gives the names of the global units that run on a machine to which some
// units are assigned, in the order of their names: each one wanted whose metadata fit and
// which conflicts with nothing assigned and with no global before it. The engine counts by
// it and the agent acts by it.
func GlobalsHere(m Machine, assigned, globals []Unit) []string {
	var there []*Unit
	for _, u := range assigned {
		there = append(there, tidy(u))
	}
	var all []*Unit
	for _, u := range globals {
		all = append(all, tidy(u))
	}
	slices.SortStableFunc(all, byName)
	here, _ := admitted(&m, there, all, conflict)
	names := make([]string, len(here))
	for i, g := range here {
		names[i] = g.Name
	}
	return names
}

// tidy copies a unit and gives it a placement where it has none.
func tidy(u Unit) *Unit {
	if u.Place == nil {
		u.Place = anything()
	}
	return &u
}

func byName(a, b *Unit) int { return strings.Compare(a.Name, b.Name) }

func (u *Unit) self() *Unit { return u }

// admitted is GlobalsHere of globals sorted by name. Barred says that a conflict keeps
// one away.
func admitted[T interface{ self() *Unit }](m *Machine, assigned, globals []T, conflict func(a, b T) string) (here []T, barred bool) {
	for _, g := range globals {
		if u := g.self(); !u.Place.Global || !u.wanted() || unmet(u.Place, m) != "" {
			continue
		}
		against := func(o T) bool { return conflict(g, o) != "" }
		if slices.ContainsFunc(assigned, against) || slices.ContainsFunc(here, against) {
			barred = true
			continue
		}
		here = append(here, g)
	}
	return here, barred
}

// sameUnit, sameMachine and samePlacement tell whether anything has changed.
func sameUnit(a, b *Unit) bool {
	return a.State == b.State && a.Machine == b.Machine && a.Held == b.Held && a.Move == b.Move && samePlacement(a.Place, b.Place)
}

func sameMachine(a, b *Machine) bool {
	return a.Cordoned == b.Cordoned && a.Draining == b.Draining && maps.Equal(a.Metadata, b.Metadata) && slices.Equal(a.Capacity, b.Capacity)
}

func samePlacement(a, b *unit.Placement) bool {
	return a == b || a.MachineID == b.MachineID && a.Global == b.Global && a.Singleton == b.Singleton && a.Weight == b.Weight &&
		a.MostFree == b.MostFree && a.Spread == b.Spread && a.MaxPerMachine == b.MaxPerMachine &&
		slices.Equal(a.Peers, b.Peers) && slices.Equal(a.Conflicts, b.Conflicts) && slices.Equal(a.Replaces, b.Replaces) &&
		slices.Equal(a.Resources, b.Resources) &&
		slices.EqualFunc(a.Metadata, b.Metadata, sameCondition) && slices.EqualFunc(a.Prefer, b.Prefer, sameCondition)
}

func sameCondition(a, b unit.Condition) bool {
	return a.Key == b.Key && a.Op == b.Op && slices.Equal(a.Values, b.Values)
}

// plural gives "1 unit", "2 units".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
