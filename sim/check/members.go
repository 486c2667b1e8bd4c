package check

import (
	"errors"
	"slices"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/core/replica"
	"github.com/keelson/keelson/sim"
)

// newcomer is a member without a vote, as first seen in a group.
type newcomer struct {
	id    env.NodeID
	added uint64 // raft index that whoever first knew of it had applied
	last  uint64 // the furthest end of its log that was seen
}

// members follows who joins a group: nobody gets a vote whose log has not come as far as
// the entry that added it. Until then it has acknowledged nothing that others rely on,
// so each such vote is one missing where entries must be on a majority of the disks.
func (a *Always) members(g *group, m *sim.Machine, id env.NodeID, st *node.Status) {
	if n := g.newcomer(id); n != nil {
		n.last = max(n.last, st.Last)
	}
	for _, l := range st.Learners {
		if g.newcomer(l) == nil && !slices.Contains(g.voted, l) {
			g.newcomers = append(g.newcomers, newcomer{id: l, added: st.Applied})
		}
	}
	for _, v := range st.Voters {
		n := g.newcomer(v)
		if n == nil {
			continue
		}
		if n.last < n.added {
			a.c.Fail(Promoted, "%s has applied that %v votes, whose log was never seen beyond entry %d, but it was added by entry %d", m.Name(), v, n.last, n.added)
		}
		g.newcomers = slices.DeleteFunc(g.newcomers, func(n newcomer) bool { return n.id == v })
		g.voted = append(g.voted, v)
	}
}

func (g *group) newcomer(id env.NodeID) *newcomer {
	i := slices.IndexFunc(g.newcomers, func(n newcomer) bool { return n.id == id })
	if i < 0 {
		return nil
	}
	return &g.newcomers[i]
}

// Departed waits until every process of a member that was removed has ended because of
// that. It may have been started again since.
func Departed(c *sim.Cluster, b Bounds) bool {
	b.fill()
	if !wait(c, b.Equal, func() bool { return lingering(c) == "" }) {
		c.Fail(Departure, "%s was removed and lives on, %v after the end of trouble", lingering(c), b.Equal)
		return false
	}
	return true
}

// lingering names a machine whose member was removed and does not know.
func lingering(c *sim.Cluster) string {
	leader := c.Leader()
	if leader == nil {
		return ""
	}
	r := sim.NodeOf(leader).Replica()
	for _, m := range c.Machines() {
		n := sim.NodeOf(m)
		if n == nil || n.Cluster() != sim.NodeOf(leader).Cluster() || !r.Left(n.ID()) {
			continue
		}
		if !slices.ContainsFunc(m.Exits(), func(e sim.Exit) bool { return errors.Is(e.Err, replica.ErrRemoved) }) {
			return m.Name()
		}
	}
	return ""
}
