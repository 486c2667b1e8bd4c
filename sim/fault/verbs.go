package fault

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/sim"
)

// verb is one line of the table of what can happen. Parsing, checking, help and
// carrying out go by it.
type verb struct {
	name   string
	doc    string
	groups [2]int // least and most groups
	arrow  bool
	args   []param
	lasts  bool // "for" is allowed
	// do does it and returns what undoes it, or nil.
	do func(r *Runner, a *Action) func()
}

type param struct {
	name string
	kind paramKind
	must bool
}

type paramKind int

const (
	isChance   paramKind = iota // a number from 0 to 1
	isDuration                  // never negative
	isShift                     // a duration that may be negative
	isCount                     // a whole number
	isPPM                       // a whole number that may be negative
)

var (
	one  = [2]int{1, 1}
	none = [2]int{0, 0}
	two  = [2]int{2, 2}
)

// verbs is the table. Its order is that of the help.
func verbs() []verb {
	return append([]verb{
		{"partition", "cut all links between machines that share no group; one in two groups is a bridge", [2]int{2, 16}, false, nil, true, partition},
		{"isolate", "cut machines off from all others and from clients", one, false, nil, true, isolate},
		{"cut", "cut the links of one direction", two, true, nil, true, cutOneWay},
		{"flap", "partition on and off", [2]int{2, 16}, false, []param{{"period", isDuration, true}}, true, flap},
		{"clog", "hold everything on the links of one direction, then deliver it at once", two, true, nil, true, clog},
		{"links", "make all links bad", none, false, linkParams, true, links},
		{"reset", "break all connections of clients", one, false, nil, false, each(func(r *Runner, m *sim.Machine, _ *Action) func() {
			r.c.Net().Break(m.ID())
			return nil
		})},
		{"kill", "end the process as kill -9 does; it is started again at the end", one, false, nil, true, each(kill)},
		{"stop", "end the process well; it is started again at the end", one, false, nil, true, each(stop)},
		{"power", "take the power away; it comes back at the end", one, false, nil, true, power},
		{"loop", "kill the process again and again", one, false, []param{{"times", isCount, true}, {"every", isDuration, true}}, false, each(loop)},
		{"pause", "stop the process while the world goes on", one, false, nil, true, each(pause)},
		{"suspend", "stop the machine with its monotonic clock", one, false, nil, true, each(suspend)},
		{"slow", "make every turn cost that much time", one, false, []param{{"cost", isDuration, true}}, true, each(slow)},
		{"skew", "set the wall clock off", one, false, []param{{"by", isShift, true}}, false, each(skew)},
		{"jump", "move the wall clock", one, false, []param{{"by", isShift, true}}, false, each(jump)},
		{"drift", "run the clocks faster or slower, in millionths", one, false, []param{{"ppm", isPPM, true}}, true, each(drift)},
		{"freeze", "stop the wall clock", one, false, nil, true, each(freeze)},
		{"stall", "let no write finish", one, false, nil, true, each(stall)},
		{"slowdisk", "make writes slow", one, false, []param{{"latency", isDuration, true}}, true, each(slowDisk)},
		{"full", "leave so many bytes of room on the disk", one, false, []param{{"room", isCount, true}}, true, each(full)},
		{"failsync", "let the next durable write fail", one, false, nil, false, each(failSync)},
		{"rot", "damage a sector of durable data", one, false, nil, false, each(rot)},
		{"flip", "change a value that nobody reads in the memory of the node", one, false, nil, false, each(flip)},
		{"join", "add a new machine to the cluster, first without a vote", one, false, nil, false, join},
		{"remove", "take machines out of the cluster and leave them on", one, false, nil, false, each(remove)},
		{"wipe", "put an empty disk into the machine; the operator has the member replaced after a while", one, false, []param{{"after", isDuration, true}}, false, each(wipe)},
		{"survive", "fix the chance that an unsynced write survives a power loss", one, false, []param{{"chance", isChance, true}}, true, each(survive)},
	}, unitVerbs()...)
}

var linkParams = []param{
	{"latency", isDuration, false},
	{"jitter", isDuration, false},
	{"stray", isChance, false},
	{"loss", isChance, false},
	{"burst", isChance, false},
	{"duplicate", isChance, false},
	{"corrupt", isChance, false},
	{"reset", isChance, false},
	{"bandwidth", isCount, false},
	{"buffer", isCount, false},
	{"maxframe", isCount, false},
}

func verbOf(name string) (*verb, bool) {
	for _, v := range verbs() {
		if v.name == name {
			return &v, true
		}
	}
	return nil, false
}

func verbNames() []string {
	var names []string
	for _, v := range verbs() {
		names = append(names, v.name)
	}
	return names
}

// Help describes every verb, one line each.
func Help() string {
	var b strings.Builder
	for _, v := range verbs() {
		use := v.name
		switch {
		case v.arrow:
			use += " WHOM -> WHOM"
		case v.groups[0] > 1:
			use += " WHOM | WHOM…"
		case v.groups[0] == 1:
			use += " WHOM"
		}
		for _, p := range v.args {
			text := p.name + "=" + p.kind.want()
			if !p.must {
				text = "[" + text + "]"
			}
			use += " " + text
		}
		if v.lasts {
			use += " [for DURATION]"
		}
		fmt.Fprintf(&b, "%s\n    %s\n", use, v.doc)
	}
	return b.String()
}

func (k paramKind) want() string {
	switch k {
	case isChance:
		return "CHANCE"
	case isCount:
		return "COUNT"
	case isPPM:
		return "PPM"
	}
	return "DURATION"
}

// check holds an action against the table.
func (v *verb) check(a *Action) error {
	if n := len(a.Groups); n < v.groups[0] || n > v.groups[1] {
		return fmt.Errorf("%s: %s", v.name, v.whom())
	}
	if a.For > 0 && !v.lasts {
		return fmt.Errorf("%s: happens at once and takes no \"for\"", v.name)
	}
	seen := map[string]bool{}
	for _, arg := range a.Args {
		i := slices.IndexFunc(v.args, func(p param) bool { return p.name == arg.Name })
		if i < 0 {
			return fmt.Errorf("%s: unknown parameter %q", v.name, arg.Name)
		}
		if seen[arg.Name] {
			return fmt.Errorf("%s: %s is given twice", v.name, arg.Name)
		}
		seen[arg.Name] = true
		if err := v.args[i].kind.check(arg.Value); err != nil {
			return fmt.Errorf("%s: %s=%s: %w", v.name, arg.Name, arg.Value, err)
		}
	}
	for _, p := range v.args {
		if p.must && !seen[p.name] {
			return fmt.Errorf("%s: %s= is missing", v.name, p.name)
		}
	}
	return nil
}

func (v *verb) whom() string {
	switch {
	case v.groups[1] == 0:
		return "takes no machines"
	case v.arrow:
		return "want machines -> machines"
	case v.groups[0] > 1:
		return "want at least two groups of machines, separated by |"
	}
	return "want machines, in one group"
}

// countMax bounds whole numbers in plans.
const countMax = 1 << 40

func (k paramKind) check(text string) error {
	switch k {
	case isChance:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || !(f >= 0 && f <= 1) {
			return fmt.Errorf("want a number from 0 to 1")
		}
	case isCount, isPPM:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("want a whole number")
		}
		if k == isCount && (n < 0 || n > countMax) || k == isPPM && (n < -500_000 || n > 500_000) {
			return fmt.Errorf("out of range")
		}
	default:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("want a duration such as 20ms")
		}
		if k == isDuration && d < 0 {
			return fmt.Errorf("want a duration that is not negative")
		}
	}
	return nil
}

// each makes an action on a group out of one on a machine.
func each(do func(r *Runner, m *sim.Machine, a *Action) func()) func(*Runner, *Action) func() {
	return func(r *Runner, a *Action) func() {
		var undo []func()
		for _, m := range r.who(a.Groups[0]) {
			if u := do(r, m, a); u != nil {
				undo = append(undo, u)
			}
		}
		return func() {
			for _, u := range undo {
				u()
			}
		}
	}
}

func ids(ms []*sim.Machine) []env.NodeID {
	var all []env.NodeID
	for _, m := range ms {
		all = append(all, m.ID())
	}
	return all
}

func partition(r *Runner, a *Action) func() {
	var groups [][]env.NodeID
	for _, g := range a.Groups {
		groups = append(groups, ids(r.who(g)))
	}
	return r.c.Net().Partition(groups...).Heal
}

func isolate(r *Runner, a *Action) func() {
	var cuts []*sim.Cut
	for _, m := range r.who(a.Groups[0]) {
		cuts = append(cuts, r.c.Net().Isolate(m.ID()))
	}
	return func() {
		for _, c := range cuts {
			c.Heal()
		}
	}
}

func cutOneWay(r *Runner, a *Action) func() {
	return r.c.Net().CutOneWay(ids(r.who(a.Groups[0])), ids(r.who(a.Groups[1]))).Heal
}

func flap(r *Runner, a *Action) func() {
	period := max(a.duration("period"), time.Millisecond)
	var heal func()
	over := false
	var turn func()
	turn = func() {
		if over {
			return
		}
		if heal != nil {
			heal()
			heal = nil
		} else {
			heal = partition(r, a)
		}
		r.c.After(period/2, "flap", turn)
	}
	turn()
	return func() {
		over = true
		if heal != nil {
			heal()
		}
	}
}

func clog(r *Runner, a *Action) func() {
	var on []*sim.Link
	for _, from := range ids(r.who(a.Groups[0])) {
		for _, to := range ids(r.who(a.Groups[1])) {
			if from != to {
				l := r.c.Net().Link(from, to)
				l.Clog(a.lasting())
				on = append(on, l)
			}
		}
	}
	return func() {
		for _, l := range on {
			l.Unclog()
		}
	}
}

// lasting is how long an action lasts, where the simulator wants a figure: for
// ever is longer than any run.
func (a *Action) lasting() time.Duration {
	if a.For > 0 {
		return a.For
	}
	return timeMax
}

func links(r *Runner, a *Action) func() {
	r.bad = append(r.bad, a)
	r.setLinks()
	return func() {
		r.bad = slices.DeleteFunc(r.bad, func(b *Action) bool { return b == a })
		r.setLinks()
	}
}

// setLinks gives all links the worst of what is in force.
func (r *Runner) setLinks() {
	c := r.base
	for _, a := range r.bad {
		worst(&c.Latency, a.duration("latency"))
		worst(&c.Jitter, a.duration("jitter"))
		worseChance(&c.Stray, a, "stray")
		worseChance(&c.Loss, a, "loss")
		worseChance(&c.Duplicate, a, "duplicate")
		worseChance(&c.Corrupt, a, "corrupt")
		worseChance(&c.Reset, a, "reset")
		if burst, ok := a.float("burst"); ok && burst > c.BurstStart {
			c.BurstStart, c.BurstEnd = burst, 0.1
		}
		tighter(&c.Bandwidth, a, "bandwidth")
		tighter(&c.Buffer, a, "buffer")
		tighter(&c.MaxFrame, a, "maxframe")
	}
	r.c.Net().SetAll(c)
}

func worst(have *time.Duration, d time.Duration) { *have = max(*have, d) }

func worseChance(have *float64, a *Action, name string) {
	if f, ok := a.float(name); ok {
		*have = max(*have, f)
	}
}

func tighter(have *int, a *Action, name string) {
	if n, ok := a.integer(name); ok && n > 0 && (*have == 0 || n < *have) {
		*have = n
	}
}

// kill lets the machine's own service manager start the process again, unless
// the action says for how long it stays down.
func kill(r *Runner, m *sim.Machine, a *Action) func() {
	if a.For == 0 {
		m.Kill()
		return nil
	}
	r.down(m, +1)
	m.Kill()
	return func() { r.down(m, -1) }
}

func stop(r *Runner, m *sim.Machine, a *Action) func() {
	const grace = 2 * time.Second
	if a.For == 0 {
		m.Stop(grace)
		r.c.After(grace+time.Millisecond, "start again", func() { r.down(m, 0) })
		return nil
	}
	r.down(m, +1)
	m.Stop(grace)
	return func() {
		r.down(m, -1)
		// The process may still be about to end.
		r.c.After(grace+time.Millisecond, "start again", func() { r.down(m, 0) })
	}
}

func power(r *Runner, a *Action) func() {
	ms := r.who(a.Groups[0])
	for _, m := range ms {
		r.dark[m.ID()]++
		m.PowerOff()
	}
	if len(ms) > 1 && len(ms) == len(r.c.Machines()) {
		r.c.Mark("fault: all members power-lost at once")
	}
	return func() {
		for _, m := range ms {
			if r.dark[m.ID()]--; r.dark[m.ID()] == 0 {
				m.PowerOn()
				r.keepDown(m)
			}
		}
	}
}

func loop(r *Runner, m *sim.Machine, a *Action) func() {
	left, _ := a.integer("times")
	every := max(a.duration("every"), time.Millisecond)
	r.quick(m, +1)
	over := false
	var turn func()
	turn = func() {
		if over {
			return
		}
		if left--; left < 0 {
			over = true
			r.quick(m, -1)
			return
		}
		m.Kill()
		r.c.After(every, "loop", turn)
	}
	turn()
	return func() {
		if !over {
			over = true
			r.quick(m, -1)
		}
	}
}

func pause(_ *Runner, m *sim.Machine, a *Action) func() {
	m.Pause(a.For)
	return m.Resume
}

func suspend(_ *Runner, m *sim.Machine, a *Action) func() {
	m.Suspend(a.For)
	return m.Resume
}

func slow(_ *Runner, m *sim.Machine, a *Action) func() {
	m.SetSlow(a.duration("cost"))
	return func() { m.SetSlow(0) }
}

func skew(_ *Runner, m *sim.Machine, a *Action) func() {
	m.Clock().SetSkew(a.duration("by"))
	return nil
}

func jump(_ *Runner, m *sim.Machine, a *Action) func() {
	m.Clock().Jump(a.duration("by"))
	return nil
}

func drift(_ *Runner, m *sim.Machine, a *Action) func() {
	ppm, _ := a.integer("ppm")
	m.Clock().SetDrift(int64(ppm))
	return func() { m.Clock().SetDrift(0) }
}

func freeze(_ *Runner, m *sim.Machine, a *Action) func() {
	m.Clock().Freeze(a.For)
	return nil
}

func stall(r *Runner, m *sim.Machine, a *Action) func() {
	m.Disk().Stall(a.lasting())
	until := r.c.Now() + a.lasting()
	if _, on := r.Stalled[m.ID()]; !on {
		r.Stalled[m.ID()] = r.c.Now()
	}
	r.stallEnds[m.ID()] = max(r.stallEnds[m.ID()], until)
	return func() {
		// Stalls add up: the longest counts, unless the whole plan ends.
		if r.c.Now() >= r.stallEnds[m.ID()] || r.ended {
			delete(r.Stalled, m.ID())
			m.Disk().Unstall()
		}
	}
}

func slowDisk(r *Runner, m *sim.Machine, a *Action) func() {
	c := m.Disk().Config()
	c.Latency = a.duration("latency")
	m.Disk().Set(c)
	return func() { m.Disk().Set(r.disk) }
}

func full(_ *Runner, m *sim.Machine, a *Action) func() {
	room, _ := a.integer("room")
	m.Disk().SetCapacity(max(m.Disk().Used()+room, 1))
	return func() { m.Disk().SetCapacity(0) }
}

func failSync(r *Runner, m *sim.Machine, _ *Action) func() {
	m.Disk().FailSync()
	r.Damaged[m.ID()] = true
	return nil
}

func rot(r *Runner, m *sim.Machine, _ *Action) func() {
	if !r.affords(m) {
		return nil
	}
	if file, offset, ok := m.Disk().Rot(""); ok {
		r.c.Note("rot in %s of %s at %d", file, m.Name(), offset)
		r.Rotten[m.ID()], r.Damaged[m.ID()] = true, true
	}
	return nil
}

// flipSettles is how long the value to be changed has to reach the machine.
const flipSettles = time.Second

// flip has the cluster store a value for the purpose, and then changes it in one
// machine's memory. What clients read stays right, so only the comparison of states
// can find it.
func flip(r *Runner, m *sim.Machine, _ *Action) func() {
	leader := r.c.Leader()
	if leader == nil {
		return nil
	}
	key := flipKey(m)
	leader.Do("store a value to flip", func(sim.Node) {
		if n := sim.NodeOf(leader); n != nil {
			n.Propose(store.Command{Op: store.OpSet, Key: key, Value: "sound"}, func(store.Result) {})
		}
	})
	r.c.After(flipSettles, "flip", func() {
		if n := sim.NodeOf(m); n != nil && !r.ended && !r.Flipped[m.ID()] && len(r.Rotten) == 0 && n.Store().Rot(key) {
			r.c.Note("a value in the memory of %s was changed", m.Name())
			r.Flipped[m.ID()] = true
		}
	})
	return nil
}

func flipKey(m *sim.Machine) string { return "/_flipped/" + m.Name() }

func survive(_ *Runner, m *sim.Machine, a *Action) func() {
	f, _ := a.float("chance")
	m.Disk().SetSurvival(f)
	return func() { m.Disk().SetSurvival(-1) }
}
