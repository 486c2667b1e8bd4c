package replica_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/replica"
)

// learner adds a member that waits to be brought up.
func (g *group) learner(id env.NodeID) *member {
	g.t.Helper()
	cfg := g.members[0].cfg
	cfg.ID, cfg.Voters, cfg.Join = id, nil, true
	m := g.add(cfg)
	require.NoError(g.t, tryChange(g.leader(), replica.AddLearner, id))
	g.on(m)
	return m
}

func (g *group) steady(id env.NodeID) {
	g.t.Helper()
	require.True(g.t, g.until(10*time.Second, func() bool {
		s := g.leader().Steady()
		return len(s) == 1 && s[0] == id
	}), "%v does not keep up", id)
}

func (g *group) changed() {
	g.t.Helper()
	require.True(g.t, g.until(10*time.Second, func() bool { return !g.leader().Changing() }))
}

func TestReplaceIsOneStep(t *testing.T) {
	g := newGroup(t, 3, 3, nil)
	g.propose("a")
	l, old := g.leader(), g.follower()
	g.off(old) // its disk is gone
	g.learner(4)
	g.steady(4)
	var err error
	l.turn(func() {
		err = l.ProposeConfChange(replica.Change{Kind: replica.Replace, ID: 4, Old: old.cfg.ID, Entry: []byte("four for one")})
	})
	require.NoError(t, err)
	l.turn(func() { err = l.ProposeConfChange(replica.Change{Kind: replica.AddLearner, ID: 5}) })
	require.ErrorIs(t, err, replica.ErrChanging)
	g.changed()
	assert.Len(t, l.Voters(), 3)
	assert.Contains(t, l.Voters(), env.NodeID(4))
	assert.NotContains(t, l.Voters(), old.cfg.ID)
	assert.Equal(t, []string{"a", "four for one"}, l.list.entries, "the machine learns of it once")
	assert.True(t, l.Left(old.cfg.ID))
	g.on(old) // with its old log after all
	g.run(10 * time.Second)
	require.ErrorIs(t, old.fatal, replica.ErrRemoved)
}

func TestChangesThatTakeTheQuorumAwayAreRefused(t *testing.T) {
	g := newGroup(t, 4, 3, nil)
	l := g.leader()
	g.off(g.follower())
	g.run(2 * time.Second)
	l = g.leader()
	var alive, dead *member
	for _, m := range g.members {
		if m != l && m.up {
			alive = m
		} else if m != l {
			dead = m
		}
	}
	err := tryChange(l, replica.Remove, alive.cfg.ID)
	var quorum *replica.QuorumError
	require.ErrorAs(t, err, &quorum)
	assert.Equal(t, replica.QuorumError{Voters: 2, Active: 1, Need: 2}, *quorum)
	assert.EqualError(t, quorum, "would leave 2 voting members of which 1 can be reached, but 2 are needed")
	require.NoError(t, tryChange(l, replica.Remove, dead.cfg.ID), "the rest is whole")
	g.changed()
	assert.Len(t, l.Voters(), 2)
}

// A learner that never starts is promoted by nobody and can be removed.
func TestAbsentLearner(t *testing.T) {
	g := newGroup(t, 5, 1, nil)
	l := g.leader()
	require.NoError(t, tryChange(l, replica.AddLearner, 2))
	g.run(5 * time.Second)
	assert.Empty(t, l.Steady())
	require.ErrorIs(t, tryChange(l, replica.Promote, 2), replica.ErrBehind)
	g.propose("goes on")
	require.NoError(t, tryChange(l, replica.Remove, 2))
	g.changed()
	require.ErrorIs(t, tryChange(l, replica.AddLearner, 2), replica.ErrLeft)
}

// A leader of two that removes itself knows of it first, and the other one may need
// its vote to learn of it.
func TestLeaderOfTwoRemovesItself(t *testing.T) {
	for seed := range uint64(20) {
		g := newGroup(t, seed, 2, nil)
		g.propose("a")
		l, f := g.leader(), g.follower()
		require.NoError(t, tryChange(l, replica.Remove, l.cfg.ID))
		require.True(t, g.until(time.Second, func() bool { return l.Left(l.cfg.ID) }))
		if !f.Left(l.cfg.ID) {
			g.cut = func(from, to env.NodeID) bool { return from != to }
			g.run(20 * time.Second) // the news got lost, and there is no leader to repeat it
			assert.NoError(t, l.fatal, "it may be needed")
			g.cut = func(env.NodeID, env.NodeID) bool { return false }
		}
		g.run(10 * time.Second)
		require.ErrorIs(t, l.fatal, replica.ErrRemoved)
		assert.Equal(t, []env.NodeID{f.cfg.ID}, f.Voters(), "seed %d", seed)
		g.off(l)
		g.propose("b")
	}
}

// The leader that removed a member dies before the others have heard: the removed
// one still votes, and only then stops.
func TestRemovedMemberHelpsOut(t *testing.T) {
	g := newGroup(t, 7, 4, nil)
	l, gone := g.leader(), g.follower()
	require.NoError(t, tryChange(l, replica.Remove, gone.cfg.ID))
	require.True(t, g.until(time.Second, func() bool { return l.Left(gone.cfg.ID) }))
	g.off(l) // of the three that stay, two are left, which count four voters
	g.propose("goes on")
	g.run(10 * time.Second)
	require.ErrorIs(t, gone.fatal, replica.ErrRemoved)
	assert.Len(t, g.leader().Voters(), 3)
}

func TestOnlyChangesOfMembersAreLogged(t *testing.T) {
	lines := map[string]int{}
	g := newGroup(t, 3, 3, nil)
	g.propose("a")
	g.log = func(_ string, args ...any) {
		if args[2] == "members changed" {
			lines[fmt.Sprint(args[1])]++
		}
	}
	l, gone := g.leader(), g.follower()
	require.NoError(t, tryChange(l, replica.Remove, gone.cfg.ID))
	g.changed()
	g.run(5 * time.Second)
	delete(lines, fmt.Sprint(uint64(gone.cfg.ID)))
	require.Len(t, lines, 2)
	for id, n := range lines {
		assert.Equal(t, 1, n, "member %s: the settling of a removal is no change", id)
	}
}
