// Command units measures the scheduler against its stated limits.
//
// It prints one row for each figure. The processor's time counts, the collector's share
// included, so that what else runs on the machine matters little.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/keelson/keelson/bench/units/cluster"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each figure is taken; the median counts")
	machines := flag.Int("machines", cluster.Large.Machines, "machines of the cluster, with ten units each")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	if !report(measure(cluster.Large.Scaled(*machines), *rounds)) {
		os.Exit(1)
	}
}

// row is a figure and its limits. Rate says that more is better.
type row struct {
	number, workload, unit string
	have, must, aim        float64
	rate                   bool
}

func (r row) meets(limit float64) bool {
	if r.rate {
		return r.have >= limit
	}
	return r.have <= limit
}

func report(rows []row) (good bool) {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "#\tworkload\tfigure\tmust\taim\t")
	good = true
	for _, r := range rows {
		verdict := "missed"
		switch {
		case r.meets(r.aim):
			verdict = "aim"
		case r.meets(r.must):
			verdict = "must"
		default:
			good = false
		}
		fmt.Fprintf(w, "%s\t%s\t%.4g %s\t%.4g\t%.4g\t%s\n", r.number, r.workload, r.have, r.unit, r.must, r.aim, verdict)
	}
	w.Flush()
	return good
}

func measure(c cluster.Cluster, rounds int) []row {
	times := func(take func() float64) float64 {
		var list []float64
		for range rounds {
			list = append(list, take())
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	small := c.Scaled(c.Machines / 10)
	large := times(func() float64 { return place(c) })
	dies := times(func() float64 { return die(c) })
	return []row{
		{"S1", fmt.Sprintf("place %d units on %d empty machines", c.Units(), c.Machines), "placements/s", 1 / large, 50_000, 300_000, true},
		{"S2", "a machine dies: its units are decided again, p99", "ms", dies * 1000, 2, 0.2, false},
		{"S4", "a pass when nothing changed", "µs", times(func() float64 { return idle(c) }) * 1e6, 100, 10, false},
		{
			"S5", fmt.Sprintf("one placement of S1, %d machines against %d", c.Machines, small.Machines), "times",
			large / times(func() float64 { return place(small) }), 4, 2, false,
		},
		{
			"S5", fmt.Sprintf("one unit more, %d machines against %d", c.Machines, small.Machines), "times",
			times(func() float64 { return another(c) }) / times(func() float64 { return another(small) }), 4, 2, false,
		},
	}
}

// place is the seconds of one placement.
func place(c cluster.Cluster) float64 {
	s := c.Told()
	runtime.GC()
	start := cpu()
	placed := len(s.Plan())
	if placed != c.Units() {
		panic(fmt.Sprintf("%d of %d units placed", placed, c.Units()))
	}
	return (cpu() - start).Seconds() / float64(placed)
}

// die is the 99th of 100 times that a machine's death takes, by the clock: what the
// collector takes meanwhile counts.
func die(c cluster.Cluster) float64 {
	s := c.Told()
	s.Plan()
	var took []float64
	for i := range min(c.Machines, 1000) {
		m := c.Machine(i)
		start := cpu()
		s.RemoveMachine(m.ID)
		s.Plan()
		took = append(took, (cpu() - start).Seconds())
		s.SetMachine(m)
		s.Plan()
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

func idle(c cluster.Cluster) float64 {
	s := c.Told()
	s.Plan()
	const passes = 10_000
	start := cpu()
	for range passes {
		if len(s.Plan()) > 0 {
			panic("something changed")
		}
	}
	return (cpu() - start).Seconds() / passes
}

// another is the seconds that it takes to be told of one more unit and to place it.
func another(c cluster.Cluster) float64 {
	s := c.Told()
	s.Plan()
	const units = 5_000
	u := c.Unit(1, c.Instances)
	var took time.Duration
	for range units {
		start := cpu()
		s.SetUnit(u)
		if len(s.Plan()) != 1 {
			panic("not placed")
		}
		took += cpu() - start
		s.RemoveUnit(u.Name)
		s.Plan()
	}
	return took.Seconds() / units
}

// cpu is the processor's time of this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
