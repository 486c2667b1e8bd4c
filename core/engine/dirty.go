package engine

import (
	"maps"
	"slices"

	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/unit"
)

// dirty is what the next pass looks at.
type dirty struct {
	units    map[string]struct{}
	machines map[string]struct{}
	states   registry.Pairs
	unused   map[string]unit.Hash
	all      bool // also what lies around
}

func newDirty() dirty {
	return dirty{map[string]struct{}{}, map[string]struct{}{}, registry.Pairs{}, map[string]unit.Hash{}, false}
}

func (d *dirty) unit(name string) { d.units[name] = struct{}{} }

// add takes a change of the registry.
func (d *dirty) add(c registry.Change) {
	for _, name := range c.Units {
		d.unit(name)
	}
	for _, id := range c.Machines {
		d.machines[id] = struct{}{}
	}
	for _, p := range c.States {
		d.states.Add(p.Unit, p.Machine)
	}
	for _, p := range c.Assigned {
		d.unit(p.Unit)
		if p.Machine != "" {
			d.machines[p.Machine] = struct{}{}
		}
	}
	for _, h := range c.Unused {
		d.unused[h.String()] = h
	}
}

// empty reports whether there is nothing to look at.
func (d *dirty) empty() bool {
	return !d.all && len(d.units)+len(d.machines)+len(d.states)+len(d.unused) == 0
}

// everything has all that is stored looked at.
func (d *dirty) everything(m *registry.Model) {
	d.all = true
	for _, x := range m.Machines() {
		d.machines[x.ID] = struct{}{}
	}
	for _, name := range m.Jobs() {
		d.unit(name)
	}
	for _, name := range m.AssignedNames() {
		d.unit(name)
	}
	for _, name := range m.Stated() {
		for _, id := range m.StatedAt(name) {
			d.states.Add(name, id)
		}
	}
	for _, h := range m.Unused() {
		d.unused[h.String()] = h
	}
}

func sorted[V any](set map[string]V) []string { return slices.Sorted(maps.Keys(set)) }
