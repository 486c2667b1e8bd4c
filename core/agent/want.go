package agent

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/sched"
	"github.com/keelson/keelson/core/unit"
)

// Wanted is one unit that should be on this machine, and why it is known to be.
type Wanted struct {
	registry.Assignment
	Hash   string // of Raw, as systemd's side tells it
	Place  *unit.Placement
	Global bool
}

// Fenced says that the unit may run on one machine at a time only: it needs a claim.
func (w *Wanted) Fenced() bool { return w.Place.Singleton && !w.Global && w.State == unit.Launched }

// Want gives the units that machine me should have, sorted by name: those assigned to it,
// and the global ones that fit it. Both must be wanted as loaded at least. Of two of one
// name the assigned one counts.
func Want(assigned, globals []Wanted, me sched.Machine) []Wanted {
	all := live(assigned)
	for _, name := range sched.GlobalsHere(me, units(all), units(globals)) {
		at := slices.IndexFunc(globals, func(w Wanted) bool { return w.Name == name })
		if g := globals[at]; !slices.ContainsFunc(all, func(w Wanted) bool { return w.Name == name }) {
			g.Global = true
			all = append(all, g)
		}
	}
	slices.SortStableFunc(all, func(a, b Wanted) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func live(all []Wanted) (some []Wanted) {
	for _, w := range all {
		if w.State == unit.Loaded || w.State == unit.Launched {
			some = append(some, w)
		}
	}
	return some
}

func units(all []Wanted) []sched.Unit {
	list := make([]sched.Unit, len(all))
	for i, w := range all {
		list[i] = sched.Unit{Name: w.Name, Place: w.Place, State: w.State}
	}
	return list
}

// reader makes Wanted of assignments, and remembers what it made of each text.
type reader struct {
	lineMax int
	known   map[string]Wanted // by name
	fresh   map[string]Wanted // those read since forget
}

// read gives what the assignment asks for. A text that nobody can read is given to
// systemd all the same: it was accepted when it was decided on.
func (r *reader) read(a registry.Assignment) Wanted {
	w, ok := r.known[a.Name]
	if !ok || w.Raw != a.Raw {
		w = parse(a, r.lineMax)
	}
	w.Assignment = a
	if r.fresh == nil {
		r.fresh = make(map[string]Wanted)
	}
	r.fresh[a.Name] = w
	return w
}

func parse(a registry.Assignment, lineMax int) Wanted {
	sum := sha1.Sum([]byte(a.Raw))
	w := Wanted{Hash: hex.EncodeToString(sum[:]), Place: &unit.Placement{}}
	if f, err := unit.Parse(a.Raw, max(lineMax, longest(a.Raw)+1)); err == nil {
		if p, err := f.Placement(a.Name); err == nil {
			w.Place = p
		}
	}
	return w
}

// longest is the length of the longest line.
func longest(text string) (n int) {
	for line := range strings.Lines(text) {
		n = max(n, len(line))
	}
	return n
}

// apart says that two units may not run beside each other here: one conflicts with the
// other, or takes its place.
func apart(name string, rules []string, other string, others []string) bool {
	if name == other {
		return false
	}
	fits := func(globs []string, name string) bool {
		return slices.ContainsFunc(globs, func(g string) bool { return unit.Match(g, name) })
	}
	return fits(rules, other) || fits(others, name)
}

// rules are the globs of all that may not run beside the unit.
func rules(p *unit.Placement) []string { return slices.Concat(p.Conflicts, p.Replaces) }

// forget drops the texts that were not read since the last call.
func (r *reader) forget() { r.known, r.fresh = r.fresh, nil }
