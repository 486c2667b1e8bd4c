package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/unit"
)

const (
	sleeper = "[Service]\nExecStart=/bin/sleep 100000\n"
	other   = "[Service]\nExecStart=/bin/sleep 200000\n"
	brief   = "[Service]\nExecStart=/bin/true\n"
	broken  = "[Service]\nExecStart=/bin/false\n"
	hanging = "[Service]\nTimeoutStartSec=infinity\nExecStartPre=/bin/sleep 100000\nExecStart=/bin/sleep 100000\n"
	single  = "[Service]\nExecStart=/bin/sleep 100000\n\n[X-Fleet]\nSingleton=true\n"
)

// alone is a machine whose agent has begun.
func alone(t *testing.T) (*world, *host) {
	w := newWorld(t, 1)
	h := w.host("m1")
	h.start()
	w.until("it is registered", 5*time.Second, func() bool { return h.agent.Ready() == nil })
	return w, h
}

func TestOneUnitFromStartToEnd(t *testing.T) {
	w, h := alone(t)
	began := w.now
	w.assign(h, "a.service", sleeper, unit.Launched)
	w.until("it runs", 5*time.Second, func() bool { return h.runs("a.service") })
	assert.Less(t, w.now-began, 200*time.Millisecond)
	w.until("that is reported", time.Second, func() bool { return w.state(h, "a.service").Sub == "running" })
	s := w.state(h, "a.service")
	assert.Equal(t, "loaded", s.Load)
	assert.Equal(t, h.systemd.Status()[0].Hash, s.Hash)
	w.until("and that it was launched", time.Second, func() bool { return w.get(w.keys.JobState("a.service")) == h.id })

	w.assign(h, "a.service", sleeper, unit.Loaded)
	w.until("it is stopped", 5*time.Second, h.is("a.service", "inactive"))
	w.until("that is reported", time.Second, func() bool { return w.state(h, "a.service").Active == "inactive" })
	w.until("and that it is not launched", time.Second, func() bool { return w.get(w.keys.JobState("a.service")) == "" })

	w.assign(h, "a.service", sleeper, unit.Launched)
	w.until("it runs again", 5*time.Second, h.is("a.service", "active"))
	w.unassign(h, "a.service")
	w.until("its file is gone", 5*time.Second, func() bool { return len(h.systemd.Files()) == 0 })
	assert.False(t, h.runs("a.service"))
	w.forward(time.Second)
	assert.Empty(t, w.get(w.keys.State("a.service", h.id)))
	assert.Empty(t, w.get(w.keys.JobState("a.service")))
	assert.NotContains(t, string(h.files["units/agent"]), "a.service")
}

func TestAnotherTextReplacesTheUnit(t *testing.T) {
	w, h := alone(t)
	w.assign(h, "a.service", sleeper, unit.Launched)
	w.until("it runs", 5*time.Second, h.is("a.service", "active"))
	was := h.systemd.Status()[0].Hash
	w.assign(h, "a.service", other, unit.Launched)
	w.until("the other runs", 5*time.Second, func() bool {
		s := h.systemd.Status()
		return len(s) == 1 && s[0].Hash != was && s[0].Active == "active"
	})
	w.until("and is reported", time.Second, func() bool { return w.state(h, "a.service").Hash == h.systemd.Status()[0].Hash })
}

func TestRestartOfTheDaemonTouchesNothing(t *testing.T) {
	w, h := alone(t)
	w.assign(h, "a.service", sleeper, unit.Launched)
	w.assign(h, "done.service", brief, unit.Launched)
	w.assign(h, "fails.service", broken, unit.Launched)
	w.assign(h, "loaded.service", sleeper, unit.Loaded)
	w.assign(h, "hangs.service", hanging, unit.Launched)
	w.assign(h, "s.service", single, unit.Launched)
	w.until("all are launched", 5*time.Second, func() bool {
		for _, name := range []string{"a.service", "done.service", "fails.service", "hangs.service", "s.service"} {
			if w.get(w.keys.JobState(name)) == "" {
				return false
			}
		}
		return true
	})
	w.forward(time.Second)
	for range 3 {
		h.asked = nil
		h.restart()
		w.forward(time.Minute)
		assert.Empty(t, h.asked)
		assert.NoError(t, h.agent.Ready())
	}
	h.src.away = true
	h.restart()
	w.forward(3 * time.Second)
	assert.Empty(t, h.asked)
	w.forward(time.Hour)
	require.Len(t, h.asked, 1, "the singleton alone is stopped when the lease is gone")
	assert.Equal(t, "s.service", h.asked[0].Unit)
	h.asked = nil
	h.src.away = false
	h.src.sync()
	w.until("it comes back", 10*time.Second, func() bool { return h.runs("s.service") })
	w.forward(time.Minute)
	assert.Len(t, h.asked, 1)
}

func TestRebootStartsWhatIsAssigned(t *testing.T) {
	w, h := alone(t)
	w.assign(h, "a.service", sleeper, unit.Launched)
	w.assign(h, "done.service", brief, unit.Launched)
	w.assign(h, "loaded.service", sleeper, unit.Loaded)
	w.until("it runs", 5*time.Second, h.is("a.service", "active"))
	w.forward(time.Second)
	h.src.away = true
	h.reboot()
	h.ran = nil
	w.forward(10 * time.Second)
	assert.Empty(t, h.ran, "nothing is known yet")
	h.src.away = false
	h.src.sync()
	w.until("all were started", 10*time.Second, func() bool { return h.runs("a.service") && len(h.ran) == 3 })
	w.forward(time.Minute)
	assert.Len(t, h.ran, 3, "one goes on, one has begun and ended: %v", h.ran)
}

func TestStoreAwayStopsNothing(t *testing.T) {
	w, h := alone(t)
	w.assign(h, "a.service", sleeper, unit.Launched)
	w.until("it runs", 5*time.Second, h.is("a.service", "active"))
	h.src.away = true
	h.asked = nil
	w.forward(time.Hour)
	assert.Empty(t, w.get(w.keys.MachineObject(h.id)), "the record has run out")
	h.src.away = false
	h.src.sync()
	w.until("it is registered", time.Minute, func() bool { return w.get(w.keys.MachineObject(h.id)) != "" })
	w.forward(time.Minute)
	assert.Empty(t, h.asked)
	assert.Equal(t, "running", w.state(h, "a.service").Sub)

	h.src.away = true
	w.forward(time.Hour)
	w.unassign(h, "a.service") // it was moved
	h.src.away = false
	h.src.sync()
	w.until("it is stopped", time.Minute, func() bool { return len(h.systemd.Files()) == 0 })
}

// What nobody else can run is taken away when the lease runs out, and given back when the
// machine is there again: nothing of that is felt by the unit.
func TestLapseOfALoneMachine(t *testing.T) {
	w, h := alone(t)
	w.assign(h, "a.service", sleeper, unit.Launched)
	w.until("it runs", 5*time.Second, h.is("a.service", "active"))
	w.forward(time.Second)
	began := len(h.ran)
	for _, kill := range []bool{false, true} {
		h.src.away, h.src.cut = true, true
		if kill {
			h.kill()
		}
		w.until("its record runs out", time.Minute, func() bool { return w.get(w.keys.MachineObject(h.id)) == "" })
		w.unassign(h, "a.service")
		w.forward(time.Minute)
		h.src.away, h.src.cut = false, false
		h.src.sync()
		if kill {
			h.start()
		}
		w.until("it is back", 5*time.Second, func() bool { return w.get(w.keys.MachineObject(h.id)) != "" })
		w.forward(time.Second)
		w.assign(h, "a.service", sleeper, unit.Launched)
		w.forward(time.Minute)
		assert.Len(t, h.ran, began)
		assert.Equal(t, "running", w.state(h, "a.service").Sub)
		assert.Equal(t, h.id, w.get(w.keys.JobState("a.service")))
	}
}

func TestLeftOversAreRemoved(t *testing.T) {
	w := newWorld(t, 1)
	h := w.host("m1")
	h.systemd.Put("old.service", sleeper)
	h.systemd.Put("dead.service", sleeper)
	h.systemd.By("start", "old.service")
	w.until("it runs", 5*time.Second, func() bool { return h.runs("old.service") })
	h.src.away = true
	h.start()
	w.forward(time.Hour)
	assert.True(t, h.runs("old.service"), "nobody has said that it should not")
	h.src.away = false
	h.src.sync()
	w.until("they are gone", time.Minute, func() bool { return len(h.systemd.Files()) == 0 })
	assert.False(t, h.runs("old.service"))
}

func TestBrokenUnitsBlockNobody(t *testing.T) {
	w, h := alone(t)
	h.systemd.Break("bad.service", true)
	w.assign(h, "bad.service", sleeper, unit.Launched)
	w.assign(h, "hangs.service", hanging, unit.Launched)
	w.assign(h, "nonsense.service", "no unit file at all", unit.Launched)
	w.assign(h, "z.service", sleeper, unit.Launched)
	w.until("the others run", 2*time.Second, func() bool { return h.runs("z.service") })
	w.until("it is told why", 5*time.Second, func() bool { return w.state(h, "bad.service").Result != "" })
	assert.Contains(t, w.state(h, "bad.service").Result, "read-only")
	assert.Equal(t, "not-found", w.state(h, "bad.service").Load)
	w.until("it is shown to hang", 5*time.Second, func() bool { return w.state(h, "hangs.service").Sub == "start-pre" })
	assert.Equal(t, h.id, w.get(w.keys.JobState("hangs.service")))
	h.systemd.Break("bad.service", false)
	w.until("it runs after all", 2*time.Minute, func() bool { return h.runs("bad.service") })
	w.until("nothing is wrong any more", 5*time.Second, func() bool { return w.state(h, "bad.service").Result == "" })
	w.unassign(h, "hangs.service")
	w.until("what hangs can be stopped", 5*time.Second, h.is("hangs.service", ""))
}

func TestManagerAway(t *testing.T) {
	w, h := alone(t)
	w.assign(h, "a.service", sleeper, unit.Launched)
	w.until("it runs", 5*time.Second, h.is("a.service", "active"))
	w.assign(h, "b.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 5\n", unit.Launched)
	w.until("it starts", 5*time.Second, h.is("b.service", "activating"))
	h.systemd.Away()
	h.asked = nil
	w.assign(h, "c.service", sleeper, unit.Launched)
	w.forward(time.Minute)
	assert.Equal(t, "running", w.state(h, "a.service").Sub)
	h.systemd.Back()
	w.until("what waited is done", time.Minute, func() bool { return h.runs("c.service") })
	w.until("what was under way is known", time.Minute, func() bool { return w.state(h, "b.service").Active == "active" })
	for _, a := range h.asked {
		assert.Equal(t, "c.service", a.Unit)
	}
}

func TestTwoMachinesOfOneID(t *testing.T) {
	w, h := alone(t)
	twin := w.host("x1")
	twin.start()
	w.assign(h, "a.service", sleeper, unit.Launched)
	w.forward(5 * time.Minute)
	assert.NoError(t, h.agent.Ready())
	assert.True(t, h.runs("a.service"))
	require.Error(t, twin.agent.Ready())
	assert.Contains(t, twin.agent.Ready().Error(), "m1 (10.0.0.1, instance")
	assert.Contains(t, twin.agent.Ready().Error(), "x1 (10.0.0.1, instance")
	assert.Empty(t, twin.asked)
	h.kill()
	w.until("the other has it when the record has run out", time.Minute, func() bool { return twin.runs("a.service") })
}

func TestConflictingUnitsDoNotMeet(t *testing.T) {
	w, h := alone(t)
	w.assign(h, "a.service", "[Service]\nExecStart=/bin/sleep 100000\nExecStop=/bin/sleep 20\n", unit.Launched)
	w.until("it runs", 5*time.Second, h.is("a.service", "active"))
	w.unassign(h, "a.service")
	w.assign(h, "b.service", sleeper+"\n[X-Fleet]\nConflicts=a.*\n", unit.Launched)
	w.assign(h, "c.service", sleeper, unit.Launched)
	w.always = append(w.always, func() {
		assert.False(t, h.runs("b.service") && !h.is("a.service", "")() && h.runs("a.service"))
	})
	w.until("the third does not wait", 2*time.Second, func() bool { return h.runs("c.service") })
	assert.False(t, h.runs("b.service"))
	w.until("it is told why the second waits", 2*time.Second, func() bool { return w.state(h, "b.service").Result != "" })
	assert.Equal(t, "waits for a.service to end", w.state(h, "b.service").Result)
	w.until("the second runs", time.Minute, func() bool { return h.runs("b.service") })
}

func TestGlobalUnitsFollowMetadata(t *testing.T) {
	w, h := alone(t)
	w.global("g.service", sleeper+"\n[X-Fleet]\nGlobal=true\nMachineMetadata=disk=ssd\n", unit.Launched)
	w.forward(time.Second)
	assert.False(t, h.runs("g.service"))
	w.set(w.keys.Metadata(h.id, "disk"), "ssd")
	w.until("it runs", 5*time.Second, func() bool { return h.runs("g.service") })
	w.forward(time.Second)
	assert.Empty(t, w.get(w.keys.JobState("g.service")))
	assert.Equal(t, "running", w.state(h, "g.service").Sub)
	w.set(w.keys.Metadata(h.id, "disk"), "")
	w.until("it is gone", 5*time.Second, func() bool { return len(h.systemd.Files()) == 0 })
	f := h.facts
	f.Metadata = map[string]string{"disk": "ssd"}
	w.remove(w.keys.Metadata(h.id, "disk"))
	h.agent.Set(f)
	w.until("it runs", 5*time.Second, h.is("g.service", "active"))
	assert.Contains(t, w.get(w.keys.MachineObject(h.id)), "ssd")
}

func TestRecord(t *testing.T) {
	w, h := alone(t)
	w.forward(10 * time.Minute)
	assert.NotEmpty(t, w.get(w.keys.MachineObject(h.id)))
	w.remove(w.keys.MachineObject(h.id))
	w.until("it is made anew", 5*time.Second, func() bool { return w.get(w.keys.MachineObject(h.id)) != "" })
	f := h.facts
	f.PublicIP = "10.9.9.9"
	h.agent.Set(f)
	w.until("it follows the address", 5*time.Second, func() bool { return strings.Contains(w.get(w.keys.MachineObject(h.id)), "10.9.9.9") })
}

func TestDrain(t *testing.T) {
	w := newWorld(t, 1)
	h := w.host("m1")
	h.drain = true
	h.start()
	w.assign(h, "a.service", sleeper, unit.Launched)
	w.until("it runs", 5*time.Second, h.is("a.service", "active"))
	over := false
	h.agent.Stop(func() { over = true })
	w.until("it has ended", 5*time.Second, func() bool { return over })
	assert.Empty(t, h.systemd.Files())
	assert.Empty(t, w.get(w.keys.MachineObject(h.id)))
	assert.Empty(t, w.get(w.keys.State("a.service", h.id)))
}

func TestStopLeavesUnitsRunning(t *testing.T) {
	w, h := alone(t)
	w.assign(h, "a.service", sleeper, unit.Launched)
	w.until("it runs", 5*time.Second, h.is("a.service", "active"))
	w.forward(time.Second)
	h.asked = nil
	over := false
	h.agent.Stop(func() { over = true })
	w.until("it has ended", 5*time.Second, func() bool { return over })
	w.forward(time.Hour)
	assert.Empty(t, h.asked)
	assert.True(t, h.runs("a.service"))
}

// Whoever looks for why units were started elsewhere finds it in the log of the machine,
// once.
func TestALeaseThatMayRunOutIsLogged(t *testing.T) {
	w, h := alone(t)
	warned := func() (n int) {
		for _, line := range h.log {
			if strings.Contains(line, "record cannot be written") {
				n++
			}
		}
		return n
	}
	w.forward(time.Hour)
	assert.Zero(t, warned())
	h.src.away, h.src.cut = true, true
	w.forward(5 * time.Minute)
	assert.Equal(t, 1, warned())
}

// What is stored under a key that is no name of a unit is no unit.
func TestOddNamesAreLetAlone(t *testing.T) {
	w, h := alone(t)
	w.assign(h, "noext", sleeper, unit.Launched)
	w.global(".conf", sleeper, unit.Launched)
	w.assign(h, "a.service", sleeper, unit.Launched)
	w.until("the other runs", 5*time.Second, func() bool { return h.runs("a.service") })
	w.forward(time.Minute)
	assert.Len(t, h.systemd.Files(), 1)
	assert.Empty(t, w.get(w.keys.State("noext", h.id)))
}
