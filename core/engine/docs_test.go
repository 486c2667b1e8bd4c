package engine

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/registry"
)

// The page names the limits as the code has them.
func TestInternalsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/units-internals.md")
	require.NoError(t, err)
	for _, text := range []string{
		fmt.Sprintf("%d reconcile intervals (`engine-reconcile-interval`, %d s)", leaseIntervals, int(registry.DefaultReconcile.Seconds())),
		fmt.Sprintf("nobody has held it for %d intervals", vacantIntervals),
		fmt.Sprintf("at most %d writes", commandsMax),
		fmt.Sprintf("removed %d s after", int(unusedGrace.Seconds())),
		fmt.Sprintf("one TTL (`agent-ttl`, %d s)", int(registry.DefaultTTL.Seconds())),
	} {
		assert.Contains(t, string(page), text)
	}
}
