package fleetapi

import (
	"cmp"
	"slices"

	"github.com/keelson/keelson/core/registry"
)

// details says that a request asks for more than the original shows.
func (c *call) details() bool { return c.query.Get("details") == "true" }

// paged calls show with the page that was asked for, once the model is fresh.
func (c *call) paged(show func(t token)) {
	t, err := parseToken(c.query, c.s.o.Page)
	if err != nil {
		c.refuseBy(err)
		return
	}
	c.fresh(func() { show(t) })
}

func (c *call) listUnits() {
	c.paged(func(t token) {
		units := c.s.model.Units()
		from, to, next := t.window(len(units))
		page := unitPage{Next: next}
		for _, u := range units[from:to] {
			page.Units = append(page.Units, c.s.showUnit(u, c.details()))
		}
		c.show(page)
	})
}

func (c *call) listMachines() {
	c.paged(func(t token) {
		machines := c.s.alive()
		from, to, next := t.window(len(machines))
		page := machinePage{Next: next}
		for _, m := range machines[from:to] {
			page.Machines = append(page.Machines, showMachine(m, c.details()))
		}
		c.show(page)
	})
}

// alive gives the machines whose lease has not run out, by ID.
func (s *Server) alive() (list []*registry.Machine) {
	for _, m := range s.model.Machines() {
		if m.Alive {
			list = append(list, m)
		}
	}
	return list
}

func (c *call) listStates() {
	c.paged(func(t token) {
		states := c.s.states(c.query.Get("unitName"), c.query.Get("machineID"))
		from, to, next := t.window(len(states))
		page := statePage{Next: next}
		for _, s := range states[from:to] {
			page.States = append(page.States, showState(s, c.details()))
		}
		c.show(page)
	})
}

func (c *call) getState() {
	c.fresh(func() {
		states := c.s.states(c.names[0], "")
		if len(states) == 0 {
			c.refuse(404, "unit state does not exist")
			return
		}
		c.show(showState(states[0], c.details()))
	})
}

// states gives what live machines say about units, by name and machine. Empty filters let
// everything pass.
func (s *Server) states(name, machine string) (list []*registry.UnitState) {
	all := s.stated
	switch {
	case name != "":
		all = s.model.States(name)
	case machine != "" && !s.model.Alive(machine):
		return nil
	case machine != "":
		return s.model.StatesOf(machine)
	case all == nil:
		all = s.allStates()
		s.stated = all // until something changes: a list of many pages is made once
	}
	if machine == "" {
		return all
	}
	return slices.DeleteFunc(all, func(one *registry.UnitState) bool { return one.MachineID != machine })
}

func (s *Server) allStates() []*registry.UnitState {
	list := []*registry.UnitState{}
	for _, m := range s.alive() {
		list = append(list, s.model.StatesOf(m.ID)...)
	}
	slices.SortStableFunc(list, func(a, b *registry.UnitState) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.MachineID, b.MachineID))
	})
	return list
}

func (c *call) getUnit() {
	c.fresh(func() {
		if u := c.known(); u != nil {
			c.show(c.s.showUnit(u, c.details()))
		}
	})
}

// known gives the unit that the path names, or refuses.
func (c *call) known() *registry.Unit {
	u := c.s.model.Unit(c.names[0])
	if u == nil {
		c.refuse(404, "unit does not exist")
	}
	return u
}
