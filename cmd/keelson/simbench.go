package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/scenarios/chaos"
	"github.com/keelson/keelson/sim"
)

func simBench() *cli.Command {
	return &cli.Command{
		Name:  "bench",
		Usage: "measure the simulator in virtual seconds per second of processor time",
		Flags: []cli.Flag{&cli.IntFlag{Name: "seeds", Usage: "seeds of the swarm that is measured", Value: 200}, &cli.IntFlag{Name: "machines", Usage: "machines of the large world", Value: 1000}, &cli.IntFlag{Name: "units", Usage: "units of the large world", Value: 10000}},
		Action: func(_ context.Context, c *cli.Command) error {
			out := c.Root().Writer
			fmt.Fprintln(out, "| what | figure | goal |\n|---|---|---|")
			const idle = 2000 * time.Second
			cpu := used(func() {
				w := sim.NewCluster(1, 5, sim.ClusterOptions{})
				defer w.Close()
				w.RunFor(idle)
			})
			fmt.Fprintf(out, "| five idle nodes | %.0f virtual s per CPU s | ≥ 2000 |\n", idle.Seconds()/cpu.Seconds())

			var t *chaos.Tally
			var err error
			cpu = used(func() {
				t, err = (&chaos.Swarm{Config: chaos.Config{Seed: 1, Machines: 5, Workloads: small()}, Seeds: c.Int("seeds") / 5, Jobs: 1}).Run()
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "| standard chaos: five nodes, 20 operations/s, all workloads but bulk, proxies and units, drawn faults | %.0f virtual s per CPU s | ≥ 300 |\n", t.Virtual.Seconds()/cpu.Seconds())
			fmt.Fprintf(out, "| the same, events | %.0f per CPU s | ≥ 300000 |\n", float64(t.Steps)/cpu.Seconds())

			const worlds = 100
			cpu = used(func() {
				for seed := range uint64(worlds) {
					sim.NewCluster(seed, 5, sim.ClusterOptions{}).Close()
				}
			})
			fmt.Fprintf(out, "| new world of five nodes | %.2f ms | ≤ 5 ms |\n", cpu.Seconds()*1000/worlds)

			cpu = used(func() { t, err = (&chaos.Swarm{Config: chaos.Config{Seed: 1}, Seeds: c.Int("seeds"), Jobs: 1}).Run() })
			if err != nil {
				return err
			}
			perRun := cpu.Seconds() / float64(t.Runs)
			fmt.Fprintf(out, "| 1,000 seeds of a swarm, %.0f virtual s each | %.0f CPU s | ≤ 200 |\n", t.Virtual.Seconds()/float64(t.Runs), perRun*1000)
			return benchUnits(out, c.Int("machines"), c.Int("units"))
		},
	}
}

// benchUnits measures a world of many machines with many units: from the first start to
// a while after the last, in which some machines die and come back.
func benchUnits(out io.Writer, machines, units int) error {
	s := &chaos.Scale{Machines: machines, Units: units}
	var err error
	cpu := used(func() {
		for _, step := range []func() error{
			func() error { return s.Open(1) }, s.Start, func() error { return s.Run(5 * time.Minute) },
		} {
			if err == nil {
				err = step()
			}
		}
	})
	defer s.Close()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "| %d machines with %d units, started, one in a hundred machines lost and back | %.1f virtual s per CPU s | ≥ 1 |\n", machines, units, s.Virtual().Seconds()/cpu.Seconds())
	return nil
}

// small lists the workloads with small values: bulk measures how fast bytes are
// copied and hashed. Units are measured apart.
func small() []string {
	apart := []string{"bulk", "proxies", "units"}
	return slices.DeleteFunc(chaos.WorkloadNames(), func(name string) bool { return slices.Contains(apart, name) })
}

// used is the processor time that fn takes.
func used(fn func()) time.Duration {
	before := processorTime()
	fn()
	return processorTime() - before
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
