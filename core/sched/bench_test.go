package sched_test

import (
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/keelson/keelson/core/sched"
	"github.com/keelson/keelson/core/unit"
)

// cluster is machines and the units of some templates: each instance conflicts with its
// siblings, and a quarter of the templates want a kind of machine.
type cluster struct{ machines, templates, instances int }

func (c cluster) String() string {
	return fmt.Sprintf("machines=%d,units=%dx%d", c.machines, c.templates, c.instances)
}

func (c cluster) id(i int) string { return fmt.Sprintf("%032x", uint64(i)*0x9e3779b97f4a7c15) }

// told gives a picture that was told of the cluster and has planned nothing.
func (c cluster) told() *sched.State {
	s := sched.New(sched.Options{})
	for i := range c.machines {
		s.SetMachine(sched.Machine{ID: c.id(i), Metadata: map[string]string{"disk": []string{"ssd", "hdd"}[i%2], "zone": fmt.Sprint(i % 8)}})
	}
	for t := range c.templates {
		for i := range c.instances {
			s.SetUnit(sched.Unit{Name: fmt.Sprintf("t%d@%d.service", t, i), Place: c.place(t), State: unit.Launched})
		}
	}
	return s
}

func (c cluster) place(t int) *unit.Placement {
	p := &unit.Placement{Conflicts: []string{fmt.Sprintf("t%d@*.service", t)}}
	if t%4 == 0 {
		p.Metadata = []unit.Condition{{Key: "disk", Op: "=", Values: []string{"ssd"}}, {Key: "zone", Op: "=", Values: []string{fmt.Sprint(t / 4 % 8 &^ 1)}}}
	}
	return p
}

// cpu is the processor time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// small makes benchmarks fit for a run among the tests.
func small(c cluster) cluster {
	if testing.Short() {
		return cluster{max(c.machines/100, 60), max(c.templates/100, 1), min(c.instances, 10)}
	}
	return c
}

// BenchmarkPlace is S1: a plan for 100,000 units and 10,000 empty machines, by the clock and
// by the processor's time, the collector's share included.
func BenchmarkPlace(b *testing.B) {
	for _, c := range []cluster{{10_000, 1_000, 100}, {10_000, 10_000, 10}, {10_000, 100, 1_000}} {
		c = small(c)
		b.Run(c.String(), func(b *testing.B) {
			placed := 0
			var planned, used time.Duration
			for b.Loop() {
				s := c.told()
				runtime.GC()
				start, before := time.Now(), cpu()
				placed += len(s.Plan())
				planned += time.Since(start)
				used += cpu() - before
			}
			if placed != b.N*c.templates*c.instances {
				b.Fatalf("%d placed in %d runs", placed, b.N)
			}
			b.ReportMetric(float64(placed)/planned.Seconds(), "placements/s")
			b.ReportMetric(float64(placed)/used.Seconds(), "placements/cpu-s")
		})
	}
}

// BenchmarkMachineDies is S2: what a machine has is decided again. It comes back between.
func BenchmarkMachineDies(b *testing.B) {
	c := small(cluster{10_000, 1_000, 100})
	s := c.told()
	s.Plan()
	var took []time.Duration
	i := 0
	moved := 0
	for b.Loop() {
		id := c.id(i % c.machines)
		start := time.Now()
		s.RemoveMachine(id)
		moved += len(s.Plan())
		took = append(took, time.Since(start))
		s.SetMachine(sched.Machine{ID: id, Metadata: map[string]string{"disk": []string{"ssd", "hdd"}[i%c.machines%2], "zone": fmt.Sprint(i % c.machines % 8)}})
		s.Plan()
		i++
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(moved)/float64(b.N), "moves/op")
}

// BenchmarkNothingChanged is S4.
func BenchmarkNothingChanged(b *testing.B) {
	s := small(cluster{10_000, 1_000, 100}).told()
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
	for _, c := range []cluster{{1_000, 100, 100}, {10_000, 1_000, 100}} {
		c = small(c)
		b.Run(c.String(), func(b *testing.B) {
			s := c.told()
			s.Plan()
			u := sched.Unit{Name: "t1@new.service", Place: c.place(1), State: unit.Launched}
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
