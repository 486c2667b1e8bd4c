package chaos

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/sim"
)

func TestMain(m *testing.M) {
	sim.Deterministic()
	os.Exit(m.Run())
}

// env reads a number for runs by hand.
func number(name string, otherwise uint64) uint64 {
	n, err := strconv.ParseUint(os.Getenv(name), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}

func TestQuietRun(t *testing.T) {
	v, err := Run(Config{Seed: number("SEED", 1), Machines: 3, Duration: 20 * time.Second, Families: []string{"none"}, Workloads: names()})
	require.NoError(t, err)
	t.Log(v)
	require.Nil(t, v.Failure)
}

func names() []string {
	var all []string
	for _, w := range Workloads() {
		all = append(all, w.Name)
	}
	return all
}

func TestSeeds(t *testing.T) {
	from, n := number("SEED", 1), number("SEEDS", 10)
	for seed := from; seed < from+n; seed++ {
		v, err := Run(Config{Seed: seed})
		require.NoError(t, err)
		assert.Truef(t, v.OK(), "%v", v)
	}
}

// For work by hand: SHRINK=SEED go test -run Shrinks -v.
func TestShrinksByHand(t *testing.T) {
	seed := number("SHRINK", 0)
	if seed == 0 {
		t.Log("nothing to shrink: set SHRINK to a seed that fails")
		return
	}
	v, err := Run(Config{Seed: seed})
	require.NoError(t, err)
	require.False(t, v.OK())
	small, err := Shrink(v, 30*time.Second, nil)
	require.NoError(t, err)
	t.Logf("%v\n%v", small, small.Case())
}

func TestTwice(t *testing.T) {
	s := Swarm{Config: Config{Seed: number("SEED", 1)}, Seeds: int(number("SEEDS", 10)), Jobs: 2, Twice: number("ONCE", 0) == 0}
	s.Progress = func(v *Verdict, _ *Tally) {
		if !v.OK() {
			t.Errorf("%v", v)
		}
	}
	tally, err := s.Run()
	require.NoError(t, err)
	t.Logf("%d runs, %v busy, %v virtual, %d events, %d ops, %d unknown, %d changes, %d undecided\n%v\nnever: %v",
		tally.Runs, tally.Busy, tally.Virtual, tally.Steps, tally.Ops, tally.Unknown, tally.Changes, tally.Undecided, tally.Count, tally.Rare.Never())
}

func TestCasesReplayAsTheyRan(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		v, err := Run(Config{Seed: seed, Duration: 10 * time.Second})
		require.NoError(t, err)
		c, err := ParseCase(v.Case().String())
		require.NoError(t, err)
		assert.Equal(t, v.Case().String(), c.String())
		again, err := Run(c.Config)
		require.NoError(t, err)
		assert.Equal(t, v.Hash, again.Hash, "seed %d", seed)
		assert.Equal(t, v.Draws, again.Draws)
	}
}

func TestParseCaseNamesTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "line 1: want \"run seed=",
		"# why\nkill n1":            "line 2: want \"run seed=",
		"run seed":                  "line 1: \"seed\": want NAME=VALUE",
		"run seed=x":                "line 1: seed=x: ",
		"run seed=1 rate=-1":        "line 1: rate=-1: out of range",
		"run seed=1 colour=red":     "line 1: colour=red: unknown setting",
		"run seed=1 workloads=none": "line 1: unknown workload \"none\"",
		"run seed=1 machines=99":    "line 1: 99 machines: want 1 to 9",
		"run seed=1 families=x":     "line 1: unknown family of faults \"x\"",
		"run seed=1\n\n1s dance n1": "plan line 3: unknown verb \"dance\"",
	} {
		_, err := ParseCase(text)
		require.Errorf(t, err, "%q", text)
		assert.Contains(t, err.Error(), want)
	}
}

func FuzzParseCase(f *testing.F) {
	f.Add("# a case\nrun seed=1 duration=10s machines=3 rate=20 families=kills workloads=registers,ttl rare=true\n1s kill n1 for 2s\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCase(text)
		if err != nil {
			return
		}
		back, err := ParseCase(c.String())
		require.NoError(t, err, c.String())
		require.Equal(t, c.String(), back.String())
	})
}
