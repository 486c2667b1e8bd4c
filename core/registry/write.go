package registry

import (
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// What the API writes. The commands of one call are proposed in one turn and in this
// order; then they share an entry of the log, and nobody sees a part of them.
//
// They are done all or not at all, contents aside, although each key has only conditions
// of its own: every change of a unit makes the key of its desired state anew, last, and
// all commands of the change are fenced by that key as it was. Where a program of others
// has left no such key, or has changed one key alone, a part may be done.

// Create makes a unit that the model does not show. The result of the last but one command
// tells: an error of code 105 or 101 says that somebody else has made one of that name
// meanwhile; then nothing was changed.
//
// Contents are set even where they are stored already, so that whoever is about to remove
// them as unused finds them changed.
func (m *Model) Create(name string, f *unit.File, desired unit.State) []store.Command {
	contents := store.Command{Op: store.OpSet, Key: m.keys.Contents(f.Hash()), Value: EncodeContents(f.String())}
	object := store.Command{Op: store.OpCreate, Key: m.keys.Object(name), Value: EncodeObject(name, f.Hash())}
	state := store.Command{Op: store.OpCreate, Key: m.keys.TargetState(name), Value: string(desired)}
	if j := m.jobs[name]; j != nil && j.desired.there() { // left over from an earlier unit
		state.Op, state.Fence = store.OpSet, store.Fence{Key: state.Key, Created: j.desired.created}
		object.Fence = state.Fence
	}
	return []store.Command{contents, object, state}
}

// Replace gives a unit other contents. The result of the last but one command tells: an
// error of code 101 or 100 says that u is not the unit as it is any more.
func (m *Model) Replace(u *Unit, f *unit.File, desired unit.State) []store.Command {
	return []store.Command{
		{Op: store.OpSet, Key: m.keys.Contents(f.Hash()), Value: EncodeContents(f.String())},
		{Op: store.OpCompareAndSwap, Key: m.keys.Object(u.Name), Value: EncodeObject(u.Name, f.Hash()), PrevIndex: u.ObjectIndex, Fence: m.fence(u)},
		m.Desire(u, desired),
	}
}

// Desire sets what a unit is wanted to be. An error of code 101 or 105 says that u is not
// the unit as it is any more.
func (m *Model) Desire(u *Unit, desired unit.State) store.Command {
	c := store.Command{Op: store.OpSet, Key: m.keys.TargetState(u.Name), Value: string(desired), Fence: m.fence(u)}
	if u.DesiredIndex == 0 {
		c.Op = store.OpCreate
	}
	return c
}

// Destroy removes a unit. The result of the first command tells: an error of code 101 or
// 100 says that u is not the unit as it is any more. What is left over the engine
// removes, once the machine has stopped it.
func (m *Model) Destroy(u *Unit) []store.Command {
	cs := []store.Command{{Op: store.OpCompareAndDelete, Key: m.keys.Object(u.Name), PrevIndex: u.ObjectIndex, Fence: m.fence(u)}}
	if u.DesiredIndex != 0 {
		cs = append(cs, store.Command{Op: store.OpDelete, Key: m.keys.TargetState(u.Name), Fence: m.fence(u)})
	}
	return cs
}

// fence ties commands to u as it is; see above.
func (m *Model) fence(u *Unit) store.Fence {
	if u.DesiredIndex == 0 {
		return store.Fence{}
	}
	return store.Fence{Key: m.keys.TargetState(u.Name), Created: u.DesiredCreated}
}
