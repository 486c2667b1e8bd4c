// Package scenarios runs transcripts of commands and disasters against a simulated cluster.
//
// The command lines are those of cmd/cli, run in this process; the disasters are
// those of package sim. A transcript whose outputs differ from what happens is a
// failure, and can be rewritten to what happened.
package scenarios

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/lock"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/scenarios/chaos"
	"github.com/keelson/keelson/scenarios/script"
	"github.com/keelson/keelson/sim"
	"github.com/keelson/keelson/sim/check"
)

var errInUse = errors.New("a daemon uses it: stop it first")

// commandMax bounds one command line in virtual time.
const commandMax = 5 * time.Minute

// Result is how a scenario ended.
type Result struct {
	Hash    uint64        // of the trace
	Virtual time.Duration // how much virtual time passed
	File    *script.File  // with the outputs as they were
	// Err is why the scenario failed: an *script.Error that names the line.
	Err error
}

// Run carries out a scenario. The process must have called sim.Deterministic.
func Run(f *script.File) *Result {
	r := &runner{file: f, jobs: map[string]*job{}, shared: tool.Memory{}}
	defer r.close()
	if err := known(f); err != nil {
		return r.result(err)
	}
	for _, s := range f.Statements() {
		if err := r.statement(s); err != nil {
			return r.result(&script.Error{File: f.Name, Line: s.Line, Err: err})
		}
	}
	return r.result(r.finish())
}

// known finds names that nothing answers to, before anything runs: a mistake in
// the last line should not cost the minutes before it.
func known(f *script.File) error {
	for _, s := range f.Statements() {
		var err error
		switch d := s.Do.(type) {
		case *script.Command:
			if tools[d.Args[0]] == nil {
				err = fmt.Errorf("%s is no command of a scenario: want %s", d.Args[0], strings.Join(slices.Sorted(maps.Keys(tools)), ", "))
			}
		case *script.Workload:
			err = oneOf("workload", d.Name, chaos.WorkloadNames())
		case *script.Fault:
			err = oneOf("family of faults", d.Family, chaos.FamilyNames())
		}
		if err != nil {
			return &script.Error{File: f.Name, Line: s.Line, Err: err}
		}
	}
	return nil
}

func oneOf(what, name string, names []string) error {
	if slices.Contains(names, name) {
		return nil
	}
	return fmt.Errorf("unknown %s %q: want one of %s", what, name, strings.Join(names, ", "))
}

type runner struct {
	file    *script.File
	cluster *sim.Cluster
	cuts    []*sim.Cut
	jobs    map[string]*job // commands in the background, by name
	shared  tool.Memory     // files that all machines see
	last    string          // the last line that a command printed
	said    journal         // what the daemons told operators
	load    *chaos.Load
	rotten  map[env.NodeID]bool // machines whose disks were damaged
	count   int                 // of commands, to name their coroutines
	units   *check.Units        // nil: machines run no units
	ttl     time.Duration       // of machines that run units; 0 is the default
	starts  map[string]int      // of units, by name
}

// job is a command line under way.
type job struct {
	proc   *sim.Proc
	stdout *bytes.Buffer
	stderr *bytes.Buffer
	status int
	shown  int // bytes of stdout shown by earlier reads
}

func (r *runner) result(err error) *Result {
	res := &Result{File: r.file, Err: err}
	if r.cluster != nil {
		res.Hash, res.Virtual = r.cluster.Hash(), r.cluster.Now()
	}
	return res
}

func (r *runner) close() {
	if r.cluster != nil {
		r.cluster.Close()
	}
}

// finish makes the checks of the end: workloads' histories, and no failure of
// the world.
func (r *runner) finish() error {
	last := r.file.Statements()[len(r.file.Statements())-1]
	if err := r.load.Check(); err != nil {
		return &script.Error{File: r.file.Name, Line: last.Line, Err: err}
	}
	return nil
}

func (r *runner) statement(s *script.Statement) error {
	if err := r.do(s); err != nil {
		return err
	}
	if r.cluster != nil {
		if f := r.cluster.Failure(); f != nil {
			return fmt.Errorf("at %v: %w", f.At, f)
		}
	}
	return nil
}

func (r *runner) do(s *script.Statement) error {
	switch d := s.Do.(type) {
	case *script.Cluster:
		return r.start(d)
	case *script.Machine:
		return r.machineMade(d)
	case *script.Restart:
		return r.restart(d)
	case *script.Focus:
		return r.focusOn(d)
	case *script.Zone:
		return r.zone(d)
	case *script.Command:
		return r.command(s, d)
	case *script.Read:
		return r.read(s, d)
	case *script.Power:
		return r.each(d.Who, func(m *sim.Machine) {
			if d.On {
				m.PowerOn()
			} else {
				m.PowerOff()
			}
		})
	case *script.Kill:
		return r.each(d.Who, (*sim.Machine).Kill)
	case *script.Begin:
		return r.each(d.Who, (*sim.Machine).Start)
	case *script.Stop:
		return r.stop(d)
	case *script.Pause:
		return r.each(d.Who, func(m *sim.Machine) { m.Pause(0) })
	case *script.Resume:
		return r.each(d.Who, (*sim.Machine).Resume)
	case *script.Partition:
		return r.partition(d)
	case *script.Cut:
		return r.cut(d)
	case *script.Heal:
		r.heal()
		return nil
	case *script.Advance:
		r.cluster.RunFor(d.For)
		return nil
	case *script.Clock:
		return r.clock(d)
	case *script.Memory:
		return r.memory(d)
	case *script.Disk:
		return r.disk(d)
	case *script.Workers:
		return r.workers(d)
	case *script.UnitFile:
		return r.unitFile(d)
	case *script.Manager:
		return r.manager(d)
	case *script.Reboot:
		return r.each(d.Who, func(m *sim.Machine) { m.Reboot(d.For) })
	case *script.Links:
		return r.links(d)
	case *script.Crash:
		return r.crash(d)
	case *script.Until:
		return r.until(d)
	case *script.Expect:
		if !r.holds(d.Condition) {
			return fmt.Errorf("does not hold%s", r.picture())
		}
		return nil
	case *script.Always:
		r.always(s, d)
		return nil
	case *script.Workload:
		return r.load.Start(d.Name, d.Clients, d.For)
	case *script.Fault:
		return r.load.Fault(d.Family, d.For)
	}
	return fmt.Errorf("nobody carries out %T", s.Do)
}

func (r *runner) start(d *script.Cluster) error {
	var entries uint64
	if v, ok := d.Options["snapshot-entries"]; ok {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return err
		}
		entries = n
	}
	r.cluster = sim.NewCluster(d.Seed, d.Machines, sim.ClusterOptions{
		Options: sim.Options{NoRare: true, Log: &r.said, LogLevel: env.Info},
		Restart: -1, // a scenario says itself when a daemon starts
		Units:   r.runsUnits(d.Options),
		Config: func(_ *sim.Machine, c *node.Config) {
			c.ReadDefaultLocal = d.Options["read-default"] == "local"
			if entries > 0 {
				c.SnapshotEntries, c.TailEntries = entries, entries/2
			}
		},
	})
	r.watch()
	r.watchUnits(d.Options)
	if d.Machines == 0 {
		return nil
	}
	if r.cluster.AwaitLeader(script.UntilDefault) == nil {
		return fmt.Errorf("no leader within %v%s", script.UntilDefault, r.picture())
	}
	if !r.cluster.RunTill(script.UntilDefault, r.published) {
		return fmt.Errorf("not every machine is known to clients within %v%s", script.UntilDefault, r.picture())
	}
	return nil
}

// published says that every machine knows where clients reach every other.
func (r *runner) published() bool {
	for _, n := range r.running() {
		for _, m := range n.Info().Members {
			if len(m.ClientURLs) == 0 {
				return false
			}
		}
	}
	return true
}

// machines resolves the names of a statement.
func (r *runner) machines(names []string) ([]*sim.Machine, error) {
	var list []*sim.Machine
	for _, n := range names {
		if n == "all" {
			list = append(list, r.cluster.Machines()...)
			continue
		}
		m, err := r.machine(n)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

func (r *runner) machine(name string) (*sim.Machine, error) {
	leader := r.cluster.Leader()
	for _, m := range r.cluster.Machines() {
		switch {
		case name == m.Name(), name == "leader" && m == leader, name == "follower" && leader != nil && m != leader && m.Up():
			return m, nil
		}
	}
	return nil, fmt.Errorf("there is no %s now%s", name, r.picture())
}

func (r *runner) each(names []string, fn func(*sim.Machine)) error {
	list, err := r.machines(names)
	if err != nil {
		return err
	}
	for _, m := range list {
		fn(m)
	}
	return nil
}

// stopGrace is how long an orderly stop may take before the process is killed.
const stopGrace = 30 * time.Second

func (r *runner) stop(d *script.Stop) error {
	list, err := r.machines(d.Who)
	if err != nil {
		return err
	}
	for _, m := range list {
		m.Stop(stopGrace)
	}
	for _, m := range list {
		if !r.cluster.RunTill(stopGrace, func() bool { return !m.Up() }) {
			return fmt.Errorf("%s did not stop within %v", m.Name(), stopGrace)
		}
	}
	return nil
}

func (r *runner) partition(d *script.Partition) error {
	var groups [][]env.NodeID
	for _, g := range d.Groups {
		list, err := r.machines(g)
		if err != nil {
			return err
		}
		var ids []env.NodeID
		for _, m := range list {
			ids = append(ids, m.ID())
		}
		groups = append(groups, ids)
	}
	r.cuts = append(r.cuts, r.cluster.Net().Partition(groups...))
	return nil
}

func (r *runner) cut(d *script.Cut) error {
	list, err := r.machines([]string{d.From, d.To})
	if err != nil {
		return err
	}
	r.cuts = append(r.cuts, r.cluster.Net().CutOneWay([]env.NodeID{list[0].ID()}, []env.NodeID{list[1].ID()}))
	return nil
}

func (r *runner) heal() {
	for _, c := range r.cuts {
		c.Heal()
	}
	r.cuts = nil
	r.cluster.Net().HealAll()
	r.cluster.Net().SetAll(sim.DefaultLink())
}

func (r *runner) clock(d *script.Clock) error {
	m, err := r.machine(d.Who)
	if err != nil {
		return err
	}
	if d.Jump != 0 {
		m.Clock().Jump(d.Jump)
	} else {
		m.Clock().SetDrift(int64(d.Drift))
	}
	return nil
}

func (r *runner) memory(d *script.Memory) error {
	m, err := r.machine(d.Who)
	if err != nil {
		return err
	}
	n := sim.NodeOf(m)
	if n == nil || !n.Store().Rot(d.Key) {
		return fmt.Errorf("%s holds no value at %s", m.Name(), d.Key)
	}
	r.load.Flips[m.ID()] = true
	return nil
}

func (r *runner) disk(d *script.Disk) error {
	m, err := r.machine(d.Who)
	if err != nil {
		return err
	}
	disk := m.Disk()
	if d.What == "wipe" && m.Up() {
		return fmt.Errorf("the daemon of %s uses its disk: stop it or cut its power first", m.Name())
	}
	switch d.What {
	case "stall":
		disk.Stall(d.Value)
	case "slow":
		c := disk.Config()
		c.Sync = d.Value
		disk.Set(c)
	case "full":
		disk.SetCapacity(max(1, disk.Used()))
	case "room":
		disk.SetCapacity(0)
	case "sync-error":
		r.damage(m)
		disk.FailSync()
	case "wipe":
		r.damage(m)
		disk.Wipe()
	case "rot":
		r.damage(m)
		return rot(disk)
	}
	return nil
}

// rot damages the middle of the oldest part of the log: what follows it proves
// that it was whole once.
func rot(d *sim.Disk) error {
	for _, name := range d.Files() {
		if content := bytes.TrimRight(d.Content(name), "\x00"); strings.HasPrefix(name, "member/wal-") && len(content) > 1024 {
			if d.RotAt(name, len(content)/2) {
				return nil
			}
		}
	}
	return fmt.Errorf("the disk holds no log that is long enough to rot in the middle")
}

func (r *runner) until(d *script.Until) error {
	if r.cluster.RunTill(d.Within, func() bool { return r.holds(d.Condition) }) {
		return nil
	}
	return fmt.Errorf("does not hold within %v%s", d.Within, r.picture())
}

func (r *runner) always(s *script.Statement, d *script.Always) {
	r.cluster.OnTurn(func(*sim.Machine) {
		if !r.holds(d.Condition) {
			r.cluster.Fail(s.Text, "%s:%d: %s%s", r.file.Name, s.Line, s.Text, r.picture())
		}
	})
}

// running gives the nodes that run, in the order of their machines.
func (r *runner) running() []*node.Node {
	var list []*node.Node
	for _, m := range r.cluster.Nodes() {
		list = append(list, sim.NodeOf(m))
	}
	return list
}

// leading is the node that leads a majority, or nil: one that others which run
// agree on.
func (r *runner) leading() *node.Node {
	votes := map[env.NodeID]int{}
	for _, n := range r.running() {
		votes[n.Status().Leader]++
	}
	for _, n := range r.running() {
		s := n.Status()
		if s.Leader == s.ID && 2*votes[s.ID] > len(s.Voters) && !r.cluster.ByMember(s.ID).Paused() {
			return n
		}
	}
	return nil
}

func (r *runner) holds(c script.Condition) bool {
	switch c.What {
	case "leader":
		return r.leading() != nil
	case "no-leader":
		return r.leading() == nil
	case "leads":
		n := r.leading()
		return n != nil && r.cluster.ByMember(n.ID()).Name() == c.Who
	case "up", "down":
		m, err := r.machine(c.Who)
		return err == nil && m.Up() == (c.What == "up")
	case "converged":
		return r.converged()
	case "caught-up":
		return r.caughtUp(c.Who)
	case "key":
		v, ok := r.value(c.Key)
		return ok && v == c.Value
	case "no-key":
		n := r.leading()
		if n == nil {
			return false
		}
		_, err := n.View().Get(c.Key, false)
		return err != nil && err.Code == store.CodeKeyNotFound
	case "holders":
		return r.holders(c.Max)
	case "holds":
		return r.holder(c.Who)
	case "is":
		return r.role(c.Who, c.Value)
	case "refuses":
		return r.refuses(c.Who, c.Value)
	case "says":
		return r.said.has(c.Who, c.Value)
	case "members":
		n := r.leading()
		return n != nil && len(n.Status().Voters) == c.Max
	case "workload-done":
		return r.load.Done()
	}
	return r.unitsHold(c)
}

func (r *runner) value(key string) (string, bool) {
	n := r.leading()
	if n == nil {
		return "", false
	}
	got, err := n.View().Get(key, false)
	if err != nil || got.Dir {
		return "", false
	}
	return got.Value, true
}

func (r *runner) converged() bool {
	list := r.running()
	for _, n := range list {
		if n.Status().Applied != list[0].Status().Applied || n.View().Hash() != list[0].View().Hash() {
			return false
		}
	}
	return len(list) > 0
}

func (r *runner) caughtUp(name string) bool {
	leader := r.leading()
	m, err := r.machine(name)
	if leader == nil || err != nil || !m.Up() {
		return false
	}
	if d := sim.DaemonOf(m); d != nil && d.Mirror() != nil {
		return d.Mirror().Synced() && d.View().Index() >= leader.View().Index()
	}
	n := sim.NodeOf(m)
	return n != nil && n.Status().Applied >= leader.Status().Applied && n.Status().Term == leader.Status().Term
}

func (r *runner) semaphore(n *node.Node) (*lock.Semaphore, bool) {
	got, err := n.View().Get(lock.Key(""), false)
	if err != nil {
		return nil, false
	}
	s, perr := lock.Parse([]byte(got.Value))
	return &s, perr == nil
}

func (r *runner) holders(most int) bool {
	for _, n := range r.running() {
		if s, ok := r.semaphore(n); ok && len(s.Holders) > most {
			return false
		}
	}
	return true
}

func (r *runner) holder(name string) bool {
	n := r.leading()
	if n == nil {
		return false
	}
	s, ok := r.semaphore(n)
	for _, h := range s.Holders {
		if ok && h == name {
			return true
		}
	}
	return false
}

// picture describes the machines, for the message of a failure.
func (r *runner) picture() string {
	var b strings.Builder
	fmt.Fprintf(&b, " at %v:", r.cluster.Now())
	for _, m := range r.cluster.Machines() {
		n := sim.NodeOf(m)
		switch {
		case !m.Powered():
			fmt.Fprintf(&b, " %s is off;", m.Name())
		case !m.Up():
			fmt.Fprintf(&b, " %s is down%s;", m.Name(), lastExit(m))
		case n == nil:
			fmt.Fprintf(&b, " %s is no member%s;", m.Name(), waits(m))
		default:
			s := n.Status()
			fmt.Fprintf(&b, " %s follows %s in term %d, applied %d;", m.Name(), r.nameOf(s.Leader), s.Term, s.Applied)
		}
	}
	return strings.TrimSuffix(b.String(), ";")
}

// waits says what keeps a daemon from being something.
func waits(m *sim.Machine) string {
	if d := sim.DaemonOf(m); d != nil && d.Waiting() != "" {
		return " yet: " + d.Waiting()
	}
	return ""
}

// nameOf is the machine of a member, or its ID.
func (r *runner) nameOf(id env.NodeID) string {
	if m := r.cluster.ByMember(id); m != nil {
		return m.Name()
	}
	return id.String()
}

func lastExit(m *sim.Machine) string {
	exits := m.Exits()
	if len(exits) == 0 {
		return ""
	}
	last := exits[len(exits)-1]
	if last.Err != nil {
		return fmt.Sprintf(" (%s: %v)", last.Why, last.Err)
	}
	return " (" + last.Why + ")"
}
