package fault

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// Family is one kind of trouble. Families know nothing of each other.
type Family struct {
	Name string
	Doc  string
	draw func(d *draw)
}

// Families lists all of them. The order is part of what a seed means.
func Families() []Family {
	return append([]Family{
		{"links", "loss, delay, repeats, bursts and flipped bits on all links", (*draw).links},
		{"partitions", "the cluster falls into two halves", (*draw).partitions},
		{"one-way", "links work in one direction only", (*draw).oneWay},
		{"bridges", "one machine sees both sides, or each sees its neighbours only", (*draw).bridges},
		{"isolation", "the leader, or one machine, is cut off from everybody", (*draw).isolation},
		{"flapping", "a partition comes and goes about as fast as elections", (*draw).flapping},
		{"clogs", "links hold everything back and deliver it at once, in random order", (*draw).clogs},
		{"resets", "connections of clients break", (*draw).resets},
		{"kills", "processes die and are started again", (*draw).kills},
		{"stops", "processes are asked to end", (*draw).stops},
		{"power", "one machine loses power", (*draw).powers},
		{"blackouts", "all machines lose power at once", (*draw).blackouts},
		{"crash-loops", "a process dies again and again", (*draw).loops},
		{"pauses", "processes or machines stand still for a while", (*draw).pauses},
		{"slow-cpu", "every turn of a node takes long", (*draw).slowCPU},
		{"skew", "wall clocks are off from the start", (*draw).skews},
		{"jumps", "wall clocks jump, or stand still", (*draw).jumps},
		{"drift", "clocks run fast or slow", (*draw).drifts},
		{"stalls", "disks finish no write for a while", (*draw).stalls},
		{"slow-disks", "disks are slow", (*draw).slowDisks},
		{"full-disks", "disks have no room", (*draw).fullDisks},
		{"sync-errors", "a durable write fails, on a minority of machines", (*draw).syncErrors},
		{"members", "machines join, others are removed and stay on", (*draw).memberships},
		{"rot", "durable data decays, on a minority of machines", (*draw).rots},
		{"flips", "a value changes in memory, on a minority of machines", (*draw).flips},
		{"wipes", "disks are replaced by empty ones, on a minority of machines, and then the members", (*draw).wipes},
	}, unitFamilies()...)
}

// Named gives the family of that name.
func Named(name string) (Family, bool) {
	all := Families()
	i := slices.IndexFunc(all, func(f Family) bool { return f.Name == name })
	if i < 0 {
		return Family{}, false
	}
	return all[i], true
}

// Shape is what a plan is drawn for.
type Shape struct {
	Machines []string      // names
	From     time.Duration // trouble begins
	Until    time.Duration // and ends; what lasts longer is cut short
}

// Draw makes a plan of the given families. Each family draws from a stream of
// its own, so that leaving one out does not change what the others do.
func Draw(seed uint64, s Shape, families []Family) Plan {
	unsound := unsound(seed, s.Machines)
	var p Plan
	for _, f := range families {
		d := &draw{Rand: stream(seed, f.Name), Shape: s, unsound: unsound}
		d.calm = pick(d, 2*time.Second, 5*time.Second, 15*time.Second)
		f.draw(d)
		p = append(p, d.plan...)
	}
	p.sort()
	return p
}

// Swarm draws which families a seed has: each with a chance of a half, or in some
// runs of much less, so that some are left out and others get room to act. Those of units
// keep their half: what they break shows best where little else is broken.
func Swarm(seed uint64) []Family {
	r := stream(seed, "which families")
	one := []int{2, 2, 2, 5, 10}[r.IntN(5)] // in how many
	var chosen []Family
	for _, f := range Families() {
		if f.OfUnits() {
			one = 2
		}
		if r.IntN(one) == 0 {
			chosen = append(chosen, f)
		}
	}
	return chosen
}

// unsound draws the machines that may suffer damage to durable data: less than
// half of them, so that a majority holds everything.
func unsound(seed uint64, machines []string) []string {
	r := stream(seed, "fault budget")
	all := slices.Clone(machines)
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:max(0, (len(all)-1)/2)]
}

// stream gives the random stream of one purpose.
func stream(seed uint64, purpose string) *rand.Rand {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(purpose) {
		h = (h ^ uint64(purpose[i])) * 1099511628211
	}
	return rand.New(rand.NewPCG(seed, h))
}

// draw is one family drawing its part of a plan.
type draw struct {
	*rand.Rand
	Shape
	unsound []string
	calm    time.Duration // mean time between strikes
	plan    Plan
}

func pick[T any](d *draw, of ...T) T { return of[d.IntN(len(of))] }

// strikes calls fn at random times.
func (d *draw) strikes(fn func(at time.Duration)) {
	for at := d.From; ; {
		at += time.Duration(d.ExpFloat64() * float64(d.calm)).Round(time.Millisecond)
		if at >= d.Until {
			return
		}
		fn(at)
	}
}

// between draws a duration, small ones as likely as large ones.
func (d *draw) between(least, most time.Duration) time.Duration {
	ratio := float64(most) / float64(least)
	steps := d.Float64()
	x := float64(least)
	// A power with a rational exponent by repeated square roots keeps floats
	// the same on every architecture.
	for i := 0; i < 8; i++ {
		ratio = sqrt(ratio)
		if steps *= 2; steps >= 1 {
			steps--
			x *= ratio
		}
	}
	return time.Duration(x).Round(time.Millisecond)
}

// sqrt is Newton's method in a fixed number of steps.
func sqrt(x float64) float64 {
	r := x
	if r < 1 {
		r = 1
	}
	for range 40 {
		r = (r + x/r) / 2
	}
	return r
}

func (d *draw) add(at time.Duration, verb string, lasting time.Duration, groups [][]string, args ...Arg) {
	if lasting > 0 {
		lasting = max(min(lasting, d.Until-at), time.Millisecond)
	}
	d.plan = append(d.plan, Action{At: at, Verb: verb, Groups: groups, Args: args, For: lasting})
}

func (d *draw) one() [][]string { return [][]string{{pick(d, d.Machines...)}} }

// someone is a machine, or whoever leads.
func (d *draw) someone() [][]string {
	if d.IntN(3) == 0 {
		return [][]string{{"leader"}}
	}
	return d.one()
}

// halves splits the machines in two, each side with at least one.
func (d *draw) halves() [][]string {
	all := d.shuffled()
	cut := 1 + d.IntN(len(all)-1)
	return [][]string{sorted(all[:cut]), sorted(all[cut:])}
}

func (d *draw) shuffled() []string {
	all := slices.Clone(d.Machines)
	d.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

func (d *draw) alone() bool { return len(d.Machines) < 2 }

func durationArg(name string, v time.Duration) Arg { return Arg{name, v.String()} }

func chanceArg(name string, v float64) Arg {
	return Arg{name, strconv.FormatFloat(v, 'f', 3, 64)}
}

func countArg(name string, v int) Arg { return Arg{name, strconv.Itoa(v)} }

func (d *draw) links() {
	d.strikes(func(at time.Duration) {
		var args []Arg
		maybe := func(a Arg) {
			if d.IntN(2) == 0 {
				args = append(args, a)
			}
		}
		maybe(durationArg("latency", d.between(time.Millisecond, 100*time.Millisecond)))
		maybe(durationArg("jitter", d.between(time.Millisecond, 100*time.Millisecond)))
		maybe(chanceArg("stray", d.Float64()*0.02))
		maybe(chanceArg("loss", d.Float64()*0.3))
		maybe(chanceArg("burst", d.Float64()*0.05))
		maybe(chanceArg("duplicate", d.Float64()*0.5))
		maybe(chanceArg("corrupt", d.Float64()*0.05))
		maybe(chanceArg("reset", d.Float64()*0.05))
		if d.IntN(6) == 0 {
			args = append(args, countArg("bandwidth", pick(d, 20_000, 200_000, 2_000_000)))
		}
		if d.IntN(8) == 0 {
			args = append(args, countArg("maxframe", pick(d, 1_500, 9_000, 100_000)))
		}
		if len(args) > 0 {
			d.add(at, "links", d.between(500*time.Millisecond, 15*time.Second), nil, args...)
		}
	})
}

func (d *draw) partitions() {
	if d.alone() {
		return
	}
	d.strikes(func(at time.Duration) {
		d.add(at, "partition", d.between(200*time.Millisecond, 12*time.Second), d.halves())
	})
}

func (d *draw) oneWay() {
	if d.alone() {
		return
	}
	d.strikes(func(at time.Duration) {
		sides := d.halves()
		d.add(at, "cut", d.between(200*time.Millisecond, 12*time.Second), sides)
	})
}

func (d *draw) bridges() {
	if len(d.Machines) < 3 {
		return
	}
	d.strikes(func(at time.Duration) {
		all := d.shuffled()
		lasting := d.between(500*time.Millisecond, 12*time.Second)
		if d.IntN(2) == 0 {
			cut := 1 + d.IntN(len(all)-2)
			left, right := slices.Clone(all[:cut+1]), slices.Clone(all[cut:])
			d.add(at, "partition", lasting, [][]string{sorted(left), sorted(right)})
			return
		}
		var ring [][]string
		for i := range all {
			ring = append(ring, sorted([]string{all[i], all[(i+1)%len(all)]}))
		}
		d.add(at, "partition", lasting, ring)
	})
}

func (d *draw) isolation() {
	d.strikes(func(at time.Duration) {
		who := d.one()
		if d.IntN(2) == 0 {
			who = [][]string{{"leader"}}
		}
		d.add(at, "isolate", d.between(200*time.Millisecond, 12*time.Second), who)
	})
}

func (d *draw) flapping() {
	if d.alone() {
		return
	}
	d.strikes(func(at time.Duration) {
		d.add(at, "flap", d.between(2*time.Second, 15*time.Second), d.halves(),
			durationArg("period", d.between(300*time.Millisecond, 4*time.Second)))
	})
}

// clogs clogs random links one by one and lets them go in random order.
func (d *draw) clogs() {
	if d.alone() {
		return
	}
	d.strikes(func(at time.Duration) {
		for range 1 + d.IntN(2*len(d.Machines)) {
			pair := d.shuffled()
			begin := at + d.between(time.Millisecond, 2*time.Second)
			if begin < d.Until {
				d.add(begin, "clog", d.between(50*time.Millisecond, 8*time.Second), [][]string{{pair[0]}, {pair[1]}})
			}
		}
	})
}

func (d *draw) resets() {
	d.strikes(func(at time.Duration) { d.add(at, "reset", 0, d.someone()) })
}

func (d *draw) kills() {
	d.strikes(func(at time.Duration) {
		lasting := time.Duration(0)
		if d.IntN(2) == 0 {
			lasting = d.between(50*time.Millisecond, 10*time.Second)
		}
		d.add(at, "kill", lasting, d.someone())
	})
}

func (d *draw) stops() {
	d.strikes(func(at time.Duration) {
		d.add(at, "stop", d.between(50*time.Millisecond, 5*time.Second), d.someone())
	})
}

func (d *draw) powers() {
	d.strikes(func(at time.Duration) {
		d.add(at, "power", d.between(50*time.Millisecond, 10*time.Second), d.someone())
	})
}

func (d *draw) blackouts() {
	d.calm = max(d.calm, 10*time.Second)
	d.strikes(func(at time.Duration) {
		d.add(at, "power", d.between(50*time.Millisecond, 3*time.Second), [][]string{{"all"}})
	})
}

func (d *draw) loops() {
	d.strikes(func(at time.Duration) {
		d.add(at, "loop", 0, d.one(), countArg("times", 2+d.IntN(6)), durationArg("every", d.between(5*time.Millisecond, time.Second)))
	})
}

func (d *draw) pauses() {
	d.strikes(func(at time.Duration) {
		verb := pick(d, "pause", "pause", "pause", "suspend")
		d.add(at, verb, d.between(20*time.Millisecond, 10*time.Second), d.someone())
	})
}

func (d *draw) slowCPU() {
	d.strikes(func(at time.Duration) {
		d.add(at, "slow", d.between(500*time.Millisecond, 10*time.Second), d.someone(),
			durationArg("cost", d.between(time.Millisecond, 30*time.Millisecond)))
	})
}

func (d *draw) shift() time.Duration {
	most := 10 * time.Minute
	if d.IntN(8) == 0 {
		most = 365 * 24 * time.Hour
	}
	by := d.between(time.Millisecond, most)
	if d.IntN(2) == 0 {
		return -by
	}
	return by
}

func (d *draw) skews() {
	for _, m := range d.Machines {
		if d.IntN(2) == 0 {
			d.add(d.From, "skew", 0, [][]string{{m}}, durationArg("by", d.shift()))
		}
	}
}

func (d *draw) jumps() {
	d.strikes(func(at time.Duration) {
		if d.IntN(5) == 0 {
			d.add(at, "freeze", d.between(100*time.Millisecond, 60*time.Second), d.someone())
			return
		}
		d.add(at, "jump", 0, d.someone(), durationArg("by", d.shift()))
	})
}

// DriftPPMMax is the most that the drift family makes clocks drift, in
// millionths either way.
const DriftPPMMax = 50_000

func (d *draw) drifts() {
	most := pick(d, 100, 100, 1000, DriftPPMMax)
	for _, m := range d.Machines {
		d.add(d.From, "drift", d.Until-d.From, [][]string{{m}}, countArg("ppm", d.IntN(2*most+1)-most))
	}
}

func (d *draw) stalls() {
	d.strikes(func(at time.Duration) {
		if d.IntN(3) == 0 { // long enough that a leader must go
			d.add(at, "stall", 10*time.Second+d.between(20*time.Millisecond, 10*time.Second), [][]string{{"leader"}})
			return
		}
		d.add(at, "stall", d.between(20*time.Millisecond, 30*time.Second), d.someone())
	})
}

// memberships has new machines join and any machine leave. Some runs do one after
// the other in haste.
func (d *draw) memberships() {
	d.calm = max(d.calm, 3*time.Second)
	names := slices.Clone(d.Machines)
	d.strikes(func(at time.Duration) {
		if d.IntN(5) < 2 && len(names) < machinesMax {
			name := "n" + strconv.Itoa(len(names)+1)
			names = append(names, name)
			d.add(at, "join", 0, [][]string{{name}})
			return
		}
		who := pick(d, names...)
		if d.IntN(4) == 0 {
			who = "leader"
		}
		d.add(at, "remove", 0, [][]string{{who}})
	})
}

// machinesMax bounds what a cluster grows to.
const machinesMax = 9

func (d *draw) slowDisks() {
	d.strikes(func(at time.Duration) {
		d.add(at, "slowdisk", d.between(time.Second, 15*time.Second), d.someone(),
			durationArg("latency", d.between(5*time.Millisecond, 500*time.Millisecond)))
	})
}

func (d *draw) fullDisks() {
	d.strikes(func(at time.Duration) {
		d.add(at, "full", d.between(200*time.Millisecond, 8*time.Second), d.someone(), countArg("room", pick(d, 0, 100, 10_000)))
	})
}

func (d *draw) syncErrors() {
	if len(d.unsound) == 0 {
		return
	}
	d.strikes(func(at time.Duration) {
		d.add(at, "failsync", 0, [][]string{{pick(d, d.unsound...)}})
	})
}

func (d *draw) rots() {
	if len(d.unsound) == 0 {
		return
	}
	d.calm = max(d.calm, 5*time.Second)
	d.strikes(func(at time.Duration) {
		d.add(at, "rot", 0, [][]string{{pick(d, d.unsound...)}})
	})
}

func (d *draw) wipes() {
	if len(d.unsound) == 0 {
		return
	}
	d.calm = max(d.calm, 10*time.Second)
	d.strikes(func(at time.Duration) {
		d.add(at, "wipe", 0, [][]string{{pick(d, d.unsound...)}}, durationArg("after", d.between(100*time.Millisecond, 8*time.Second)))
	})
}

func (d *draw) flips() {
	if len(d.unsound) == 0 {
		return
	}
	d.add(d.From+time.Duration(d.Int64N(int64(d.Until-d.From)/2+1)), "flip", 0, [][]string{{pick(d, d.unsound...)}})
}

// Sums says in a few words what a plan holds, for progress and reports.
func (p Plan) Sums() string {
	count := map[string]int{}
	for _, a := range p {
		count[a.Verb]++
	}
	s := fmt.Sprintf("%d actions", len(p))
	for _, v := range verbs() {
		if n := count[v.name]; n > 0 {
			s += fmt.Sprintf(" %s=%d", v.name, n)
		}
	}
	return s
}
