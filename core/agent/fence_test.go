package agent_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// placer is an engine for one singleton: it moves the unit when the lease of its machine
// has run out, and takes away claims of such machines only.
type placer struct {
	w     *world
	unit  string
	at    int
	moves int
}

func (p *placer) look() {
	w := p.w
	alive := func(id string) bool { return w.get(w.keys.MachineObject(id)) != "" }
	for _, h := range w.hosts {
		if n, err := w.store.View().Get(w.keys.Claim(p.unit), false); err == nil && n.Value == h.id && !alive(h.id) {
			modified := n.Modified
			w.after(time.Duration(w.rand.IntN(50))*time.Millisecond, func() {
				w.apply(&store.Command{Op: store.OpCompareAndDelete, Key: w.keys.Claim(p.unit), PrevIndex: modified})
			})
		}
	}
	if !alive(w.hosts[p.at].id) {
		for i, h := range w.hosts {
			if alive(h.id) {
				p.move(i)
				break
			}
		}
	}
	w.after(100*time.Millisecond, p.look)
}

func (p *placer) move(to int) {
	p.w.unassign(p.w.hosts[p.at], p.unit)
	p.at = to
	p.moves++
	p.w.assign(p.w.hosts[to], p.unit, single, unit.Launched)
}

// copies is how many of the unit run.
func (p *placer) copies() (n int) {
	for _, h := range p.w.hosts {
		if h.runs(p.unit) {
			n++
		}
	}
	return n
}

func TestSingletonMovesWithoutOverlap(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.host("m1"), w.host("m2")
	a.start()
	b.start()
	w.until("both are there", 5*time.Second, func() bool { return a.agent.Ready() == nil && b.agent.Ready() == nil })
	p := &placer{w: w, unit: "s.service"}
	w.assign(a, p.unit, single, unit.Launched)
	p.look()
	w.always = append(w.always, func() { assert.LessOrEqual(t, p.copies(), 1) })
	w.until("it runs", 5*time.Second, func() bool { return a.runs(p.unit) })
	assert.Equal(t, a.id, w.get(w.keys.Claim(p.unit)))

	a.src.away, a.src.cut = true, true // and it does not know that it was moved
	began := w.now
	w.until("it runs elsewhere", time.Minute, func() bool { return b.runs(p.unit) })
	assert.Less(t, w.now-began, 32*time.Second)
	a.src.away = false
	a.src.sync()
	w.until("and its file is gone here", time.Minute, func() bool { return len(a.systemd.Files()) == 0 })
	assert.Equal(t, b.id, w.get(w.keys.Claim(p.unit)))

	w.unassign(b, p.unit)
	w.until("nobody holds it", time.Minute, func() bool { return w.get(w.keys.Claim(p.unit)) == "" })
	assert.Zero(t, p.copies())
}

func TestSingletonIsHandedOver(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.host("m1"), w.host("m2")
	a.start()
	b.start()
	w.until("both are there", 5*time.Second, func() bool { return a.agent.Ready() == nil && b.agent.Ready() == nil })
	slow := single + "[Service]\nExecStop=/bin/sleep 5\n"
	w.assign(a, "s.service", slow, unit.Launched)
	w.until("it runs", 5*time.Second, func() bool { return a.runs("s.service") })
	w.always = append(w.always, func() { assert.False(t, a.runs("s.service") && b.runs("s.service")) })
	w.unassign(a, "s.service")
	w.assign(b, "s.service", single, unit.Launched)
	began := w.now
	w.until("it is told why the other waits", 5*time.Second, func() bool { return w.state(b, "s.service").Result != "" })
	assert.Contains(t, w.state(b, "s.service").Result, "waits for its claim")
	w.until("the other runs", 20*time.Second, func() bool { return b.runs("s.service") })
	assert.Less(t, w.now-began, 8*time.Second)
}

// Whatever happens to the store, the service managers and the processes, two copies of a
// singleton do not run at once, unless an agent was not there to stop its own.
func TestSingletonNeverTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"))
		for _, name := range []string{"m1", "m2", "m3"} {
			h := w.host(name)
			h.drift = 1 + float64(rapid.IntRange(-40, 40).Draw(t, "drift"))/1000
			h.start()
		}
		p := &placer{w: w, unit: "s.service"}
		w.assign(w.hosts[0], p.unit, single, unit.Launched)
		p.look()
		w.always = append(w.always, func() {
			if n := p.copies(); n > 1 {
				t.Fatalf("%d copies at %s\n%s", n, w.now, w.describe())
			}
		})
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			h := w.hosts[rapid.IntRange(0, 2).Draw(t, "machine")]
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				h.src.away = true
			case 1:
				h.src.away = false
				h.src.sync()
			case 2: // a moment without the process is no long one
				h.restart()
			case 3:
				h.reboot()
			case 4:
				h.src.lag = time.Duration(rapid.IntRange(0, 3000).Draw(t, "lag")) * time.Millisecond
			case 5:
				p.move(rapid.IntRange(0, 2).Draw(t, "to"))
			}
			w.forward(time.Duration(rapid.IntRange(1, 40000).Draw(t, "ms")) * time.Millisecond)
		}
		for _, h := range w.hosts {
			h.src.away, h.src.lag = false, 0
			h.src.sync()
		}
		w.until("it runs in the end", 3*time.Minute, func() bool { return p.copies() == 1 && w.hosts[p.at].runs(p.unit) })
		w.until("under its claim", time.Minute, func() bool { return w.get(w.keys.Claim(p.unit)) == w.hosts[p.at].id })
	})
}

// A machine that runs nothing of a fenced unit keeps no claim of it, however the answers
// to its writes were lost.
func TestClaimsAreGivenBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.Uint64().Draw(t, "seed"))
		h := w.host("m1")
		h.start()
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				w.assign(h, "s.service", single, unit.Launched)
			case 1:
				w.unassign(h, "s.service")
			case 2:
				h.src.away = true
			case 3:
				h.src.away = false
				h.src.sync()
			case 4:
				h.restart()
			}
			w.forward(time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * time.Millisecond)
		}
		w.unassign(h, "s.service")
		h.src.away = false
		h.src.sync()
		w.forward(2 * time.Minute)
		if c := w.get(w.keys.Claim("s.service")); c != "" {
			t.Fatalf("the claim stays: %s\n%s", c, w.describe())
		}
		left := fmt.Sprint(w.get(w.keys.State("s.service", h.id)), w.get(w.keys.JobState("s.service")))
		if left != "" {
			t.Fatalf("left over: %s\n%s", left, w.describe())
		}
	})
}

// A machine that returns after its units moved takes nothing back of what the others say
// of them, whatever still runs on it.
func TestReturningMachineLeavesTheMarksOfOthers(t *testing.T) {
	for _, text := range []string{sleeper, single} {
		w := newWorld(t, 7)
		a, b := w.host("m1"), w.host("m2")
		a.start()
		b.start()
		w.until("both are registered", 5*time.Second, func() bool { return a.agent.Ready() == nil && b.agent.Ready() == nil })
		w.assign(a, "s.service", text, unit.Launched)
		mark := w.keys.JobState("s.service")
		w.until("it runs on the first", 5*time.Second, func() bool { return w.get(mark) == a.id })
		a.pause = true
		w.until("its lease is gone", time.Minute, func() bool { return w.get(w.keys.MachineObject(a.id)) == "" })
		w.unassign(a, "s.service")
		w.remove(mark)
		w.remove(w.keys.Claim("s.service"))
		w.assign(b, "s.service", text, unit.Launched)
		w.until("it runs on the second", 5*time.Second, func() bool { return w.get(mark) == b.id })
		a.resume()
		w.until("the first has stopped it", 10*time.Second, func() bool { return !a.runs("s.service") })
		w.forward(time.Minute)
		assert.Equal(t, b.id, w.get(mark))
	}
}
