package control_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
)

// clock is a clock that stands until it is moved.
type clock struct {
	now    env.Instant
	timers []*timer
}

type timer struct {
	at   env.Instant
	fn   func()
	over bool
}

func (t *timer) Stop() { t.over = true }

func (c *clock) Now() env.Instant { return c.now }
func (c *clock) Wall() time.Time  { return time.Unix(0, int64(c.now)).UTC() }
func (c *clock) After(d time.Duration, fn func()) env.Timer {
	t := &timer{at: c.now.Add(d), fn: fn}
	c.timers = append(c.timers, t)
	return t
}

// forward moves the clock on by d and runs what is due, in order.
func (c *clock) forward(d time.Duration) {
	end := c.now.Add(d)
	for {
		var next *timer
		for _, t := range c.timers {
			if !t.over && t.at <= end && (next == nil || t.at < next.at) {
				next = t
			}
		}
		if next == nil {
			c.now = end
			return
		}
		c.now, next.over = max(c.now, next.at), true
		next.fn()
	}
}

func (c *clock) pending() (n int) {
	for _, t := range c.timers {
		if !t.over {
			n++
		}
	}
	return n
}

type silent struct{}

func (silent) Log(env.Level, string, ...any) {}

func world() (*clock, *env.Env) {
	c := &clock{}
	return c, &env.Env{Clock: c, Log: silent{}, Rand: rand.New(rand.NewPCG(1, 2))}
}

func TestOneRoundAtATime(t *testing.T) {
	c, e := world()
	runs := 0
	var r *control.Round
	var run func()
	run = func() {
		if r.Begin() {
			runs++
		}
	}
	r = control.NewRound(e, func() { run() })
	run()
	run()
	run()
	assert.Equal(t, 1, runs)
	r.End()
	assert.Equal(t, 1, runs, "not inside the call")
	c.forward(0)
	assert.Equal(t, 2, runs, "another follows, and only one")
	r.End()
	c.forward(time.Hour)
	assert.Equal(t, 2, runs)
	assert.Zero(t, c.pending())
}

func TestFailedRoundsBackOff(t *testing.T) {
	c, e := world()
	var at []env.Instant
	var r *control.Round
	r = control.NewRound(e, func() {
		if r.Begin() {
			at = append(at, c.now)
			r.Fail(errors.New("no"))
		}
	})
	require.True(t, r.Begin())
	r.Fail(errors.New("no"))
	for range 50 {
		assert.False(t, r.Begin(), "backing off")
		c.forward(7 * time.Second)
	}
	last := time.Duration(0)
	for i := 1; i < len(at); i++ {
		gap := at[i].Sub(at[i-1])
		assert.LessOrEqual(t, gap, 38*time.Second)
		assert.GreaterOrEqual(t, gap, min(last, 30*time.Second))
		last = gap
	}
	assert.Greater(t, last, 29*time.Second)
	r.Stop()
	n := len(at)
	c.forward(time.Hour)
	assert.Len(t, at, n)
}

func TestSuccessEndsBackOff(t *testing.T) {
	c, e := world()
	fail, runs := true, 0
	var r *control.Round
	r = control.NewRound(e, func() {
		if !r.Begin() {
			return
		}
		runs++
		if fail {
			r.Fail(errors.New("no"))
		} else {
			r.End()
		}
	})
	require.True(t, r.Begin())
	r.Fail(errors.New("no"))
	c.forward(time.Minute)
	fail = false
	c.forward(time.Minute)
	require.True(t, r.Begin(), "idle again")
	r.Fail(errors.New("no"))
	before := runs
	c.forward(130 * time.Millisecond)
	assert.Greater(t, runs, before, "the first wait is short again")
}

// The keeper proposes often enough, and no more often than it needs to.
func TestKeeper(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, e := world()
		k := control.NewKeeper(e)
		var deadlines []store.Time
		for range rapid.IntRange(0, 5).Draw(t, "deadlines") {
			deadlines = append(deadlines, store.Time(rapid.Int64Range(1, int64(3*time.Second)).Draw(t, "deadline")))
		}
		applied, batches := store.Time(0), 0
		look := func() {
			s := control.State{Leading: true, Now: store.Time(c.now), Applied: applied}
			for _, d := range deadlines {
				if d > applied && (!s.Any || d < s.Deadline) {
					s.Deadline, s.Any = d, true
				}
			}
			k.Look(s)
		}
		look()
		late := time.Duration(0)
		for range 4000 {
			c.forward(time.Millisecond)
			if k.Due() {
				batches++
				for _, d := range deadlines {
					if d > applied && d <= store.Time(c.now) {
						late = max(late, time.Duration(store.Time(c.now)-d))
					}
				}
				applied = store.Time(c.now)
				k.Moved(applied)
			}
			look()
		}
		assert.LessOrEqual(t, late, 6*time.Millisecond)
		assert.LessOrEqual(t, batches, 7+len(deadlines))
		assert.Zero(t, c.pending(), "no deadline, no timer")
	})
}

func TestKeeperWithoutQuorumWaits(t *testing.T) {
	c, e := world()
	k := control.NewKeeper(e)
	batches := 0
	for range 5000 {
		k.Look(control.State{Leading: true, Now: store.Time(c.now), Applied: 0, Deadline: 1, Any: true})
		c.forward(time.Millisecond)
		if k.Due() {
			batches++
			k.Moved(store.Time(c.now))
		}
	}
	assert.InDelta(t, 10, batches, 2, "what is not applied is asked for each half second, not at once")
	k.Look(control.State{})
	assert.Zero(t, c.pending())
	assert.False(t, k.Due())
}
