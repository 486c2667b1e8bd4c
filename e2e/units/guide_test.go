package units

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every line of the old guides does what it did, on machines as they were.
func TestGuide(t *testing.T) {
	fresh(t)
	play(t, "testdata/guide.txt")
}

func TestSSH(t *testing.T) {
	fresh(t)
	play(t, "testdata/ssh.txt")
}

// The API is also on the machines' addresses, for clients elsewhere.
func TestFromAnotherHost(t *testing.T) {
	fresh(t)
	m := cluster.Machines[1]
	cmd := exec.CommandContext(t.Context(), "ip", "-br", "addr", "show", cluster.Bridge)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	list := exec.CommandContext(t.Context(), binary(), "fleetctl", "--endpoint", m.URL(), "list-machines", "--no-legend", "--fields=ip")
	out, err = list.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, m := range cluster.Machines {
		assert.Contains(t, string(out), m.Address+"\n")
	}
}

// Journal and status come from whatever machine has them, to whatever machine asks, and
// lines to come follow.
func TestJournalAndStatusFromAnyMachine(t *testing.T) {
	fresh(t)
	put(t, 0, "talk.service", "[Service]\nExecStart=/bin/bash -c \"i=0; while true; do echo line $$((i++)); sleep 0.2; done\"\n\n[X-Fleet]\nMachineID=3c3c3c3c\n")
	must(t, 0, "start", "talk.service")
	for i := range cluster.Machines {
		until(t, "three lines of the journal", func() bool {
			return len(fields(must(t, i, "journal", "--lines", "3", "talk"))) == 3
		})
		assert.Contains(t, must(t, i, "status", "talk"), "Active: active (running)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	cmd, err := cluster.Machines[0].Command(ctx, "fleetctl", "journal", "-f", "--lines", "1", "--output", "cat", "talk")
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	var numbers []int
	for len(numbers) < 6 && lines.Scan() {
		var n int
		_, err := fmt.Sscanf(lines.Text(), "line %d", &n)
		require.NoError(t, err, lines.Text())
		numbers = append(numbers, n)
	}
	cancel()
	cmd.Wait()
	require.Len(t, numbers, 6)
	for i, n := range numbers {
		assert.Equal(t, numbers[0]+i, n, "lines come each once, in order")
	}
	must(t, 1, "stop", "talk")
	assert.Equal(t, 3, fleetctl(t, 0, "status", "talk").Status, "not active")
}

// A cordoned machine gets no new units and keeps its own; a drained one gives them up.
func TestCordonAndDrain(t *testing.T) {
	fresh(t)
	keelson := func(args ...string) string {
		r := run(t, 1, append([]string{"keelson"}, args...)...)
		require.Zerof(t, r.Status, "keelson %s: %v", strings.Join(args, " "), r)
		return r.Out
	}
	put(t, 0, "free@.service", sleeper())
	put(t, 0, "stays.service", sleeper("MachineID="+cluster.Machines[0].ID))
	must(t, 0, "start", "free@1", "free@2", "free@3", "stays")
	on := target(t, 0, "free@1.service")
	keelson("cordon", cluster.Machines[on].ID)
	before := alive(t, on, "free@1.service")
	must(t, 0, "start", "free@4", "free@5", "free@6")
	for _, u := range []string{"free@4.service", "free@5.service", "free@6.service"} {
		assert.NotEqual(t, on, target(t, 0, u), u)
	}
	assert.Equal(t, before, alive(t, on, "free@1.service"), "a cordon touches nothing that runs")
	keelson("uncordon", cluster.Machines[on].ID)

	r := run(t, 1, "keelson", "drain", cluster.Machines[0].ID)
	assert.Contains(t, r.Out+r.Err, "stays.service", "what cannot move is named")
	until(t, "all that can leave has left", func() bool {
		for n := 1; n <= 6; n++ {
			if at := runsOn(t, fmt.Sprintf("free@%d.service", n)); len(at) != 1 || at[0] == 0 {
				return false
			}
		}
		return true
	})
	keelson("uncordon", cluster.Machines[0].ID)
}

// Why a unit is nowhere is told in words.
func TestWhy(t *testing.T) {
	fresh(t)
	put(t, 0, "nowhere.service", sleeper("MachineMetadata=disk=tape"))
	must(t, 0, "start", "--no-block", "nowhere")
	until(t, "the reason is told", func() bool {
		r := run(t, 2, "keelson", "why", "nowhere.service")
		return strings.Contains(r.Out, "disk=tape")
	})
}
