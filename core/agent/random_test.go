package agent_test

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// names and texts that random runs draw from. The one and the other never run together.
var (
	names = []string{"a.service", "b@1.service", "hangs.service", "one.service", "other.service", "single.service"}
	rival = map[string]string{"one.service": "other.service", "other.service": "one.service"}
)

func textOf(name string, n int) string {
	switch name {
	case "hangs.service":
		return hanging
	case "single.service":
		return single
	case "one.service", "other.service":
		return fmt.Sprintf("[Service]\nExecStart=/bin/sleep 10000%d\n\n[X-Fleet]\nConflicts=%s\n", n, rival[name])
	}
	return fmt.Sprintf("[Service]\nExecStart=/bin/sleep 10000%d\n", n)
}

func hashOf(text string) string {
	sum := sha1.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// decision is what a view says of a unit of the machine.
func decision(v *store.View, h *host, name string) *registry.Assignment {
	n, err := v.Get(h.keys.Assignment(h.id, name), false)
	if err != nil {
		return nil
	}
	a, _ := registry.DecodeAssignment(name, n.Value)
	return a
}

// judge looks at a job that the agent asks for, beside the newest view that it had.
func (h *host) judge(t *rapid.T, verb env.JobVerb, name string) {
	d := decision(h.src.seen, h, name)
	launched := d != nil && d.State == unit.Launched
	at := slices.IndexFunc(h.systemd.Status(), func(s env.UnitStatus) bool { return s.Name == name })
	same := at >= 0 && launched && hashOf(d.Raw) == h.systemd.Status()[at].Hash
	switch {
	case verb == env.JobStop && h.runs(name) && same && name != "single.service":
		t.Fatalf("a healthy unit is stopped: %s at %s\n%s", name, h.now, h.describe())
	case verb != env.JobStop && !launched:
		t.Fatalf("a unit is started that is not launched: %s at %s\n%s", name, h.now, h.describe())
	}
}

// Whatever happens, no unit is stopped that should run by what the machine has read, and
// none started that should not; and when it is over all is as it should be.
func TestRandom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"))
		h := w.host("m1")
		h.start()
		h.onJob = func(verb env.JobVerb, name string) { h.judge(t, verb, name) }
		w.always = append(w.always, func() {
			if h.runs("one.service") && h.runs("other.service") {
				t.Fatalf("conflicting units run at %s\n%s", h.now, h.describe())
			}
		})
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			name := rapid.SampledFrom(names).Draw(t, "unit")
			switch rapid.IntRange(0, 16).Draw(t, "what") {
			case 0, 1, 2, 3:
				s := rapid.SampledFrom([]unit.State{unit.Loaded, unit.Launched, unit.Launched}).Draw(t, "state")
				if r := rival[name]; r != "" {
					w.unassign(h, r)
				}
				w.assign(h, name, textOf(name, rapid.IntRange(1, 2).Draw(t, "text")), s)
			case 4:
				w.unassign(h, name)
			case 5:
				h.src.away = true
			case 6:
				h.src.away = false
				h.src.sync()
			case 7, 8:
				h.mended()
				h.kill()
				h.src.back(rapid.IntRange(0, 20).Draw(t, "view"))
				h.start()
			case 9:
				h.mended()
				h.reboot()
			case 10:
				h.systemd.Away()
			case 11:
				h.systemd.Back()
			case 12:
				h.systemd.SetFailing(rapid.Bool().Draw(t, "failing"))
			case 13:
				h.systemd.Break(name, rapid.Bool().Draw(t, "broken"))
			case 14:
				h.full = rapid.Bool().Draw(t, "full")
				h.wasFull = true
			case 15:
				h.systemd.SetSlow(time.Duration(rapid.IntRange(0, 900).Draw(t, "slow")) * time.Millisecond)
			case 16:
				h.systemd.Crash(name)
			}
			w.forward(time.Duration(rapid.IntRange(1, 20000).Draw(t, "ms")) * time.Millisecond)
		}
		h.src.away, h.full = false, false
		h.src.sync()
		h.systemd.Back()
		h.systemd.SetFailing(false)
		h.systemd.SetSlow(0)
		for _, name := range names {
			h.systemd.Break(name, false)
		}
		w.forward(3 * time.Minute)
		settled(t, h)
		asked := len(h.asked)
		w.forward(3 * time.Minute)
		if len(h.asked) > asked {
			t.Fatalf("not at rest: %+v\n%s", h.asked[asked:], w.describe())
		}
	})
}

// mended gives the disk room, and the note time: a full disk may keep it from the names
// of units whose traces are in the store.
func (h *host) mended() {
	if h.wasFull {
		h.full, h.wasFull = false, false
		h.forward(6 * time.Second)
	}
}

// settled checks that the machine is as its assignments say, and the store tells so.
func settled(t *rapid.T, h *host) {
	status := h.systemd.Status()
	for _, name := range names {
		d := decision(h.world.store.View(), h, name)
		at := slices.IndexFunc(status, func(s env.UnitStatus) bool { return s.Name == name })
		if (d == nil) != (at < 0) {
			t.Fatalf("%s: decided %v, there %v\n%s", name, d != nil, at >= 0, h.describe())
		}
		state, launched := *h.state(h, name), h.get(h.keys.JobState(name))
		if d == nil {
			if h.runs(name) || state != (registry.UnitState{}) || launched != "" {
				t.Fatalf("%s: not all of it is gone: %+v %q\n%s", name, state, launched, h.describe())
			}
			continue
		}
		s := status[at]
		if s.Hash != hashOf(d.Raw) || state.Hash != s.Hash || state.Active != s.Active || state.Sub != s.Sub {
			t.Fatalf("%s: %+v is said to be %+v\n%s", name, s, state, h.describe())
		}
		if want := d.State == unit.Launched; (launched != "") != want || !want && h.runs(name) {
			t.Fatalf("%s: to be %s, launched by %q, %+v\n%s", name, d.State, launched, s, h.describe())
		}
	}
	for _, s := range status {
		if !slices.Contains(names, s.Name) {
			t.Fatalf("what is %s?", s.Name)
		}
	}
}
