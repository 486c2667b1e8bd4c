package engine

import (
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/sched"
	"github.com/keelson/keelson/core/unit"
)

// MachineOf is a machine as the scheduler sees it.
func MachineOf(x *registry.Machine) sched.Machine {
	return sched.Machine{
		ID: x.ID, Metadata: x.Effective(), Capacity: x.Capacity,
		Cordoned: x.Cordon == registry.Cordoned, Draining: x.Cordon == registry.Draining,
	}
}

// UnitOf is a unit as the scheduler sees it. False says that it is nothing to place.
//
// A unit whose contents are missing or ask for what cannot be stays where it is as long
// as its machine lives, and is placed nowhere.
func UnitOf(m *registry.Model, u *registry.Unit) (sched.Unit, bool) {
	told := sched.Unit{Name: u.Name, Place: u.Place, State: u.Desired, Machine: u.Target, Move: u.Move}
	if u.Claim != "" && m.Alive(u.Claim) {
		told.Held = u.Claim
	}
	if unit.Split(u.Name).IsTemplate() {
		told.State = unit.Inactive
		return told, u.Target != ""
	}
	if u.Place != nil && u.File != nil {
		return told, true
	}
	told.Place, told.Move = &unit.Placement{MachineID: u.Target, Weight: 1}, ""
	return told, u.Target != ""
}
