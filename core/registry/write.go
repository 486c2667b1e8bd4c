package registry

import (
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// What the API writes. The commands of one call are proposed in one turn and in this
// order; then they share an entry of the log, and nobody sees a part of them.

// Create makes a unit that the model does not show. The result of the last command tells:
// an error of code 105 says that somebody else has made one of that name meanwhile; then
// nothing was changed.
//
// Contents are set even where they are stored already, so that whoever is about to remove
// them as unused finds them changed.
func (m *Model) Create(name string, f *unit.File, desired unit.State) []store.Command {
	cs := []store.Command{{Op: store.OpSet, Key: m.keys.Contents(f.Hash()), Value: EncodeContents(f.String())}}
	if j := m.jobs[name]; j != nil && j.desired.there() { // left over from an earlier unit
		cs = append(cs, store.Command{Op: store.OpCompareAndSwap, Key: m.keys.TargetState(name), Value: string(desired), PrevIndex: j.desired.modified})
	} else {
		cs = append(cs, store.Command{Op: store.OpCreate, Key: m.keys.TargetState(name), Value: string(desired)})
	}
	return append(cs, store.Command{Op: store.OpCreate, Key: m.keys.Object(name), Value: EncodeObject(name, f.Hash())})
}

// Replace gives a unit other contents. The result of the last command tells: an error of
// code 101 says that u is not the unit as it is any more.
func (m *Model) Replace(u *Unit, f *unit.File, desired unit.State) []store.Command {
	return []store.Command{
		{Op: store.OpSet, Key: m.keys.Contents(f.Hash()), Value: EncodeContents(f.String())},
		m.Desire(u, desired),
		{Op: store.OpCompareAndSwap, Key: m.keys.Object(u.Name), Value: EncodeObject(u.Name, f.Hash()), PrevIndex: u.ObjectIndex},
	}
}

// Desire sets what a unit is wanted to be. An error of code 101, 100 or 105 says that u is
// not the unit as it is any more.
func (m *Model) Desire(u *Unit, desired unit.State) store.Command {
	c := store.Command{Op: store.OpCompareAndSwap, Key: m.keys.TargetState(u.Name), Value: string(desired), PrevIndex: u.DesiredIndex}
	if u.DesiredIndex == 0 {
		c.Op = store.OpCreate
	}
	return c
}

// Destroy removes a unit. The result of the first command tells: an error of code 101 or
// 100 says that u is not the unit as it is any more. What is left over the engine
// removes, once the machine has stopped it.
func (m *Model) Destroy(u *Unit) []store.Command {
	cs := []store.Command{{Op: store.OpCompareAndDelete, Key: m.keys.Object(u.Name), PrevIndex: u.ObjectIndex}}
	if u.DesiredIndex != 0 {
		cs = append(cs, store.Command{Op: store.OpCompareAndDelete, Key: m.keys.TargetState(u.Name), PrevIndex: u.DesiredIndex})
	}
	return cs
}
