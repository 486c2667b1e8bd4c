package linearizability

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGoodHistoriesPass(t *testing.T) {
	for seed := range uint64(150) {
		for _, log := range []bool{true, false} {
			f := newFake(seed, 1+int(seed%8))
			h := f.run(300, log)
			f.flush()
			r := Check(h, Options{})
			require.Emptyf(t, r.Violations, "seed %d log %t", seed, log)
			assert.Zero(t, r.KeysUndecided)
		}
	}
}

// Without a watch that sees everything, what nobody saw must be explained.
func TestGoodHistoriesPassWithoutWatch(t *testing.T) {
	for seed := range uint64(150) {
		f := newFake(seed, 1+int(seed%6))
		f.unknown = 0.1
		h := f.run(300, false)
		h.Watches = nil
		r := Check(h, Options{})
		require.Emptyf(t, r.Violations, "seed %d", seed)
	}
}

// op makes an operation by hand for the histories below.
func op(call, ret int64, in Input, out Output) *Op {
	o := &Op{Client: int(call), Call: call, Return: ret, InvokedAt: call * 1e9, ReturnedAt: ret * 1e9, Input: in, Output: out}
	o.Unknown = ret == Never
	return o
}

func file(key, value string, created, modified uint64) *Node {
	return &Node{Key: key, Value: value, Created: created, Modified: modified}
}

func set(call, ret int64, value string, index uint64, prev *Node) *Op {
	return op(call, ret, Input{Kind: Set, Key: "/k", Value: value}, Output{Action: "set", Node: file("/k", value, index, index), Prev: prev, Index: index})
}

func get(call, ret int64, index uint64, n *Node) *Op {
	if n == nil {
		return op(call, ret, Input{Kind: Get, Key: "/k"}, Output{Code: 100, Cause: "/k", Index: index})
	}
	return op(call, ret, Input{Kind: Get, Key: "/k"}, Output{Action: "get", Node: n, Index: index})
}

func event(seq int64, action string, n, prev *Node) *Event {
	return &Event{Index: n.Modified, Action: action, Node: n, Prev: prev, Seq: seq, At: seq * 1e9}
}

func TestBadHistoriesAreRejected(t *testing.T) {
	a, b := file("/k", "a", 4, 4), file("/k", "b", 5, 5)
	cas := func(call, ret int64, value string, index uint64, prev *Node) *Op {
		return op(call, ret, Input{Kind: CAS, Key: "/k", Value: value, PrevValue: "a"},
			Output{Action: "compareAndSwap", Node: file("/k", value, 4, index), Prev: prev, Index: index})
	}
	ttl := func(n *Node) *Node { c := *n; c.HasTTL = true; return &c }
	setTTL := op(1, 2, Input{Kind: Set, Key: "/k", Value: "a", HasTTL: true, TTLSeconds: 10}, Output{Action: "set", Node: ttl(a), Index: 4})
	expired := &Node{Key: "/k", Created: 4, Modified: 5}
	setA := event(1, "set", a, nil)
	stream := func(from uint64, events ...*Event) *Watch {
		return &Watch{Key: "/k", Stream: true, From: from, Open: true, Accepted: 3, Events: events}
	}
	for name, c := range map[string]struct {
		want Oracle
		h    History
		// index says that only a checker that trusts indexes can see it.
		indexOnly bool
	}{
		"stale read": {Linearizable, History{Ops: []*Op{
			set(1, 2, "a", 4, nil), set(3, 4, "b", 5, a), get(5, 6, 4, a),
		}}, false},
		"stale read of nothing": {Linearizable, History{Ops: []*Op{
			set(1, 2, "a", 4, nil), get(5, 6, 3, nil),
		}}, false},
		"value that nobody wrote": {Linearizable, History{Ops: []*Op{
			set(1, 2, "a", 4, nil), get(3, 4, 4, file("/k", "x", 4, 4)),
		}}, false},
		"lost update": {Linearizable, History{Ops: []*Op{
			set(1, 2, "a", 4, nil), cas(3, 6, "x", 5, a), cas(4, 7, "y", 6, a),
		}}, false},
		"dirty read": {Linearizable, History{Ops: []*Op{
			set(1, 2, "a", 4, nil), get(3, 4, 5, b), get(5, 6, 5, a),
		}}, false},
		"swap done twice": {Linearizable, History{
			Ops: []*Op{set(1, 2, "a", 4, nil), cas(3, 6, "a", 5, a)},
			Log: []*Event{setA, event(4, "compareAndSwap", file("/k", "a", 4, 5), a), event(5, "compareAndSwap", file("/k", "a", 4, 6), file("/k", "a", 4, 5))},
		}, true},
		"failed write happened": {Linearizable, History{
			Ops: []*Op{set(1, 2, "a", 4, nil), op(3, 6, Input{Kind: CAS, Key: "/k", Value: "x", PrevValue: "a"}, Output{Code: 101, Cause: "[a != x]", Index: 5}), get(7, 8, 5, file("/k", "x", 4, 5))},
		}, false},
		"wrong error": {Linearizable, History{Ops: []*Op{
			set(1, 2, "a", 4, nil), op(3, 4, Input{Kind: Create, Key: "/k", Value: "b"}, Output{Code: 100, Cause: "/k", Index: 4}),
		}}, false},
		"acknowledged and gone": {Durable, History{
			Ops: []*Op{set(1, 2, "a", 4, nil), set(4, 5, "b", 5, a)},
			Log: []*Event{setA},
		}, true},
		"acknowledged before it was applied": {Durable, History{
			Ops: []*Op{set(1, 2, "a", 4, nil)},
			Log: []*Event{event(3, "set", a, nil)},
		}, true},
		"two writes with one index": {Linearizable, History{Ops: []*Op{
			set(1, 2, "a", 4, nil), set(3, 4, "b", 4, nil),
		}}, true},
		"in-order keys go back": {Linearizable, History{Ops: []*Op{
			op(1, 2, Input{Kind: Post, Key: "/q", Value: "a"}, Output{Action: "create", Index: 5, Node: file("/q/00000000000000000005", "a", 5, 5)}),
			op(3, 4, Input{Kind: Post, Key: "/q", Value: "b"}, Output{Action: "create", Index: 4, Node: file("/q/00000000000000000004", "b", 4, 4)}),
		}}, true},
		"listing misses a child": {Linearizable, History{Ops: []*Op{
			set(1, 2, "a", 4, nil), op(3, 4, Input{Kind: Get, Key: "/"}, Output{Action: "get", Index: 4, Node: &Node{Key: "/", Dir: true}}),
		}}, true},
		"watch misses an event": {WatchLoss, History{
			Ops:     []*Op{set(1, 2, "a", 4, nil), set(3, 4, "b", 5, a), set(5, 6, "c", 6, b)},
			Watches: []*Watch{stream(4, event(3, "set", a, nil), event(7, "set", file("/k", "c", 6, 6), b))},
		}, true},
		"watch never catches up": {WatchLoss, History{
			Ops:     []*Op{set(1, 2, "a", 4, nil), set(3, 4, "b", 5, a)},
			Watches: []*Watch{{Key: "/k", Stream: true, From: 4, Open: true, Live: true, Events: []*Event{event(3, "set", a, nil)}}},
		}, true},
		"watch repeats an event": {WatchRepeat, History{
			Ops:     []*Op{set(1, 2, "a", 4, nil)},
			Watches: []*Watch{stream(4, event(3, "set", a, nil), event(4, "set", a, nil))},
		}, true},
		"watch goes back": {WatchOrder, History{
			Ops:     []*Op{set(1, 2, "a", 4, nil), set(3, 4, "b", 5, a)},
			Watches: []*Watch{stream(4, event(5, "set", b, a), event(6, "set", a, nil))},
		}, true},
		"resumed watch repeats": {WatchRepeat, History{
			Ops:     []*Op{set(1, 2, "a", 4, nil), set(3, 4, "b", 5, a)},
			Watches: []*Watch{stream(5, event(5, "set", a, nil))},
		}, true},
		"watch shows what never was": {WatchWrong, History{
			Ops: []*Op{set(1, 2, "a", 4, nil)}, Log: []*Event{setA},
			Watches: []*Watch{stream(4, event(5, "set", file("/k", "x", 5, 5), a))},
		}, true},
		"watch shows another key": {WatchWrong, History{
			Ops: []*Op{set(1, 2, "a", 4, nil)}, Log: []*Event{setA},
			Watches: []*Watch{{Key: "/kk", Open: true, Accepted: 3, Events: []*Event{event(5, "set", a, nil)}}},
		}, true},
		"cleared too soon": {WatchLoss, History{
			Ops:     []*Op{set(1, 2, "a", 4, nil)},
			Watches: []*Watch{{Key: "/k", From: 5, Code: 401, Index: 900}},
		}, true},
		"expires early": {TTLEarly, History{
			Ops: []*Op{setTTL}, Log: []*Event{event(1, "set", ttl(a), nil), event(9, "expire", expired, ttl(a))},
		}, true},
		"expires twice": {Linearizable, History{
			Ops: []*Op{setTTL},
			Log: []*Event{event(1, "set", ttl(a), nil), event(12, "expire", expired, ttl(a)), event(13, "expire", &Node{Key: "/k", Created: 4, Modified: 6}, nil)},
		}, true},
		"expires without ttl": {Linearizable, History{
			Ops: []*Op{set(1, 2, "a", 4, nil)}, Log: []*Event{setA, event(9, "expire", expired, a)},
		}, true},
		"never expires": {TTLLate, History{
			Ops: []*Op{setTTL, get(30, 31, 4, ttl(a))}, Log: []*Event{event(1, "set", ttl(a), nil)},
		}, true},
		"answered before it was asked": {Linearizable, History{
			Ops: []*Op{get(1, 2, 4, a), set(3, 4, "a", 4, nil)}, Log: []*Event{setA},
		}, true},
		"two nodes differ": {Diverged, History{Lost: []string{"n1 and n2"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := Check(&c.h, Options{LateMax: 5e9, SkipRegister: true})
			require.NotEmpty(t, r.Violations)
			var all []string
			for _, v := range r.Violations {
				all = append(all, string(v.Oracle))
			}
			assert.Contains(t, all, string(c.want), "%v", r.Violations)
			if c.indexOnly {
				return
			}
			second := &Report{}
			checkRegisters(&c.h, &Options{}, second)
			assert.NotEmpty(t, second.Violations, "porcupine must see it too")
		})
	}
}

// A mutation is one lie in an otherwise good history.
var mutations = []struct {
	name   string
	oracle string // a part of the oracle's name, or "" for any
	lie    func(r *rand.Rand, h *History) bool
}{
	{"read shows the value before", "", func(r *rand.Rand, h *History) bool {
		return pick(r, h.Ops, func(o *Op) bool {
			return !o.Unknown && o.Input.Kind == Get && o.Output.Node != nil && !o.Output.Node.Dir
		}, func(o *Op) {
			n := *o.Output.Node
			n.Value, o.Output.Node = "older", &n
		})
	}},
	{"read claims an older index", "", func(r *rand.Rand, h *History) bool {
		return pick(r, h.Ops[len(h.Ops)/2:], func(o *Op) bool { return !o.Unknown && o.Input.Kind == Get }, func(o *Op) { o.Output.Index = 4 })
	}},
	{"a success is told as failure", "", func(r *rand.Rand, h *History) bool {
		return pick(r, h.Ops, func(o *Op) bool { return o.changed() && o.Input.Kind == CAS }, func(o *Op) {
			o.Output = Output{Code: 101, Cause: "[x != y]", Index: o.Output.Index}
		})
	}},
	{"a change is dropped from the log", "", func(r *rand.Rand, h *History) bool {
		if len(h.Log) < 3 {
			return false
		}
		i := 1 + r.IntN(len(h.Log)-2)
		h.Log = append(h.Log[:i:i], h.Log[i+1:]...)
		return true
	}},
	{"a watch loses an event", "watch loss", func(r *rand.Rand, h *History) bool {
		w := h.Watches[0]
		if len(w.Events) < 3 {
			return false
		}
		i := 1 + r.IntN(len(w.Events)-2)
		w.Events = append(w.Events[:i:i], w.Events[i+1:]...)
		return true
	}},
	{"a watch swaps two events", "watch order", func(r *rand.Rand, h *History) bool {
		w := h.Watches[0]
		if len(w.Events) < 3 {
			return false
		}
		i := 1 + r.IntN(len(w.Events)-2)
		w.Events[i], w.Events[i+1] = w.Events[i+1], w.Events[i]
		return true
	}},
	{"a write is acknowledged with another index", "", func(r *rand.Rand, h *History) bool {
		return pick(r, h.Ops, func(o *Op) bool { return o.changed() }, func(o *Op) { o.Output.Index++ })
	}},
}

func pick(r *rand.Rand, ops []*Op, which func(*Op) bool, do func(*Op)) bool {
	var fit []*Op
	for _, o := range ops {
		if which(o) {
			fit = append(fit, o)
		}
	}
	if len(fit) == 0 {
		return false
	}
	do(fit[r.IntN(len(fit))])
	return true
}

func TestMutatedHistoriesAreRejected(t *testing.T) {
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			tried := 0
			for seed := range uint64(30) {
				f := newFake(seed, 4)
				h := f.run(200, true)
				f.flush()
				if !m.lie(rand.New(rand.NewPCG(seed, 1)), h) {
					continue
				}
				tried++
				r := Check(h, Options{SkipRegister: true})
				require.NotEmptyf(t, r.Violations, "seed %d", seed)
				require.Contains(t, fmt.Sprint(r.Violations), m.oracle)
			}
			assert.Positive(t, tried)
		})
	}
}

func TestHistorySurvivesTheDisk(t *testing.T) {
	f := newFake(1, 4)
	h := f.run(100, true)
	var b bytes.Buffer
	n, err := h.WriteTo(&b)
	require.NoError(t, err)
	assert.EqualValues(t, b.Len(), n)
	back, err := Read(bytes.NewReader(b.Bytes()))
	require.NoError(t, err)
	assert.Equal(t, h.Ops, back.Ops)
	assert.Equal(t, h.Log, back.Log)
	assert.Equal(t, h.Watches, back.Watches)
	assert.Equal(t, h.Final, back.Final)
}

func TestReadNamesTheLine(t *testing.T) {
	for text, want := range map[string]string{
		"{\"final\":3}\n{nonsense":      "history line 2: ",
		"{\"op\":{\"client\":1}}":       "history line 1: operation without kind or key",
		"\n{\"log\":{\"index\":3}}":     "history line 2: change without node",
		"{\"watch\":{\"events\":[{}]}}": "history line 1: event without node",
	} {
		_, err := Read(strings.NewReader(text))
		require.Error(t, err)
		assert.Contains(t, err.Error(), want)
	}
}

func FuzzRead(f *testing.F) {
	h := newFake(1, 3)
	var b bytes.Buffer
	_, err := h.run(10, true).WriteTo(&b)
	require.NoError(f, err)
	f.Add(b.Bytes())
	f.Add([]byte("{\"op\":{\"input\":{\"kind\":\"set\",\"key\":\"/\"}}}"))
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := Read(bytes.NewReader(p))
		if err != nil {
			return
		}
		Check(h, Options{RegisterOpsMax: 20, RegisterTimeout: 1e8})
	})
}

func BenchmarkCheck(b *testing.B) {
	for _, ops := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("ops=%d", ops), func(b *testing.B) {
			f := newFake(3, 5)
			f.keys = ops / 100
			h := f.run(ops, true)
			for b.Loop() {
				Check(h, Options{SkipRegister: true})
			}
			b.ReportMetric(float64(ops)*float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}
