package chaos

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Clients behind proxies are promised what clients of members are, and mirrors show
// what the members have, with trouble and without.
func TestProxiesKeepPromises(t *testing.T) {
	for _, c := range []Config{
		{Seed: 1, Machines: 3, Families: []string{"none"}, Workloads: []string{"proxies"}},
		{Seed: 2, Machines: 3, Families: []string{"kills", "partitions", "links"}, Workloads: []string{"proxies", "directories", "ttl", "streams"}},
		{Seed: 3, Machines: 5, Families: []string{"power", "resets", "pauses"}, Workloads: []string{"proxies", "watchers"}},
	} {
		v, err := Run(c)
		require.NoError(t, err)
		require.True(t, v.OK(), "%v", v)
		assert.Positive(t, v.Report.Ops)
		assert.Positive(t, v.Rare.Marks["check: mirror compared with the members"])
	}
}
