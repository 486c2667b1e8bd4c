package fault

import (
	"fmt"
	"slices"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/sim"
)

// Runner carries out a plan in a cluster.
type Runner struct {
	c    *sim.Cluster
	base sim.LinkConfig
	disk sim.DiskConfig
	bad  []*Action // the links actions in force
	held []*held
	// downs, dark and quicks count the actions in force that keep a process
	// down, a machine dark, or its restarts quick.
	downs, dark, quicks map[env.NodeID]int
	aways               map[env.NodeID]int // and those that keep a service manager out of reach
	restart             time.Duration
	stallEnds           map[env.NodeID]time.Duration
	ended               bool
	struck              int
	// wishes are the changes of members that were asked for, oldest first.
	wishes   []*wish
	operator *operator
	leaving  map[env.NodeID]bool // members whose removal was asked for
	founders []env.NodeID
	// frail is the machines that the plan damages sooner or later.
	frail map[env.NodeID]bool
	// Removed is the machines that were to leave the cluster.
	Removed map[env.NodeID]bool
	// Rotten is the machines whose durable data was damaged.
	Rotten map[env.NodeID]bool
	// Flipped is the machines in whose memory a value was changed.
	Flipped map[env.NodeID]bool
	// Stalled is the machines whose disk finishes no write, and since when.
	Stalled map[env.NodeID]time.Duration
	// Damaged is those and the machines of which a durable write failed.
	Damaged map[env.NodeID]bool
}

// held is an action in force.
type held struct {
	undo func()
	done bool
}

// Settings is what a cluster is like without trouble, and returns to.
type Settings struct {
	Link    sim.LinkConfig
	Disk    sim.DiskConfig
	Restart time.Duration // of a process that ended
}

// Run schedules every action of p. Those in the past happen now. An action
// whose machines do not exist is passed over.
func (p Plan) Run(c *sim.Cluster, s Settings) *Runner {
	r := &Runner{
		c: c, base: s.Link, disk: s.Disk, restart: s.Restart,
		downs: map[env.NodeID]int{}, dark: map[env.NodeID]int{}, quicks: map[env.NodeID]int{}, aways: map[env.NodeID]int{},
		Stalled: map[env.NodeID]time.Duration{}, stallEnds: map[env.NodeID]time.Duration{},
		Removed: map[env.NodeID]bool{}, leaving: map[env.NodeID]bool{}, frail: map[env.NodeID]bool{},
		Flipped: map[env.NodeID]bool{}, Rotten: map[env.NodeID]bool{}, Damaged: map[env.NodeID]bool{},
	}
	for _, m := range c.Machines() {
		r.founders = append(r.founders, m.ID())
	}
	for i := range p {
		a := &p[i]
		if a.Verb == "rot" || a.Verb == "failsync" || a.Verb == "flip" || a.Verb == "wipe" {
			r.expect(a)
		}
		c.At(a.At, "fault", func() { r.strike(a) })
	}
	return r
}

func (r *Runner) strike(a *Action) {
	if r.ended {
		return
	}
	v, ok := verbOf(a.Verb)
	if !ok || v.check(a) != nil {
		r.c.Fail("plan", "%s: not a legal action", a)
		return
	}
	for _, g := range a.Groups {
		if len(r.who(g)) == 0 && a.Verb != "join" {
			return
		}
	}
	r.c.Note("%s", a.What())
	r.struck++
	undo := v.do(r, a)
	if undo == nil {
		return
	}
	h := &held{undo: undo}
	r.held = append(r.held, h)
	if a.For > 0 {
		r.c.After(a.For, "fault over", func() {
			if h.done {
				return
			}
			h.done = true
			r.c.Note("over: %s", a.What())
			undo()
			r.held = slices.DeleteFunc(r.held, func(o *held) bool { return o == h })
		})
	}
}

// Struck counts the actions that have happened.
func (r *Runner) Struck() int { return r.struck }

// End undoes all that is in force and lets nothing more happen: links and disks
// are as before, every machine has power and a process that runs or restarts.
// Rotten data stays rotten and wall clocks stay where they are.
func (r *Runner) End() {
	r.ended = true
	for _, h := range r.held {
		if !h.done {
			h.done = true
			h.undo()
		}
	}
	r.held = nil
	r.c.Net().HealAll()
	r.c.Net().SetAll(r.base)
	for _, m := range r.c.Machines() {
		m.Resume()
		m.SetSlow(0)
		m.Clock().SetDrift(0)
		m.Disk().Set(r.disk)
		m.Disk().SetCapacity(0)
		m.Disk().Unstall()
		r.endUnits(m)
		m.SetRestart(r.restart)
		m.PowerOn()
	}
}

// down keeps a process down while at least one action wants it so.
func (r *Runner) down(m *sim.Machine, by int) {
	r.downs[m.ID()] += by
	r.setRestart(m)
	if r.downs[m.ID()] == 0 && m.Powered() && !m.Up() {
		m.Start()
	}
}

// keepDown ends a process that came up with the power while an action in force
// wants it down.
func (r *Runner) keepDown(m *sim.Machine) {
	if r.downs[m.ID()] > 0 && m.Up() {
		m.Kill()
	}
}

func (r *Runner) quick(m *sim.Machine, by int) {
	r.quicks[m.ID()] += by
	r.setRestart(m)
}

func (r *Runner) setRestart(m *sim.Machine) {
	switch {
	case r.downs[m.ID()] > 0:
		m.SetRestart(-1)
	case r.quicks[m.ID()] > 0:
		m.SetRestart(time.Millisecond)
	default:
		m.SetRestart(r.restart)
	}
}

// who resolves names. Names that nobody has are passed over, so that a plan can
// be run in a smaller cluster.
func (r *Runner) who(group []string) []*sim.Machine {
	var all []*sim.Machine
	add := func(m *sim.Machine) {
		if m != nil && !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	for _, name := range group {
		switch name {
		case "all":
			for _, m := range r.c.Machines() {
				add(m)
			}
		case "leader":
			add(r.c.Leader())
		case "followers":
			leader := r.c.Leader()
			for _, m := range r.c.Machines() {
				if m != leader {
					add(m)
				}
			}
		default:
			for _, m := range r.c.Machines() {
				if m.Name() == name {
					add(m)
				}
			}
		}
	}
	return all
}

func (p Plan) sort() {
	slices.SortStableFunc(p, func(a, b Action) int {
		switch {
		case a.At < b.At:
			return -1
		case a.At > b.At:
			return 1
		}
		return 0
	})
}

// Check says whether every action is one that Run can carry out.
func (p Plan) Check() error {
	for i, a := range p {
		v, ok := verbOf(a.Verb)
		if !ok {
			return fmt.Errorf("action %d: unknown verb %q", i+1, a.Verb)
		}
		if err := v.check(&p[i]); err != nil {
			return fmt.Errorf("action %d: %w", i+1, err)
		}
	}
	return nil
}
