package fleetapi_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/fleetapi"
)

// TestReferencePage: the page lists every request that there is, as the code has it, what
// we have added apart.
func TestReferencePage(t *testing.T) {
	text, err := os.ReadFile("../../docs/units-api.md")
	require.NoError(t, err)
	theirs, ours, found := strings.Cut(string(text), "\nThese are additions:\n")
	require.True(t, found)
	for _, r := range fleetapi.Routes() {
		row := fmt.Sprintf("\n| `%s %s` | %s |\n", r.Method, r.Path, r.Doc)
		if r.Ours {
			assert.Contains(t, ours, row)
		} else {
			assert.Contains(t, theirs, row)
		}
	}
}
