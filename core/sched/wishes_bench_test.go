package sched_test

import (
	"testing"

	"github.com/keelson/keelson/bench/units/cluster"
	"github.com/keelson/keelson/core/sched"
	"github.com/keelson/keelson/core/unit"
)

// BenchmarkWishes is one unit more with each of the additions, on 10,000 machines.
func BenchmarkWishes(b *testing.B) {
	ssd := []unit.Condition{{Key: "disk", Op: "=", Values: []string{"ssd"}}}
	memory := []unit.Quantity{{Name: "memory", Amount: 1 << 20}}
	for _, w := range []struct {
		name  string
		place *unit.Placement
	}{
		{"none", &unit.Placement{}},
		{"Prefer", &unit.Placement{Prefer: ssd}},
		{"Spread", &unit.Placement{Spread: "zone"}},
		{"MaxPerMachine", &unit.Placement{MaxPerMachine: 2}},
		{"Resources", &unit.Placement{Resources: memory}},
		{"MostFree", &unit.Placement{MostFree: true, Resources: memory}},
	} {
		b.Run(w.name, func(b *testing.B) {
			c := small(cluster.Large)
			s := c.Told()
			for i := range c.Machines {
				m := c.Machine(i)
				m.Capacity = []unit.Quantity{{Name: "memory", Amount: 1 << 34}}
				s.SetMachine(m)
			}
			s.Plan()
			u := sched.Unit{Name: "t1@new.service", Place: w.place, State: unit.Launched}
			b.ReportAllocs()
			for b.Loop() {
				s.SetUnit(u)
				if len(s.Plan()) != 1 {
					b.Fatal("not placed")
				}
				s.RemoveUnit(u.Name)
				s.Plan()
			}
		})
	}
}

// BenchmarkExplain asks why a unit is where it is, among 10,000 machines.
func BenchmarkExplain(b *testing.B) {
	c := small(cluster.Large)
	s := c.Told()
	s.Plan()
	b.ReportAllocs()
	for b.Loop() {
		s.Explain("t4@7.service")
	}
}

// BenchmarkClone is what a preview costs before it begins: a picture of its own.
func BenchmarkClone(b *testing.B) {
	c := small(cluster.Large)
	s := c.Told()
	s.Plan()
	for b.Loop() {
		if len(s.Clone().Plan()) > 0 {
			b.Fatal("a clone sees more")
		}
	}
}

// BenchmarkRebalance evens out a cluster that a tenth of the machines has just joined.
func BenchmarkRebalance(b *testing.B) {
	c := small(cluster.Large)
	for b.Loop() {
		b.StopTimer()
		s := c.Told()
		for i := range c.Machines / 10 {
			s.RemoveMachine(c.Machine(i).ID)
		}
		s.Plan()
		for i := range c.Machines / 10 {
			s.SetMachine(c.Machine(i))
		}
		s.Plan()
		b.StartTimer()
		b.ReportMetric(float64(len(s.Rebalance(c.Units()))), "moves")
	}
}
