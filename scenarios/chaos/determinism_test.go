package chaos

import (
	"io"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/sim"
)

// Nothing about the process or about who is watching may reach a run.
func TestRunsDependOnTheSeedAlone(t *testing.T) {
	surroundings := []struct {
		name   string
		procs  int
		gc     int
		config func(*Config)
	}{
		{"one processor", 1, 100, func(*Config) {}},
		{"two processors", 2, 100, func(*Config) {}},
		{"much collecting", 2, 20, func(*Config) {}},
		{"little collecting", 2, 400, func(*Config) {}},
		{"traced", 2, 100, func(c *Config) { c.Trace = io.Discard }},
		{"logged", 2, 100, func(c *Config) { c.Log, c.LogLevel = io.Discard, env.Debug }},
		{"watched", 2, 100, func(c *Config) { c.onEvent = func(sim.Event) {} }},
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	for seed := uint64(1); seed <= 3; seed++ {
		var want *Verdict
		for _, s := range surroundings {
			runtime.GOMAXPROCS(s.procs)
			debug.SetGCPercent(s.gc)
			c := Config{Seed: seed, Duration: 15 * time.Second}
			s.config(&c)
			got, err := Run(c)
			require.NoError(t, err)
			if want == nil {
				want = got
			}
			assert.Equal(t, want.Hash, got.Hash, "seed %d, %s", seed, s.name)
			assert.Equal(t, want.Draws, got.Draws, "seed %d, %s", seed, s.name)
		}
	}
}

func TestDivergenceNamesTheFirstEvent(t *testing.T) {
	c := Config{Seed: 1, Machines: 1, Duration: 3 * time.Second, Families: []string{"none"}}
	assert.Contains(t, divergence(c), "a third and a fourth run are equal")
}
