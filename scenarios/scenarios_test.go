package scenarios_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/scenarios"
	"github.com/keelson/keelson/scenarios/script"
	"github.com/keelson/keelson/sim"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the outputs of the transcripts to what happens")

func TestMain(m *testing.M) {
	sim.Deterministic()
	os.Exit(m.Run())
}

func TestDisasters(t *testing.T) {
	const screen = 30
	transcripts(t, "disasters/*.txt", 20, screen)
}

// Sessions show what people type in calm, line after line.
func TestSessions(t *testing.T) { transcripts(t, "sessions/*.txt", 3, 200) }

// transcripts runs all of a directory. Each must show what happens, and happen the same
// way twice.
func transcripts(t *testing.T, pattern string, least, lines int) {
	files, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), least)
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			require.LessOrEqual(t, strings.Count(string(text), "\n"), lines, "a transcript is for reading")
			first := run(t, name, string(text))
			if *rewrite {
				require.NoError(t, os.WriteFile(name, []byte(first.File.String()), 0o644))
				return
			}
			require.NoError(t, first.Err)
			require.Equal(t, string(text), first.File.String())
			require.Equal(t, first.Hash, run(t, name, string(text)).Hash, "two runs differ")
		})
	}
}

func run(t *testing.T, name, text string) *scenarios.Result {
	t.Helper()
	f, err := script.Parse(name, text)
	require.NoError(t, err)
	return scenarios.Run(f)
}

// A scenario that asks for what does not hold must fail, on the line that asks.
func TestAScenarioThatDoesNotHoldFails(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"cluster 1\nexpect no leader", "x:2: does not hold"},
		{"cluster 3\nuntil key /a = b within 2s", "x:2: does not hold within 2s"},
		{"cluster 1\n$ locksmithctl set-max 2\n$ locksmithctl lock a\n$ locksmithctl lock b\nalways holders reboot-lock <= 1\nadvance 5s", "always holders reboot-lock <= 1"},
		{"cluster 1\n$ rm -rf /", "x:2: rm is no command"},
		{"cluster 1\nread w", "x:2: no command in the background is named w"},
		{"cluster 1\nworkload nonsense", "x:2: "},
		{"cluster 1\nfault nonsense", "x:2: "},
		{"cluster 1\nexpect n1 is proxy", "x:2: does not hold"},
		{"cluster 2\nexpect n1 says \"states of members differ\"", "x:2: does not hold"},
		{"cluster 0\nmachine a --proxy sometimes\nuntil a refuses nothing within 1s", "a is down (start: --proxy=sometimes: want off or on or readonly)"},
	} {
		t.Run(c.text, func(t *testing.T) { assert.ErrorContains(t, run(t, "x", c.text).Err, c.want) })
	}
}

// The reference page has every statement and condition of the tables.
func TestTheReferencePageIsComplete(t *testing.T) {
	want := scenarios.Reference()
	const page = "../docs/scenarios.md"
	if *rewrite {
		require.NoError(t, os.WriteFile(page, []byte(want), 0o644))
	}
	got, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, want, string(got), "run go test ./scenarios -rewrite")
}
