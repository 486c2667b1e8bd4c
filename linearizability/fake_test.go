package linearizability

import (
	"fmt"
	"math/rand/v2"
)

// fake is a correct cluster in a few lines: each operation happens at one point
// between call and return. Its histories are good by construction.
type fake struct {
	rnd     *rand.Rand
	t       *tree
	rec     *Recorder
	index   uint64
	log     []*Event
	ttl     map[string]int64 // deadlines
	now     int64
	busy    []*call
	serial  int
	keys    int
	unknown float64
	watch   []*fakeWatch
	shown   map[string]*Node
}

type call struct {
	client int
	in     Input
	p      *Pending
	out    *Output
	lost   bool // nobody learns the outcome
	never  bool // and it does not happen
}

type fakeWatch struct {
	seen *Seen
	next int // into log
}

func newFake(seed uint64, clients int) *fake {
	f := &fake{rnd: rand.New(rand.NewPCG(seed, 7)), t: newTree(), index: 3, ttl: map[string]int64{}, shown: map[string]*Node{}, keys: 4, unknown: 0.03}
	f.rec = NewRecorder(func() int64 { return f.now })
	f.busy = make([]*call, clients)
	return f
}

func (f *fake) run(ops int, log bool) *History {
	w := f.rec.Watch(99, "n1", "/", true, true, f.index+1)
	w.Accepted(f.index)
	f.watch = append(f.watch, &fakeWatch{seen: w})
	for done := 0; done < ops; {
		f.now += f.rnd.Int64N(50_000_000)
		f.expire()
		i := f.rnd.IntN(len(f.busy))
		switch c := f.busy[i]; {
		case c == nil:
			in := f.draw(i)
			f.busy[i] = &call{client: i, in: in, p: f.rec.Begin(i, "n1", in)}
			f.busy[i].lost = f.rnd.Float64() < f.unknown
			f.busy[i].never = f.busy[i].lost && f.rnd.IntN(2) == 0
		case c.out == nil && !c.never:
			out := f.apply(&c.in)
			c.out = &out
		default:
			if !c.lost {
				c.p.End(*c.out)
				if n := c.out.Node; n != nil {
					f.shown[n.Key] = n
				}
			}
			f.busy[i] = nil
			done++
		}
		f.deliver()
	}
	w.Live()
	h := f.rec.History()
	if log {
		h.Log = f.log
	}
	h.Final = f.index
	return h
}

func (f *fake) deliver() {
	for _, w := range f.watch {
		for ; w.next < len(f.log) && f.rnd.IntN(3) > 0 || w.next+20 < len(f.log); w.next++ {
			e := *f.log[w.next]
			if !e.Refresh && !hidden(e.Node.Key) {
				w.seen.Event(&e)
			}
		}
	}
}

func (f *fake) flush() {
	for _, w := range f.watch {
		for ; w.next < len(f.log); w.next++ {
			e := *f.log[w.next]
			if !e.Refresh {
				w.seen.Event(&e)
			}
		}
	}
}

func (f *fake) draw(client int) Input {
	f.serial++
	in := Input{Key: fmt.Sprintf("/r/%d", f.rnd.IntN(f.keys)), Value: fmt.Sprintf("v%d-%d", client, f.serial)}
	old := f.shown[in.Key] // what clients know, not what is
	switch f.rnd.IntN(14) {
	case 0, 1:
		in.Kind = Set
	case 2:
		in.Kind = Create
	case 3:
		in.Kind = Update
	case 4, 5:
		in.Kind, in.PrevValue = CAS, "nothing"
		if old != nil && f.rnd.IntN(4) > 0 {
			in.PrevValue = old.Value
		}
	case 6:
		in.Kind, in.PrevIndex = CAS, 1
		if old != nil {
			in.PrevIndex = old.Modified
		}
	case 7:
		in.Kind = Delete
	case 8:
		in.Kind, in.Key = Post, "/queue"
	case 9:
		in.Kind, in.Key, in.HasTTL, in.TTLSeconds = Set, fmt.Sprintf("/ttl/%d", f.rnd.IntN(3)), true, 1
	case 10:
		in.Kind, in.Key = Set, fmt.Sprintf("/d/%d/%d", f.rnd.IntN(2), f.rnd.IntN(3))
		if f.rnd.IntN(4) == 0 {
			in = Input{Kind: Delete, Key: fmt.Sprintf("/d/%d", f.rnd.IntN(2)), Recursive: true}
		}
	case 11:
		in = Input{Kind: Get, Key: "/d", Recursive: f.rnd.IntN(2) == 0}
	default:
		in.Kind = Get
	}
	if in.Kind == Get || in.Kind == Delete || in.Kind == CAD {
		in.Value = ""
	}
	return in
}

func (f *fake) apply(in *Input) Output {
	if in.Kind == Get {
		n, no := f.t.get(in.Key, in.Recursive)
		if no != nil {
			return Output{Code: int(no.code), Cause: no.cause, Index: f.index}
		}
		return Output{Action: "get", Node: n, Index: f.index}
	}
	e, no := f.t.step(in, f.index+1, true, nil)
	if no != nil {
		return Output{Code: int(no.code), Cause: no.cause, Index: f.index}
	}
	f.index++
	f.record(e)
	if in.HasTTL {
		f.ttl[e.Node.Key] = f.now + in.TTLSeconds*1e9
	} else {
		delete(f.ttl, e.Node.Key)
	}
	return Output{Action: e.Action, Node: e.Node, Prev: e.Prev, Index: f.index}
}

func (f *fake) record(e *Event) {
	f.rec.seq++
	e.Seq, e.At = f.rec.seq, f.now
	f.log = append(f.log, e)
}

func (f *fake) expire() {
	for _, key := range []string{"/ttl/0", "/ttl/1", "/ttl/2"} {
		if due, on := f.ttl[key]; on && due <= f.now {
			delete(f.ttl, key)
			old, _ := f.t.find(key)
			f.index++
			f.record(&Event{Index: f.index, Action: "expire", Node: old.gone(key, f.index), Prev: old.show(key)})
			f.t.remove(key)
		}
	}
}
