package sched_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/sched"
)

func TestThePageListsTheReasons(t *testing.T) {
	page, err := os.ReadFile("../../docs/scheduling.md")
	require.NoError(t, err)
	want := "| reason | what it says of the machine |\n| --- | --- |\n"
	for _, r := range sched.Reasons() {
		want += fmt.Sprintf("| `%s` | %s |\n", r.Head, r.Doc)
	}
	assert.Contains(t, string(page), want)
}
