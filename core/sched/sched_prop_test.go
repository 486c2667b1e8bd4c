package sched

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/unit"
)

// pair is a picture and the reference, told the same.
type pair struct {
	state *State
	plain *reference
}

func (p *pair) setMachine(m Machine) {
	p.state.SetMachine(m)
	p.plain.machines[m.ID] = &m
}

func (p *pair) removeMachine(id string) {
	p.state.RemoveMachine(id)
	delete(p.plain.machines, id)
}

func (p *pair) setUnit(u Unit) {
	p.state.SetUnit(u)
	p.plain.set(u)
}

func (p *pair) removeUnit(name string) {
	p.state.RemoveUnit(name)
	p.plain.remove(name)
}

var (
	someIDs = []string{
		"1a1a1a1a0000", "1a1a1a1a1111", "2b2b2b2b0000", "3c3c3c3c0000", "4d4d4d4d0000", "5e5e5e5e0000",
	}
	someNames = []string{
		"a.service", "b.service", "c.service", "web@1.service", "web@2.service", "web@3.service", "db@1.service", "db@2.service", "g1.service", "g2.service", "z.timer",
	}
	someGlobs = []string{"web@*.service", "a*", "b.service", "g?.service", "*.timer", "db@[12].service", `[`, "*", "db@1.service"}
)

func drawConditions(t *rapid.T, label string, ops bool) (list []unit.Condition) {
	all := []unit.Condition{
		{Key: "disk", Op: "=", Values: []string{"ssd"}},
		{Key: "disk", Op: "=", Values: []string{"hdd"}},
		{Key: "zone", Op: "=", Values: []string{"b"}},
		{Key: "disk", Op: "!=", Values: []string{"ssd"}},
		{Key: "cores", Op: ">=", Values: []string{"4"}},
		{Key: "zone", Op: "in", Values: []string{"a", "c"}},
	}
	if !ops {
		all = all[:3]
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, 2, unit.Condition.String).Draw(t, label)
}

func drawMachine(t *rapid.T, id string) Machine {
	m := Machine{ID: id, Metadata: map[string]string{}}
	m.Metadata["disk"] = rapid.SampledFrom([]string{"ssd", "hdd"}).Draw(t, "disk")
	if rapid.Bool().Draw(t, "zoned") {
		m.Metadata["zone"] = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "zone")
	}
	m.Metadata["cores"] = rapid.SampledFrom([]string{"2", "4", "16"}).Draw(t, "cores")
	if rapid.IntRange(0, 3).Draw(t, "announces") > 0 {
		m.Capacity = []unit.Quantity{{Name: "cpu", Amount: 4000}, {Name: "memory", Amount: int64(rapid.IntRange(0, 4).Draw(t, "memory"))}}
	}
	switch rapid.IntRange(0, 9).Draw(t, "cordon") {
	case 0:
		m.Cordoned = true
	case 1:
		m.Cordoned, m.Draining = true, true
	}
	return m
}

func few[T any](t *rapid.T, from []T, most int, label string) []T {
	if rapid.IntRange(0, 2).Draw(t, label+"?") > 0 {
		return nil
	}
	return rapid.SliceOfN(rapid.SampledFrom(from), 0, most).Draw(t, label)
}

func rarely(t *rapid.T, label string) bool { return rapid.IntRange(0, 5).Draw(t, label) == 0 }

// drawPlace draws what a unit may ask for, without what is refused for being impossible.
func drawPlace(t *rapid.T, name string, additions bool) *unit.Placement {
	p := &unit.Placement{Metadata: drawConditions(t, "metadata", additions)}
	switch {
	case name[0] == 'g' && rapid.IntRange(0, 3).Draw(t, "global") > 0:
		p.Global = true
		p.Conflicts = few(t, someGlobs, 2, "conflicts")
	case rarely(t, "pinned"):
		p.MachineID = rapid.SampledFrom([]string{"1a1a1a1a", someIDs[1], someIDs[2], "2b2b"}).Draw(t, "machineID")
	case rarely(t, "replacing"):
		p.Replaces = few(t, someGlobs, 2, "replaces")
	default:
		p.Conflicts = few(t, someGlobs, 2, "conflicts")
		p.Peers = few(t, someNames, 2, "peers")
		p.Peers = slices.DeleteFunc(p.Peers, func(peer string) bool { return matching(p.Conflicts, peer) != "" })
	}
	if !additions {
		return p
	}
	if rarely(t, "resources") {
		p.Resources = []unit.Quantity{{Name: "memory", Amount: int64(rapid.IntRange(1, 3).Draw(t, "amount"))}}
	}
	if rarely(t, "weighs") {
		p.Weight = rapid.IntRange(1, 3).Draw(t, "weight")
	}
	p.MostFree = rarely(t, "mostFree")
	if rarely(t, "spreads") {
		p.Spread = "zone"
	}
	p.Prefer = drawConditions(t, "prefer", true)
	if rarely(t, "most") {
		p.MaxPerMachine = rapid.IntRange(1, 2).Draw(t, "maxPerMachine")
	}
	return p
}

func drawUnit(t *rapid.T, name string, additions bool) Unit {
	u := Unit{Name: name, Place: drawPlace(t, name, additions)}
	u.State = rapid.SampledFrom([]unit.State{unit.Launched, unit.Launched, unit.Launched, unit.Loaded, unit.Inactive}).Draw(t, "state")
	if rarely(t, "placed") {
		u.Machine = rapid.SampledFrom(append([]string{"9f9f9f9f0000"}, someIDs...)).Draw(t, "machine")
	}
	if additions && rarely(t, "moves") {
		u.Move = rapid.SampledFrom(append([]string{"9f9f9f9f0000"}, someIDs...)).Draw(t, "move")
	}
	if additions && rarely(t, "holds") {
		u.Held = rapid.SampledFrom(someIDs).Draw(t, "held")
	}
	return u
}

func (p *pair) disturb(t *rapid.T, additions bool) {
	name := rapid.SampledFrom(someNames).Draw(t, "name")
	id := rapid.SampledFrom(someIDs).Draw(t, "id")
	switch rapid.IntRange(0, 9).Draw(t, "event") {
	case 0, 1:
		p.setMachine(drawMachine(t, id))
	case 2:
		p.removeMachine(id)
	case 3:
		p.removeUnit(name)
	case 4:
		if u := p.plain.units[name]; u != nil { // a decision was lost, or one of an earlier engine came through
			told := *u
			told.Machine = rapid.SampledFrom(append([]string{""}, someIDs...)).Draw(t, "machine")
			p.setUnit(told)
		}
	case 5:
		if u := p.plain.units[name]; u != nil {
			told := *u
			told.Held, told.Move = "", ""
			told.State = unit.Launched
			p.setUnit(told)
		}
	default:
		p.setUnit(drawUnit(t, name, additions))
	}
}

// TestPlansAreThoseOfTheReference tells a picture and the reference the same and expects
// the same decisions, the machines with room that each finds included.
func TestPlansAreThoseOfTheReference(t *testing.T) {
	for _, additions := range []bool{false, true} {
		t.Run(fmt.Sprintf("additions=%v", additions), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { play(t, additions) })
		})
	}
}

func play(t *rapid.T, additions bool) {
	p := &pair{New(Options{}), newReference()}
	if rapid.Bool().Draw(t, "low limits") {
		p.state.limits = limits{few: 1, idle: 1}
	}
	for _, id := range someIDs[:rapid.IntRange(0, len(someIDs)).Draw(t, "machines")] {
		p.setMachine(drawMachine(t, id))
	}
	for range rapid.IntRange(1, 12).Draw(t, "passes") {
		for range rapid.IntRange(0, 6).Draw(t, "events") {
			p.disturb(t, additions)
		}
		p.attempt(t, additions)
		before := p.plain.copy()
		want, have := p.plain.plan(), p.state.Plan()
		require.Equal(t, bare(want), bare(have))
		p.judge(t, before, have)
		require.Empty(t, p.state.Plan(), "a plan follows a plan")
		require.Empty(t, p.state.Clone().Plan(), "a clone sees more")
	}
}

// attempt tells the picture something, lets it plan, and takes all of that back.
func (p *pair) attempt(t *rapid.T, additions bool) {
	restore := p.state.Try()
	defer restore()
	try := &pair{p.state, p.plain.copy()}
	for range rapid.IntRange(0, 3).Draw(t, "tried") {
		try.disturb(t, additions)
	}
	require.Equal(t, bare(try.plain.plan()), bare(p.state.Plan()))
}

func bare(ds []Decision) (list []string) {
	for _, d := range ds {
		list = append(list, d.Unit+": "+d.From+" > "+d.To)
	}
	return list
}

// judge checks what must be true after any plan, without asking how it was made.
func (p *pair) judge(t *rapid.T, before *reference, ds []Decision) {
	for _, d := range ds {
		assert.NotEmpty(t, d.Why, d.Unit)
	}
	for _, id := range someIDs {
		var names []string
		for _, g := range p.plain.here(id) {
			names = append(names, g.Name)
		}
		require.Equal(t, names, p.state.GlobalsOn(id), "globals on %s", id)
	}
	for _, u := range p.plain.byName() {
		if !u.counts() {
			require.Empty(t, u.Machine)
			continue
		}
		if u.Machine != "" {
			require.True(t, p.plain.mayStay(u), "%s on %s", u.Name, u.Machine)
		}
		able := 0
		for id := range p.plain.machines {
			if id == u.Machine || p.plain.able([]*Unit{u}, id) && p.plain.copy().clear(u, id) {
				able++
			}
		}
		e := p.state.Explain(u.Name)
		require.Equal(t, able, e.Able, "machines able to run %s: %v", u.Name, e)
		for _, r := range e.Refusals {
			require.True(t, slices.ContainsFunc(reasons, func(known Reason) bool { return strings.HasPrefix(r.Reason, known.Head) }), r.Reason)
			able += r.Machines
		}
		require.Equal(t, len(p.plain.machines), able, "each machine once: %v", e)
	}
}

// TestManyMachines does the same with more machines than one word of a set holds, which
// join in any order of their IDs, some after slots were given out.
func TestManyMachines(t *testing.T) {
	for seed := range uint64(2) {
		r := rand.New(rand.NewPCG(seed, 0))
		p := &pair{New(Options{}), newReference()}
		p.state.limits.few = 8
		machines, units := 0, 0
		for pass := range 8 {
			for range r.IntN(40) {
				id := fmt.Sprintf("%08x", r.Uint32()%1000)
				p.setMachine(Machine{ID: id, Metadata: map[string]string{"zone": fmt.Sprint(r.IntN(3))}})
				machines++
			}
			for range r.IntN(15) {
				place := &unit.Placement{Conflicts: []string{fmt.Sprintf("t%d@*", r.IntN(3))}, Weight: r.IntN(3)}
				if r.IntN(3) == 0 {
					place.Spread = "zone"
				}
				p.setUnit(Unit{Name: fmt.Sprintf("t%d@%d.service", r.IntN(3), r.IntN(90)), Place: place, State: unit.Launched})
				units++
			}
			for _, id := range slices.Sorted(maps.Keys(p.plain.machines)) {
				if r.IntN(20) == 0 {
					p.removeMachine(id)
				}
			}
			require.Equal(t, bare(p.plain.plan()), bare(p.state.Plan()), "seed %d, pass %d", seed, pass)
		}
		t.Logf("%d machines, %d units", machines, units)
	}
}
