// Package cluster draws up the clusters that the scheduler is measured with.
package cluster

import (
	"fmt"

	"github.com/keelson/keelson/core/sched"
	"github.com/keelson/keelson/core/unit"
)

// Cluster is machines, and templates with some instances each. An instance conflicts with
// its siblings, and every fourth template wants a kind of machine.
type Cluster struct{ Machines, Templates, Instances int }

// Large is the cluster of the stated limits: 10,000 machines and 100,000 units.
var Large = Cluster{10_000, 1_000, 100}

func (c Cluster) String() string {
	return fmt.Sprintf("machines=%d,units=%dx%d", c.Machines, c.Templates, c.Instances)
}

// Units is how many there are.
func (c Cluster) Units() int { return c.Templates * c.Instances }

// Scaled gives a cluster of the same density, of so many machines.
func (c Cluster) Scaled(machines int) Cluster {
	return Cluster{machines, max(c.Templates*machines/c.Machines, 1), c.Instances}
}

// Machine is the machine of a number. The IDs are in another order than the numbers.
func (c Cluster) Machine(i int) sched.Machine {
	return sched.Machine{
		ID:       fmt.Sprintf("%032x", uint64(i)*0x9e3779b97f4a7c15),
		Metadata: map[string]string{"disk": []string{"ssd", "hdd"}[i%2], "zone": fmt.Sprint(i % zones)},
	}
}

const zones = 8

// Unit is an instance of a template.
func (c Cluster) Unit(template, instance int) sched.Unit {
	p := &unit.Placement{Conflicts: []string{fmt.Sprintf("t%d@*.service", template)}}
	if template%4 == 0 {
		p.Metadata = []unit.Condition{
			{Key: "disk", Op: "=", Values: []string{"ssd"}},
			{Key: "zone", Op: "=", Values: []string{fmt.Sprint(template / 4 * 2 % zones)}},
		}
	}
	return sched.Unit{Name: fmt.Sprintf("t%d@%d.service", template, instance), Place: p, State: unit.Launched}
}

// Told gives a picture that was told of the cluster and has planned nothing.
func (c Cluster) Told() *sched.State {
	s := sched.New(sched.Options{})
	for i := range c.Machines {
		s.SetMachine(c.Machine(i))
	}
	for t := range c.Templates {
		for i := range c.Instances {
			s.SetUnit(c.Unit(t, i))
		}
	}
	return s
}
