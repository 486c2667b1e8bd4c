package agent_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/agent"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/sched"
	"github.com/keelson/keelson/core/unit"
)

func drawWant(t *rapid.T) (want []agent.Wanted) {
	for _, name := range []string{"a.service", "b.service", "c.socket", "d@1.service"} {
		if rapid.Bool().Draw(t, "want "+name) {
			text := rapid.SampledFrom([]string{sleeper, other}).Draw(t, "text")
			want = append(want, agent.Wanted{
				Assignment: registry.Assignment{Name: name, Raw: text, State: rapid.SampledFrom([]unit.State{unit.Loaded, unit.Launched}).Draw(t, "state")},
				Hash:       hashOf(text), Place: &unit.Placement{},
			})
		}
	}
	return want
}

func drawHave(t *rapid.T) (have []agent.Have) {
	for _, name := range []string{"a.service", "c.socket", "d@1.service", "old.service"} {
		if rapid.Bool().Draw(t, "have "+name) {
			have = append(have, agent.Have{UnitStatus: env.UnitStatus{
				Name:   name,
				Load:   rapid.SampledFrom([]string{"loaded", "loaded", "not-found", "bad-setting"}).Draw(t, "load"),
				Active: rapid.SampledFrom([]string{"active", "inactive", "failed", "activating", "deactivating"}).Draw(t, "active"),
				Hash:   hashOf(rapid.SampledFrom([]string{sleeper, other}).Draw(t, "text")),
				Job:    rapid.Bool().Draw(t, "job"),
			}, Launched: rapid.Bool().Draw(t, "launched")})
		}
	}
	return have
}

// carry carries out those steps that do says, in their order, on units that do at once
// what they are told.
func carry(t *rapid.T, s agent.Steps, have []agent.Have, do func(name string) bool) []agent.Have {
	at := func(name string) int {
		return slices.IndexFunc(have, func(h agent.Have) bool { return h.Name == name })
	}
	stop := func(names []string) {
		for _, name := range names {
			if do(name) {
				h := &have[at(name)]
				h.Active, h.Job, h.Launched = "inactive", false, false
			}
		}
	}
	stop(s.Halt)
	for _, name := range s.Change.Remove {
		if i := at(name); do(name) {
			if have[i].Job || have[i].Active != "inactive" && have[i].Active != "failed" {
				t.Fatalf("the file of %s goes while it runs", name)
			}
			have = slices.Delete(have, i, i+1)
		}
	}
	for _, w := range s.Change.Write {
		if do(w.Name) {
			if at(w.Name) >= 0 {
				t.Fatalf("the file of %s is there already", w.Name)
			}
			have = append(have, agent.Have{UnitStatus: env.UnitStatus{Name: w.Name, Load: "loaded", Active: "inactive", Hash: hashOf(w.Text)}})
		}
	}
	stop(s.Stop)
	for _, name := range s.Start {
		if do(name) {
			have[at(name)].Active, have[at(name)].Launched = "active", true
		}
	}
	slices.SortFunc(have, func(a, b agent.Have) int { return strings.Compare(a.Name, b.Name) })
	return have
}

// A plan that is carried out is followed by an empty one, also where some units were left
// for later; and what is as it should be is in no plan.
func TestPlansSettle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want, have := drawWant(t), drawHave(t)
		s := agent.Plan(want, have)
		if later := rapid.SampledFrom([]string{"", "a.service", "d@1.service"}).Draw(t, "later"); later != "" {
			have = carry(t, s, have, func(name string) bool { return name != later })
			s = agent.Plan(want, have)
			for _, name := range slices.Concat(s.Halt, s.Change.Remove, s.Stop, s.Start) {
				if name != later {
					t.Fatalf("%s is planned again: %+v", name, s)
				}
			}
		}
		have = carry(t, s, have, func(string) bool { return true })
		if s = agent.Plan(want, have); !s.Empty() {
			t.Fatalf("left: %+v", s)
		}
	})
}

func TestWant(t *testing.T) {
	unitOf := func(name string, s unit.State, p unit.Placement) agent.Wanted {
		return agent.Wanted{Assignment: registry.Assignment{Name: name, State: s}, Place: &p}
	}
	assigned := []agent.Wanted{
		unitOf("b.service", unit.Launched, unit.Placement{Conflicts: []string{"x*"}, Singleton: true}),
		unitOf("idle.service", unit.Inactive, unit.Placement{}),
	}
	globals := []agent.Wanted{
		unitOf("a.service", unit.Loaded, unit.Placement{Global: true, Singleton: true}),
		unitOf("xray.service", unit.Launched, unit.Placement{Global: true}),
		unitOf("ssd.service", unit.Launched, unit.Placement{Global: true, Metadata: []unit.Condition{{Key: "disk", Op: "=", Values: []string{"ssd"}}}}),
		unitOf("hdd.service", unit.Launched, unit.Placement{Global: true, Metadata: []unit.Condition{{Key: "disk", Op: "=", Values: []string{"hdd"}}}}),
	}
	var names []string
	for _, w := range agent.Want(assigned, globals, sched.Machine{ID: "1", Metadata: map[string]string{"disk": "ssd"}}) {
		names = append(names, w.Name)
		assert.Equal(t, w.Name == "b.service", w.Fenced(), w.Name)
		assert.Equal(t, w.Name != "b.service", w.Global, w.Name)
	}
	assert.Equal(t, []string{"a.service", "b.service", "ssd.service"}, names)
}
