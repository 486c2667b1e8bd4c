package store

import (
	"cmp"
	"slices"

	"github.com/keelson/keelson/core/env"
)

// session is what is remembered of the commands of one node, so that a second
// copy of one in the log changes nothing.
//
// Invariant: applied is sorted, and all of it is at least floor.
type session struct {
	node        env.NodeID
	incarnation uint64
	floor       uint64   // every lower number is settled
	applied     []uint64 // numbers applied at or above the floor
}

// sessions is sorted by node. A View shares it: the slice is cloned before it is
// changed in a new edit, and applied only ever grows behind the end that a View
// sees or is replaced.
type sessions []session

func (ss sessions) find(id env.NodeID) (int, bool) {
	return slices.BinarySearchFunc(ss, id, func(s session, id env.NodeID) int {
		return cmp.Compare(s.node, id)
	})
}

// knows reports whether a command of this name would be a copy.
func (ss sessions) knows(id ID) bool {
	i, ok := ss.find(id.Node)
	if !ok || id == (ID{}) {
		return false
	}
	s := &ss[i]
	if id.Incarnation != s.incarnation {
		return id.Incarnation < s.incarnation
	}
	_, applied := slices.BinarySearch(s.applied, id.Number)
	return applied || id.Number < s.floor
}

// settle moves the floor. Numbers under it are forgotten.
func (s *session) settle(floor uint64) {
	if floor > s.floor {
		s.floor = floor
	}
	keep, _ := slices.BinarySearch(s.applied, s.floor)
	s.applied = s.applied[keep:]
	for len(s.applied) > 0 && s.applied[0] == s.floor {
		s.applied = s.applied[1:]
		s.floor++
	}
}

func (s *session) add(number uint64) {
	if n := len(s.applied); n == 0 || s.applied[n-1] < number {
		s.applied = append(s.applied, number)
		return
	}
	i, _ := slices.BinarySearch(s.applied, number)
	fresh := make([]uint64, 0, len(s.applied)+8) // a View may see the old one
	fresh = append(append(append(fresh, s.applied[:i]...), number), s.applied[i:]...)
	s.applied = fresh
}

// admit takes note of a command and reports whether it is to be applied.
func (s *Store) admit(c *Command) bool {
	if c.ID == (ID{}) {
		return true
	}
	copied := s.sessions.knows(c.ID)
	i, ok := s.sessions.find(c.ID.Node)
	if ok && c.ID.Incarnation < s.sessions[i].incarnation {
		return false
	}
	if s.sessionsEdit != s.edit {
		s.sessions, s.sessionsEdit = slices.Clone(s.sessions), s.edit
	}
	if !ok {
		s.sessions = slices.Insert(s.sessions, i, session{node: c.ID.Node, incarnation: c.ID.Incarnation})
	}
	ses := &s.sessions[i]
	if c.ID.Incarnation > ses.incarnation {
		*ses = session{node: c.ID.Node, incarnation: c.ID.Incarnation}
	}
	if !copied {
		ses.add(c.ID.Number)
	}
	// A command is itself still under way, whatever it says.
	ses.settle(min(c.Settled, c.ID.Number))
	return !copied
}
