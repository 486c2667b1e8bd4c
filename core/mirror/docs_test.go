package mirror

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The page names the limits as the code has them.
func TestClientsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/clients.md")
	require.NoError(t, err)
	assert.Contains(t, string(page), fmt.Sprintf("| a mirror | %v to connect, %v for a listing, %v for a write | %v of silence", connectMax, headMax, writeMax, silenceMax))
}
