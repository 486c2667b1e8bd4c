package agent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/unit"
)

// A machine that gets a thousand units at once starts them all: the agent shares its loop
// with a member, which must not be late because of that.
func BenchmarkStart1000(b *testing.B) {
	for b.Loop() {
		w := newWorld(b, 1)
		h := w.host("m1")
		h.start()
		for i := range 1000 {
			w.assign(h, fmt.Sprintf("u%03d.service", i), sleeper, unit.Launched)
		}
		w.forward(10 * time.Second)
		on := 0
		for _, r := range h.ran {
			if r.On {
				on++
			}
		}
		require.Equal(b, 1000, on)
	}
}
