package sim

import (
	"cmp"
	"maps"
	"slices"
)

// Each chance is enabled in a quarter of all worlds, and then fires at a quarter
// of its passes: worlds differ in kind, not only in luck.
const (
	rareEnabled = 0.25
	rareFires   = 0.25
)

// rareWorld implements env.Rare for all nodes of a world.
type rareWorld struct {
	w       *World
	on      bool
	chances map[string]*rareChance
	marks   map[string]uint64
}

type rareChance struct {
	rand    *random
	enabled bool
	count   RareCount
}

// Chance implements env.Rare. Each name has a stream of its own, so that a new
// name in the code shifts no other.
func (r *rareWorld) Chance(name string) bool {
	c, ok := r.chances[name]
	if !ok {
		c = &rareChance{rand: r.w.stream("rare/" + name)}
		c.enabled = c.rand.chance(rareEnabled)
		if r.chances == nil {
			r.chances = make(map[string]*rareChance)
		}
		r.chances[name] = c
	}
	c.count.Passed++
	if !r.on || !c.enabled {
		return false
	}
	c.count.Enabled = 1
	if !c.rand.chance(rareFires) {
		return false
	}
	c.count.Fired++
	r.w.record(KindNote, 0, 0, 0, 0, name)
	return true
}

// Mark implements env.Rare.
func (r *rareWorld) Mark(name string) {
	if r.marks == nil {
		r.marks = make(map[string]uint64)
	}
	r.marks[name]++
}

func (r *rareWorld) report() RareReport {
	report := RareReport{Chances: make(map[string]RareCount), Marks: maps.Clone(r.marks), Worlds: 1}
	for _, name := range sortedKeys(r.chances) {
		report.Chances[name] = r.chances[name].count
	}
	return report
}

// RareReport counts rare paths by name. Reports of several worlds add up.
type RareReport struct {
	Chances map[string]RareCount
	Marks   map[string]uint64
	Worlds  int
}

// RareCount counts one env.Rare.Chance.
type RareCount struct {
	Passed  uint64 // times that the code asked
	Fired   uint64 // times that it was told yes
	Enabled int    // worlds in which it could fire
}

// Add merges another report into this one.
func (r *RareReport) Add(o RareReport) {
	if r.Chances == nil {
		r.Chances = make(map[string]RareCount)
	}
	if r.Marks == nil {
		r.Marks = make(map[string]uint64)
	}
	for _, name := range sortedKeys(o.Chances) {
		a, b := r.Chances[name], o.Chances[name]
		r.Chances[name] = RareCount{a.Passed + b.Passed, a.Fired + b.Fired, a.Enabled + b.Enabled}
	}
	for _, name := range sortedKeys(o.Marks) {
		r.Marks[name] += o.Marks[name]
	}
	r.Worlds += o.Worlds
}

// Never lists the chances that never fired, sorted.
func (r *RareReport) Never() []string {
	var names []string
	for _, name := range sortedKeys(r.Chances) {
		if r.Chances[name].Fired == 0 {
			names = append(names, name)
		}
	}
	return names
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
