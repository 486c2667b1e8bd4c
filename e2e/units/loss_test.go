package units

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startThree starts a unit on each machine and gives their names, in the machines' order,
// and their lives.
func startThree(t *testing.T, fleet ...string) (names []string, lives []life) {
	t.Helper()
	args := []string{"start"}
	for i, m := range cluster.Machines {
		name := fmt.Sprintf("three%d.service", i+1)
		put(t, 0, name, sleeper(append([]string{"MachineID=" + m.ID}, fleet...)...))
		names = append(names, name)
		args = append(args, name)
	}
	must(t, 0, args...)
	for i, n := range names {
		lives = append(lives, alive(t, i, n))
		require.Equal(t, "active", lives[i].active, n)
	}
	return names, lives
}

// same says that nobody has touched the units meanwhile.
func same(t *testing.T, names []string, lives []life) {
	t.Helper()
	for i, n := range names {
		assert.Equal(t, lives[i], alive(t, i, n), "%s on %s", n, cluster.Machines[i].Host)
	}
}

// daemon is the process ID of keelson on machine i.
func daemon(t *testing.T, i int) string {
	t.Helper()
	return strings.TrimSpace(run(t, i, "systemctl", "show", "keelson", "-P", "MainPID").Out)
}

// The units of a machine do not notice that its daemon is killed and comes back.
func TestKilledDaemonsKeepTheirUnits(t *testing.T) {
	fresh(t)
	names, lives := startThree(t)
	for i := range cluster.Machines {
		pid := daemon(t, i)
		run(t, i, "kill", "-9", pid)
		until(t, "systemd starts the daemon again", func() bool { p := daemon(t, i); return p != pid && p != "0" })
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	require.NoError(t, cluster.Ready(ctx))
	time.Sleep(ttl) // whoever was given up would be moved by now
	same(t, names, lives)
	assert.Len(t, fields(must(t, 0, "list-units", "--no-legend")), 3)
	must(t, 0, "stop", names[2])
	assert.Equal(t, "inactive", alive(t, 2, names[2]).active, "the daemon still has its units in hand")
}

// Without a majority nothing can be decided, and so nothing is stopped. When it is back
// the machines have their time.
func TestUnitsSurviveTheControlPlane(t *testing.T) {
	fresh(t)
	names, lives := startThree(t)
	for _, m := range cluster.Machines {
		require.NoError(t, m.Cut())
	}
	time.Sleep(ttl + 2*time.Second)
	same(t, names, lives)
	for _, m := range cluster.Machines {
		require.NoError(t, m.Heal())
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	require.NoError(t, cluster.Ready(ctx))
	time.Sleep(2 * time.Second)
	same(t, names, lives)
}

// lostMax is how long the units of a dead machine may take until they run elsewhere: the
// lease, and a second.
const lostMax = ttl + time.Second

// spread starts three units that any machine may run, and gives the one that machine i does.
func spread(t *testing.T, i int) string {
	t.Helper()
	put(t, 0, "any@.service", sleeper())
	must(t, 0, "start", "any@1", "any@2", "any@3")
	for n := 1; n <= 3; n++ {
		if name := fmt.Sprintf("any@%d.service", n); target(t, 0, name) == i {
			return name
		}
	}
	require.FailNow(t, "each machine has one of three")
	return ""
}

// loses takes the power of machine i away and gives the time until its unit runs elsewhere.
func loses(t *testing.T, i int, unit string) time.Duration {
	t.Helper()
	began := time.Now()
	require.NoError(t, cluster.Machines[i].PowerOff())
	until(t, unit+" runs elsewhere", func() bool { return len(runsOn(t, unit)) == 1 })
	return time.Since(began)
}

// When a machine loses power its units run elsewhere within a second after its lease has
// ended; when it is back it does not take them back.
func TestDeadMachine(t *testing.T) {
	fresh(t)
	dead := others(leader(t))[0]
	unit := spread(t, dead)
	took := loses(t, dead, unit)
	fmt.Printf("a machine's death to its unit running elsewhere: %v, with leases of %v\n", rounded(took), ttl)
	assert.LessOrEqual(t, took, lostMax)
	assert.Len(t, fields(must(t, others(dead)[0], "list-machines", "--no-legend")), 2)

	now := runsOn(t, unit)[0]
	before := alive(t, now, unit)
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	require.NoError(t, cluster.Machines[dead].PowerOn(ctx))
	require.NoError(t, cluster.Ready(ctx))
	time.Sleep(2 * time.Second)
	assert.Equal(t, []int{now}, runsOn(t, unit))
	assert.Equal(t, before, alive(t, now, unit))
}

// leader is the machine that leads the store.
func leader(t *testing.T) (lead int) {
	t.Helper()
	until(t, "there is a leader", func() bool {
		for line := range strings.Lines(run(t, 0, "etcdctl", "member", "list").Out) {
			for i, m := range cluster.Machines {
				if strings.Contains(line, "name="+m.Host+" ") && strings.Contains(line, "isLeader=true") {
					lead = i
					return true
				}
			}
		}
		return false
	})
	return lead
}

// electionMax is how long a cluster may be without a leader, and its time stand still.
const electionMax = 3 * time.Second

// The leader's machine is no exception: the others first find another leader, and leases
// last as much longer.
func TestDeadLeader(t *testing.T) {
	fresh(t)
	dead := leader(t)
	took := loses(t, dead, spread(t, dead))
	fmt.Printf("the leader's death to its unit running elsewhere: %v\n", rounded(took))
	assert.LessOrEqual(t, took, lostMax+electionMax)
}

// A machine that is cut off keeps what it runs; the others run it too when its lease has
// ended; when the cut is healed one of the two remains.
func TestPartition(t *testing.T) {
	fresh(t)
	put(t, 0, "twice.service", sleeper())
	must(t, 0, "start", "twice")
	cut := target(t, 0, "twice.service")
	before := alive(t, cut, "twice.service")
	require.NoError(t, cluster.Machines[cut].Cut())
	until(t, "the unit runs on both sides", func() bool { return len(runsOn(t, "twice.service")) == 2 })
	assert.Equal(t, before, alive(t, cut, "twice.service"), "nobody told this machine to stop it")
	other := -1
	for _, i := range runsOn(t, "twice.service") {
		if i != cut {
			other = i
		}
	}
	after := alive(t, other, "twice.service")
	healed := time.Now()
	require.NoError(t, cluster.Machines[cut].Heal())
	until(t, "one remains", func() bool { return len(runsOn(t, "twice.service")) == 1 })
	fmt.Printf("the end of a partition to a single copy: %v\n", rounded(time.Since(healed)))
	assert.Equal(t, []int{other}, runsOn(t, "twice.service"))
	assert.Equal(t, after, alive(t, other, "twice.service"), "the one that remains was not touched")
}

// A machine that stood still finds its units moved when it goes on, and gives its own copies
// up; it does not take anything from the others.
func TestPausedMachine(t *testing.T) {
	fresh(t)
	paused := others(leader(t))[0]
	unit := spread(t, paused)
	m := cluster.Machines[paused]
	require.NoError(t, m.Pause())
	until(t, "the unit runs elsewhere", func() bool { return len(runsOn(t, unit, others(paused)...)) == 1 })
	now := runsOn(t, unit, others(paused)...)[0]
	before := alive(t, now, unit)
	require.NoError(t, m.Resume())
	until(t, "one remains", func() bool { return len(runsOn(t, unit)) == 1 })
	assert.Equal(t, before, alive(t, now, unit))
	assert.Len(t, fields(must(t, paused, "list-units", "--no-legend")), 3)
}

// A singleton is stopped by a machine that is cut off before another starts it: by the clock
// of the host, which the machines share.
func TestSingletonInAPartition(t *testing.T) {
	fresh(t)
	put(t, 0, "single.service", sleeper("Singleton=true"))
	must(t, 0, "start", "single")
	cut := target(t, 0, "single.service")
	require.NoError(t, cluster.Machines[cut].Cut())
	elsewhere := func() int {
		for _, i := range runsOn(t, "single.service") {
			if i != cut {
				return i
			}
		}
		return -1
	}
	until(t, "it runs elsewhere", func() bool { return elsewhere() >= 0 })
	ended := moment(t, cut, "single.service", "Stopped")
	began := moment(t, elsewhere(), "single.service", "Started")
	fmt.Printf("a singleton in a partition: stopped %v before it was started elsewhere\n", rounded(began-ended))
	assert.Less(t, ended, began)
}

// moment is when a machine's journal last has a word of systemd about a unit, on the
// host's monotonic clock.
func moment(t *testing.T, i int, unit, word string) (last time.Duration) {
	t.Helper()
	out := run(t, i, "journalctl", "--no-pager", "--boot", "--output=short-monotonic", "--unit="+unit).Out
	for line := range strings.Lines(out) {
		stamp, text, _ := strings.Cut(strings.TrimPrefix(line, "["), "]")
		if strings.Contains(text, "systemd[1]: "+word+" ") {
			var err error
			last, err = time.ParseDuration(strings.TrimSpace(stamp) + "s")
			require.NoError(t, err, line)
		}
	}
	require.NotZerof(t, last, "%s: %s %s:\n%s", cluster.Machines[i].Host, word, unit, out)
	return last
}

// A machine that is rebooted starts again what is still its own.
func TestReboot(t *testing.T) {
	fresh(t)
	put(t, 0, "global.service", sleeper("Global=true"))
	must(t, 0, "start", "global")
	names, lives := startThree(t)
	m := cluster.Machines[1]
	boots := m.Boots()
	run(t, 1, "systemctl", "reboot")
	until(t, "the machine boots again", func() bool { return m.Boots() == boots+1 })
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	require.NoError(t, m.WaitBooted(ctx))
	for _, n := range []string{names[1], "global.service"} {
		until(t, n+" runs again", func() bool { return alive(t, 1, n).active == "active" })
	}
	assert.NotEqual(t, lives[1], alive(t, 1, names[1]))
	for _, i := range others(1) {
		assert.Equal(t, lives[i], alive(t, i, names[i]))
	}
}

// All machines lose power at once, and come back to what they were doing.
func TestPowerLossOfAll(t *testing.T) {
	fresh(t)
	put(t, 0, "global.service", sleeper("Global=true"))
	must(t, 0, "start", "global")
	names, _ := startThree(t)
	for _, m := range cluster.Machines {
		require.NoError(t, m.PowerOff())
	}
	ctx, cancel := context.WithTimeout(t.Context(), upMax)
	defer cancel()
	for _, m := range cluster.Machines {
		require.NoError(t, m.PowerOn(ctx))
	}
	require.NoError(t, cluster.Ready(ctx))
	for i, n := range names {
		until(t, n+" runs again", func() bool { return alive(t, i, n).active == "active" })
		until(t, "the global unit runs again", func() bool { return alive(t, i, "global.service").active == "active" })
	}
}
