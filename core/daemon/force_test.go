package daemon_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/daemon"
	"github.com/keelson/keelson/sim"
)

// three begins a world with a cluster of three that holds a key.
func three(t *testing.T, seed uint64) (*sim.Cluster, []*sim.Machine) {
	t.Helper()
	c := sim.NewCluster(seed, 0, sim.ClusterOptions{})
	all := machines(c, 3, list)
	for _, m := range all {
		m.PowerOn()
	}
	require.True(t, c.RunTill(20*time.Second, func() bool { return lead(all) != nil }))
	require.Equal(t, 201, ask(c, all[0], "PUT", "/v2/keys/a", "value=1").status)
	c.RunFor(2 * time.Second)
	return c, all
}

func list(string) bootstrap.Config {
	return bootstrap.Config{InitialCluster: "m1=http://m1:2380,m2=http://m2:2380,m3=http://m3:2380"}
}

func value(c *sim.Cluster, m *sim.Machine) string {
	r := ask(c, m, "GET", "/v2/keys/a", "")
	_, rest, _ := strings.Cut(r.body, `"value":"`)
	v, _, _ := strings.Cut(rest, `"`)
	return v
}

func alone(c *sim.Cluster, m *sim.Machine) bool {
	return c.RunTill(20*time.Second, func() bool {
		n := sim.NodeOf(m)
		return n != nil && n.Status().Leader != 0 && len(n.Status().Voters) == 1
	})
}

// A member goes on alone with all it has, under new names; whoever was with it before is
// not let in, and the flag is not obeyed twice.
func TestForceNewCluster(t *testing.T) {
	c, all := three(t, 1)
	one, others := all[0], all[1:]
	was := c.ClusterOf(one)
	for _, m := range all {
		m.PowerOff()
	}
	force := daemon.Config{Bootstrap: list(""), ForceNewCluster: true}
	c.Configure(one, force)
	one.PowerOn()
	require.True(t, alone(c, one))
	assert.Equal(t, "1", value(c, one))
	require.NotEqual(t, was, c.ClusterOf(one))
	require.Equal(t, 200, ask(c, one, "PUT", "/v2/keys/a", "value=2").status)
	for _, m := range others {
		m.PowerOn() // they are a majority of the old cluster, and go on as that
	}
	c.RunFor(20 * time.Second)
	assert.Len(t, sim.NodeOf(one).Status().Voters, 1)
	assert.Equal(t, "2", value(c, one))
	assert.Equal(t, "1", value(c, others[0]))
	forced := c.ClusterOf(one)
	one.PowerOff()
	one.PowerOn() // with the flag still there
	require.True(t, alone(c, one))
	assert.Equal(t, forced, c.ClusterOf(one))
	assert.Equal(t, "2", value(c, one))
}

// Whatever moment the power fails at, the next start comes to one new cluster with all
// that was there.
func TestForceNewClusterSurvivesPowerLoss(t *testing.T) {
	for seed := range uint64(8) {
		c, all := three(t, seed)
		for _, m := range all {
			m.PowerOff()
		}
		one := all[0]
		c.Configure(one, daemon.Config{Bootstrap: list(""), ForceNewCluster: true})
		for i := range 40 {
			one.PowerOn()
			c.RunFor(time.Duration(i) * time.Duration(seed+1) * 100 * time.Microsecond)
			one.PowerOff()
		}
		one.PowerOn()
		require.True(t, alone(c, one), "%v", one.Exits())
		assert.Equal(t, "1", value(c, one))
		for _, name := range one.Disk().Files() {
			assert.False(t, strings.HasPrefix(name, "forced/"), "%s is left over", name)
		}
	}
}

func TestForceNewClusterWithoutData(t *testing.T) {
	c := sim.NewCluster(3, 0, sim.ClusterOptions{})
	m := c.AddMachine("m1", daemon.Config{Bootstrap: list(""), ForceNewCluster: true})
	m.PowerOn()
	c.RunFor(time.Second)
	require.NotEmpty(t, m.Exits())
	assert.ErrorContains(t, m.Exits()[0].Err, "there is no data of a member here")
}
