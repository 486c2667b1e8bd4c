package gateway

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/store"
)

// pageRows are the lines that docs/api.md must hold, made from the tables that
// the server works with.
func pageRows() (rows []string) {
	rows = append(rows, fmt.Sprintf("| `/v2/keys/…` | %s | ", list(keysMethods)), fmt.Sprintf("| `/v2/members/…` | %s | ", list(membersMethods)))
	for _, g := range pages {
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |", g.path, list(g.methods), g.doc))
	}
	for i, f := range Fields() {
		refusal := "never refused"
		if f.Cause != "" {
			refusal = fmt.Sprintf("%d `%s`", f.Code, f.Cause)
		}
		rows = append(rows, fmt.Sprintf("| %d | `%s` | %s | %s | %s |", i+1, f.Name, f.Kind, f.Methods, refusal))
	}
	for c := store.Code(1); c < 1000; c++ {
		if c.Message() != "" {
			rows = append(rows, fmt.Sprintf("| %d | %s | %d |", c, c.Message(), c.Status()))
		}
	}
	return rows
}

func list(methods string) string { return strings.ReplaceAll(methods, ",", " ") }

// TestReferencePage: the page lists every endpoint, field and code that there is,
// as the code has them.
func TestReferencePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/api.md")
	require.NoError(t, err)
	for _, row := range pageRows() {
		assert.Contains(t, string(page), "\n"+row)
	}
}
