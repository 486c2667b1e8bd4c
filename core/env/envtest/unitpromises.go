package envtest

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

func hashOf(text string) string {
	h := sha1.Sum([]byte(text))
	return hex.EncodeToString(h[:])
}

func testUnitsLater(b *unitBench) {
	b.begin()
	inside, calls := false, 0
	done := func() { calls++; assert.False(b, inside, "a completion ran inside a call") }
	b.Do(func() {
		inside = true
		b.env.Systemd.Units(func([]env.UnitStatus, error) { done() })
		b.env.Systemd.Change(texts("a.service", sleeper), func([]env.UnitError, error) { done() })
		b.env.Systemd.Job(env.JobStop, "a.service", func(env.JobResult, error) { done() })
		b.env.Systemd.Job(env.JobStop, "none.service", func(env.JobResult, error) { done() })
		b.env.Systemd.Follow(func([]env.UnitStatus, error) { assert.False(b, inside) })
		b.env.Journal.Status("a.service", func([]byte, int, error) { done() })
		b.env.Journal.Read(env.JournalQuery{Unit: "a.service"}, &reader{end: func(error) { done() }})
		inside = false
	})
	b.until("all completions", func() bool { return calls == 6 })
}

func testUnitWrite(b *unitBench) {
	b.begin()
	units, err := b.units()
	require.NoError(b, err)
	assert.Empty(b, units)
	b.write("b.service", sleeper, "a.service", service("ExecStart=/bin/true"), "a-1.service", sleeper)
	units, err = b.units()
	require.NoError(b, err)
	var names []string
	for _, u := range units {
		names = append(names, u.Name)
		assert.Equal(b, "loaded inactive dead", u.Load+" "+u.Active+" "+u.Sub, u.Name)
		assert.False(b, u.Job, u.Name)
	}
	assert.Equal(b, []string{"a-1.service", "a.service", "b.service"}, names)
	assert.Equal(b, hashOf(sleeper), b.status("b.service").Hash)
	assert.Empty(b, b.RunOf("b.service"))
}

func testUnitRemove(b *unitBench) {
	b.begin()
	b.write("a.service", sleeper, "b.service", sleeper)
	failed, err := b.change(env.UnitChange{Remove: []string{"none.service", "a.service"}})
	require.NoError(b, err)
	assert.Empty(b, failed)
	units, err := b.units()
	require.NoError(b, err)
	require.Len(b, units, 1)
	assert.Equal(b, "b.service", units[0].Name)

	// A failure is forgotten with the file.
	b.write("a.service", service("Type=oneshot", "ExecStart=/bin/false"))
	b.does(env.JobStart, "a.service", env.JobFailed)
	assert.Equal(b, "failed", b.status("a.service").Active)
	failed, err = b.change(env.UnitChange{Remove: []string{"a.service"}})
	require.NoError(b, err)
	assert.Empty(b, failed)
	b.write("a.service", sleeper)
	assert.Equal(b, "inactive", b.status("a.service").Active)
}

func testUnitRewrite(b *unitBench) {
	b.begin()
	b.write("a.service", sleeper)
	b.does(env.JobStart, "a.service", env.JobDone)
	run := b.RunOf("a.service")
	other := service("ExecStart=/bin/sleep 2000")
	b.write("a.service", other)
	u := b.status("a.service")
	assert.Equal(b, hashOf(other), u.Hash)
	assert.Equal(b, "active running", u.Active+" "+u.Sub)
	assert.Equal(b, run, b.RunOf("a.service"))

	// Removed and written in one change, it is there.
	failed, err := b.change(env.UnitChange{Remove: []string{"a.service"}, Write: texts("a.service", sleeper).Write})
	require.NoError(b, err)
	assert.Empty(b, failed)
	assert.Equal(b, hashOf(sleeper), b.status("a.service").Hash)
	assert.Equal(b, run, b.RunOf("a.service"), "a change stops nothing")
}

func testUnitChanges(b *unitBench) {
	b.begin()
	var order []int
	last := ""
	b.Do(func() {
		for i := range 5 {
			last = service(fmt.Sprintf("ExecStart=/bin/sleep %d", 1000+i))
			b.env.Systemd.Change(texts("a.service", last), func(failed []env.UnitError, err error) {
				assert.NoError(b, err)
				assert.Empty(b, failed)
				order = append(order, i)
			})
		}
	})
	b.until("five changes", func() bool { return len(order) == 5 })
	assert.Equal(b, []int{0, 1, 2, 3, 4}, order)
	assert.Equal(b, hashOf(last), b.status("a.service").Hash)
}

func testUnitOrder(b *unitBench) {
	b.begin()
	var start, stop, again outcome
	b.Do(func() {
		b.env.Systemd.Change(texts("a.service", sleeper), func([]env.UnitError, error) {})
		b.ask(env.JobStart, "a.service", &start)
	})
	r, err := b.await(&start)
	require.NoError(b, err)
	assert.Equal(b, env.JobDone, r)
	run := b.RunOf("a.service")
	require.NotEmpty(b, run)
	b.Do(func() {
		b.ask(env.JobStop, "a.service", &stop)
		b.ask(env.JobStart, "a.service", &again)
	})
	b.await(&stop)
	r, err = b.await(&again)
	require.NoError(b, err)
	assert.Equal(b, env.JobDone, r)
	b.becomes("a.service", "active", "running")
}

func testUnitNames(b *unitBench) {
	b.begin()
	for _, bad := range []string{"", "../a.service", "a/b.service", "a b.service", "a", "a.nonsense", "@x.service", strings.Repeat("a", 300) + ".service"} {
		c := texts(bad, sleeper, "good.service", sleeper)
		c.Remove = []string{bad}
		failed, err := b.change(c)
		require.NoError(b, err, "%q", bad)
		require.Len(b, failed, 2, "%q", bad)
		assert.Equal(b, bad, failed[0].Name)
		assert.Equal(b, bad, failed[1].Name)
		assert.Error(b, failed[0].Err)
	}
	units, err := b.units()
	require.NoError(b, err)
	assert.Len(b, units, 1)
}

func testUnitBroken(b *unitBench) {
	r, ok := b.UnitRig.(Breaker)
	if !ok {
		b.Skip("no file can be broken here")
	}
	b.begin()
	b.write("a.service", sleeper, "z.service", sleeper)
	r.Break("m.service")
	c := texts("b.service", sleeper, "m.service", sleeper, "c.service", sleeper)
	c.Remove = []string{"a.service", "m.service", "z.service"}
	failed, err := b.change(c)
	require.NoError(b, err)
	require.Len(b, failed, 2)
	for _, f := range failed {
		assert.Equal(b, "m.service", f.Name)
		assert.Error(b, f.Err)
	}
	r.Mend("m.service")
	units, err := b.units()
	require.NoError(b, err)
	require.Len(b, units, 2)
	assert.Equal(b, "b.service", units[0].Name)
	assert.Equal(b, "c.service", units[1].Name)
	b.does(env.JobStart, "c.service", env.JobDone)
	b.write("m.service", sleeper)
	b.does(env.JobStart, "m.service", env.JobDone)
}

func testUnitBad(b *unitBench) {
	b.begin()
	b.write("bad.service", service("Restart=no"), "good.service", sleeper)
	u := b.status("bad.service")
	assert.Equal(b, "bad-setting inactive dead", u.Load+" "+u.Active+" "+u.Sub)
	assert.Equal(b, "loaded", b.status("good.service").Load)
	_, err := b.await(b.job(env.JobStart, "bad.service"))
	require.ErrorIs(b, err, env.ErrRefused)
	b.write("bad.service", sleeper)
	b.does(env.JobStart, "bad.service", env.JobDone)
}

func testUnitInstall(b *unitBench) {
	b.begin()
	b.write("a.service", sleeper+"\n[Install]\nWantedBy=multi-user.target\n")
	assert.Equal(b, "inactive", b.status("a.service").Active)
	b.does(env.JobStart, "a.service", env.JobDone)
	b.does(env.JobStop, "a.service", env.JobDone)
	failed, err := b.change(env.UnitChange{Remove: []string{"a.service"}})
	require.NoError(b, err)
	assert.Empty(b, failed)
	units, err := b.units()
	require.NoError(b, err)
	assert.Empty(b, units)
}

func testUnitInstance(b *unitBench) {
	b.begin()
	b.write("x@3.service", service("ExecStart=/bin/sleep %i000"))
	b.does(env.JobStart, "x@3.service", env.JobDone)
	b.becomes("x@3.service", "active", "running")
	assert.NotEmpty(b, b.RunOf("x@3.service"))
}

func testUnitStart(b *unitBench) {
	b.follow()
	b.write("a.service", sleeper)
	b.does(env.JobStart, "a.service", env.JobDone)
	u := b.becomes("a.service", "active", "running")
	assert.Equal(b, "success", u.Result)
	assert.NotEmpty(b, b.RunOf("a.service"))
	b.tells("a.service", "active", "running")
	b.does(env.JobStop, "a.service", env.JobDone)
	u = b.becomes("a.service", "inactive", "dead")
	assert.Equal(b, "success", u.Result)
	assert.Empty(b, b.RunOf("a.service"))
	b.does(env.JobStop, "a.service", env.JobDone)
	last := b.told[len(b.told)-1]
	b.until("told that it is dead", func() bool {
		last = b.told[len(b.told)-1]
		return len(last.units) == 1 && last.units[0].Active == "inactive" && !last.units[0].Job
	})
}

func testUnitStartTwice(b *unitBench) {
	b.begin()
	b.write("a.service", sleeper)
	b.does(env.JobStart, "a.service", env.JobDone)
	run := b.RunOf("a.service")
	b.does(env.JobStart, "a.service", env.JobDone)
	assert.Equal(b, run, b.RunOf("a.service"))
}

func testUnitRestart(b *unitBench) {
	b.begin()
	b.write("a.service", sleeper)
	b.does(env.JobRestart, "a.service", env.JobDone)
	run := b.RunOf("a.service")
	require.NotEmpty(b, run)
	b.does(env.JobRestart, "a.service", env.JobDone)
	b.becomes("a.service", "active", "running")
	assert.NotEqual(b, run, b.RunOf("a.service"))
	assert.NotEmpty(b, b.RunOf("a.service"))
}

func testUnitUnknown(b *unitBench) {
	b.begin()
	for _, verb := range []env.JobVerb{env.JobStart, env.JobStop, env.JobRestart} {
		_, err := b.await(b.job(verb, "none.service"))
		assert.ErrorIs(b, err, env.ErrRefused, "%s", verb)
	}
}

func testUnitFails(b *unitBench) {
	b.begin()
	b.write("once.service", service("Type=oneshot", "ExecStart=/bin/false"), "simple.service", service("ExecStart=/bin/false"))
	b.does(env.JobStart, "once.service", env.JobFailed)
	assert.Equal(b, "exit-code", b.becomes("once.service", "failed", "failed").Result)
	b.does(env.JobStart, "simple.service", env.JobDone)
	assert.Equal(b, "exit-code", b.becomes("simple.service", "failed", "failed").Result)
	b.does(env.JobStop, "simple.service", env.JobDone)
	b.becomes("simple.service", "failed", "failed")
}

func testUnitMissing(b *unitBench) {
	b.begin()
	b.write("a.service", service("Type=oneshot", "ExecStart=/bin/no-such-program"))
	b.does(env.JobStart, "a.service", env.JobFailed)
	assert.Equal(b, "exit-code", b.becomes("a.service", "failed", "failed").Result)
}

func testUnitPreFails(b *unitBench) {
	b.begin()
	b.write("a.service", service("ExecStartPre=/bin/true", "ExecStartPre=/bin/false", "ExecStart=/bin/sleep 1000"))
	b.does(env.JobStart, "a.service", env.JobFailed)
	assert.Equal(b, "exit-code", b.becomes("a.service", "failed", "failed").Result)
	assert.Empty(b, b.RunOf("a.service"))
}

func testUnitIgnored(b *unitBench) {
	b.begin()
	b.write("a.service", service("ExecStartPre=-/bin/false", "ExecStart=/bin/sleep 1000"), "b.service", service("Type=oneshot", "ExecStart=-/bin/false"))
	b.does(env.JobStart, "a.service", env.JobDone)
	b.becomes("a.service", "active", "running")
	b.does(env.JobStart, "b.service", env.JobDone)
	b.becomes("b.service", "inactive", "dead")
}

func testUnitHang(b *unitBench) {
	b.follow()
	b.write("a.service", service("ExecStartPre=/bin/sleep 1000", "ExecStart=/bin/sleep 1000"))
	start := b.job(env.JobStart, "a.service")
	u := b.becomes("a.service", "activating", "start-pre")
	assert.True(b, u.Job)
	b.tells("a.service", "activating", "start-pre")
	b.does(env.JobStop, "a.service", env.JobDone)
	r, err := b.await(start)
	require.NoError(b, err)
	assert.Equal(b, env.JobCanceled, r)
	u = b.status("a.service")
	assert.Contains(b, []string{"inactive", "failed"}, u.Active)
	assert.False(b, u.Job)
}

func testUnitTimeout(b *unitBench) {
	b.begin()
	b.write("a.service", service("ExecStartPre=/bin/sleep 1000", "ExecStart=/bin/sleep 1000", "TimeoutStartSec=500ms"))
	b.does(env.JobStart, "a.service", env.JobFailed)
	assert.Equal(b, "timeout", b.becomes("a.service", "failed", "failed").Result)
}

func testUnitRemain(b *unitBench) {
	b.begin()
	b.write("a.service", service("Type=oneshot", "RemainAfterExit=yes", "ExecStart=/bin/true"))
	b.does(env.JobStart, "a.service", env.JobDone)
	b.becomes("a.service", "active", "exited")
	b.does(env.JobStop, "a.service", env.JobDone)
	b.becomes("a.service", "inactive", "dead")
}

func testUnitEnds(b *unitBench) {
	b.follow()
	b.write("a.service", service("ExecStart=/bin/sleep 1"))
	b.does(env.JobStart, "a.service", env.JobDone)
	b.tells("a.service", "active", "running")
	b.until("told that it ended", func() bool {
		for _, u := range b.told[len(b.told)-1].units {
			if u.Name == "a.service" && u.Active == "inactive" && u.Result == "success" {
				return true
			}
		}
		return false
	})
}

func testUnitLoop(b *unitBench) {
	b.follow()
	b.write("a.service", "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n\n[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=300ms\n")
	b.does(env.JobStart, "a.service", env.JobDone)
	b.tells("a.service", "activating", "auto-restart")
	u := b.becomes("a.service", "failed", "failed")
	assert.Contains(b, []string{"exit-code", "start-limit-hit"}, u.Result)
	b.tells("a.service", "failed", "failed")
	b.Wait(time.Second)
	assert.Equal(b, "failed", b.status("a.service").Active)
}

func testUnitLoopStop(b *unitBench) {
	b.begin()
	b.write("a.service", service("ExecStart=/bin/false", "Restart=always", "RestartSec=1000"))
	b.does(env.JobStart, "a.service", env.JobDone)
	b.becomes("a.service", "activating", "auto-restart")
	b.does(env.JobStop, "a.service", env.JobDone)
	b.Wait(200 * time.Millisecond)
	assert.NotEqual(b, "activating", b.status("a.service").Active)

	b.does(env.JobStart, "a.service", env.JobDone)
	b.becomes("a.service", "activating", "auto-restart")
}

func testUnitBack(b *unitBench) {
	b.begin()
	b.write("a.service", service("ExecStart=/bin/sleep 1", "Restart=always", "RestartSec=100ms"))
	b.does(env.JobStart, "a.service", env.JobDone)
	run := b.RunOf("a.service")
	require.NotEmpty(b, run)
	for waited := time.Duration(0); waited < patience; waited += 50 * time.Millisecond {
		if now := b.RunOf("a.service"); now != "" && now != run {
			b.becomes("a.service", "active", "running")
			return
		}
		b.Wait(50 * time.Millisecond)
	}
	assert.Fail(b, "it did not come back")
}

func testUnitAgain(b *unitBench) {
	b.begin()
	b.write("a.service", service("Type=oneshot", "ExecStart=/bin/false"))
	b.does(env.JobStart, "a.service", env.JobFailed)
	b.write("a.service", sleeper)
	b.does(env.JobStart, "a.service", env.JobDone)
	assert.Equal(b, "success", b.becomes("a.service", "active", "running").Result)
}

func testUnitFollow(b *unitBench) {
	b.begin()
	b.write("a.service", sleeper, "b.service", sleeper)
	b.does(env.JobStart, "a.service", env.JobDone)
	b.Kill()

	b.follow()
	b.until("the first", func() bool { return len(b.told) > 0 })
	require.NoError(b, b.told[0].err)
	require.Len(b, b.told[0].units, 2)
	assert.Equal(b, "active", b.told[0].units[0].Active)
	assert.Equal(b, "inactive", b.told[0].units[1].Active)

	b.does(env.JobStart, "b.service", env.JobDone)
	b.tells("b.service", "active", "running")
	b.Wait(300 * time.Millisecond)
	b.Do(func() {
		state := make(map[string]env.UnitStatus)
		for i, t := range b.told {
			assert.NoError(b, t.err)
			assert.True(b, i == 0 || len(t.units) > 0, "nothing changed and it was told")
			for _, u := range t.units {
				assert.NotEqual(b, state[u.Name], u, "told twice")
				state[u.Name] = u
			}
		}
		assert.Equal(b, "active", state["b.service"].Active)
		assert.False(b, state["b.service"].Job)
	})

	// A new text is a change, even where nothing else is.
	other := service("ExecStart=/bin/sleep 2000")
	b.write("a.service", other)
	b.until("told of the new hash", func() bool {
		last := b.told[len(b.told)-1].units
		return slices.ContainsFunc(last, func(u env.UnitStatus) bool { return u.Name == "a.service" && u.Hash == hashOf(other) })
	})
}

func testUnitFollowGone(b *unitBench) {
	b.follow()
	b.until("the first, of none", func() bool { return len(b.told) > 0 })
	assert.Empty(b, b.told[0].units)
	b.write("a.service", sleeper)
	b.does(env.JobStart, "a.service", env.JobDone)
	b.tells("a.service", "active", "running")
	b.does(env.JobStop, "a.service", env.JobDone)
	failed, err := b.change(env.UnitChange{Remove: []string{"a.service"}})
	require.NoError(b, err)
	require.Empty(b, failed)
	count := 0
	b.Do(func() { count = len(b.told) })
	b.Wait(500 * time.Millisecond)
	b.Do(func() { assert.Len(b, b.told, count) })
}

func testUnitMany(b *unitBench) {
	b.begin()
	var c env.UnitChange
	for i := range 20 {
		c.Write = append(c.Write, env.UnitText{Name: fmt.Sprintf("many@%02d.service", i), Text: sleeper})
	}
	failed, err := b.change(c)
	require.NoError(b, err)
	require.Empty(b, failed)
	jobs := make([]outcome, len(c.Write))
	b.Do(func() {
		for i, w := range c.Write {
			b.ask(env.JobStart, w.Name, &jobs[i])
		}
	})
	for i := range jobs {
		r, err := b.await(&jobs[i])
		require.NoError(b, err)
		assert.Equal(b, env.JobDone, r)
	}
	units, err := b.units()
	require.NoError(b, err)
	require.Len(b, units, 20)
	for _, u := range units {
		assert.Equal(b, "active", u.Active, u.Name)
	}
}

func testUnitReload(b *unitBench) {
	b.begin()
	b.write("a.service", service("ExecStartPre=/bin/sleep 1", "ExecStart=/bin/sleep 1000"))
	start := b.job(env.JobStart, "a.service")
	for i := range 5 {
		b.write(fmt.Sprintf("other%d.service", i), sleeper)
		b.does(env.JobStart, fmt.Sprintf("other%d.service", i), env.JobDone)
	}
	r, err := b.await(start)
	require.NoError(b, err)
	assert.Equal(b, env.JobDone, r)
	b.becomes("a.service", "active", "running")
}

func testUnitLives(b *unitBench) {
	b.begin()
	b.write("a.service", sleeper, "b.service", sleeper)
	b.does(env.JobStart, "a.service", env.JobDone)
	run := b.RunOf("a.service")
	b.Kill()
	b.Wait(100 * time.Millisecond)
	assert.Equal(b, run, b.RunOf("a.service"))
	b.begin()
	u := b.status("a.service")
	assert.Equal(b, "loaded active running", u.Load+" "+u.Active+" "+u.Sub)
	assert.Equal(b, hashOf(sleeper), u.Hash)
	assert.Equal(b, "inactive", b.status("b.service").Active)
	assert.Equal(b, run, b.RunOf("a.service"))
	b.does(env.JobStart, "a.service", env.JobDone)
	assert.Equal(b, run, b.RunOf("a.service"))
	b.does(env.JobStop, "a.service", env.JobDone)
	assert.Empty(b, b.RunOf("a.service"))
}

func testUnitNever(b *unitBench) {
	b.begin()
	b.write("a.service", service("ExecStartPre=/bin/sleep 1", "ExecStart=/bin/sleep 1000"))
	start := b.job(env.JobStart, "a.service")
	b.becomes("a.service", "activating", "start-pre")
	b.Kill()
	b.begin()
	b.becomes("a.service", "active", "running") // the job goes on without who asked for it
	b.Do(func() { assert.False(b, start.over) })
}

func testUnitBoot(b *unitBench) {
	r, ok := b.UnitRig.(Rebooter)
	if !ok {
		b.Skip("this machine does not boot")
	}
	b.begin()
	b.write("a.service", sleeper, "b.service", sleeper)
	b.does(env.JobStart, "a.service", env.JobDone)
	r.Reboot()
	b.follow()
	b.until("the first", func() bool { return len(b.told) > 0 })
	units, err := b.units()
	require.NoError(b, err)
	require.Len(b, units, 2)
	for _, u := range units {
		assert.Equal(b, "loaded inactive dead", u.Load+" "+u.Active+" "+u.Sub, u.Name)
		assert.Equal(b, hashOf(sleeper), u.Hash)
	}
	assert.Empty(b, b.RunOf("a.service"))
	b.does(env.JobStart, "a.service", env.JobDone)
	failed, err := b.change(env.UnitChange{Remove: []string{"b.service"}})
	require.NoError(b, err)
	assert.Empty(b, failed)
}

func testUnitLost(b *unitBench) {
	r, ok := b.UnitRig.(ManagerLoser)
	if !ok {
		b.Skip("the manager cannot be lost here")
	}
	b.follow()
	b.write("a.service", sleeper, "b.service", sleeper)
	b.does(env.JobStart, "a.service", env.JobDone)
	run := b.RunOf("a.service")
	b.tells("a.service", "active", "running")
	r.LoseManager()
	b.until("told that the manager is away", func() bool { return b.told[len(b.told)-1].err != nil })
	_, err := b.units()
	require.ErrorIs(b, err, env.ErrUnsent)
	_, err = b.change(texts("c.service", sleeper))
	require.ErrorIs(b, err, env.ErrUnsent)
	_, err = b.await(b.job(env.JobStop, "a.service"))
	require.ErrorIs(b, err, env.ErrUnsent)
	assert.Equal(b, run, b.RunOf("a.service"), "nothing stops")
	count := 0
	b.Do(func() { count = len(b.told) })
	r.FindManager()
	b.until("told of all", func() bool { return b.told[len(b.told)-1].err == nil && len(b.told) > count })
	b.Do(func() {
		for _, t := range b.told[count:] {
			if t.err == nil {
				assert.Len(b, t.units, 2)
				break
			}
		}
	})
	assert.Equal(b, run, b.RunOf("a.service"))
	b.does(env.JobStart, "b.service", env.JobDone)
	b.tells("b.service", "active", "running")
	b.write("c.service", sleeper)
}

func testUnitFlight(b *unitBench) {
	r, ok := b.UnitRig.(ManagerLoser)
	if !ok {
		b.Skip("the manager cannot be lost here")
	}
	b.follow()
	b.write("a.service", service("ExecStartPre=/bin/sleep 2", "ExecStart=/bin/sleep 1000"))
	start := b.job(env.JobStart, "a.service")
	b.becomes("a.service", "activating", "start-pre")
	r.LoseManager()
	_, err := b.await(start)
	require.Error(b, err)
	require.NotErrorIs(b, err, env.ErrUnsent, "it may have its effect")
	r.FindManager()
	b.tells("a.service", "active", "running")
	b.does(env.JobStart, "a.service", env.JobDone)
}

// reader notes what a journal says.
type reader struct {
	text   strings.Builder
	chunks int
	ended  bool
	err    error
	end    func(error) // may be nil
}

// Chunk implements env.JournalReceiver.
func (r *reader) Chunk(p []byte) bool {
	r.text.Write(p)
	r.chunks++
	return true
}

// End implements env.JournalReceiver.
func (r *reader) End(err error) {
	r.ended, r.err = true, err
	if r.end != nil {
		r.end(err)
	}
}

// read reads the journal to its end.
func (b *unitBench) read(q env.JournalQuery) string {
	b.Helper()
	r := new(reader)
	b.Do(func() { b.env.Journal.Read(q, r) })
	b.until("the end of the journal", func() bool { return r.ended })
	require.NoError(b, r.err)
	return r.text.String()
}

// speaks has a unit say words, which its journal has when this returns.
func (b *unitBench) speaks(name string, words ...string) {
	b.Helper()
	for _, w := range words {
		b.write(name, service("Type=oneshot", "ExecStart=/bin/echo "+w))
		b.does(env.JobStart, name, env.JobDone)
		for waited := time.Duration(0); ; waited += 20 * time.Millisecond {
			if slices.Contains(strings.Split(b.read(env.JournalQuery{Unit: name, Lines: -1, Output: "cat"}), "\n"), w) {
				break
			}
			require.Less(b, waited, patience, "%s did not say %s", name, w)
			b.Wait(20 * time.Millisecond)
		}
	}
}

func testJournal(b *unitBench) {
	b.begin()
	b.speaks("a.service", "alpha", "beta", "gamma")
	b.speaks("b.service", "delta")
	all := b.read(env.JournalQuery{Unit: "a.service", Lines: -1, Output: "cat"})
	alpha, beta, gamma := strings.Index(all, "alpha\n"), strings.Index(all, "beta\n"), strings.Index(all, "gamma\n")
	assert.True(b, 0 <= alpha && alpha < beta && beta < gamma, "%s", all)
	assert.NotContains(b, all, "delta")

	two := b.read(env.JournalQuery{Unit: "a.service", Lines: 2, Output: "cat"})
	assert.Equal(b, 2, strings.Count(two, "\n"), "%s", two)
	assert.NotContains(b, two, "alpha")

	short := b.read(env.JournalQuery{Unit: "a.service", Lines: -1, Output: "short"})
	assert.Regexp(b, `(?m)^[A-Z][a-z]{2} [ 0-9]{2} \d\d:\d\d:\d\d \S+ echo\[\d+\]: alpha$`, short)
	object := b.read(env.JournalQuery{Unit: "a.service", Lines: -1, Output: "json"})
	assert.Regexp(b, `(?m)^\{.*"MESSAGE" ?: ?"alpha".*\}$`, object)
}

func testJournalFollow(b *unitBench) {
	b.begin()
	b.speaks("follow.service", "alpha")
	r := new(reader)
	b.Do(func() {
		b.env.Journal.Read(env.JournalQuery{Unit: "follow.service", Lines: -1, Follow: true, Output: "cat"}, r)
	})
	b.until("what was said", func() bool { return strings.Contains(r.text.String(), "alpha\n") })
	b.speaks("follow.service", "beta")
	b.until("what is said", func() bool { return strings.Contains(r.text.String(), "beta\n") })
	b.Do(func() {
		assert.False(b, r.ended)
		assert.Equal(b, 1, strings.Count(r.text.String(), "alpha\n"))
	})
	b.Kill() // with a reader
}

func testJournalCancel(b *unitBench) {
	b.begin()
	b.speaks("cancel.service", "alpha")
	r := new(reader)
	var cancel func()
	b.Do(func() {
		cancel = b.env.Journal.Read(env.JournalQuery{Unit: "cancel.service", Lines: -1, Follow: true, Output: "cat"}, r)
	})
	b.until("what was said", func() bool { return r.chunks > 0 })
	chunks := 0
	b.Do(func() {
		cancel()
		cancel()
		chunks = r.chunks
	})
	b.speaks("cancel.service", "beta")
	b.Do(func() {
		assert.Equal(b, chunks, r.chunks)
		assert.False(b, r.ended)
	})
}

func testJournalUnknown(b *unitBench) {
	b.begin()
	text := b.read(env.JournalQuery{Unit: "none.service", Lines: -1, Output: "cat"})
	assert.NotContains(b, text, "none")
}

func testStatus(b *unitBench) {
	b.begin()
	b.write("a.service", sleeper, "b.service", sleeper)
	b.does(env.JobStart, "a.service", env.JobDone)
	for _, c := range []struct {
		name string
		code int
		text []string
	}{
		{"a.service", 0, []string{"a.service - A unit of the suite", "Loaded: loaded (", "Active: active (running)", "Main PID: "}},
		{"b.service", 3, []string{"b.service - A unit of the suite", "Active: inactive (dead)"}},
		{"none.service", 4, []string{"Unit none.service could not be found."}},
	} {
		var text []byte
		code, over := -1, false
		b.Do(func() {
			b.env.Journal.Status(c.name, func(p []byte, n int, err error) {
				assert.NoError(b, err)
				text, code, over = p, n, true
			})
		})
		b.until("the status", func() bool { return over })
		assert.Equal(b, c.code, code, c.name)
		for _, want := range c.text {
			assert.Contains(b, string(text), want)
		}
	}
}
