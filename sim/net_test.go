package sim

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

type arrival struct {
	at   time.Duration
	from env.NodeID
	p    []byte
}

// listen makes n toys and notes what reaches each.
func listen(w *World, n int) ([]*Machine, map[env.NodeID]*[]arrival) {
	got := make(map[env.NodeID]*[]arrival)
	ms := addToys(w, n, func(x *toy) error {
		id := x.m.ID()
		if got[id] == nil {
			got[id] = new([]arrival)
		}
		x.receive = func(from env.NodeID, p []byte) {
			*got[id] = append(*got[id], arrival{w.Now(), from, p})
		}
		return nil
	})
	return ms, got
}

func number(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)) }

func sendMany(t *testing.T, w *World, from *Machine, to env.NodeID, n int, gap time.Duration) {
	t.Helper()
	for i := range n {
		require.True(t, theToy(from).env.Net.Send(to, number(i)))
		w.RunFor(gap)
	}
}

func TestFramesTakeTheirTimeAndMayOvertake(t *testing.T) {
	link := LinkConfig{Latency: 5 * time.Millisecond, Jitter: 5 * time.Millisecond}
	w := newTestWorld(t, 1, Options{Turn: steady, Link: link})
	ms, got := listen(w, 2)
	sendMany(t, w, ms[0], 2, 500, time.Millisecond)
	w.RunFor(time.Second)
	require.Len(t, *got[2], 500)
	var sum time.Duration
	swapped := 0
	for i, a := range *got[2] {
		sent := time.Duration(binary.BigEndian.Uint32(a.p)) * time.Millisecond
		assert.GreaterOrEqual(t, a.at-sent, 5*time.Millisecond)
		sum += a.at - sent
		if i > 0 && bytes.Compare((*got[2])[i-1].p, a.p) > 0 {
			swapped++
		}
	}
	assert.InDelta(t, 10, float64(sum.Milliseconds())/500, 1.5)
	assert.Positive(t, swapped)

	link.Ordered = true
	w.Net().SetAll(link)
	*got[2] = nil
	sendMany(t, w, ms[0], 2, 500, time.Millisecond)
	w.RunFor(time.Second)
	for i, a := range *got[2] {
		assert.Equal(t, number(i), a.p)
	}
}

func TestLossDuplicatesAndDamage(t *testing.T) {
	w := newTestWorld(t, 1, Options{Turn: steady, Link: LinkConfig{Loss: 0.2, Duplicate: 0.3, DupDelay: time.Minute, Corrupt: 0.1}})
	ms, got := listen(w, 2)
	for i := range 2000 {
		theToy(ms[0]).env.Net.Send(2, number(i))
	}
	w.RunFor(time.Second)
	soon := len(*got[2])
	w.RunFor(time.Hour)
	copies := len(*got[2]) - soon
	assert.InDelta(t, 1600, soon, 80)
	assert.InDelta(t, 0.3*1600, copies, 80, "copies arrive, long after")
	damaged := 0
	for _, a := range (*got[2])[:soon] {
		if binary.BigEndian.Uint32(a.p) >= 2000 {
			damaged++
		}
	}
	assert.Positive(t, damaged)
	s := w.Net().Link(1, 2).Stats()
	assert.Equal(t, uint64(2000), s.Sent)
	assert.Zero(t, s.Bytes)
	assert.Nil(t, w.Failure(), "damage on the way is not the sender's doing")
}

func TestBurstsLoseManyInARow(t *testing.T) {
	w := newTestWorld(t, 1, Options{Turn: steady, Link: LinkConfig{BurstStart: 0.01, BurstEnd: 0.1}})
	ms, got := listen(w, 2)
	for i := range 5000 {
		theToy(ms[0]).env.Net.Send(2, number(i))
	}
	w.RunFor(time.Second)
	longest, next := 0, 0
	for _, a := range *got[2] {
		n := int(binary.BigEndian.Uint32(a.p))
		longest = max(longest, n-next)
		next = n + 1
	}
	assert.Greater(t, longest, 10)
	assert.Greater(t, len(*got[2]), 4000)
}

func TestACopyOutlivesBothProcesses(t *testing.T) {
	w := newTestWorld(t, 1, Options{Turn: steady, Link: LinkConfig{Duplicate: 1, DupDelay: time.Minute}})
	ms, got := listen(w, 2)
	for i := range 20 {
		theToy(ms[0]).env.Net.Send(2, number(i))
	}
	w.RunFor(time.Second)
	for _, m := range ms {
		m.PowerOff()
		m.PowerOn()
	}
	*got[2] = nil
	w.RunFor(time.Hour)
	assert.Greater(t, len(*got[2]), 10)
}

func TestPartitions(t *testing.T) {
	for _, hold := range []bool{false, true} {
		w := newTestWorld(t, 1, Options{Turn: steady, Link: LinkConfig{Latency: time.Millisecond, Hold: hold}})
		ms, got := listen(w, 3)
		all := func() {
			for _, a := range ms {
				for _, b := range ms {
					if a != b {
						theToy(a).env.Net.Send(b.ID(), number(0))
					}
				}
			}
			w.RunFor(time.Second)
		}
		counts := func() [3]int {
			c := [3]int{len(*got[1]), len(*got[2]), len(*got[3])}
			for _, g := range got {
				*g = nil
			}
			return c
		}
		all()
		assert.Equal(t, [3]int{2, 2, 2}, counts())

		cut := w.Net().Partition([]env.NodeID{1}, []env.NodeID{2, 3})
		all()
		assert.Equal(t, [3]int{0, 1, 1}, counts())
		cut.Heal()
		w.RunFor(time.Second)
		if hold {
			assert.Equal(t, [3]int{2, 1, 1}, counts(), "a queue is sent when the way is free")
		} else {
			assert.Equal(t, [3]int{}, counts())
		}

		bridge := w.Net().Partition([]env.NodeID{1, 2}, []env.NodeID{2, 3})
		all()
		assert.Equal(t, [3]int{1, 2, 1}, counts())
		one := w.Net().CutOneWay([]env.NodeID{2}, []env.NodeID{1})
		all()
		assert.Equal(t, [3]int{0, 2, 1}, counts())
		bridge.Heal()
		bridge.Heal()
		one.Heal()
		w.RunFor(time.Second)
		counts()
		w.Net().Isolate(3)
		w.Net().Isolate(2)
		assert.True(t, w.Net().Link(1, 2).Cut())
		w.Net().HealAll()
		w.RunFor(time.Second)
		counts()
		all()
		assert.Equal(t, [3]int{2, 2, 2}, counts())
	}
}

func TestACutCatchesWhatIsUnderWay(t *testing.T) {
	w := newTestWorld(t, 1, Options{Turn: steady, Link: LinkConfig{Latency: time.Second}})
	ms, got := listen(w, 2)
	theToy(ms[0]).env.Net.Send(2, number(0))
	w.RunFor(500 * time.Millisecond)
	cut := w.Net().Isolate(1)
	w.RunFor(time.Second)
	cut.Heal()
	w.RunFor(time.Minute)
	assert.Empty(t, *got[2])
	assert.Equal(t, uint64(1), w.Net().Link(1, 2).Stats().Dropped)
}

func TestAClogDeliversAllAtOnceAndInOrder(t *testing.T) {
	w := newTestWorld(t, 1, Options{Turn: steady, Link: LinkConfig{Latency: time.Millisecond}})
	ms, got := listen(w, 2)
	w.Net().Link(1, 2).Clog(10 * time.Second)
	sendMany(t, w, ms[0], 2, 9, time.Second)
	assert.Empty(t, *got[2])
	w.RunFor(10 * time.Second)
	require.Len(t, *got[2], 9)
	for i, a := range *got[2] {
		assert.Equal(t, 10*time.Second, a.at)
		assert.Equal(t, number(i), a.p)
	}
	w.Net().Link(1, 2).Clog(time.Hour)
	sendMany(t, w, ms[0], 2, 1, time.Second)
	w.Net().Link(1, 2).Unclog()
	w.RunFor(time.Second)
	assert.Len(t, *got[2], 10)
}

func TestALinkHoldsOnlySoMuch(t *testing.T) {
	w := newTestWorld(t, 1, Options{Turn: steady, Link: LinkConfig{Hold: true, Buffer: 1000}})
	ms, got := listen(w, 2)
	fill := func() (sent int) {
		for theToy(ms[0]).env.Net.Send(2, make([]byte, 100)) {
			sent++
		}
		return sent
	}
	cut := w.Net().Isolate(2)
	assert.Equal(t, 10, fill())
	w.RunFor(time.Hour)
	assert.Zero(t, fill())
	link := w.Net().Link(1, 2)
	assert.Equal(t, LinkStats{Sent: 10, Refused: 2, Bytes: 1000, BytesMax: 1000}, link.Stats())
	cut.Heal()
	w.RunFor(time.Second)
	assert.Len(t, *got[2], 10)
	assert.Zero(t, link.Stats().Bytes)

	ms[1].Pause(time.Minute)
	assert.Equal(t, 10, fill(), "a stopped process fills its sockets, then its senders")
	w.RunFor(time.Second)
	assert.Zero(t, fill())
	ms[1].Kill()
	assert.Zero(t, link.Stats().Bytes)
	assert.False(t, theToy(ms[0]).env.Net.Send(77, nil), "nobody is known there")
}

func TestBandwidthAndFrameSize(t *testing.T) {
	w := newTestWorld(t, 1, Options{Turn: steady, Link: LinkConfig{Bandwidth: 1000, MaxFrame: 600}})
	ms, got := listen(w, 2)
	for range 4 {
		theToy(ms[0]).env.Net.Send(2, make([]byte, 500))
	}
	theToy(ms[0]).env.Net.Send(2, make([]byte, 601))
	w.RunFor(time.Minute)
	require.Len(t, *got[2], 4)
	for i, a := range *got[2] {
		assert.Equal(t, time.Duration(i+1)*500*time.Millisecond, a.at)
	}
}

func TestAFrameThatChangesAfterSendIsAFinding(t *testing.T) {
	w := newTestWorld(t, 1, Options{Turn: steady})
	ms, _ := listen(w, 2)
	p := number(1)
	theToy(ms[0]).env.Net.Send(2, p)
	p[0]++
	assert.False(t, w.RunFor(time.Second))
	assert.Equal(t, "ownership", w.Failure().Oracle)
}
