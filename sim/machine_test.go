package sim

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

func TestATimerRunsByItsNodesOwnRate(t *testing.T) {
	for _, c := range []struct {
		ppm  int64
		want time.Duration
	}{{0, 10 * time.Second}, {50_000, 9523809524}, {-50_000, 10526315789}, {100, 9999000100}} {
		w := newTestWorld(t, 1, Options{Turn: steady})
		m := addToys(w, 1, nil)[0]
		m.Clock().SetDrift(c.ppm)
		var at time.Duration
		theToy(m).env.Clock.After(10*time.Second, func() { at = w.Now() })
		w.RunFor(time.Minute)
		assert.Equal(t, c.want, at, "%d ppm", c.ppm)
	}
}

func TestATimerFollowsAChangeOfRate(t *testing.T) {
	w := newTestWorld(t, 1, Options{Turn: steady})
	m := addToys(w, 1, nil)[0]
	var at []time.Duration
	clock := theToy(m).env.Clock
	clock.After(10*time.Second, func() { at = append(at, w.Now()) })
	stopped := clock.After(10*time.Second, func() { at = append(at, 0) })
	w.RunFor(5 * time.Second)
	stopped.Stop()
	m.Clock().SetDrift(500_000)
	w.RunFor(time.Second)
	m.Clock().SetDrift(0)
	w.RunFor(time.Minute)
	assert.Equal(t, []time.Duration{9500 * time.Millisecond}, at)
}

func TestWallClock(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m := addToys(w, 1, nil)[0]
	c := m.Clock()
	start := w.Options().Start
	c.SetSkew(time.Hour)
	mono := c.Mono()
	w.RunFor(time.Minute)
	assert.Equal(t, start.Add(time.Hour+time.Minute), c.Wall())
	c.Jump(-2 * time.Hour)
	assert.Equal(t, start.Add(time.Minute-time.Hour), c.Wall())
	assert.Equal(t, mono+time.Minute, c.Mono(), "a jump leaves the monotonic clock alone")
	c.Freeze(10 * time.Second)
	w.RunFor(5 * time.Second)
	assert.Equal(t, start.Add(time.Minute-time.Hour), c.Wall())
	w.RunFor(10 * time.Second)
	assert.Equal(t, start.Add(time.Minute-time.Hour+5*time.Second), c.Wall(), "it goes on from where it stood")
	c.SetWall(time.Unix(0, 0))
	assert.Equal(t, time.Unix(0, 0).UTC(), c.Wall().UTC())
}

func TestMonotonicClockRestartsWithTheMachineOnly(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m := addToys(w, 1, nil)[0]
	w.RunFor(time.Hour)
	before := m.Clock().Mono()
	assert.Greater(t, before, time.Hour-time.Nanosecond)
	m.Kill()
	m.Start()
	assert.Equal(t, before, m.Clock().Mono())
	m.PowerOff()
	m.PowerOn()
	assert.LessOrEqual(t, m.Clock().Mono(), 30*time.Second)
}

func TestPauseLetsAllDueTimersRunAtItsEnd(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m := addToys(w, 1, nil)[0]
	e := theToy(m).env
	var at []time.Duration
	var seen []env.Instant
	for i := 1; i <= 5; i++ {
		e.Clock.After(time.Duration(i)*time.Second, func() {
			at, seen = append(at, w.Now()), append(seen, e.Clock.Now())
		})
	}
	w.RunFor(1500 * time.Millisecond)
	require.Len(t, at, 1)
	m.Pause(10 * time.Second)
	begin := e.Clock.Now()
	w.RunFor(9 * time.Second)
	assert.Len(t, at, 1)
	assert.True(t, m.Paused())
	w.RunFor(2 * time.Second)
	require.Len(t, at, 5)
	for i, a := range at[1:] {
		assert.GreaterOrEqual(t, a, 11500*time.Millisecond)
		assert.GreaterOrEqual(t, seen[i+1].Sub(begin), 10*time.Second-time.Millisecond, "the node sees a leap")
	}
}

func TestSuspendStopsTheMonotonicClock(t *testing.T) {
	w := newTestWorld(t, 1, Options{Turn: steady})
	m := addToys(w, 1, nil)[0]
	var at time.Duration
	theToy(m).env.Clock.After(2*time.Second, func() { at = w.Now() })
	w.RunFor(time.Second)
	mono, wall := m.Clock().Mono(), m.Clock().Wall()
	m.Suspend(time.Minute)
	w.RunFor(30 * time.Second)
	assert.Equal(t, mono, m.Clock().Mono())
	assert.Equal(t, 30*time.Second, m.Clock().Wall().Sub(wall))
	w.RunFor(time.Hour)
	assert.Equal(t, 62*time.Second, at)
}

func TestAClosureOfADeadLifeNeverRuns(t *testing.T) {
	for name, end := range map[string]func(*Machine){"kill": (*Machine).Kill, "power": (*Machine).PowerOff} {
		w := newTestWorld(t, 1, Options{})
		m := addToys(w, 2, nil)[0]
		e := theToy(m).env
		ran := false
		inside(t, m, func(e *env.Env) {
			e.Clock.After(time.Second, func() { ran = true })
			e.Disk.Append("f", []byte("x"), func(error) { ran = true })
		})
		end(m)
		m.PowerOn()
		e.Clock.After(time.Second, func() { ran = true })
		assert.False(t, e.Net.Send(2, []byte("late")))
		e.Disk.Append("f", []byte("y"), func(error) { ran = true })
		w.RunFor(time.Minute)
		assert.False(t, ran, name)
	}
}

func TestFatalEndsTheProcessAndTheServiceManagerStartsIt(t *testing.T) {
	w := newTestWorld(t, 1, Options{Turn: steady})
	flushes := 0
	m := addToys(w, 1, func(x *toy) error { x.flush = func() { flushes++ }; return nil })[0]
	m.SetRestart(3 * time.Second)
	before := flushes
	theToy(m).env.Clock.After(time.Second, func() { m.Fatal(errToy) })
	w.RunFor(2 * time.Second)
	assert.False(t, m.Up())
	assert.True(t, m.Powered())
	assert.Equal(t, before, flushes, "the turn is not finished")
	require.Len(t, m.Exits(), 1)
	assert.Equal(t, Exit{At: time.Second, Why: "fatal", Err: errToy, Life: 1}, m.Exits()[0])
	w.RunFor(3 * time.Second)
	assert.True(t, m.Up())
	assert.Equal(t, 2, m.Life())
}

// It is started again after 1 s, then after 2, 3, 3 …: the manager backs off.
func TestANodeThatDoesNotStartIsACrashLoop(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m := w.Add(1, "n1", toys(func(*toy) error { return errToy }))
	m.SetRestart(time.Second)
	m.PowerOn()
	w.RunFor(9500 * time.Millisecond)
	assert.Len(t, m.Exits(), 5)
	assert.Equal(t, "start", m.Exits()[0].Why)
	m.PowerOff()
	w.RunFor(time.Minute)
	assert.Len(t, m.Exits(), 5)
}

func TestAFatalErrorDuringTheStartIsAnExit(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m := w.Add(1, "n1", toys(func(x *toy) error { x.m.Fatal(errToy); return nil }))
	m.PowerOn()
	assert.False(t, m.Up())
	require.Len(t, m.Exits(), 1)
	assert.Equal(t, "fatal", m.Exits()[0].Why)
}

func TestStopWaitsForTheNode(t *testing.T) {
	w := newTestWorld(t, 1, Options{Turn: steady})
	var flushed []time.Duration
	m := addToys(w, 1, func(x *toy) error {
		x.stop = func(done func()) { x.env.Clock.After(time.Second, done) }
		x.flush = func() { flushed = append(flushed, w.Now()) }
		return nil
	})[0]
	m.SetRestart(time.Second)
	m.Stop(time.Minute)
	w.RunFor(time.Hour)
	require.Len(t, m.Exits(), 1)
	assert.Equal(t, "stop", m.Exits()[0].Why)
	assert.Equal(t, time.Second, m.Exits()[0].At)
	assert.Equal(t, time.Second, flushed[len(flushed)-1], "what the node says last still leaves")

	m.PowerOn()
	theToy(m).stop = func(func()) {}
	m.Stop(time.Minute)
	w.RunFor(time.Hour)
	assert.Equal(t, "kill", m.Exits()[1].Why)
}

func TestAPanicIsAFinding(t *testing.T) {
	signature := func() string {
		w := newTestWorld(t, 1, Options{})
		m := addToys(w, 1, nil)[0]
		theToy(m).env.Clock.After(time.Second, func() { explode(m) })
		assert.False(t, w.RunFor(time.Minute))
		f := w.Failure()
		require.NotNil(t, f)
		assert.Equal(t, "panic", f.Oracle)
		assert.Equal(t, env.NodeID(1), f.Node)
		assert.Contains(t, f.Message, "the toy broke")
		assert.Contains(t, f.Stack, "explode")
		assert.NotContains(t, f.Stack, "0x")
		assert.False(t, w.Step(), "a failed world stands still")
		assert.Equal(t, time.Second, w.Now())
		return f.Signature()
	}
	assert.Equal(t, signature(), signature())
	assert.Contains(t, signature(), "explode")
}

func explode(m *Machine) { panic(errToy.Error() + m.Name()) }

func TestSlowMakesInputsQueue(t *testing.T) {
	w := newTestWorld(t, 1, Options{Turn: TurnConfig{Max: 64}})
	turns := 0
	m := addToys(w, 1, func(x *toy) error { x.flush = func() { turns++ }; return nil })[0]
	m.SetSlow(100 * time.Millisecond)
	turns = 0
	ran := 0
	for i := range 1000 {
		theToy(m).env.Clock.After(time.Duration(i)*time.Millisecond, func() { ran++ })
	}
	w.RunFor(900 * time.Millisecond)
	assert.LessOrEqual(t, turns, 10)
	assert.Less(t, ran, 1000)
	w.RunFor(time.Minute)
	assert.Equal(t, 1000, ran)
}

func TestTheSeedDecidesHowInputsShareATurn(t *testing.T) {
	sizes := map[int]bool{}
	for seed := range uint64(40) {
		w := newTestWorld(t, seed, Options{})
		inputs := 0
		m := addToys(w, 1, func(x *toy) error {
			x.flush = func() { sizes[inputs] = true; inputs = 0 }
			return nil
		})[0]
		for i := range 200 {
			theToy(m).env.Clock.After(time.Duration(i)*10*time.Microsecond, func() { inputs++ })
		}
		w.RunFor(time.Second)
	}
	assert.True(t, sizes[1])
	assert.Greater(t, len(sizes), 20)
}

func TestTheClockStandsStillInATurn(t *testing.T) {
	w := newTestWorld(t, 3, Options{Turn: TurnConfig{Max: 64, Wait: 1, Delay: 10 * time.Millisecond}})
	var now env.Instant
	first := true
	m := addToys(w, 1, nil)[0]
	x := theToy(m)
	x.flush = func() {
		if !first {
			assert.Equal(t, now, x.env.Clock.Now())
		}
		first = true
	}
	for i := range 100 {
		x.env.Clock.After(time.Duration(i)*time.Millisecond, func() {
			if first {
				now, first = x.env.Clock.Now(), false
			}
			assert.Equal(t, now, x.env.Clock.Now())
		})
	}
	w.RunFor(time.Second)
}
