package linearizability

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/store"
)

// change is what is known of one index.
type change struct {
	event *Event // as a log, a watch or an answer showed it; never nil
	op    *Op    // who asked for it; nil for an expiry and what is not known yet
	// partial says that only the node after the change is known, from a read.
	partial bool
}

// indexCheck replays the history on the model in the order of its indexes.
type indexCheck struct {
	limited
	h       *History
	o       *Options
	t       *tree
	at      uint64
	changes map[uint64]*change
	points  []*Op // operations that show the state at an index, by index
	// waiting holds writes of unknown outcome, by key, until a change turns out
	// to be theirs.
	waiting map[string][]*Op
	unknown map[string][]*Op // those and the ones that were accounted for
	gaps    []uint64         // indexes that nobody has accounted for yet, rising
	first   uint64           // index of the first known change
	guessed int
	// broken says that the model is no longer what the cluster holds, so that
	// what follows would only repeat the first finding.
	broken bool
}

func newIndexCheck(h *History, o *Options) *indexCheck {
	c := &indexCheck{
		limited: limited{max: o.ViolationsMax},
		h:       h, o: o, t: newTree(),
		changes: map[uint64]*change{},
		waiting: map[string][]*Op{},
		unknown: map[string][]*Op{},
	}
	c.gather()
	return c
}

// gather learns what happened at each index from everything that shows it.
func (c *indexCheck) gather() {
	for _, e := range c.h.Log {
		c.changes[e.Index] = &change{event: e}
	}
	for _, w := range c.h.Watches {
		for _, e := range w.Events {
			c.learnEvent(e)
		}
	}
	for _, op := range c.h.Ops {
		switch {
		case op.Unknown && op.Input.Write():
			c.waiting[op.Input.Key] = append(c.waiting[op.Input.Key], op)
			c.unknown[op.Input.Key] = append(c.unknown[op.Input.Key], op)
		case op.changed():
			c.learnWrite(op)
		case op.Unknown:
		default:
			c.points = append(c.points, op)
		}
	}
	if len(c.h.Log) == 0 {
		for _, op := range c.h.Ops {
			if !op.Unknown {
				c.learnNode(op.Output.Node, op)
				c.learnNode(op.Output.Prev, op)
			}
		}
	}
	slices.SortStableFunc(c.points, func(a, b *Op) int {
		return cmp.Or(cmp.Compare(a.Output.Index, b.Output.Index), cmp.Compare(a.Call, b.Call))
	})
}

func (c *indexCheck) learnEvent(e *Event) {
	known := c.changes[e.Index]
	if known == nil {
		if len(c.h.Log) == 0 {
			c.changes[e.Index] = &change{event: e}
		}
		return // the watch checker names what no log holds
	}
	if e.Seq < known.event.Seq && len(c.h.Log) == 0 {
		known.event = e
	}
}

func (c *indexCheck) learnWrite(op *Op) {
	if op.Output.Node == nil {
		c.add(Linearizable, "%v\n  succeeded without showing a node", op)
		return
	}
	e := &Event{
		Index: op.Output.Index, Action: op.Output.Action, Node: op.Output.Node, Prev: op.Output.Prev,
		Refresh: op.Input.Refresh, Seq: op.Return, At: op.ReturnedAt,
	}
	known := c.changes[e.Index]
	switch {
	case known == nil && len(c.h.Log) > 0:
		c.add(Durable, "%v\n  was acknowledged, and no node holds the change", op)
	case known == nil:
		c.changes[e.Index] = &change{event: e, op: op}
	case known.op != nil:
		c.add(Linearizable, "%v\n  has the same index as %v", op, known.op)
	default:
		if diff := differ(e, known.event); diff != "" {
			c.add(Linearizable, "%v\n  is not what happened there: %s", op, diff)
		}
		known.op = op
	}
}

// learnNode takes a node that somebody was shown as proof of the write at its
// index, where that is not known otherwise.
func (c *indexCheck) learnNode(n *Node, by *Op) {
	if n == nil {
		return
	}
	for _, k := range n.Nodes {
		c.learnNode(k, by)
	}
	if n.Dir || n.Modified == 0 || c.changes[n.Modified] != nil || by.changed() && n == by.Output.Node {
		return
	}
	c.changes[n.Modified] = &change{partial: true, event: &Event{Index: n.Modified, Node: n, Seq: by.Return, At: by.ReturnedAt}}
}

// differ compares two accounts of one change.
func differ(a, b *Event) string {
	if a.Action != b.Action {
		return fmt.Sprintf("%v against %v", a, b)
	}
	if d := same(flat(a.Node), flat(b.Node)); d != "" {
		return d
	}
	if d := same(flat(a.Prev), flat(b.Prev)); d != "" {
		return "before it: " + d
	}
	return ""
}

func flat(n *Node) *Node {
	if n == nil || n.Nodes == nil {
		return n
	}
	copied := *n
	copied.Nodes = nil
	return &copied
}

func (c *indexCheck) run() {
	last := c.h.Final
	for i := range c.changes {
		last = max(last, i)
	}
	// Before the first change that is known, the store may have kept books of
	// its own.
	first := last + 1
	for i := range c.changes {
		first = min(first, i)
	}
	next := 0
	check := func(upTo uint64) {
		for ; next < len(c.points) && c.points[next].Output.Index <= upTo && !c.broken; next++ {
			c.point(c.points[next])
		}
	}
	c.first = first
	if len(c.h.Log) == 0 {
		for i := max(first, gapsBefore+1) - gapsBefore; i < first; i++ {
			c.gaps = append(c.gaps, i)
		}
	}
	check(max(first, 1) - 1)
	for c.at = first; c.at <= last && !c.broken; c.at++ {
		if ch := c.changes[c.at]; ch != nil {
			c.change(ch)
		} else {
			c.gap()
		}
		check(c.at)
	}
	for ; next < len(c.points) && !c.broken; next++ {
		if op := c.points[next]; op.Output.Index > last && len(c.h.Log) > 0 {
			c.add(Linearizable, "%v\n  shows an index that was never reached: the last is %d", op, last)
		} else {
			c.at = op.Output.Index
			c.point(op)
		}
	}
	if !c.broken {
		c.leftOver(last)
	}
}

// gapsBefore bounds how many indexes before the first known change may be those
// of writes that nobody saw.
const gapsBefore = 1000

func (c *indexCheck) gap() {
	if len(c.h.Log) > 0 {
		c.add(Diverged, "no node applied index %d", c.at)
		return
	}
	c.gaps = append(c.gaps, c.at)
}

// leftOver asks whether the changes that nobody saw can all be explained by
// outcomes that nobody learned and by keys that expired.
func (c *indexCheck) leftOver(last uint64) {
	if c.o.Foreign || len(c.h.Log) > 0 {
		return
	}
	free := 0
	for _, ops := range c.waiting {
		free += len(ops)
	}
	expire := 0
	for _, op := range c.h.Ops {
		if op.Input.HasTTL {
			expire++
		}
	}
	i, _ := slices.BinarySearch(c.gaps, c.first)
	gaps := c.gaps[i:]
	if n := len(gaps); n > free+expire {
		c.add(Linearizable, "%d changes up to index %d were asked for by nobody, first %d", n-free-expire, last, gaps[0])
	}
	c.guessed += len(gaps)
}

// change replays one change and compares what it did with what was shown.
func (c *indexCheck) change(ch *change) {
	if ch.event.Action == string(store.ActionExpire) {
		c.expire(ch)
		return
	}
	if ch.op == nil {
		ch.op = c.claim(ch)
	}
	if ch.op == nil {
		c.foreign(ch)
		return
	}
	want, no := c.t.step(&ch.op.Input, c.at, false, nil)
	if no != nil && c.guessToward(ch.event.Prev, ch.op.Input.Key) {
		want, no = c.t.step(&ch.op.Input, c.at, false, nil)
	}
	diff := ""
	if no == nil && !ch.partial {
		diff = differ(ch.event, want)
	}
	if (no != nil || diff != "") && c.doubtful(ch.op.Input.Key, ch.event.Seq) {
		c.foreign(ch)
		return
	}
	if no != nil {
		c.fail("%v\n  succeeded; the model says %v", ch.op, no)
		return
	}
	if diff != "" {
		if !c.guessToward(ch.event.Prev, ch.op.Input.Key) {
			c.fail("%v\n  %s", ch.op, diff)
			return
		}
		if want, no = c.t.step(&ch.op.Input, c.at, false, nil); no != nil || differ(ch.event, want) != "" {
			c.fail("%v\n  %s", ch.op, diff)
			return
		}
	}
	if ch.event.Seq < ch.op.Call {
		c.fail("%v\n  %v was seen before it was asked for", ch.op, ch.event)
		return
	}
	c.t.step(&ch.op.Input, c.at, true, ch.op)
}

func (c *indexCheck) fail(format string, args ...any) {
	c.add(Linearizable, format, args...)
	c.broken = true
}

// claim finds the write of unknown outcome that made a change. A write makes at
// most one. Of several that fit, the one that explains least is taken: a recursive
// delete may be needed for a directory that is not empty.
func (c *indexCheck) claim(ch *change) *Op {
	key := ch.event.Node.Key
	places := []string{key}
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		places = append(places, cmp.Or(key[:i], "/"))
	}
	var at string
	which, best := -1, 0
	for _, place := range places {
		for i, op := range c.waiting[place] {
			if op.Call >= ch.event.Seq || !matches(op, ch) {
				continue
			}
			rank := 1
			switch {
			case !c.fits(op, ch):
			case op.Input.Recursive:
				rank = 2
			default:
				rank = 3
			}
			if rank > best {
				at, which, best = place, i, rank
			}
			if rank == 3 {
				break
			}
		}
	}
	if which < 0 {
		return nil
	}
	op := c.waiting[at][which]
	c.waiting[at] = slices.Delete(slices.Clone(c.waiting[at]), which, which+1)
	return op
}

// fits says whether op does in the model exactly what ch shows. Several writes
// of unknown outcome may look alike but for that.
func (c *indexCheck) fits(op *Op, ch *change) bool {
	want, no := c.t.step(&op.Input, c.at, false, nil)
	return no == nil && (ch.partial || want.Refresh == ch.event.Refresh && differ(ch.event, want) == "")
}

func matches(op *Op, ch *change) bool {
	in, e := &op.Input, ch.event
	key := in.Key
	if in.Kind == Post {
		key = strings.TrimSuffix(in.Key, "/") + fmt.Sprintf("/%020d", e.Index)
	}
	if key != e.Node.Key {
		return false
	}
	if ch.partial {
		return in.Kind != Delete && in.Kind != CAD && (in.Refresh || in.Value == e.Node.Value) && in.HasTTL == e.Node.HasTTL
	}
	action := string(in.Kind)
	if in.Kind == Post {
		action = string(Create)
	}
	if action != e.Action {
		return false
	}
	switch in.Kind {
	case Delete, CAD:
		return in.PrevValue == "" || e.Prev != nil && e.Prev.Value == in.PrevValue
	}
	return (in.Refresh && in.Kind != Create && in.Kind != Post || e.Node.Dir || in.Value == e.Node.Value) && in.HasTTL == e.Node.HasTTL
}

// foreign takes a change that none of the recorded clients asked for.
func (c *indexCheck) foreign(ch *change) {
	own := strings.HasPrefix(ch.event.Node.Key, "/_")
	if !c.o.Foreign && !own && ch.op == nil {
		c.fail("%v\n  was asked for by nobody, or twice", ch.event)
		return
	}
	n := ch.event.Node
	switch Kind(ch.event.Action) {
	case Delete, CAD:
		c.t.remove(n.Key)
	default:
		dir, name, no := c.t.parent(n.Key, c.at, true)
		if no != nil {
			c.fail("%v\n  the model says %v", ch.event, no)
			return
		}
		made := &entry{value: n.Value, dir: n.Dir, created: n.Created, modified: n.Modified, hasTTL: n.HasTTL, seen: c.at}
		if old := dir.kids[name]; old != nil && old.dir && n.Dir {
			made.kids, made.modified = old.kids, old.modified
		} else if n.Dir {
			made.kids = map[string]*entry{}
		}
		dir.kids[name] = made
	}
}

// expire replays an expiry: of a key that is there, has a TTL, and whose time
// has come.
func (c *indexCheck) expire(ch *change) {
	e := ch.event
	old, no := c.t.find(e.Node.Key)
	if no != nil {
		c.fail("%v\n  expired, and the model says %v: expired twice, or deleted before", e, no)
		return
	}
	if !old.hasTTL {
		c.fail("%v\n  expired, and the key has no ttl", e)
		return
	}
	if d := same(flat(e.Node), old.gone(e.Node.Key, c.at)); d != "" {
		// Whether an expired directory says that it was one differs by version.
		copied := *e.Node
		copied.Dir = old.dir
		if d = same(&copied, old.gone(e.Node.Key, c.at)); d != "" {
			c.fail("%v\n  %s", e, d)
			return
		}
	}
	if e.Prev != nil {
		if d := same(flat(e.Prev), old.show(e.Node.Key)); d != "" {
			c.fail("%v\n  before it: %s", e, d)
			return
		}
	}
	if old.by != nil {
		if due := c.due(old.by, e); e.At < due {
			c.add(TTLEarly, "%v\n  %v too early: the ttl is that of %v", e, time.Duration(due-e.At), old.by)
		}
	}
	c.t.remove(e.Node.Key)
}

// due is the earliest moment at which a ttl that by gave may end. Where nobody
// learned the outcome of by, another write that looks the same to everybody may
// have been in its place.
func (c *indexCheck) due(by *Op, e *Event) int64 {
	end := func(o *Op) int64 {
		ttl := o.Input.TTLSeconds * int64(time.Second)
		return o.InvokedAt + ttl - ttl/1_000_000*c.o.DriftPPM
	}
	due := end(by)
	if !by.Unknown {
		return due
	}
	for _, o := range c.unknown[by.Input.Key] {
		if alike(&o.Input, &by.Input) && o.Call < e.Seq {
			due = min(due, end(o))
		}
	}
	return due
}

// alike says that two writes differ in their ttl at most.
func alike(a, b *Input) bool {
	x, y := *a, *b
	x.TTLSeconds, y.TTLSeconds = 0, 0
	return x == y
}

// point checks an answer that shows the state at its index: a read or an error.
func (c *indexCheck) point(op *Op) {
	if op.Output.Code >= 200 {
		return // refused before the store was asked
	}
	if op.Input.Write() {
		_, no := c.t.step(&op.Input, op.Output.Index+1, false, nil)
		if c.refused(op, no) {
			return
		}
		if c.guess(op, op.Input.Key) {
			_, no = c.t.step(&op.Input, op.Output.Index+1, false, nil)
		}
		if !c.refused(op, no) && !c.doubtful(op.Input.Key, op.Return) {
			c.fail("%v\n  the model at that index says %v", op, no)
		}
		return
	}
	diff := c.read(op)
	if diff != "" && c.guess(op, op.Input.Key) {
		diff = c.read(op)
	}
	if diff != "" {
		if !c.doubtful(op.Input.Key, op.Return) {
			c.fail("%v\n  %s", op, diff)
		}
		return
	}
	if e, no := c.t.find(op.Input.Key); no == nil {
		c.confirm(e, op)
	}
}

func (c *indexCheck) confirm(e *entry, op *Op) {
	if len(c.h.Log) == 0 {
		e.walk("", func(_ string, e *entry) { e.seen = op.Output.Index })
	}
	c.late(op)
}

// refused says whether the model agrees with the error that op was given.
func (c *indexCheck) refused(op *Op, no *refusal) bool {
	return no != nil && int(no.code) == op.Output.Code && (op.Output.Cause == no.cause || op.Output.Cause == "")
}

func (c *indexCheck) read(op *Op) string {
	want, no := c.t.get(op.Input.Key, op.Input.Recursive)
	switch {
	case no != nil && c.refused(op, no):
		return ""
	case no != nil || op.Output.Code != 0:
		return fmt.Sprintf("the model at that index says %v", no)
	}
	return same(op.Output.Node, want)
}

// late looks for keys that a read still shows long after their time.
func (c *indexCheck) late(op *Op) {
	if c.o.LateMax == 0 || op.Input.Local || op.Output.Code != 0 || op.InvokedAt < c.o.PeaceFrom {
		return
	}
	e, _ := c.t.find(op.Input.Key)
	c.lateUnder(op.Input.Key, e, op, op.Input.Recursive || !e.dir)
}

func (c *indexCheck) lateUnder(key string, e *entry, op *Op, all bool) {
	check := func(key string, e *entry) {
		if e.by == nil || !e.hasTTL || e.by.Unknown {
			return
		}
		ttl := e.by.Input.TTLSeconds * int64(time.Second)
		due := e.by.ReturnedAt + ttl + ttl/1_000_000*c.o.DriftPPM
		if over := op.InvokedAt - max(due, c.o.PeaceFrom); over > int64(c.o.LateMax) {
			c.add(TTLLate, "%v\n  still shows %s, %v after the end of its ttl by %v", op, key, time.Duration(over), e.by)
		}
	}
	if all {
		e.walk(key, check)
	}
}

// guessToward makes room for a guess when a write shows what was there before
// it: prev is nil where nothing was.
func (c *indexCheck) guessToward(prev *Node, key string) bool {
	if len(c.h.Log) > 0 || prev != nil {
		return false
	}
	return c.vanish(key, c.at-1, c.at)
}

// guess explains an answer by which a key is gone, though nobody saw it go: by
// a deletion of unknown outcome, or by an expiry, at an index that nobody has
// accounted for.
func (c *indexCheck) guess(op *Op, key string) bool {
	if len(c.h.Log) > 0 {
		return false
	}
	if op.Output.Code != 0 {
		return c.vanish(key, op.Output.Index, op.Output.Index)
	}
	return c.prune(key, op.Output.Node, op.Output.Index, op.Input.Recursive, 0)
}

// doubtful says that writes of unknown outcome in the part of the tree that key
// belongs to may account for anything: some were asked for before seq, and there are indexes
// that nobody has accounted for. It is never so where the log is known.
func (c *indexCheck) doubtful(key string, seq int64) bool {
	if len(c.gaps) == 0 || len(c.h.Log) > 0 || key == "/" {
		return false
	}
	first := segments(key + "/")[0]
	for at, ops := range c.waiting {
		if at != "/" && segments(at)[0] == first && slices.ContainsFunc(ops, func(op *Op) bool { return op.Call < seq }) {
			c.guessed++
			return true
		}
	}
	return false
}

// prune removes what the model holds and the answer does not show.
func (c *indexCheck) prune(key string, n *Node, index uint64, deep bool, depth int) bool {
	e, no := c.t.find(key)
	if no != nil || n == nil || !e.dir {
		return false
	}
	changed := n.Created > e.created && c.reborn(key, e, n.Created)
	shown := map[string]*Node{}
	for _, k := range n.Nodes {
		shown[k.Key] = k
	}
	for _, name := range slices.Sorted(maps.Keys(e.kids)) {
		if !deep && depth > 0 {
			break // a listing of one level shows no grandchildren
		}
		kid := strings.TrimSuffix(key, "/") + "/" + name
		switch k := shown[kid]; {
		case strings.HasPrefix(name, "_"):
		case k == nil:
			changed = c.vanish(kid, index, index) || changed
		case k.Dir:
			changed = c.prune(kid, k, index, deep, depth+1) || changed
		}
	}
	return changed
}

// reborn explains a directory that is younger than the model has it: it went
// unseen, with all that it held, and came back with the change at born.
func (c *indexCheck) reborn(key string, e *entry, born uint64) bool {
	by := c.deletion(key, e, born)
	if by < 0 && !e.hasTTL || !c.takeAfter(0, born-1) {
		return false
	}
	if by >= 0 {
		c.waiting[key] = slices.Delete(slices.Clone(c.waiting[key]), by, by+1)
	}
	e.created, e.modified = born, born
	maps.DeleteFunc(e.kids, func(_ string, k *entry) bool { return k.created < born })
	c.guessed++
	return true
}

// vanish takes key out of the model at some free index up to index, by the
// uppermost deletion or expiry that can explain it.
func (c *indexCheck) vanish(key string, index, before uint64) bool {
	segs := segments(key)
	for i := len(segs); i > 0; i-- {
		at := join(segs[:i])
		e, no := c.t.find(at)
		if no != nil || e.seen > index {
			continue
		}
		by := c.deletion(at, e, before)
		if by < 0 && !e.hasTTL {
			continue
		}
		if !c.take(e, index) {
			continue
		}
		if by >= 0 {
			c.waiting[at] = slices.Delete(slices.Clone(c.waiting[at]), by, by+1)
		}
		c.t.remove(at)
		c.guessed++
		return true
	}
	return false
}

func (c *indexCheck) deletion(key string, e *entry, _ uint64) int {
	return slices.IndexFunc(c.waiting[key], func(op *Op) bool {
		switch op.Input.Kind {
		case CAD:
			return !e.dir
		case Delete:
			return !e.dir || op.Input.Recursive || op.Input.Dir && len(e.kids) == 0
		}
		return false
	})
}

// take uses up the earliest free index after the last time e was seen. Answers
// come in order of their indexes, so taking the earliest never costs a later one.
func (c *indexCheck) take(e *entry, upTo uint64) bool {
	floor := uint64(0)
	e.walk("", func(_ string, e *entry) { floor = max(floor, e.seen) })
	return c.takeAfter(floor, upTo)
}

func (c *indexCheck) takeAfter(floor, upTo uint64) bool {
	i, _ := slices.BinarySearch(c.gaps, floor+1)
	if i >= len(c.gaps) || c.gaps[i] > upTo {
		return false
	}
	c.gaps = slices.Delete(c.gaps, i, i+1)
	return true
}
