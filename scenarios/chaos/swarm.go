package chaos

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/keelson/keelson/sim"
	"github.com/keelson/keelson/sim/fault"
)

// Swarm is many runs, each from a seed of its own, side by side.
type Swarm struct {
	Config               // what all runs share; Seed is that of the first
	Seeds  int           // how many, counting up from Config.Seed
	Time   time.Duration // no run begins after this much real time; 0: no limit
	Jobs   int           // at once; 1 if 0
	Twice  bool          // run each seed a second time and compare
	// FailuresMax ends the swarm after so many different failures; 0: never.
	FailuresMax int
	// Progress, if not nil, is called after each run, never twice at once.
	Progress func(v *Verdict, t *Tally)
}

// Tally sums up the runs of a swarm.
type Tally struct {
	Runs, Failed int
	Virtual      time.Duration
	Busy         time.Duration // real time of all runs, added up
	Elapsed      time.Duration
	Steps        uint64
	Ops, Unknown int
	Changes      int
	Watches      int
	Leaders      int
	Struck       int
	Keys         int // given to porcupine
	Undecided    int // of those
	// First holds the first verdict of each signature, Count how often it came.
	First map[string]*Verdict
	Count map[string]int
	Rare  sim.RareReport
}

// Signatures lists the kinds of failures, sorted.
func (t *Tally) Signatures() []string { return slices.Sorted(maps.Keys(t.Count)) }

func (t *Tally) add(v *Verdict) {
	t.Runs++
	t.Virtual += v.Virtual
	t.Busy += v.Real
	t.Steps += v.Steps
	t.Leaders += v.Leaders
	t.Struck += v.Struck
	if r := v.Report; r != nil {
		t.Ops += r.Ops
		t.Unknown += r.Unknown
		t.Changes += r.Changes
		t.Watches += r.Watches
		t.Keys += r.Keys
		t.Undecided += r.KeysUndecided
	}
	t.Rare.Add(v.Rare)
	if v.OK() {
		return
	}
	t.Failed++
	sig := v.Signature()
	t.Count[sig]++
	if t.Count[sig] == 1 {
		t.First[sig] = v
	}
}

// Run carries out the swarm. An error is about the configuration.
func (s *Swarm) Run() (*Tally, error) {
	if _, err := s.Config.settle(); err != nil {
		return nil, err
	}
	w := &swarming{Swarm: s, began: time.Now(), tally: &Tally{First: map[string]*Verdict{}, Count: map[string]int{}}}
	var all sync.WaitGroup
	for range max(1, s.Jobs) {
		all.Go(w.work)
	}
	all.Wait()
	w.tally.Elapsed = time.Since(w.began)
	return w.tally, w.err
}

// swarming is a swarm under way.
type swarming struct {
	*Swarm
	began time.Time
	mu    sync.Mutex
	next  int
	tally *Tally
	err   error
}

func (w *swarming) work() {
	for {
		c, ok := w.take()
		if !ok {
			return
		}
		v, err := w.one(c)
		w.finish(v, err)
	}
}

func (w *swarming) take() (Config, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next >= w.Seeds || w.err != nil || w.Time > 0 && time.Since(w.began) > w.Time ||
		w.FailuresMax > 0 && len(w.tally.Count) >= w.FailuresMax {
		return Config{}, false
	}
	c := w.Config
	c.Seed += uint64(w.next)
	w.next++
	return c, true
}

func (w *swarming) one(c Config) (*Verdict, error) {
	v, err := Run(c)
	if err != nil || !w.Twice || v.Failure != nil {
		return v, err
	}
	again, err := Run(c)
	if err == nil {
		v.compare(again, c)
	}
	return v, err
}

// Nondeterminism is the oracle of two runs of one seed that differ.
const Nondeterminism = "determinism"

// compare fails v if a second run of its seed went otherwise.
func (v *Verdict) compare(again *Verdict, c Config) {
	if v.Hash == again.Hash && maps.Equal(v.Draws, again.Draws) && v.Steps == again.Steps {
		return
	}
	v.Failure = &sim.Failure{Oracle: Nondeterminism, Message: fmt.Sprintf(
		"two runs of seed %d differ: trace hash %016x and %016x, %d and %d events\n%s", v.Seed, v.Hash, again.Hash, v.Steps, again.Steps, divergence(c))}
}

// divergence runs c twice more and tells the first event in which those two runs
// differ.
func divergence(c Config) string {
	var first []sim.Event
	c.Trace, c.Log = nil, nil
	c.onEvent = func(e sim.Event) { first = append(first, e) }
	if _, err := Run(c); err != nil {
		return err.Error()
	}
	n, text := 0, ""
	c.onEvent = func(e sim.Event) {
		switch {
		case text != "":
		case n >= len(first):
			text = fmt.Sprintf("one run ends where the other goes on: %v", e)
		case first[n] != e:
			text = fmt.Sprintf("the first event that differs is number %d:\n  %v\n  %v", n+1, first[n], e)
			if n > 0 {
				text += fmt.Sprintf("\nafter\n  %v", first[n-1])
			}
		}
		n++
	}
	if _, err := Run(c); err != nil {
		return err.Error()
	}
	switch {
	case text != "":
		return text
	case n < len(first):
		return fmt.Sprintf("one run ends where the other goes on: %v", first[n])
	}
	return "a third and a fourth run are equal: the difference does not come every time, or in nothing but random draws"
}

func (w *swarming) finish(v *Verdict, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.err = err
		return
	}
	w.tally.add(v)
	w.tally.Elapsed = time.Since(w.began)
	if w.Progress != nil {
		w.Progress(v, w.tally)
	}
	if w.tally.First[v.Signature()] != v {
		v.History, v.Recent = nil, nil
	}
}

// Shrinking is what Shrink reports on its way.
type Shrinking struct {
	Tries, Actions, Workloads int
}

// Shrink looks for a small case that fails with the same signature as v. It
// drops workloads, then faults, then time, and takes at most limit of real time.
// It returns the smallest found, with its verdict.
func Shrink(v *Verdict, limit time.Duration, progress func(Shrinking)) (*Verdict, error) {
	s := &shrinking{best: v, want: v.Signature(), end: time.Now().Add(limit), progress: progress}
	s.hasten()
	s.fewerWorkloads()
	for before := -1; before != s.tries && s.err == nil && time.Now().Before(s.end); {
		before = s.tries
		size := s.size()
		s.fewerFaults()
		s.hasten()
		s.fewerWorkloads()
		s.slower()
		if s.size() == size {
			break
		}
	}
	return s.best, s.err
}

type shrinking struct {
	best     *Verdict
	want     string
	end      time.Time
	tries    int
	err      error
	progress func(Shrinking)
}

func (s *shrinking) size() string { return s.best.Case().String() }

// try keeps a configuration that fails in the same way.
func (s *shrinking) try(c Config) bool {
	if s.err != nil || time.Now().After(s.end) {
		return false
	}
	s.tries++
	v, err := Run(c)
	if err != nil {
		s.err = err
		return false
	}
	if v.Signature() != s.want {
		return false
	}
	s.best = v
	if s.progress != nil {
		s.progress(Shrinking{s.tries, len(v.Config.Plan), len(v.Config.Workloads)})
	}
	return true
}

func (s *shrinking) fewerWorkloads() {
	for i := len(s.best.Config.Workloads) - 1; i >= 0 && len(s.best.Config.Workloads) > 1; i-- {
		c := s.best.Config
		c.Workloads = slices.Delete(slices.Clone(c.Workloads), i, i+1)
		s.try(c)
	}
}

func (s *shrinking) fewerFaults() {
	s.best.Config.Plan.Shrink(100_000, func(p fault.Plan) bool {
		c := s.best.Config
		c.Plan = p
		return s.try(c)
	})
}

// hasten ends trouble soon after the last fault, or earlier.
func (s *shrinking) hasten() {
	for {
		c := s.best.Config
		c.Duration = (c.Duration * 3 / 4).Round(time.Millisecond)
		c.Plan = slices.DeleteFunc(slices.Clone(c.Plan), func(a fault.Action) bool { return a.At >= c.Duration })
		if c.Duration < time.Second || !s.try(c) {
			return
		}
	}
}

func (s *shrinking) slower() {
	for s.best.Config.Rate > 1 {
		c := s.best.Config
		c.Rate /= 2
		if !s.try(c) {
			return
		}
	}
}
