package node_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/node"
)

func comparing(c *node.Config) { c.HashEvery = 10 * time.Second }

// A value that changes in one member's memory is found within two periods, although
// nobody reads or writes it: the member names the place and stops, the others go on.
func TestDivergedMemberStops(t *testing.T) {
	c := newCluster(t, 1, 3, comparing)
	require.True(t, c.until(5*time.Second, func() bool { return c.leader() != nil }))
	require.Equal(t, 201, c.set(c.machines[0], "/a", "one"))
	c.run(25 * time.Second)
	for _, m := range c.machines {
		require.NoError(t, m.fatal)
		assert.Positive(t, m.Status().Compared)
		assert.Zero(t, m.Status().Differing)
	}
	victim := c.machines[1]
	require.True(t, victim.Store().Rot("/a"))
	require.True(t, c.until(25*time.Second, func() bool { return victim.fatal != nil }))
	var diverged *node.DivergedError
	require.ErrorAs(t, victim.fatal, &diverged)
	assert.Equal(t, "content", diverged.Kind)
	assert.Equal(t, 2, diverged.Agree)
	assert.Regexp(t, `^state diverged: at log entry \d+ the hash of the content is [0-9a-f]{16} here and [0-9a-f]{16} on 2 of 3 voting members`, diverged.Error())
	c.run(10 * time.Second)
	for _, m := range []*machine{c.machines[0], c.machines[2]} {
		assert.NoError(t, m.fatal)
		assert.EqualValues(t, 1, m.Status().Differing)
	}
	assert.Equal(t, 200, c.set(c.machines[0], "/a", "two"))
}

// Where two of two differ nobody can say who is right: nobody stops, both say so.
func TestEvenSplitStopsNobody(t *testing.T) {
	c := newCluster(t, 2, 2, comparing)
	require.True(t, c.until(5*time.Second, func() bool { return c.leader() != nil }))
	require.Equal(t, 201, c.set(c.machines[0], "/a", "one"))
	require.True(t, c.machines[1].Store().Rot("/a"))
	c.run(40 * time.Second)
	for _, m := range c.machines {
		assert.NoError(t, m.fatal)
		assert.Positive(t, m.Status().Differing)
	}
	assert.Positive(t, c.marks["node: states differ without a majority"])
}

// What happened differently is found from the history alone, long before the content
// is compared.
func TestHistoryIsCompared(t *testing.T) {
	c := newCluster(t, 3, 3, func(c *node.Config) { c.HashEvery = 24 * time.Hour })
	require.True(t, c.until(5*time.Second, func() bool { return c.leader() != nil }))
	require.Equal(t, 201, c.set(c.machines[0], "/a", "one"))
	victim := c.machines[2]
	require.True(t, victim.Store().Rot("/a"))
	for range 6 {
		c.do(c.machines[0], "PUT", "/v2/keys/a", "value=two&prevValue=one") // fails on one, or on two
		c.run(time.Second)
	}
	var diverged *node.DivergedError
	require.ErrorAs(t, victim.fatal, &diverged)
	assert.Equal(t, "history", diverged.Kind)
}

// A member that is alone compares with nobody and writes nothing for it.
func TestAloneNothingIsCompared(t *testing.T) {
	c := newCluster(t, 4, 1, comparing)
	c.run(5 * time.Second)
	before := c.machines[0].Status().Last
	c.run(time.Minute)
	assert.Equal(t, before, c.machines[0].Status().Last)
}
