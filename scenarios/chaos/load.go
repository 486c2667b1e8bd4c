package chaos

import (
	"fmt"
	"time"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/linearizability"
	"github.com/keelson/keelson/sim"
	"github.com/keelson/keelson/sim/check"
	"github.com/keelson/keelson/sim/fault"
)

// Load is workloads and faults in a cluster that somebody else steps, under the
// oracles that look after every turn.
type Load struct {
	run     *run
	recs    map[uint64]*linearizability.Recorder // by cluster
	benches []*bench
	faults  []*fault.Runner
	// Flips is the machines in whose memory the caller has changed a value.
	Flips   map[env.NodeID]bool
	clients int // of Doer; they count down from -2, workloads' clients up from 1
}

// Attach puts a cluster under the oracles. Damaged says which machines' disks
// the caller has damaged.
func Attach(c *sim.Cluster, damaged func(env.NodeID) bool) *Load {
	s := &settings{patience: 3 * time.Second, link: sim.DefaultLink(), disk: sim.DefaultDisk(), restart: -1}
	s.Seed, s.Machines = c.Seed(), len(c.Machines())
	for _, m := range c.Machines() {
		s.names = append(s.names, m.Name())
	}
	l := &Load{run: &run{settings: s, c: c}, recs: map[uint64]*linearizability.Recorder{}, Flips: map[env.NodeID]bool{}}
	l.run.always = check.Watch(c, check.Options{
		Applied: func(m *sim.Machine, e *store.Event) string { return l.of(c.ClusterOf(m)).Applied(m.Name(), e) },
		Damaged: func(id env.NodeID) bool { return damaged(id) || l.damaged(id) },
		Flipped: l.flipped,
		Removed: func(id env.NodeID) bool { return !c.IsMember(c.Machine(id)) },
	})
	return l
}

// of gives the recorder of a cluster.
func (l *Load) of(cluster uint64) *linearizability.Recorder {
	rec := l.recs[cluster]
	if rec == nil {
		rec = linearizability.NewRecorder(func() int64 { return int64(l.run.c.Now()) })
		l.recs[cluster] = rec
	}
	return rec
}

func (l *Load) damaged(id env.NodeID) bool {
	for _, f := range l.faults {
		if f.Damaged[id] {
			return true
		}
	}
	return false
}

func (l *Load) flipped(id env.NodeID) bool {
	for _, f := range l.faults {
		if len(f.Flipped) > 0 {
			return true
		}
	}
	return l.Flips[id]
}

// perClient is how many operations in a second each client of Start makes.
const perClient = 4

// Start lets clients of a workload work for d, beside everything else.
func (l *Load) Start(name string, clients int, d time.Duration) error {
	for _, w := range Workloads() {
		if w.Name != name {
			continue
		}
		s := *l.run.settings
		s.clients, s.loads, s.Rate = clients, []Workload{w}, perClient*float64(clients)
		l.run.rec = l.of(l.run.c.Focused())
		r := *l.run
		r.settings = &s
		b := newBench(&r)
		if n := len(l.benches); n > 0 { // values and clients are never used twice
			b.serial, b.ids = l.benches[n-1].serial+1_000_000, l.benches[n-1].ids+1_000
		}
		l.benches = append(l.benches, b)
		b.start()
		l.run.c.After(d, "workload over", func() {
			b.stop, b.calm = true, true
			b.live()
		})
		return nil
	}
	return fmt.Errorf("unknown workload %q: want one of %v", name, WorkloadNames())
}

// Fault lets a family of trouble strike for d. At the end everything that it did
// is undone, and every machine runs.
func (l *Load) Fault(family string, d time.Duration) error {
	f, ok := fault.Named(family)
	if !ok {
		return fmt.Errorf("unknown family of faults %q: want one of %v", family, FamilyNames())
	}
	c := l.run.c
	plan := fault.Draw(c.Seed(), fault.Shape{Machines: l.run.names, From: c.Now(), Until: c.Now() + d}, []fault.Family{f})
	r := plan.Run(c, fault.Settings{Link: l.run.link, Disk: l.run.disk, Restart: -1})
	l.faults = append(l.faults, r)
	c.After(d, "faults over", r.End)
	return nil
}

// Done says that every client has finished.
func (l *Load) Done() bool {
	for _, b := range l.benches {
		if b.working() != "" {
			return false
		}
		for _, p := range b.readers {
			if !p.Done() {
				return false
			}
		}
	}
	return true
}

// Check reads everything once more and holds the whole history to the promises.
// It needs a cluster with a leader. Workloads in several clusters are not provided for.
func (l *Load) Check() error {
	if len(l.benches) == 0 {
		return nil
	}
	if !l.Done() {
		return fmt.Errorf("a workload is still running: let it end with \"until workload done\"")
	}
	l.run.peace = l.run.c.Now()
	if l.run.read() {
		l.run.check()
	}
	if f := l.run.c.Failure(); f != nil {
		return f
	}
	return nil
}

// WorkloadNames lists the workloads.
func WorkloadNames() []string {
	var names []string
	for _, w := range Workloads() {
		names = append(names, w.Name)
	}
	return names
}

// FamilyNames lists the families of faults.
func FamilyNames() []string {
	var names []string
	for _, f := range fault.Families() {
		names = append(names, f.Name)
	}
	return names
}

// Doer records what a client asks through p, so that the history holds it to
// account together with the workloads.
func (l *Load) Doer(p *sim.Proc) client.Doer {
	l.clients++
	return l.of(l.run.c.Focused()).Doer(-1-l.clients, p)
}
