package sim

import (
	"math/bits"
	"time"

	"github.com/keelson/keelson/core/env"
)

// Clock is one machine's clocks: a monotonic one that restarts with the machine
// and a wall clock. Both run at the machine's own rate.
//
// The oscillator below both never stops and never jumps; the monotonic clock is
// its distance from the boot, the wall clock its sum with an offset.
type Clock struct {
	m *Machine

	ppm      int64
	since    time.Duration // world time from which ppm holds
	base     time.Duration // the oscillator at that time
	boot     time.Duration // the oscillator when the monotonic clock was zero
	asleep   bool          // the monotonic clock stands still
	heldMono time.Duration // where it stands

	offset   time.Duration // wall clock minus start and oscillator
	frozen   bool
	heldWall time.Duration // oscillator and offset when it froze
	thaw     uint64        // counts the freezes, so that an old thaw is ignored
}

// million is the unit of rates.
const million = 1_000_000

// stretch gives how far an oscillator of that rate goes in d.
func stretch(d time.Duration, ppm int64) time.Duration {
	return d + d/million*time.Duration(ppm) + d%million*time.Duration(ppm)/million
}

// shrink gives the least d for which stretch(d) reaches x; x is not negative.
func shrink(x time.Duration, ppm int64) time.Duration {
	hi, lo := bits.Mul64(uint64(x), million)
	q, _ := bits.Div64(hi, lo, uint64(million+ppm))
	d := time.Duration(q)
	for d > 0 && stretch(d-1, ppm) >= x {
		d--
	}
	for stretch(d, ppm) < x {
		d++
	}
	return d
}

// beat reads the oscillator.
func (c *Clock) beat() time.Duration { return c.base + stretch(c.m.w.now-c.since, c.ppm) }

// Mono reads the monotonic clock.
func (c *Clock) Mono() time.Duration {
	if c.asleep {
		return c.heldMono
	}
	return c.beat() - c.boot
}

// when gives the world time at which the monotonic clock reaches t.
func (c *Clock) when(t env.Instant) time.Duration {
	ahead := time.Duration(t) + c.boot - c.base
	if ahead <= 0 {
		return c.m.w.now
	}
	return max(c.since+shrink(ahead, c.ppm), c.m.w.now)
}

// restart sets the monotonic clock to at, as booting does.
func (c *Clock) restart(at time.Duration) {
	c.asleep = false
	c.boot = c.beat() - at
}

func (c *Clock) sleep() {
	if !c.asleep {
		c.heldMono, c.asleep = c.Mono(), true
		c.m.rearm()
	}
}

func (c *Clock) wake() {
	if c.asleep {
		c.restart(c.heldMono)
		c.m.rearm()
	}
}

// Asleep says that the monotonic clock stands still, as in Suspend.
func (c *Clock) Asleep() bool { return c.asleep }

// SetDrift sets how much faster than the world both clocks run, in parts per
// million, from now on; pending timers follow. At most half as fast again or slow.
func (c *Clock) SetDrift(ppm int64) {
	ppm = min(max(ppm, -million/2), million/2)
	c.base, c.since = c.beat(), c.m.w.now
	c.ppm = ppm
	c.m.note(KindClock, "drift", uint64(ppm))
	c.m.rearm()
}

// Drift is the present rate, in parts per million.
func (c *Clock) Drift() int64 { return c.ppm }

// Jump moves the wall clock by d and ends a freeze.
func (c *Clock) Jump(d time.Duration) { c.setWall(c.wall()+d, "jump") }

// SetSkew sets the wall clock to world time plus d.
func (c *Clock) SetSkew(d time.Duration) { c.setWall(c.m.w.now+d, "skew") }

// SetWall sets the wall clock.
func (c *Clock) SetWall(t time.Time) { c.setWall(t.Sub(c.m.w.opts.Start), "set") }

func (c *Clock) setWall(to time.Duration, what string) {
	c.frozen = false
	c.thaw++
	c.offset = to - c.beat()
	c.m.note(KindClock, what, uint64(to))
}

// Freeze makes the wall clock stand still for d and then go on from where it
// stood; 0 is until the next change.
func (c *Clock) Freeze(d time.Duration) {
	c.heldWall, c.frozen = c.wall(), true
	c.thaw++
	c.m.note(KindClock, "freeze", uint64(d))
	if d <= 0 {
		return
	}
	mine := c.thaw
	c.m.w.push(c.m.w.now+d, call(func() {
		if c.thaw == mine {
			c.setWall(c.heldWall, "thaw")
		}
	}))
}

// Wall reads the wall clock, in UTC.
func (c *Clock) Wall() time.Time { return c.m.w.opts.Start.Add(c.wall()) }

func (c *Clock) wall() time.Duration {
	if c.frozen {
		return c.heldWall
	}
	return c.beat() + c.offset
}

// nodeClock is the clock as one life of the node sees it.
type nodeClock struct {
	m    *Machine
	life int
	now  env.Instant // held during a turn
}

var _ env.Clock = (*nodeClock)(nil)

func (c *nodeClock) Now() env.Instant { return c.now }

func (c *nodeClock) Wall() time.Time { return c.m.clock.Wall() }

func (c *nodeClock) After(d time.Duration, fn func()) env.Timer {
	m := c.m
	t := &timer{m: m, at: c.now.Add(max(d, 0)), fn: fn, place: -1}
	if c.life != m.life || m.node == nil && !m.opening {
		return t // a closure of a life that has ended
	}
	t.place = len(m.timers)
	m.timers = append(m.timers, t)
	t.arm()
	return t
}

// timer is one pending call. It is in its machine's list until it ran, was
// stopped or its life ended; place is -1 from then on.
type timer struct {
	m     *Machine
	at    env.Instant
	fn    func()
	place int
	event uint64 // the one event that may fire it
	due   bool   // waits in the inbox
}

func (t *timer) arm() {
	if t.m.clock.asleep {
		t.event = 0
		return
	}
	t.event = t.m.w.push(t.m.clock.when(t.at), t)
}

// Stop implements env.Timer.
func (t *timer) Stop() { t.unlist() }

func (t *timer) unlist() {
	if t.place < 0 {
		return
	}
	last := len(t.m.timers) - 1
	moved := t.m.timers[last]
	t.m.timers[t.place] = moved
	moved.place = t.place
	t.m.timers[last] = nil
	t.m.timers = t.m.timers[:last]
	t.place = -1
	t.fn = nil
}

func (t *timer) run(w *World) {
	if t.place < 0 || t.event != w.cur {
		return
	}
	t.due = true
	t.m.input(t)
}

func (t *timer) live() bool { return t.place >= 0 }

func (t *timer) deliver(m *Machine) {
	fn := t.fn
	t.unlist()
	m.w.record(KindTimer, m.id, 0, 0, uint64(t.at), "")
	fn()
}

func (t *timer) drop(*Machine) {}
