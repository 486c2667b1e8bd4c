package fleetapi

import (
	"maps"
	"slices"

	"github.com/keelson/keelson/core/engine"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/sched"
)

// picture is the scheduler's view of the model, made when it is first asked for and from
// then on kept up by what changes. Nobody decides by it: it explains.
type picture struct {
	state    *sched.State
	units    map[string]bool // that have changed since
	machines map[string]bool
}

// changed notes what the picture has to look at again.
func (p *picture) changed(c registry.Change) {
	if p.state == nil {
		return
	}
	if c.All {
		p.state = nil
		return
	}
	for _, name := range c.Units {
		p.units[name] = true
	}
	for _, id := range c.Machines {
		p.machines[id] = true
	}
}

// get gives the picture as the model is now. Whoever wants to try something out takes
// it back.
func (p *picture) get(model *registry.Model) *sched.State {
	if p.state == nil {
		p.state = sched.New(sched.Options{})
		p.units, p.machines = make(map[string]bool), make(map[string]bool)
		for _, m := range model.Machines() {
			p.machines[m.ID] = true
		}
		for _, name := range model.Names() {
			p.units[name] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(p.machines)) {
		setMachine(p.state, id, model.Machine(id))
	}
	for _, name := range slices.Sorted(maps.Keys(p.units)) {
		setUnit(p.state, name, model)
	}
	clear(p.machines)
	clear(p.units)
	return p.state
}

func setMachine(s *sched.State, id string, m *registry.Machine) {
	if m == nil || !m.Alive {
		s.RemoveMachine(id)
		return
	}
	s.SetMachine(engine.MachineOf(m))
}

func setUnit(s *sched.State, name string, model *registry.Model) {
	if u := model.Unit(name); u != nil {
		if told, ok := engine.UnitOf(model, u); ok {
			s.SetUnit(told)
			return
		}
	}
	s.RemoveUnit(name)
}
