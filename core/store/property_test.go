package store

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/env"
)

// drawKey gives few keys, so that commands meet.
func drawKey(t *rapid.T) string {
	key := ""
	for range rapid.IntRange(0, 3).Draw(t, "depth") {
		key += "/" + rapid.SampledFrom([]string{"a", "b", "_h", "a-b", "ab"}).Draw(t, "name")
	}
	if key == "" {
		return "/"
	}
	return key
}

func drawCommand(t *rapid.T, index Index) Command {
	c := Command{
		Op:        Op(rapid.IntRange(int(OpSet), int(OpCompareAndDelete)).Draw(t, "op")),
		Key:       drawKey(t),
		Value:     rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "value"),
		Dir:       rapid.IntRange(0, 2).Draw(t, "dir") == 0,
		Recursive: rapid.IntRange(0, 2).Draw(t, "recursive") == 0,
		HasTTL:    rapid.IntRange(0, 2).Draw(t, "hasTTL") == 0,
	}
	if c.HasTTL {
		c.TTL = time.Duration(rapid.SampledFrom([]int64{0, 1, 2, 5, math.MaxInt64, -3}).Draw(t, "ttl"))
		if rapid.Bool().Draw(t, "refresh") {
			c.Refresh, c.Value = true, ""
		}
	}
	if c.Op == OpCompareAndSwap || c.Op == OpCompareAndDelete {
		c.PrevValue = rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "prevValue")
		if c.PrevValue == "" || rapid.Bool().Draw(t, "both") {
			c.PrevIndex = index - min(index, Index(rapid.IntRange(0, 5).Draw(t, "age")))
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "named") == 0 {
		c.ID = ID{
			Node:        env.NodeID(rapid.IntRange(1, 2).Draw(t, "node")),
			Incarnation: rapid.Uint64Range(1, 2).Draw(t, "incarnation"),
			Number:      rapid.Uint64Range(1, 12).Draw(t, "number"),
		}
		c.Settled = rapid.Uint64Range(0, 12).Draw(t, "settled")
	}
	return c
}

func drawBatch(t *rapid.T, now Time, index Index) *Batch {
	b := &Batch{
		Time: now + Time(rapid.SampledFrom([]int64{0, 0, 0, 1, 2, -1}).Draw(t, "step")),
		Wall: rapid.Int64Range(1000, 1003).Draw(t, "wall"),
	}
	for range rapid.IntRange(0, 4).Draw(t, "commands") {
		b.Commands = append(b.Commands, drawCommand(t, index))
	}
	return b
}

// bare is a copy of an event without what only the store needs.
func bare(e *Event) *Event {
	if e == nil {
		return nil
	}
	c := *e
	c.gone = nil
	return &c
}

func TestStoreIsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, m := New(), newModel()
		for range rapid.IntRange(1, 40).Draw(t, "batches") {
			b := drawBatch(t, s.Time(), s.Index())
			want, wantEvents := m.apply(b)
			var events []*Event
			have := s.Apply(b, func(e *Event) { events = append(events, bare(e)) })
			require.Len(t, have, len(want))
			for i := range have {
				have[i].Event = bare(have[i].Event)
				require.Equal(t, want[i], have[i], "%+v", b.Commands[i])
			}
			require.Equal(t, wantEvents, events)
			compareStates(t, s, m)
			if rapid.IntRange(0, 4).Draw(t, "reload") == 0 {
				s = reloadRapid(t, s)
			}
		}
	})
}

func compareStates(t *rapid.T, s *Store, m *model) {
	v := s.View()
	require.Equal(t, m.index, v.Index())
	require.Equal(t, m.time, v.Time())
	require.Equal(t, len(m.keys)-1, v.Len())
	wantDue, wantAny := m.nextDeadline()
	due, some := s.NextDeadline()
	require.Equal(t, wantAny, some)
	require.Equal(t, wantDue, due)
	for _, key := range []string{"/", drawKey(t)} {
		recursive := rapid.Bool().Draw(t, "recursive")
		want, wantErr := m.get(key, recursive)
		have, err := v.Get(key, recursive)
		require.Equal(t, wantErr, err)
		require.Equal(t, want, have)
	}
	key, recursive := drawKey(t), rapid.Bool().Draw(t, "recursive")
	from := Index(rapid.Uint64Range(1, uint64(m.index)+1).Draw(t, "from"))
	want, _ := m.since(key, recursive, from)
	have, err := v.Since(key, recursive, from)
	require.Nil(t, err)
	require.Equal(t, want, bare(have), "since %s %v %d", key, recursive, from)
	checkInvariants(t, s)
}

// checkInvariants checks what the package comment promises, and the innards.
func checkInvariants(t require.TestingT, s *Store) {
	var w walk
	w.enter(s.root)
	leased := 0
	for {
		n, left := w.next()
		if n == nil && !left {
			break
		}
		if n == nil {
			continue
		}
		require.LessOrEqual(t, n.created, n.modified)
		require.LessOrEqual(t, n.modified, s.index)
		if n.lease() != nil {
			require.Same(t, n.lease(), s.leases[n.lease().pos])
			leased++
		}
	}
	require.Len(t, s.leases, leased)
	for i := range s.leases {
		require.Equal(t, i, s.leases[i].pos)
		require.False(t, i > 0 && s.leases.before(i, (i-1)/2))
	}
	require.LessOrEqual(t, len(s.history), HistoryMax)
}

func reloadRapid(t *rapid.T, s *Store) *Store {
	fresh, err := Load(s.View().NewReader())
	require.NoError(t, err)
	require.Equal(t, s.View().Hash(), fresh.View().Hash())
	return fresh
}

// TestViewsStandStill takes a view after each batch and looks again at the end.
func TestViewsStandStill(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		views, hashes := []*View{}, []uint64{}
		for range rapid.IntRange(1, 30).Draw(t, "batches") {
			s.Apply(drawBatch(t, s.Time(), s.Index()), nil)
			if rapid.Bool().Draw(t, "look") {
				views = append(views, s.View())
				hashes = append(hashes, s.View().Hash())
			}
		}
		for i, v := range views {
			require.Equal(t, hashes[i], v.Hash(), "view %d of %d", i, len(views))
		}
	})
}

// TestReplicasAgree applies the same encoded batches to three stores: one as it
// is, one that takes views, one that is loaded from a snapshot time and again.
func TestReplicasAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain, viewed, loaded := New(), New(), New()
		for range rapid.IntRange(1, 30).Draw(t, "batches") {
			p := AppendBatch(nil, drawBatch(t, plain.Time(), plain.Index()))
			var results [3][]Result
			for i, s := range []*Store{plain, viewed, loaded} {
				b, err := DecodeBatch(p)
				require.NoError(t, err)
				results[i] = s.Apply(b, nil)
				for j := range results[i] {
					results[i][j].Event = bare(results[i][j].Event)
				}
			}
			require.Equal(t, results[0], results[1])
			require.Equal(t, results[0], results[2])
			viewed.View()
			require.Equal(t, plain.Chain(), viewed.Chain())
			require.Equal(t, plain.Chain(), loaded.Chain())
			if rapid.Bool().Draw(t, "reload") {
				loaded = reloadRapid(t, loaded)
			}
		}
		require.Equal(t, plain.View().Hash(), viewed.View().Hash())
		require.Equal(t, plain.View().Hash(), loaded.View().Hash())
	})
}

// TestWatchersMatchTheHistory adds watches on every key there can be and expects
// each event to wake exactly those that the history would.
func TestWatchersMatchTheHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, m := New(), newModel()
		type spot struct {
			key       string
			recursive bool
		}
		ws := NewWatchers()
		spots, cancels, woken := []spot{}, []*Watch{}, []int{}
		for i := range rapid.IntRange(1, 30).Draw(t, "watches") {
			spots = append(spots, spot{drawKey(t), rapid.Bool().Draw(t, "recursive")})
			cancels = append(cancels, ws.Add(spots[i].key, spots[i].recursive, func(*Event) { woken = append(woken, i) }))
		}
		off := map[int]bool{}
		for range rapid.IntRange(1, 20).Draw(t, "batches") {
			if rapid.IntRange(0, 3).Draw(t, "cancel") == 0 {
				i := rapid.IntRange(0, len(spots)-1).Draw(t, "which")
				cancels[i].Cancel()
				off[i] = true
			}
			b := drawBatch(t, s.Time(), s.Index())
			from := len(m.events)
			m.apply(b)
			at := from
			s.Apply(b, func(e *Event) {
				woken = woken[:0]
				ws.Notify(e)
				want := []int{}
				for i, spot := range spots {
					if !off[i] && m.events[at].wakes(spot.key, spot.recursive) {
						want = append(want, i)
					}
				}
				require.True(t, slices.Equal(want, woken), "%v, want %v, of %v for %+v", woken, want, spots, e.Node)
				at++
			})
		}
		require.Equal(t, len(spots)-len(off), ws.Len())
		for _, w := range cancels {
			w.Cancel()
		}
		require.Zero(t, ws.Len())
		require.Empty(t, ws.root.kids, "no place is left behind")
	})
}

func TestTreeIsASortedMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p *page
		want := map[string]Index{}
		edit := uint64(1)
		type frozen struct {
			p    *page
			want []string
		}
		var old []frozen
		inOrder := rapid.Bool().Draw(t, "inOrder")
		for i := range rapid.IntRange(1, 600).Draw(t, "steps") {
			name := fmt.Sprintf("%04d", i)
			if !inOrder {
				name = fmt.Sprintf("%03d", rapid.IntRange(0, 400).Draw(t, "name"))
			}
			if _, ok := want[name]; ok && rapid.Bool().Draw(t, "delete") {
				delete(want, name)
				p = p.del(name, edit)
			} else {
				want[name] = Index(i)
				p = p.put(newFile(name, "", Index(i), Index(i), nil), edit)
			}
			if rapid.IntRange(0, 50).Draw(t, "freeze") == 0 {
				old = append(old, frozen{p, names(p)})
				edit++
			}
		}
		have := names(p)
		require.Len(t, have, len(want))
		require.True(t, slices.IsSorted(have))
		for name, i := range want {
			require.Equal(t, i, p.get(name).created)
		}
		for _, f := range old {
			require.Equal(t, f.want, names(f.p))
		}
	})
}

func names(p *page) []string {
	var w walk
	w.stack = []spot{{p: p, top: true}}
	all := []string{}
	for {
		n, left := w.next()
		if n != nil {
			all = append(all, n.name())
		} else if !left {
			return all
		}
	}
}

// TestSnapshotByAnyRead reads a snapshot in steps of every size.
func TestSnapshotByAnyRead(t *testing.T) {
	s := New()
	big := string(bytes.Repeat([]byte("0123456789"), 30_000))
	one(s, Command{Op: OpSet, Key: "/big", Value: big})
	for i := range 3000 {
		one(s, Command{
			Op: OpSet, Key: fmt.Sprintf("/d/%d", i), Value: "v",
			ID: ID{Node: 1, Incarnation: 1, Number: uint64(2*i + 1)},
		})
	}
	v := s.View()
	want := snapshot(t, v)
	for _, size := range []int{1, 7, 4096, 1 << 20} {
		r, have := v.NewReader(), []byte{}
		p := make([]byte, size)
		for {
			n, err := r.Read(p)
			have = append(have, p[:n]...)
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			require.Positive(t, n)
		}
		require.True(t, bytes.Equal(want, have), "reads of %d", size)
	}
	fresh, err := Load(bytes.NewReader(want))
	require.NoError(t, err)
	require.Equal(t, v.Hash(), fresh.View().Hash())
}

// TestViewsMayBeReadElsewhere is for the race detector.
func TestViewsMayBeReadElsewhere(t *testing.T) {
	s := New()
	views, done := make(chan *View, 8), make(chan uint64)
	go func() {
		var sum uint64
		for v := range views {
			sum += v.Hash()
			_, _ = io.Copy(io.Discard, v.NewReader())
			_, _ = v.Get("/", true)
			_, _ = v.Since("/d/x/y", true, 1)
		}
		done <- sum
	}()
	for i := range 300 {
		n := uint64(i)
		s.Apply(&Batch{Time: Time(i), Commands: []Command{
			{Op: OpSet, Key: fmt.Sprintf("/d/%d", i%50), HasTTL: true, TTL: time.Duration(i % 40), ID: ID{1, 1, 2*n + 1}},
			{Op: OpUpdate, Key: "/d", HasTTL: i%2 == 0, TTL: 30, ID: ID{1, 1, 2 * n}},
			{Op: OpSet, Key: fmt.Sprintf("/d/%d", i%50), Refresh: true, HasTTL: true, TTL: 9, ID: ID{2, 1, 500 - n}, Settled: 1},
			{Op: OpDelete, Key: fmt.Sprintf("/d/%d", i%7), Recursive: true},
		}}, nil)
		views <- s.View()
	}
	close(views)
	<-done
}

// TestDeepKeys has no recursion where a key of half a million elements could
// exhaust the stack or the memory.
func TestDeepKeys(t *testing.T) {
	key := string(bytes.Repeat([]byte("/a"), 200_000))
	s, ws := New(), NewWatchers()
	require.Nil(t, one(s, Command{Op: OpSet, Key: key, Value: "v"}).Err)
	woken := 0
	ws.Add(key, false, func(*Event) { woken++ })
	n, err := s.View().Get(key, true)
	require.Nil(t, err)
	require.Equal(t, "v", n.Value)
	again, _ := Load(s.View().NewReader())
	require.Equal(t, s.View().Hash(), again.View().Hash())
	ws.Notify(one(s, Command{Op: OpDelete, Key: "/a", Recursive: true}).Event)
	require.Equal(t, 1, woken)
	require.Zero(t, s.View().Len())
	again, _ = Load(s.View().NewReader())
	require.Equal(t, s.View().Hash(), again.View().Hash())
}
