//go:build planted

package agent_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/unit"
)

// Each planted bug must change behaviour, or the mutation run proves nothing.
func TestPlantedBugsBite(t *testing.T) {
	defer func() { planted.Active = planted.None }()
	for _, c := range []struct {
		bug  planted.Bug
		what func(t *testing.T) (wrong bool)
	}{
		{planted.LostLeaseKeepsRun, overlapAfterLapse},
		{planted.LeftOverIgnored, strayAfterStart},
		{planted.UnknownStartMoved, claimOfWhatRunsIsGone},
		{planted.StopWhenStoreAway, stoppedWithoutStore},
		{planted.RestartRestartsUnits, stoppedByRestart},
	} {
		for _, bug := range []planted.Bug{planted.None, c.bug} {
			planted.Active = bug
			assert.Equal(t, bug != planted.None, c.what(t), "bug %d, planted %d", c.bug, bug)
		}
	}
}

func overlapAfterLapse(t *testing.T) (wrong bool) {
	w := newWorld(t, 1)
	a, b := w.host("m1"), w.host("m2")
	a.start()
	b.start()
	w.forward(time.Second)
	p := &placer{w: w, unit: "s.service"}
	w.assign(a, p.unit, single, unit.Launched)
	p.look()
	w.until("it runs", 5*time.Second, func() bool { return a.runs(p.unit) })
	a.src.away, a.src.cut = true, true
	w.always = append(w.always, func() { wrong = wrong || p.copies() > 1 })
	w.forward(2 * time.Minute)
	return wrong
}

func strayAfterStart(t *testing.T) bool {
	w := newWorld(t, 1)
	h := w.host("m1")
	h.systemd.Put("old.service", sleeper)
	h.systemd.By(env.JobStart, "old.service")
	w.forward(time.Second)
	h.start()
	w.forward(time.Minute)
	return h.runs("old.service")
}

func claimOfWhatRunsIsGone(t *testing.T) (wrong bool) {
	for seed := range uint64(20) {
		w := newWorld(t, seed)
		h := w.host("m1")
		h.start()
		w.forward(time.Second)
		h.onJob = func(env.JobVerb, string) { w.after(time.Millisecond, h.systemd.Away) }
		w.assign(h, "s.service", single, unit.Launched)
		w.forward(time.Second)
		h.onJob = nil
		h.systemd.Back()
		w.forward(10 * time.Second)
		wrong = wrong || h.runs("s.service") && w.get(w.keys.Claim("s.service")) == ""
	}
	return wrong
}

func stoppedWithoutStore(t *testing.T) bool {
	w, h := alone(t)
	w.assign(h, "a.service", sleeper, unit.Launched)
	w.until("it runs", 5*time.Second, h.is("a.service", "active"))
	h.src.away, h.src.cut = true, true
	w.forward(10 * time.Minute)
	return !h.runs("a.service")
}

func stoppedByRestart(t *testing.T) bool {
	w, h := alone(t)
	w.assign(h, "a.service", sleeper, unit.Launched)
	w.until("it runs", 5*time.Second, h.is("a.service", "active"))
	w.forward(time.Second)
	began := len(h.ran)
	h.restart()
	w.forward(time.Minute)
	return len(h.ran) > began
}
