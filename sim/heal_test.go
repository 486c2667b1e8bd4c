package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/node"
)

func healing(t *testing.T, seed uint64, n int) *Cluster {
	t.Helper()
	c := NewCluster(seed, n, ClusterOptions{Config: func(_ *Machine, c *node.Config) {
		c.HashEvery, c.SnapshotEntries, c.TailEntries = 5*time.Second, 20, 10
	}})
	require.NotNil(t, c.AwaitLeader(30*time.Second), "%v", c.Failure())
	require.True(t, c.Await(c.Spawn("client", func(p *Proc) {
		for i := range 30 {
			put(t, p, fmt.Sprintf("/v2/keys/k%d", i), "value=1")
		}
	}), time.Minute), "%v", c.Failure())
	return c
}

// well says that a machine takes part under another ID than it had, and that its state
// is that of the leader.
func well(c *Cluster, m *Machine, was any) bool {
	n, l := NodeOf(m), c.Leader()
	if n == nil || l == nil || n.Status().ID == was || !n.Status().Ready {
		return false
	}
	st := NodeOf(l).Status()
	in := false
	for _, id := range st.Voters {
		in = in || id == n.Status().ID
	}
	return in && len(st.Voters) == 3 && n.Status().Applied == st.Applied && n.View().Hash() == NodeOf(l).View().Hash()
}

// A value that rots in one member's memory is found without anybody reading it, and
// the member comes back from the others, under a new ID, without a hand.
func TestDivergedMemberIsRebuilt(t *testing.T) {
	for seed := range uint64(6) {
		c := healing(t, seed, 3)
		m := c.Machines()[seed%3]
		was := NodeOf(m).Status().ID
		require.True(t, NodeOf(m).Store().Rot("/k7"))
		healed := c.RunTill(2*time.Minute, func() bool { return well(c, m, was) })
		require.Nil(t, c.Failure())
		assert.True(t, healed, "seed %d: %v", seed, m.Exits())
		assert.Equal(t, 1, m.Life(), "no process had to end")
		c.Close()
	}
}

// A log that is rotten in the middle is found at the start, and the member comes back
// from the others, whatever happens to the machine meanwhile.
func TestRottenLogIsRebuilt(t *testing.T) {
	for seed := range uint64(6) {
		c := healing(t, seed, 3)
		m := c.Machines()[seed%3]
		was := NodeOf(m).Status().ID
		m.PowerOff()
		require.True(t, rotten(c, m))
		m.PowerOn()
		r := c.Rand("heal")
		for range int(seed) {
			c.RunFor(time.Duration(r.Int64N(2e9)))
			m.PowerOff()
			m.PowerOn()
		}
		healed := c.RunTill(2*time.Minute, func() bool { return well(c, m, was) })
		require.Nil(t, c.Failure())
		assert.True(t, healed, "seed %d: %v", seed, m.Exits())
		c.Close()
	}
}

// A member of a cluster of one has nobody: it refuses to start, as ever.
func TestRottenLogOfOneIsRefused(t *testing.T) {
	c := healing(t, 1, 1)
	defer c.Close()
	m := c.Machines()[0]
	m.PowerOff()
	require.True(t, rotten(c, m))
	m.PowerOn()
	c.RunFor(5 * time.Second)
	require.NotEmpty(t, m.Exits())
	assert.ErrorContains(t, m.Exits()[len(m.Exits())-1].Err, "damaged at byte")
}

// Where the others cannot commit anything, nothing is cleared: two rotten members of
// three wait, and come back from a copy of one that is whole.
func TestNothingIsClearedWithoutAMajority(t *testing.T) {
	c := healing(t, 3, 3)
	defer c.Close()
	files := map[*Machine][]string{}
	for _, m := range c.Machines()[:2] {
		m.PowerOff()
		require.True(t, rotten(c, m))
		files[m] = m.Disk().Files()
		m.PowerOn()
	}
	c.RunFor(time.Minute)
	require.Nil(t, c.Failure())
	for m, before := range files {
		for _, f := range before {
			assert.Contains(t, m.Disk().Files(), f)
		}
		assert.Contains(t, DaemonOf(m).Waiting(), "cannot be rebuilt")
	}
}

// rotten flips a bit in the middle of what a machine has on its disk.
func rotten(c *Cluster, m *Machine) bool {
	const name = "member/snapshot"
	return m.Disk().RotAt(name, len(m.Disk().Content(name))/2)
}
