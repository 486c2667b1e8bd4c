package format

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The page has every row of the table as the code has it, and no other.
func TestCompatibilityPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/compatibility.md")
	require.NoError(t, err)
	rows := 0
	for _, r := range Table() {
		reads := fmt.Sprint(r.Newest)
		if r.Oldest != r.Newest {
			reads = fmt.Sprintf("%d to %d", r.Oldest, r.Newest)
		}
		assert.Contains(t, string(text), fmt.Sprintf("\n| %s | %s | %s | %s |\n", r.Name, r.Place, reads, r.Writes))
		rows++
	}
	assert.Equal(t, rows+1, strings.Count(string(text), "\n| "), "a head and the rows")
}

func TestUnknownNumbersAreRefused(t *testing.T) {
	require.NoError(t, Check("log", 2, 1, 3))
	assert.EqualError(t, Check("log", 4, 1, 3), "log format 4 is not known here, this program reads 1 to 3: use the version of the program that wrote it, or a later one")
	assert.EqualError(t, Check("log", 0, 1, 1), "log format 0 is not known here, this program reads 1: use the version of the program that wrote it, or a later one")
}
