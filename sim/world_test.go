package sim

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// gossip is a toy cluster with a bit of everything: timers, frames, disk writes,
// rare paths, clients. With leak it lets the order of a map reach a frame.
func gossip(seed uint64, o Options, leak bool) *World {
	o.Link = LinkConfig{
		Latency: 200 * time.Microsecond, Jitter: 500 * time.Microsecond, Loss: 0.05, Duplicate: 0.05,
		Corrupt: 0.01, Stray: 0.01,
	}
	w := NewWorld(seed, o)
	ms := addToys(w, 3, func(x *toy) error { gossiper(x, leak); return nil })
	for _, m := range ms {
		m.SetRestart(200 * time.Millisecond)
	}
	for i := range 3 {
		w.Spawn(fmt.Sprintf("client%d", i), func(p *Proc) {
			for {
				r := get("/" + fmt.Sprint(i))
				r.Endpoint = fmt.Sprintf("http://n%d:2379", 1+p.rand.IntN(3))
				if resp, err := p.Do(p.Context(), r); err == nil {
					resp.Body.Close()
				}
				p.Pause(time.Duration(p.rand.IntN(1e8)))
			}
		})
	}
	r := w.Rand("trouble")
	for i := range 20 {
		m := ms[r.IntN(3)]
		w.At(time.Duration(i)*500*time.Millisecond, "trouble", func() {
			switch r.IntN(6) {
			case 0:
				m.PowerOff()
				w.After(time.Second, "power", m.PowerOn)
			case 1:
				m.Kill()
			case 2:
				m.Pause(300 * time.Millisecond)
			case 3:
				c := w.Net().Isolate(m.ID())
				w.After(time.Second, "heal", c.Heal)
			case 4:
				m.Clock().SetDrift(int64(r.IntN(100_000) - 50_000))
			case 5:
				w.Net().Link(1, 2).Clog(time.Second)
			}
		})
	}
	return w
}

func gossiper(x *toy, leak bool) {
	n := 0
	heard := map[env.NodeID]int{}
	var tick func()
	tick = func() {
		n++
		for id := env.NodeID(1); id <= 3; id++ {
			if id != x.m.ID() {
				x.env.Net.Send(id, fmt.Appendf(nil, "%d %d %v", n, x.env.Rand.IntN(100), x.env.Rare.Chance("toy: often")))
			}
		}
		if n%10 == 0 {
			x.env.Disk.Replace("snapshot", text(fmt.Sprint(n)), func(error) { x.env.Rare.Mark("toy: snapshot") })
		}
		x.env.Clock.After(50*time.Millisecond, tick)
	}
	x.env.Clock.After(time.Duration(x.env.Rand.Int64N(5e7)), tick)
	x.receive = func(from env.NodeID, p []byte) {
		heard[from]++
		x.env.Disk.Append(fmt.Sprintf("log-%d", x.m.Life()), p, func(error) {
			x.env.Log.Log(env.Debug, "written", "bytes", len(p))
		})
	}
	x.serve = func(_ *gateway.Request, r gateway.Responder) func() {
		var b strings.Builder
		if leak {
			//lint:commutative a planted leak
			for id, n := range heard {
				fmt.Fprint(&b, id, n)
			}
		}
		x.env.Disk.Append(fmt.Sprintf("log-%d", x.m.Life()), []byte("request"), func(error) {
			r.Reply(&gateway.Reply{Status: 200, Body: []byte(b.String())})
		})
		return nil
	}
}

type outcome struct {
	hash  uint64
	steps uint64
	draws map[string]uint64
}

func run(t *testing.T, seed uint64, o Options, leak bool) outcome {
	t.Helper()
	w := gossip(seed, o, leak)
	defer w.Close()
	require.True(t, w.RunFor(15*time.Second), "%v", w.Failure())
	return outcome{w.Hash(), w.Steps(), w.Draws()}
}

func TestTheSameSeedIsTheSameRun(t *testing.T) {
	seen := map[uint64]uint64{}
	for seed := range uint64(30) {
		a, b := run(t, seed, Options{}, false), run(t, seed, Options{}, false)
		require.Equal(t, a, b, "seed %d", seed)
		other, known := seen[a.hash]
		require.False(t, known, "seeds %d and %d are one run", seed, other)
		seen[a.hash] = seed
	}
}

func TestWatchingDoesNotChangeTheRun(t *testing.T) {
	for seed := range uint64(5) {
		plain := run(t, seed, Options{}, false)
		var trace, log bytes.Buffer
		w := gossip(seed, Options{Trace: &trace, Log: &log, TraceRing: 10}, false)
		events, turns := strings.Count(trace.String(), "\n"), 0 // the starts
		w.OnEvent(func(e Event) { events++; _ = e.String() })
		w.OnTurn(func(*Machine) { turns++ })
		w.OnLife(func(*Machine) {})
		w.RunFor(15 * time.Second)
		assert.Equal(t, plain.hash, w.Hash())
		assert.Equal(t, plain.draws, w.Draws())
		assert.Equal(t, events, strings.Count(trace.String(), "\n"))
		assert.Contains(t, log.String(), "n1 debug written bytes=")
		assert.Positive(t, turns)
		assert.Len(t, w.Recent(), 10)
		w.Close()
	}
}

func TestALeakOfMapOrderIsCaught(t *testing.T) {
	for seed := range uint64(20) {
		if run(t, seed, Options{}, true).hash != run(t, seed, Options{}, true).hash {
			return
		}
	}
	t.Fatal("20 seeds, each run twice, and no difference")
}

func TestWorldsSideBySide(t *testing.T) {
	want := run(t, 7, Options{}, false)
	for i := range 4 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, want, run(t, 7, Options{}, false))
		})
	}
}

func TestOneMoreDrawShiftsNoOtherStream(t *testing.T) {
	w := newTestWorld(t, 9, Options{})
	v := newTestWorld(t, 9, Options{})
	for range 100 {
		w.Rand("a").Uint64()
	}
	assert.Equal(t, v.Rand("b").Uint64(), w.Rand("b").Uint64())
	assert.NotEqual(t, v.Rand("a").Uint64(), w.Rand("a").Uint64())
	assert.Equal(t, uint64(101), w.Draws()["a"])
	assert.NotEqual(t, v.Rand("c").Uint64(), newTestWorld(t, 10, Options{}).Rand("c").Uint64())
}

func TestEventsRunInOrderOfTimeThenAsking(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	r := w.Rand("test")
	var got []time.Duration
	var order []int
	for i := range 2000 {
		at := time.Duration(r.IntN(50)) * time.Second
		w.At(at, "x", func() {
			assert.Equal(t, at, w.Now())
			got, order = append(got, at), append(order, i)
		})
	}
	w.RunFor(time.Hour)
	require.Len(t, got, 2000)
	for i := 1; i < len(got); i++ {
		require.LessOrEqual(t, got[i-1], got[i])
		if got[i-1] == got[i] {
			require.Less(t, order[i-1], order[i])
		}
	}
}

func TestEachEventKnowsItsCause(t *testing.T) {
	w := newTestWorld(t, 1, Options{Turn: steady})
	ms, _ := listen(w, 2)
	w.At(time.Second, "go", func() { theToy(ms[0]).env.Net.Send(2, []byte("hello")) })
	w.RunFor(time.Minute)
	var begin, send, frame Event
	for _, e := range w.Recent() {
		switch {
		case e.Text == "go":
			begin = e
		case e.Kind == KindSend:
			send = e
		case e.Kind == KindFrame:
			frame = e
		}
	}
	assert.Equal(t, begin.ID, send.ID)
	assert.Equal(t, begin.ID, frame.Cause)
	assert.Equal(t, send.Hash, frame.Hash)
	assert.Equal(t, env.NodeID(1), frame.Peer)
	assert.Contains(t, frame.String(), " n2 frame n1 5 B ")
}

func TestFail(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	w.At(time.Second, "look", func() {
		w.Fail("durability", "write %d is gone", 17)
		w.Fail("other", "too late")
	})
	assert.False(t, w.RunTill(time.Minute, func() bool { return false }))
	assert.Equal(t, "durability at 1s, event 1: write 17 is gone", w.Failure().Error())
	assert.Equal(t, "durability: write # is gone", w.Failure().Signature())
	assert.Equal(t, time.Second, w.Now())
}

func TestRareReports(t *testing.T) {
	var sum RareReport
	for seed := range uint64(200) {
		w := newTestWorld(t, seed, Options{})
		for range 100 {
			w.rare.Chance("a: always asked")
		}
		w.SetRare(false)
		for range 100 {
			assert.False(t, w.rare.Chance("b: switched off"))
		}
		w.rare.Mark("c: reached")
		sum.Add(w.RareReport())
	}
	a := sum.Chances["a: always asked"]
	assert.Equal(t, 200, sum.Worlds)
	assert.Equal(t, uint64(20000), a.Passed)
	assert.InDelta(t, 50, a.Enabled, 20)
	assert.InDelta(t, 25*a.Enabled, int(a.Fired), 150)
	assert.Equal(t, []string{"b: switched off"}, sum.Never())
	assert.Equal(t, uint64(200), sum.Marks["c: reached"])
}

func TestAWorldNeedsDeterministic(t *testing.T) {
	reader := rand.Reader
	defer func() { rand.Reader = reader }()
	rand.Reader = io.MultiReader()
	assert.PanicsWithValue(t, "sim: call sim.Deterministic first, in TestMain or before the first world: without it raft's election jitter differs from run to run",
		func() { NewWorld(1, Options{}) })
}
