package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/keelson/keelson/core/env"
)

// Five nodes without any load: how much virtual time a second buys.
func BenchmarkIdle5(b *testing.B) {
	c := NewCluster(1, 5, ClusterOptions{})
	defer c.Close()
	if c.AwaitLeader(time.Minute) == nil {
		b.Fatal(c.Failure())
	}
	steps := c.Steps()
	begin := c.Now()
	b.ReportAllocs()
	for b.Loop() {
		c.RunFor(time.Second)
	}
	if c.Failure() != nil {
		b.Fatal(c.Failure())
	}
	report(b, c.World, begin, steps)
}

// The same with nodes that do nothing but what heartbeats would cost the world.
func BenchmarkIdleToys5(b *testing.B) {
	w := NewWorld(1, Options{})
	defer w.Close()
	addToys(w, 5, func(x *toy) error {
		var tick func()
		frame := make([]byte, 64)
		tick = func() {
			if x.m.ID() == 1 {
				for id := env.NodeID(2); id <= 5; id++ {
					x.env.Net.Send(id, frame)
				}
			}
			x.env.Clock.After(100*time.Millisecond, tick)
		}
		tick()
		x.receive = func(from env.NodeID, p []byte) {
			if from == 1 {
				x.env.Net.Send(1, frame)
			}
		}
		return nil
	})
	steps, begin := w.Steps(), w.Now()
	b.ReportAllocs()
	for b.Loop() {
		w.RunFor(time.Second)
	}
	report(b, w, begin, steps)
}

func report(b *testing.B, w *World, begin time.Duration, steps uint64) {
	b.ReportMetric((w.Now()-begin).Seconds()/b.Elapsed().Seconds(), "simulated-s/s")
	b.ReportMetric(float64(w.Steps()-steps)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkWorldNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		NewCluster(1, 5, ClusterOptions{}).Close()
	}
}

func BenchmarkQueue(b *testing.B) {
	for _, pending := range []int{16, 256, 4096} {
		b.Run(fmt.Sprintf("pending=%d", pending), func(b *testing.B) {
			var q queue
			r := newRandom(1, "bench")
			nothing := call(func() {})
			for i := range pending {
				q.push(time.Duration(r.IntN(1e9)), uint64(i), 0, nothing)
			}
			id := uint64(pending)
			b.ReportAllocs()
			for b.Loop() {
				e, _ := q.pop()
				id++
				q.push(e.at+time.Duration(r.IntN(1e9)), id, 0, nothing)
			}
		})
	}
}
