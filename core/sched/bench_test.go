package sched_test

import (
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/keelson/keelson/bench/units/cluster"
)

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// small makes benchmarks fit for a run among the tests.
func small(c cluster.Cluster) cluster.Cluster {
	if testing.Short() {
		c = c.Scaled(c.Machines / 100)
		c.Instances = min(c.Instances, 10)
	}
	return c
}

// BenchmarkPlace is S1: a plan for 100,000 units and 10,000 empty machines, by the clock and
// by the processor's time, the collector's share included.
func BenchmarkPlace(b *testing.B) {
	for _, c := range []cluster.Cluster{cluster.Large, {Machines: 10_000, Templates: 10_000, Instances: 10}, {Machines: 10_000, Templates: 100, Instances: 1_000}} {
		c = small(c)
		b.Run(c.String(), func(b *testing.B) {
			placed := 0
			var planned, used time.Duration
			for b.Loop() {
				s := c.Told()
				runtime.GC()
				start, before := time.Now(), cpu()
				placed += len(s.Plan())
				planned += time.Since(start)
				used += cpu() - before
			}
			if placed != b.N*c.Units() {
				b.Fatalf("%d placed in %d runs", placed, b.N)
			}
			b.ReportMetric(float64(placed)/planned.Seconds(), "placements/s")
			b.ReportMetric(float64(placed)/used.Seconds(), "placements/cpu-s")
		})
	}
}

// BenchmarkMachineDies is S2: what a machine has is decided again. It comes back between.
func BenchmarkMachineDies(b *testing.B) {
	c := small(cluster.Large)
	s := c.Told()
	s.Plan()
	var took []time.Duration
	i := 0
	moved := 0
	for b.Loop() {
		m := c.Machine(i % c.Machines)
		start := time.Now()
		s.RemoveMachine(m.ID)
		moved += len(s.Plan())
		took = append(took, time.Since(start))
		s.SetMachine(m)
		s.Plan()
		i++
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(moved)/float64(b.N), "moves/op")
}

// BenchmarkNothingChanged is S4.
func BenchmarkNothingChanged(b *testing.B) {
	s := small(cluster.Large).Told()
	s.Plan()
	b.ReportAllocs()
	for b.Loop() {
		if len(s.Plan()) != 0 {
			b.Fatal("something changed")
		}
	}
}

// BenchmarkOnePlacement is S5: one unit more, in clusters of the same density.
func BenchmarkOnePlacement(b *testing.B) {
	for _, c := range []cluster.Cluster{cluster.Large.Scaled(1_000), cluster.Large} {
		c = small(c)
		b.Run(c.String(), func(b *testing.B) {
			s := c.Told()
			s.Plan()
			u := c.Unit(1, c.Instances)
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

// BenchmarkMachineDiesWhileOthersWait is S2 where half of a large template's instances
// wait for a machine without a sibling.
func BenchmarkMachineDiesWhileOthersWait(b *testing.B) {
	c := small(cluster.Cluster{Machines: 10_000, Templates: 1, Instances: 20_000})
	c.Instances = 2 * c.Machines
	s := c.Told()
	s.Plan()
	i := 0
	for b.Loop() {
		m := c.Machine(i % c.Machines)
		s.RemoveMachine(m.ID)
		s.Plan()
		s.SetMachine(m)
		s.Plan()
		i++
	}
}
