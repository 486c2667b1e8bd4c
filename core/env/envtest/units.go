package envtest

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

// UnitRig is one machine that runs units, for Units. Its methods are called from the
// test's goroutine; a failing rig fails the test.
//
// The units of the suite run four programs, so that a model of a machine can
// understand them: /bin/sleep SECONDS, /bin/true, /bin/false and /bin/echo WORDS.
type UnitRig interface {
	// Start begins a life of the node and returns when fn has run on its loop. Of the
	// world it is given Clock, Systemd and Journal are there.
	Start(fn func(e *env.Env))
	// Do runs fn on the loop as one input and returns after it.
	Do(fn func())
	// Wait lets about d pass.
	Wait(d time.Duration)
	// Kill ends the node's life as kill -9 does. The manager and the units go on.
	Kill()
	// RunOf looks past env and names what the unit's main process runs as: something else
	// after each start, "" while there is none.
	RunOf(name string) string
}

// Rebooter is a UnitRig whose machine can boot.
type Rebooter interface {
	// Reboot ends the node's life and all units. The directory of the unit files
	// outlives it, what else the manager knew does not.
	Reboot()
}

// ManagerLoser is a UnitRig that can cut the node off from its manager.
type ManagerLoser interface {
	LoseManager()
	FindManager()
}

// Breaker is a UnitRig that can make one unit's file impossible to write and to remove.
type Breaker interface {
	Break(name string)
	Mend(name string)
}

// Units checks every promise of env.Systemd and env.Journal. Open makes a rig without
// units whose node has not started; what it takes to end the rig, and what still runs
// then, it leaves to t.Cleanup.
func Units(t *testing.T, open func(t *testing.T) UnitRig) {
	for _, c := range []struct {
		name string
		test func(*unitBench)
	}{
		{"a completion never runs inside the call", testUnitsLater},
		{"what was written is loaded and does not run", testUnitWrite},
		{"what is removed is gone, and to remove nothing is no error", testUnitRemove},
		{"a new text has another hash, and what runs goes on", testUnitRewrite},
		{"changes in one turn are made in the order asked", testUnitChanges},
		{"a job that follows a change finds its files", testUnitOrder},
		{"a bad name is refused alone", testUnitNames},
		{"a broken file is told and keeps nobody back", testUnitBroken},
		{"a bad file is known for what it is", testUnitBad},
		{"a file with an install section", testUnitInstall},
		{"an instance", testUnitInstance},
		{"what is started runs until it is stopped", testUnitStart},
		{"to start what runs changes nothing", testUnitStartTwice},
		{"a restart is another run", testUnitRestart},
		{"an unknown unit is refused", testUnitUnknown},
		{"a failing main process", testUnitFails},
		{"a program that is not there", testUnitMissing},
		{"a step before the start that fails", testUnitPreFails},
		{"a failure that does not matter", testUnitIgnored},
		{"a hang before the start is seen, and stopped", testUnitHang},
		{"a start that takes too long", testUnitTimeout},
		{"a unit that remains after exit", testUnitRemain},
		{"a unit that ends by itself is told", testUnitEnds},
		{"a crash loop is seen, and given up", testUnitLoop},
		{"a crash loop can be stopped", testUnitLoopStop},
		{"a unit comes back by itself", testUnitBack},
		{"a failed unit starts again", testUnitAgain},
		{"follow tells of all, then of what changes", testUnitFollow},
		{"follow says nothing of what is gone", testUnitFollowGone},
		{"many units start at once", testUnitMany},
		{"files are read again while a unit starts", testUnitReload},
		{"a new life finds what runs", testUnitLives},
		{"a job of a dead life is never told", testUnitNever},
		{"left-overs of an earlier boot are loaded and do not run", testUnitBoot},
		{"without its manager a node is told so, and nothing stops", testUnitLost},
		{"a start in flight when the manager is lost", testUnitFlight},
		{"the journal of a unit", testJournal},
		{"the journal goes on", testJournalFollow},
		{"a cancelled journal is silent", testJournalCancel},
		{"the journal of an unknown unit is empty", testJournalUnknown},
		{"the status of units", testStatus},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(&unitBench{T: t, UnitRig: open(t)}) })
	}
}

// unitBench is one test on one rig.
type unitBench struct {
	*testing.T
	UnitRig
	env *env.Env // of the life that runs
	// What Follow has told in this life, in order, and all of it.
	told []told
}

// told is one call of what Follow was given.
type told struct {
	units []env.UnitStatus
	err   error
}

// begin starts a life.
func (b *unitBench) begin() { b.beginWith(func() {}) }

func (b *unitBench) beginWith(fn func()) {
	b.Helper()
	b.Start(func(e *env.Env) {
		b.env = e
		fn()
	})
	require.NotNil(b, b.env, "Start must have run")
}

// follow starts a life that follows its units from the start.
func (b *unitBench) follow() {
	b.Helper()
	b.told = nil
	b.beginWith(func() {
		b.env.Systemd.Follow(func(units []env.UnitStatus, err error) { b.told = append(b.told, told{units, err}) })
	})
}

// until waits for cond, which it asks on the loop.
func (b *unitBench) until(what string, cond func() bool) {
	b.Helper()
	step := 2 * time.Millisecond
	for waited := time.Duration(0); waited < patience; waited += step {
		ok := false
		b.Do(func() { ok = cond() })
		if ok {
			return
		}
		b.Wait(step)
		step = min(2*step, 50*time.Millisecond)
	}
	require.Fail(b, "never happened: "+what)
}

// change asks for c and waits for the outcome.
func (b *unitBench) change(c env.UnitChange) (failed []env.UnitError, err error) {
	b.Helper()
	over := false
	b.Do(func() {
		b.env.Systemd.Change(c, func(f []env.UnitError, e error) { failed, err, over = f, e, true })
	})
	b.until("the change is made", func() bool { return over })
	return failed, err
}

// write writes units that must be fine: pairs of name and text.
func (b *unitBench) write(pairs ...string) {
	b.Helper()
	failed, err := b.change(texts(pairs...))
	require.NoError(b, err)
	require.Empty(b, failed)
}

// texts is a change that writes pairs of name and text.
func texts(pairs ...string) (c env.UnitChange) {
	for i := 0; i < len(pairs); i += 2 {
		c.Write = append(c.Write, env.UnitText{Name: pairs[i], Text: pairs[i+1]})
	}
	return c
}

// outcome is how a job ended.
type outcome struct {
	over   bool
	result env.JobResult
	err    error
}

// job asks for a job and gives where its end will be noted.
func (b *unitBench) job(verb env.JobVerb, name string) *outcome {
	o := new(outcome)
	b.Do(func() { b.ask(verb, name, o) })
	return o
}

// ask is job on the loop.
func (b *unitBench) ask(verb env.JobVerb, name string, o *outcome) {
	b.env.Systemd.Job(verb, name, func(r env.JobResult, err error) {
		require.False(b, o.over, "a job was told twice")
		*o = outcome{true, r, err}
	})
}

// await waits for the end of a job.
func (b *unitBench) await(o *outcome) (env.JobResult, error) {
	b.Helper()
	b.until("the job is over", func() bool { return o.over })
	return o.result, o.err
}

// does has a job done that must end with want.
func (b *unitBench) does(verb env.JobVerb, name string, want env.JobResult) {
	b.Helper()
	got, err := b.await(b.job(verb, name))
	require.NoError(b, err, "%s %s", verb, name)
	require.Equal(b, want, got, "%s %s", verb, name)
}

// units asks for all units.
func (b *unitBench) units() (units []env.UnitStatus, err error) {
	b.Helper()
	over := false
	b.Do(func() {
		b.env.Systemd.Units(func(u []env.UnitStatus, e error) { units, err, over = u, e, true })
	})
	b.until("units are told", func() bool { return over })
	return units, err
}

// status is what the manager says of one unit, which must be there.
func (b *unitBench) status(name string) env.UnitStatus {
	b.Helper()
	units, err := b.units()
	require.NoError(b, err)
	for _, u := range units {
		if u.Name == name {
			return u
		}
	}
	require.Fail(b, "no unit "+name)
	return env.UnitStatus{}
}

// becomes waits until a unit is active/sub.
func (b *unitBench) becomes(name, active, sub string) env.UnitStatus {
	b.Helper()
	var last env.UnitStatus
	for waited := time.Duration(0); waited < patience; waited += 20 * time.Millisecond {
		if last = b.status(name); last.Active == active && last.Sub == sub {
			return last
		}
		b.Wait(20 * time.Millisecond)
	}
	require.Failf(b, "a unit did not become", "%s %s/%s: it is %+v", name, active, sub, last)
	return last
}

// tells waits until Follow has told that a unit is active/sub.
func (b *unitBench) tells(name, active, sub string) {
	b.Helper()
	b.until("told that "+name+" is "+active+" "+sub, func() bool {
		for _, t := range b.told {
			for _, u := range t.units {
				if u.Name == name && u.Active == active && u.Sub == sub {
					return true
				}
			}
		}
		return false
	})
}

// service is the text of a service with the given lines, in normal form.
func service(lines ...string) string {
	return "[Unit]\nDescription=A unit of the suite\n\n[Service]\n" + strings.Join(lines, "\n") + "\n"
}

// sleeper is a service that runs until it is stopped.
var sleeper = service("ExecStart=/bin/sleep 1000")
