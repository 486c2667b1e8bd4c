package gateway

import (
	"net/url"
	"strconv"
	"time"

	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/store"
)

// The page /v2/mirror lets a program keep a copy of some prefixes that is always the
// state at one index. It is list and watch, but of everything: hidden keys and
// refreshes too, and several prefixes as one.
//
//	GET /v2/mirror?prefix=/a&prefix=/b              the keys, one a line: {"node":{…}}
//	GET /v2/mirror?prefix=/a&prefix=/b&wait=true&from=N   events from index N on, one a line: {"action":…,"node":{…}}
//
// Between them stands {"index":N}: all up to N was told. A listing ends with that
// line; to a watch it comes behind each burst of events and about every second, with
// "fresh":true where N holds every write that was acknowledged a moment before.

// feedPeriod is the time between two signs of life of a feed.
const feedPeriod = time.Second

// prefixesMax bounds the prefixes of one mirror.
const prefixesMax = 64

func parseMirror(req *Request) (Operation, error) {
	q, err := url.ParseQuery(req.Query)
	if err != nil {
		return Operation{}, &store.Error{Code: store.CodeInvalidForm, Cause: err.Error()}
	}
	op := Operation{Kind: KindMirror, Prefixes: q["prefix"], TimeoutMS: req.TimeoutMS}
	if len(op.Prefixes) == 0 || len(op.Prefixes) > prefixesMax {
		return op, &store.Error{Code: store.CodeInvalidField, Cause: "want 1 to " + strconv.Itoa(prefixesMax) + ` fields "prefix"`}
	}
	for _, p := range op.Prefixes {
		if !store.ValidKey(p) {
			return op, &store.Error{Code: store.CodeInvalidField, Cause: `invalid value for "prefix"`}
		}
	}
	if wait := q.Get("wait"); wait != "" {
		if op.Stream, err = strconv.ParseBool(wait); err != nil {
			return op, &store.Error{Code: store.CodeInvalidField, Cause: `invalid value for "wait"`}
		}
	}
	if op.Stream {
		if ok := setIndex(&op.WaitIndex, q.Get("from")); !ok || op.WaitIndex == 0 {
			return op, &store.Error{Code: store.CodeIndexNotNumber, Cause: `invalid value for "from"`}
		}
	}
	return op, nil
}

// mirror answers a listing or begins a feed, once this member holds every write that
// was acknowledged before.
func (m *Mux) mirror(op *Operation, r Responder) (cancel func()) {
	o := *op
	c := &call{r: r}
	var f *feed
	m.b.ReadIndex(func(err *store.Error) {
		switch {
		case c.over:
		case err != nil:
			c.reply(failure(m.b.Info(), err))
		case !m.mayMirror(&o):
			c.reply(m.denied(&o, insufficient))
		case !o.Stream:
			c.reply(m.listing(o.Prefixes))
		default:
			f = m.beginFeed(&o, c)
		}
	})
	m.limit(&o, c)
	return func() {
		c.end()
		if f != nil {
			f.drop()
		}
	}
}

// mayMirror judges once more: what was allowed when op came may not be by now.
func (m *Mux) mayMirror(op *Operation) bool {
	c := m.callerOf(op)
	r, ok := m.rights(&c)
	return ok && (r == nil || coversAll(*r, op.Prefixes))
}

func (m *Mux) listing(prefixes []string) *Reply {
	view := m.b.View()
	var body []byte
	for _, p := range outermost(prefixes) {
		view.Whole(p, func(n *store.Node) {
			if n.Key == store.SecretKey {
				return
			}
			body = append(AppendNode(append(body, `{"node":`...), n), "}\n"...)
		})
	}
	return &Reply{Status: 200, Header: keysHeaders(m.b.Info(), view.Index()), Body: appendIndex(body, view.Index(), true)}
}

// outermost leaves out prefixes that lie in another.
func outermost(prefixes []string) (out []string) {
	for i, p := range prefixes {
		inner := false
		for k, q := range prefixes {
			inner = inner || p == q && k < i || p != q && store.Within(p, q)
		}
		if !inner {
			out = append(out, p)
		}
	}
	return out
}

func appendIndex(dst []byte, index store.Index, fresh bool) []byte {
	dst = strconv.AppendUint(append(dst, `{"index":`...), uint64(index), 10)
	if fresh {
		dst = append(dst, `,"fresh":true`...)
	}
	return append(dst, "}\n"...)
}

// feed tells one mirror of every change.
//
// Always true: every event that touches a prefix and has an index from the start of
// the feed up to, not including, next was handed to the reader, in order and none
// twice.
type feed struct {
	m        *Mux
	r        Responder
	prefixes []string
	next     store.Index
	caller   caller
	over     bool
	cancels  []func() // of the backend's watches, which only wake it
	before   *feed    // in feeds
	after    *feed
}

// feeds is every feed that is not over, in the order they began.
type feeds struct {
	first, last *feed
	woken       bool   // events wait to be told
	ticking     bool   // the next sign of life is due by itself
	asking      bool   // whether the view is fresh
	stop        func() // of the tick
}

func (l *feeds) add(f *feed) {
	f.before = l.last
	if l.last != nil {
		l.last.after = f
	} else {
		l.first = f
	}
	l.last = f
}

func (l *feeds) remove(f *feed) {
	if f.before != nil {
		f.before.after = f.after
	} else {
		l.first = f.after
	}
	if f.after != nil {
		f.after.before = f.before
	} else {
		l.last = f.before
	}
}

// beginFeed answers c with a feed, or with a refusal where the history does not reach
// back, or not yet forward, to the index asked for: then the mirror must list again.
func (m *Mux) beginFeed(op *Operation, c *call) *feed {
	view := m.b.View()
	if planted.On(planted.MirrorSkipsGap) {
		op.WaitIndex = view.Index() + 1
	}
	if !follows(view, op.WaitIndex) {
		c.reply(failure(m.b.Info(), &store.Error{
			Code: store.CodeIndexCleared, Index: view.Index(),
			Cause: "the history does not hold index " + strconv.FormatUint(uint64(op.WaitIndex), 10),
		}))
		return nil
	}
	f := &feed{m: m, r: c.r, prefixes: op.Prefixes, next: op.WaitIndex, caller: m.callerOf(op)}
	c.reply(&Reply{Status: 200, Header: keysHeaders(m.b.Info(), view.Index()), More: true})
	m.feeds.add(f)
	for _, p := range outermost(f.prefixes) {
		f.cancels = append(f.cancels, m.b.Watch(p, true, m.wakeFeeds))
	}
	f.pump(view, true, true)
	m.tickFeeds()
	return f
}

// follows reports whether the history of view holds all from index from on.
func follows(view *store.View, from store.Index) bool {
	if from > view.Index() {
		return from == view.Index()+1
	}
	events := view.Events(from)
	return len(events) > 0 && events[0].Index == from
}

// pump tells f what has happened. With sign it says how far even if nothing did.
func (f *feed) pump(view *store.View, sign, fresh bool) {
	if f.over {
		return
	}
	if !follows(view, f.next) {
		f.end() // the reader learns why by asking again
		return
	}
	var lines []byte
	for _, e := range view.Events(f.next) {
		if f.touched(e) {
			lines = appendChange(lines, e)
		}
	}
	f.next = view.Index() + 1
	if (sign || len(lines) > 0) && !f.r.Chunk(appendIndex(lines, view.Index(), fresh)) {
		f.end()
	}
}

func (f *feed) touched(e *store.Event) bool {
	if e.Node.Key == store.SecretKey {
		return false
	}
	for _, p := range f.prefixes {
		if e.Touches(p) {
			return true
		}
	}
	return false
}

// appendChange appends an event as mirrors need it: without what was before.
func appendChange(dst []byte, e *store.Event) []byte {
	dst = append(append(append(dst, `{"action":"`...), e.Action...), '"')
	if e.Refresh {
		dst = append(dst, `,"refresh":true`...)
	}
	return append(AppendNode(append(dst, `,"node":`...), e.Node), "}\n"...)
}

// end closes the answer.
func (f *feed) end() {
	if !f.over {
		f.drop()
		f.r.End()
	}
}

// drop forgets the feed without a word to the reader.
func (f *feed) drop() {
	if f.over {
		return
	}
	f.over = true
	for _, cancel := range f.cancels {
		cancel()
	}
	f.m.feeds.remove(f)
	if l := &f.m.feeds; l.first == nil && l.stop != nil {
		l.stop()
		l.stop, l.ticking = nil, false
	}
}

// wakeFeeds has all feeds look for news, once for all events of a turn.
func (m *Mux) wakeFeeds(*store.Event) {
	a, ok := m.b.(Alarm)
	switch {
	case m.feeds.woken:
	case ok:
		m.feeds.woken = true
		a.After(0, func() {
			m.feeds.woken = false
			m.pumpFeeds(false, false)
		})
	default:
		m.pumpFeeds(false, false)
	}
}

func (m *Mux) pumpFeeds(sign, fresh bool) {
	for f := m.feeds.first; f != nil; {
		after := f.after
		f.pump(m.b.View(), sign, fresh)
		f = after
	}
}

// tickFeeds gives signs of life while there are feeds, and asks whether this member
// is up to date, so that a mirror can tell silence from a lost connection, and news
// from what an isolated member believes.
func (m *Mux) tickFeeds() {
	a, ok := m.b.(Alarm)
	if !ok || m.feeds.ticking || m.feeds.first == nil {
		return
	}
	m.feeds.ticking = true
	m.feeds.stop = a.After(feedPeriod, func() {
		m.feeds.ticking = false
		if m.feeds.asking {
			m.pumpFeeds(true, false)
		} else {
			m.feeds.asking = true
			m.b.ReadIndex(func(err *store.Error) {
				m.feeds.asking = false
				m.pumpFeeds(true, err == nil)
			})
		}
		m.tickFeeds()
	})
}
