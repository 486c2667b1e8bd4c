package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/control/controltest"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// watcher checks every change of the registry as it is done.
type watcher struct {
	r     *rig
	t     *rapid.T
	seen  store.Index
	fence store.Index // when the present lease was created
}

// look goes through what has happened since the last call.
func (w *watcher) look() {
	view := w.r.Truth()
	for _, e := range view.Events(w.seen + 1) {
		w.seen = e.Index
		w.event(e)
	}
	for _, name := range []string{"a.service", "b.service", "s.service", "c@1.service", "c@2.service"} {
		var told []string
		for _, m := range machines {
			if n, err := view.Get(keys.Assignment(m, name), false); err == nil && n != nil {
				told = append(told, m)
			}
		}
		require.LessOrEqual(w.t, len(told), 1, "%s is assigned to %v", name, told)
	}
}

func (w *watcher) event(e *store.Event) {
	if e.Node.Key == keys.EngineLease() {
		w.fence = 0
		if !e.Node.Deleted {
			require.GreaterOrEqual(w.t, e.Node.Created, w.fence)
			w.fence = e.Node.Created
		}
	}
}

var machines = []string{"m1", "m2", "m3"}

// Whoever leads, whatever is lost, late or done long after it was given up: a unit is
// told to one machine at a time, machines that are there are told of what is placed on
// them and of nothing else, and in calm everything that can be placed is.
func TestOneDecisionAtATime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &rig{World: controltest.New(rapid.Uint64().Draw(t, "seed"), 3), t: t}
		r.Delay = time.Duration(rapid.SampledFrom([]int{0, 10, 1000}).Draw(t, "delay")) * time.Millisecond
		r.Lost = rapid.SampledFrom([]int{0, 10, 50}).Draw(t, "lost")
		r.model = registry.Open(r.Members[0], keys, r)
		for i := range 3 {
			r.open(i, Config{})
		}
		w := &watcher{r: r, t: t}
		run := func(d time.Duration) {
			r.Run(d, func() {
				for _, g := range r.engines {
					g.Flush()
				}
				w.look()
			})
		}
		texts := map[string]string{"a.service": hello, "b.service": hello + "[X-Fleet]\nConflicts=a.service\n", "s.service": hello + "[X-Fleet]\nMachineOf=a.service\n"}
		for _, name := range []string{"c@1.service", "c@2.service"} {
			texts[name] = hello + "[X-Fleet]\nConflicts=c@*.service\n"
		}
		names := []string{"a.service", "b.service", "c@1.service", "c@2.service", "s.service"}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			machine := rapid.SampledFrom(machines).Draw(t, "machine")
			switch u := r.model.Unit(name); rapid.IntRange(0, 8).Draw(t, "step") {
			case 0:
				r.leader = rapid.IntRange(-1, 2).Draw(t, "leader")
			case 1:
				m := r.Members[rapid.IntRange(0, 2).Draw(t, "member")]
				m.Cut = !m.Cut
			case 2:
				r.machine(machine, time.Duration(rapid.IntRange(0, 20).Draw(t, "ttl"))*time.Second)
			case 3:
				r.Commit(store.Command{Op: store.OpDelete, Key: keys.MachineObject(machine)})
			case 4:
				r.Commit(store.Command{Op: store.OpSet, Key: keys.Move(name), Value: machine})
			case 5:
				if u != nil {
					r.Commit(r.model.Destroy(u)...)
				}
			default:
				state := rapid.SampledFrom([]unit.State{unit.Inactive, unit.Loaded, unit.Launched}).Draw(t, "state")
				if u == nil {
					r.submit(name, texts[name], state)
				} else {
					r.desire(name, state)
				}
			}
			run(time.Duration(rapid.IntRange(0, 3000).Draw(t, "pause")) * time.Millisecond)
		}
		r.Lost, r.Delay, r.leader = 0, 0, 0
		for _, m := range r.Members {
			m.Cut = false
		}
		run(2 * time.Minute) // late proposals come to their end
		r.machine("m1", 0)
		r.machine("m2", 0)
		r.machine("m3", 0)
		run(10 * time.Second)
		settled(t, r, names)
	})
}

// settled checks that the registry is at rest as it should be.
func settled(t *rapid.T, r *rig, names []string) {
	deciding := 0
	for _, g := range r.engines {
		if g.Deciding() {
			deciding++
		}
	}
	require.Equal(t, 1, deciding)
	fresh := registry.Open(r.Members[1], keys, r)
	for _, name := range names {
		u := fresh.Unit(name)
		told := fresh.Assigned(name)
		switch {
		case u == nil || u.Desired == unit.Inactive:
			require.Empty(t, told, name)
			require.True(t, u == nil || u.Target == "", name)
		case u.Target == "":
			require.Empty(t, told, name)
			require.Equal(t, "s.service", name, "every other can be placed")
			a := fresh.Unit("a.service")
			require.True(t, a == nil || a.Desired == unit.Inactive, "its main unit is not there")
		default:
			require.Equal(t, []string{u.Target}, told, name)
			d, _ := fresh.Assignment(name, u.Target)
			require.Equal(t, u.Desired, d.State)
			require.Equal(t, u.Raw, d.Raw)
		}
		if u == nil {
			_, err := r.Truth().Get(keys.Job(name), false)
			require.NotNil(t, err, "nothing is left of %s: %v", name, r.below(keys.Job(name)))
		}
	}
	require.Empty(t, r.below(keys.Prefix+"/moves"))
	before := fmt.Sprint(r.below(keys.Prefix))
	passes := r.engines[0].Passes()
	r.run(20 * time.Second)
	require.Equal(t, before, fmt.Sprint(r.below(keys.Prefix)))
	require.Equal(t, passes, r.engines[0].Passes(), "who has nothing to decide writes nothing")
}
