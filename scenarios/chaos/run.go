package chaos

import (
	"fmt"
	"slices"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/linearizability"
	"github.com/keelson/keelson/sim"
	"github.com/keelson/keelson/sim/check"
	"github.com/keelson/keelson/sim/fault"
)

// Verdict is how a run ended.
type Verdict struct {
	Seed uint64
	// Failure is the first broken promise, nil if there was none.
	Failure   *sim.Failure
	Hash      uint64            // of the trace
	Draws     map[string]uint64 // of each random stream
	Virtual   time.Duration
	Real      time.Duration // process time that one goroutine took, by the wall
	Steps     uint64        // events of the world
	StepsMost uint64        // in one virtual second
	Leaders   int           // terms with a leader
	Struck    int           // actions of the plan that happened
	Config    Config        // with everything that was drawn filled in
	Report    *linearizability.Report
	History   *linearizability.History
	Rare      sim.RareReport
	Recent    []sim.Event // the last events, kept only if the run failed
	Replay    string      // the file of the case, if it was read from one
}

// OK says that no promise was broken.
func (v *Verdict) OK() bool { return v.Failure == nil }

// Signature is equal for two verdicts that probably have one cause.
func (v *Verdict) Signature() string {
	switch {
	case v.Failure == nil:
		return ""
	case v.Failure.Oracle == "panic":
		return v.Failure.Signature()
	}
	return v.Failure.Oracle
}

// Case gives what repeats the run without the generator.
func (v *Verdict) Case() Case { return Case{v.Config} }

// run is a run under way.
type run struct {
	*settings
	c      *sim.Cluster
	faults *fault.Runner
	always *check.Always
	rec    *linearizability.Recorder
	bench  *bench
	units  *check.Units // nil: machines run no units
	peace  time.Duration
	report *linearizability.Report
}

// Run carries out one run. The process must have called sim.Deterministic. An
// error is about the configuration.
func Run(c Config) (*Verdict, error) {
	s, err := c.settle()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	r := &run{settings: s}
	defer r.close()
	r.open()
	if r.trouble() {
		r.calm()
	}
	return r.verdict(time.Since(began)), nil
}

func (r *run) open() {
	o := sim.ClusterOptions{
		Options: sim.Options{Link: r.link, Disk: r.disk, Trace: r.Trace, Log: r.Log, LogLevel: r.LogLevel, NoRare: r.NoRare, TraceRing: 2048},
		Restart: r.restart, Config: r.node, Off: r.forms(),
	}
	if r.fleet != nil {
		o.Units = r.fleet.config
	}
	r.c = sim.NewCluster(r.Seed, r.Machines, o)
	if r.forms() {
		late := purpose(r.Seed, "power on")
		for _, m := range r.c.Machines() {
			r.c.At(time.Duration(late.Int64N(int64(powerOnMax))), "power on", m.PowerOn)
		}
	}
	if r.onEvent != nil {
		r.c.OnEvent(r.onEvent)
	}
	r.rec = linearizability.NewRecorder(func() int64 { return int64(r.c.Now()) })
	r.faults = r.Plan.Run(r.c, fault.Settings{Link: r.link, Disk: r.disk, Restart: r.restart})
	r.always = check.Watch(r.c, check.Options{
		Applied: func(m *sim.Machine, e *store.Event) string {
			if !r.c.Inside(m) {
				return ""
			}
			return r.rec.Applied(m.Name(), e)
		},
		Damaged: func(id env.NodeID) bool { return r.faults.Damaged[id] },
		Rotten:  func(id env.NodeID) bool { return r.faults.Rotten[id] },
		Flipped: func(env.NodeID) bool { return len(r.faults.Flipped) > 0 },
		Removed: func(id env.NodeID) bool { return r.faults.Removed[id] },
		Stalled: func(id env.NodeID) (time.Duration, bool) {
			since, on := r.faults.Stalled[id]
			return since, on
		},
		FlightMax: r.link.Buffer,
	})
	if r.fleet != nil {
		r.units = check.WatchUnits(r.c, check.UnitsOptions{TTL: r.fleet.ttl})
	}
	r.bench = newBench(r)
}

func (r *run) close() { r.c.Close() }

// trouble is the first half; false if a promise was broken.
func (r *run) trouble() bool {
	r.bench.start()
	return r.c.RunUntil(r.Duration)
}

// calmWork is how long clients go on when trouble has ended.
const calmWork = 3 * time.Second

// calm is the second half: everything must come right.
func (r *run) calm() {
	r.faults.End()
	r.c.SetRare(false)
	r.bench.calm = true
	r.c.Note("calm")
	var bounds check.Bounds
	if !check.Lead(r.c, bounds) || !check.Departed(r.c, bounds) {
		return
	}
	r.endRemoved()
	if !r.c.RunFor(calmWork) {
		return
	}
	r.bench.stop = true
	r.peace = r.c.Now()
	r.endStrangers()
	if !check.Answered(r.c, bounds, r.bench.working) {
		return
	}
	if !r.settle(bounds) {
		return
	}
	if !check.Expired(r.c, bounds, r.core, r.bench.ttlMost) || !check.Equal(r.c, bounds, r.core, len(r.faults.Flipped) > 0) || !check.Synced(r.c) {
		return
	}
	if r.read() && r.watchesCatchUp() {
		r.check()
	}
}

// endRemoved switches off the machines that were taken out, as an operator does:
// what they still show is history.
func (r *run) endRemoved() {
	for _, m := range r.c.Machines() {
		if r.faults.Removed[m.ID()] && !r.c.IsMember(m) {
			m.SetRestart(-1)
			m.Kill()
		}
	}
}

// endStrangers switches off the machines that nobody gave a place in the cluster. They
// ask for one as long as they run, several times in a second, and each question waits
// at a member for the leader: with many of them some request always waits, none long.
func (r *run) endStrangers() {
	for _, m := range r.c.Machines() {
		if r.c.MemberOf(m) == 0 && !slices.Contains(r.bench.proxies, m) && !slices.Contains(r.bench.workers, m) {
			m.SetRestart(-1)
			m.Kill()
		}
	}
}

// core leaves out machines that are no members and those that are down since the
// plan damaged their disks.
func (r *run) core(m *sim.Machine) bool {
	return r.c.IsMember(m) && (!r.faults.Damaged[m.ID()] || sim.NodeOf(m) != nil)
}

// read has a client list everything at every machine that is up: what was
// acknowledged must be there.
func (r *run) read() bool {
	p := r.c.Spawn("last reader", func(p *sim.Proc) {
		for _, m := range r.c.Machines() {
			if sim.NodeOf(m) == nil || !r.c.IsMember(m) {
				continue
			}
			in := linearizability.Input{Kind: linearizability.Get, Key: "/", Recursive: true}
			if _, err := r.rec.Do(p.Context(), p, -1, m.URL(), in, 0); err != nil {
				r.c.Fail(check.Liveness, "last read at %s: %v", m.Name(), err)
			}
		}
	})
	if !r.c.Await(p, 30*time.Second) && r.c.Failure() == nil {
		r.c.Fail(check.Liveness, "last reads take more than 30 s in calm")
	}
	return r.c.Failure() == nil
}

// notice is how long a client may need to notice that the other end of its
// connection is gone, and to ask again.
const notice = 20 * time.Second

// A reader that is far behind and polls over slow links gets on by one change a
// round trip. It is waited for as long as somebody gets on, which is bounded,
// because nothing changes any more.
const (
	gettingOn    = 3 * time.Second
	gettingOnMax = 5 * time.Minute
)

func (r *run) watchesCatchUp() bool {
	if !r.bench.watching() {
		return true
	}
	r.endRemoved()
	if !r.c.RunFor(notice - gettingOn) {
		return false
	}
	for end := r.c.Now() + gettingOnMax; ; {
		before := r.bench.delivered
		if !r.c.RunFor(gettingOn) {
			return false
		}
		if r.bench.delivered == before || r.c.Now() > end {
			break
		}
	}
	r.bench.live()
	return true
}

func (r *run) check() {
	h := r.rec.History()
	if n := len(h.Log); n > 0 {
		h.Final = h.Log[n-1].Index
	}
	r.report = linearizability.Check(h, linearizability.Options{
		DriftPPM: r.driftPPM(), LateMax: 3 * time.Second, PeaceFrom: int64(r.peace),
	})
	if !r.report.OK() {
		v := r.report.Violations[0]
		r.c.Fail(string(v.Oracle), "%s", v.Detail)
	}
}

func (r *run) verdict(real time.Duration) *Verdict {
	v := &Verdict{
		Seed: r.Seed, Failure: r.c.Failure(), Hash: r.c.Hash(), Draws: r.c.Draws(),
		Virtual: r.c.Now(), Real: real, Steps: r.c.Steps(), StepsMost: r.always.StepsMost,
		Leaders: r.always.Leaders, Struck: r.faults.Struck(),
		Config: r.Config, Report: r.report, History: r.rec.History(), Rare: r.c.RareReport(),
	}
	v.Config.HasPlan = true
	if v.Failure != nil {
		v.Recent = r.c.Recent()
	}
	return v
}

// String gives the verdict in a few lines, the seed first.
func (v *Verdict) String() string {
	s := fmt.Sprintf("seed %d: %d machines, workloads %v, families %v, %d of %d faults struck, %d leaders\n",
		v.Seed, v.Config.Machines, v.Config.Workloads, v.Config.Families, v.Struck, len(v.Config.Plan), v.Leaders)
	if v.Report != nil {
		s += fmt.Sprintf("%d operations, %d of unknown outcome, %d changes, %d watches, %d keys to porcupine, %d undecided\n",
			v.Report.Ops, v.Report.Unknown, v.Report.Changes, v.Report.Watches, v.Report.Keys, v.Report.KeysUndecided)
	}
	s += fmt.Sprintf("%v virtual in %v, %d events\n", v.Virtual.Round(time.Millisecond), v.Real.Round(time.Millisecond), v.Steps)
	if v.Failure != nil {
		return s + fmt.Sprintf("FAILED at %v: %v\ntrace hash %016x\n", v.Failure.At, v.Failure, v.Hash)
	}
	return s + fmt.Sprintf("passed\ntrace hash %016x\n", v.Hash)
}
