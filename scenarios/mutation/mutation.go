// Package mutation plants each known bug and shows that the oracle named for it finds it.
//
// A check that never fails proves nothing. Each bug of core/planted changes the
// behaviour of the code at one place; the standard swarm must find it by the
// oracle that the bug's promise is held by, within the budget of its class.
package mutation

import (
	"cmp"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/linearizability"
	"github.com/keelson/keelson/scenarios/chaos"
	"github.com/keelson/keelson/sim/check"
)

// Class says how much processor time a bug may take to be found.
type Class byte

// Budget is the class's limit: a minute, ten minutes or an hour of one processor.
func (c Class) Budget() time.Duration {
	switch c {
	case 'A':
		return time.Minute
	case 'B':
		return 10 * time.Minute
	default:
		return time.Hour
	}
}

// Mutant is one planted bug and the oracles that may find it. Any of them counts:
// one cause shows in several ways, and which comes first is a matter of the seed.
type Mutant struct {
	Bug     planted.Bug
	Class   Class
	Name    string // what was planted
	Oracles []string
}

// Mutants is the table of planted bugs.
func Mutants() []Mutant {
	lin, durable, state := string(linearizability.Linearizable), string(linearizability.Durable), string(linearizability.Diverged)
	lost, order, repeat := string(linearizability.WatchLoss), string(linearizability.WatchOrder), string(linearizability.WatchRepeat)
	// What is lost or told otherwise to different members shows in all of these. A
	// panic does not count: there an assertion of the code itself spoke, and a bug
	// could as well be where none stands.
	gone := []string{durable, check.Complete, check.State, check.Restart, lin, check.TwoLeaders, state, check.Index}
	return []Mutant{
		{planted.AckBeforeSync, 'A', "the append response leaves before the sync", gone},
		{planted.VoteNotPersisted, 'B', "the vote is not persisted", gone},
		{planted.TermNotPersisted, 'A', "the term is not persisted", gone},
		{planted.SyncErrorIgnored, 'B', "a sync error is ignored", gone},
		{planted.TailCutTooFar, 'C', "recovery drops synced records behind a bad one", gone},
		{planted.RenameNotSynced, 'B', "the snapshot's rename is not synced", gone},
		{planted.TruncateEarly, 'B', "the log is truncated before the snapshot is durable", gone},
		{planted.ReadWithoutQuorum, 'A', "a leader answers reads without asking a quorum", []string{lin}},
		{planted.RetryUnsafe, 'A', "the client retries what may have happened", []string{lin}},
		{planted.CASOffByOne, 'A', "compare-and-swap by index is off by one", []string{lin}},
		{planted.MapOrderLeaks, 'A', "the order of a map leaks into apply", []string{check.State, chaos.Nondeterminism}},
		{planted.WatchLosesEdge, 'B', "the event at the edge of the history is lost", []string{lost}},
		{planted.WatchRepeats, 'B', "a watch resumed at a lagging member repeats", []string{repeat, order}},
		{planted.WatchDropsSilently, 'A', "a slow watcher loses events in silence", []string{lost}},
		{planted.TTLByWallClock, 'A', "TTLs follow the wall clock", []string{string(linearizability.TTLEarly), check.TTLLate, lin}},
		{planted.RefreshLosesTTL, 'B', "a refresh that races expiry leaves a key for ever", []string{check.TTLLate, lin}},
		{planted.LockWithoutIndex, 'A', "the lock is written without its condition", []string{check.Holders}},
		{planted.RemovedStillVotes, 'C', "a removed member still votes", gone},
		{planted.RetryWithoutBackoff, 'A', "the client retries without back-off", []string{check.Resource}},
		{planted.StalledLeaderStays, 'A', "a leader whose disk stalls stays leader", []string{check.Liveness}},
		{planted.DivergenceIgnored, 'A', "members tell each other their hashes and nobody looks", []string{check.State}},
		{planted.WipedMemberAccepted, 'A', "a member without its log is let in again", append([]string{check.Reborn}, gone...)},
		{planted.PeerQueueUnbounded, 'A', "the queue to a peer has no bound", []string{check.Memory}},
		{planted.AuthWatchLeaks, 'A', "a watch shows keys that its reader may not read any more", []string{check.Access}},
		{planted.PromoteWithoutCatchingUp, 'A', "a learner gets its vote without the log", []string{check.Promoted}},
		{planted.RemovedNotTold, 'A', "a removed member that comes back is told nothing", []string{check.Departure}},
		{planted.ProxyResendsWrite, 'B', "a proxy sends a write again whose outcome is unknown", []string{lin}},
		{planted.MirrorSkipsGap, 'A', "a mirror goes on from the present, not from where it was", []string{check.Mirrored}},
		{planted.LateEngineWrites, 'B', "decisions of an engine that lost its lease are taken", []string{check.Decision, check.Placement, check.Strays, check.Overlap}},
		{planted.LostLeaseKeepsRun, 'A', "a singleton is not stopped when the machine's lease runs out", []string{check.Overlap}},
		{planted.LeftOverIgnored, 'A', "a unit that lay there before the start is not looked at", []string{check.Strays, check.Overlap}},
		{planted.UnknownStartMoved, 'B', "an unknown outcome of a start lets go of the unit", []string{check.Overlap, check.Strays}},
		{planted.ConflictsByOwnView, 'B', "decisions of one batch do not see each other", []string{check.Placement}},
		{planted.StopWhenStoreAway, 'B', "the agent stops its units when the store is away", []string{check.Stopped}},
		{planted.RestartRestartsUnits, 'B', "the daemon's start stops and starts what runs", []string{check.Stopped}},
	}
}

// Trial is one search for one bug.
type Trial struct {
	Found   bool
	Oracle  string // that found it
	Seed    uint64 // of the run that it was found in
	Runs    int
	CPU     time.Duration
	Message string
	// Others counts, by oracle, the runs that failed by one that does not count.
	Others map[string]int
}

// stride is how many seeds are run between looks at what was found.
const stride = 8

// Search plants a bug and runs the standard swarm from a first seed until an
// oracle of the bug's finds it or the budget of processor time is used up. The seed that found it
// must pass without the bug: else it found something else, which is an error.
// Only builds with the tag "planted" can search; the process must have called
// sim.Deterministic and run nothing else meanwhile.
func Search(m Mutant, first uint64, jobs int, budget time.Duration) (*Trial, error) {
	if !planted.Plant(m.Bug) {
		return nil, fmt.Errorf("this build carries no planted bugs: build with -tags planted")
	}
	defer planted.Plant(planted.None)
	t := &Trial{Others: map[string]int{}}
	start := cpu()
	for seed := first; !t.Found && cpu()-start < budget; seed += stride {
		tally, err := m.swarm(seed, stride, jobs).Run()
		if err != nil {
			return nil, err
		}
		t.add(m, tally)
	}
	t.CPU = cpu() - start
	if !t.Found {
		return t, nil
	}
	planted.Plant(planted.None)
	tally, err := m.swarm(t.Seed, 1, 1).Run()
	if err == nil && tally.Failed > 0 {
		err = fmt.Errorf("seed %d fails without bug %d too: %v", t.Seed, m.Bug, tally.First[tally.Signatures()[0]].Failure)
	}
	return t, err
}

// swarm is the standard swarm. Where the bug shows in two runs of one seed that
// differ, each seed is run twice.
func (m *Mutant) swarm(first uint64, seeds, jobs int) *chaos.Swarm {
	return &chaos.Swarm{Config: chaos.Config{Seed: first}, Seeds: seeds, Jobs: jobs, Twice: slices.Contains(m.Oracles, chaos.Nondeterminism)}
}

func (t *Trial) add(m Mutant, tally *chaos.Tally) {
	t.Runs += tally.Runs
	for _, sig := range tally.Signatures() {
		v := tally.First[sig]
		if !slices.Contains(m.Oracles, v.Failure.Oracle) {
			t.Others[v.Failure.Oracle] += tally.Count[sig]
			continue
		}
		if !t.Found || v.Seed < t.Seed {
			t.Found, t.Seed, t.Oracle, t.Message = true, v.Seed, v.Failure.Oracle, v.Failure.Message
		}
	}
}

// Sound runs the first seeds without any bug. What it finds is either a real bug
// or a false alarm, and makes every search worthless: it is an error.
func Sound(first uint64, seeds, jobs int) error {
	s := &chaos.Swarm{Config: chaos.Config{Seed: first}, Seeds: seeds, Jobs: jobs, FailuresMax: 1}
	tally, err := s.Run()
	if err == nil && tally.Failed > 0 {
		v := tally.First[tally.Signatures()[0]]
		err = fmt.Errorf("seed %d fails without a planted bug: %w", v.Seed, v.Failure)
	}
	return err
}

// Median is the trial in the middle by processor time; those that found nothing
// count as slower than all others.
func Median(all []*Trial) *Trial {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b *Trial) int {
		if a.Found != b.Found {
			return map[bool]int{true: -1, false: 1}[a.Found]
		}
		return cmp.Compare(a.CPU, b.CPU)
	})
	return all[len(all)/2]
}

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
