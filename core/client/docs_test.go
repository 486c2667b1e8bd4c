package client

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/retry"
)

// TestClientsPage: the page holds the table of what is sent again, and the limits, as
// the code has them.
func TestClientsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/clients.md")
	require.NoError(t, err)
	for _, r := range retry.Table() {
		assert.Contains(t, string(page), fmt.Sprintf("\n| %s | %v | %v | %s |\n", r.What, r.Read, r.Write, r.Why))
	}
	assert.Contains(t, string(page), fmt.Sprintf("doubles from %v to\n%v", backoffMin, backoffMax))
	assert.Contains(t, string(page), fmt.Sprintf("or %d |", roundsDefault))
}
