package units

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func binary() string { return os.Getenv(binaryVariable) }

// Bounds of the time that a user waits for the start of a unit on an idle cluster.
// The promise is startWanted for a machine to itself; the tests share theirs.
const (
	startWanted = 500 * time.Millisecond
	startMax    = 3 * startWanted
)

// A unit that is started on an idle cluster runs at once: the time is that of the whole
// command, from submission to the manager's word that the unit is active.
func TestStartIsQuick(t *testing.T) {
	fresh(t)
	const times = 11
	var starts, stops []time.Duration
	for i := range times {
		name := fmt.Sprintf("quick%d.service", i)
		put(t, 0, name, sleeper())
		began := time.Now()
		must(t, 0, "start", name)
		starts = append(starts, time.Since(began))
		began = time.Now()
		must(t, 0, "stop", name)
		stops = append(stops, time.Since(began))
	}
	slices.Sort(starts)
	slices.Sort(stops)
	median := starts[times/2]
	fmt.Printf("start of a unit on an idle cluster of three: median %v, least %v, most %v; stop: median %v\n",
		rounded(median), rounded(starts[0]), rounded(starts[times-1]), rounded(stops[times/2]))
	assert.Less(t, median, startMax)
}

func rounded(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// Fifty units started with one command, half of them beside the other half, all run, each
// once.
func TestManyAtOnce(t *testing.T) {
	fresh(t)
	put(t, 0, "main@.service", sleeper())
	put(t, 0, "side@.service", sleeper("MachineOf=main@%i.service"))
	args := []string{"start"}
	const pairs = 25
	for i := range pairs {
		args = append(args, fmt.Sprintf("side@%d.service", i), fmt.Sprintf("main@%d.service", i))
	}
	began := time.Now()
	must(t, 0, args...)
	fmt.Printf("start of %d units with one command: %v\n", 2*pairs, rounded(time.Since(began)))
	states := fields(must(t, 0, "list-units", "--no-legend", "--full", "--fields=unit,machine,active,sub"))
	assert.Len(t, states, 2*pairs)
	on := make(map[string]string)
	for _, w := range states {
		assert.Equal(t, []string{"active", "running"}, w[2:], w[0])
		on[w[0]] = w[1]
	}
	for i := range pairs {
		assert.Equal(t, on[fmt.Sprintf("main@%d.service", i)], on[fmt.Sprintf("side@%d.service", i)])
	}
}
