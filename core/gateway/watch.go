package gateway

import (
	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/store"
)

// watch is one long poll or stream.
//
// Always true: every event that matches and has an index from the start of the
// watch up to, not including, next was handed to the reader, and none twice. So a
// watch may look into the history as often as it likes.
type watch struct {
	m         *Mux
	r         Responder
	key       string
	recursive bool
	stream    bool
	slash     bool
	caller    caller
	rights    *auth.Rights // of caller; nil is everything
	next      store.Index
	over      bool
	cancel    func() // of the backend's watch; nil while the history is read
	before    *watch // in Mux.watches
	after     *watch
}

// watchList is every watch that is not over, in the order they began.
type watchList struct {
	first, last *watch
	n           int
}

func (l *watchList) add(w *watch) {
	w.before = l.last
	if l.last != nil {
		l.last.after = w
	} else {
		l.first = w
	}
	l.last = w
	l.n++
}

func (l *watchList) remove(w *watch) {
	if w.before != nil {
		w.before.after = w.after
	} else {
		l.first = w.after
	}
	if w.after != nil {
		w.after.before = w.before
	} else {
		l.last = w.before
	}
	l.n--
}

// watch begins a watch once it is allowed.
func (m *Mux) watch(op *Operation, r Responder) (cancel func()) {
	if m.unjudged(op) {
		return m.begin(op, r, nil)
	}
	o := *op
	c := &call{r: r}
	stop := c.end
	m.admit(&admission{op: &o, c: c, then: func(rights *auth.Rights) {
		c.end()
		stop = m.begin(&o, r, rights)
	}})
	return func() { stop() }
}

// begin sends the head at once, then what the history holds from the index asked
// for, then what happens. A member that has not yet applied the index asked for
// simply waits until it has: nothing earlier is ever delivered.
func (m *Mux) begin(op *Operation, r Responder, rights *auth.Rights) (cancel func()) {
	view := m.b.View()
	w := &watch{
		m: m, r: r, key: op.Key, recursive: op.Recursive, stream: op.Stream, slash: op.Slash, next: op.WaitIndex,
		caller: m.callerOf(op), rights: rights,
	}
	if w.next == 0 {
		w.next = view.Index() + 1
	}
	if w.next > view.Index() && planted.On(planted.WatchRepeats) {
		w.next = view.Index() + 1
	}
	first, err := w.past(view)
	if err != nil {
		r.Reply(failure(m.b.Info(), err))
		return func() {}
	}
	r.Reply(&Reply{Status: 200, Header: keysHeaders(m.b.Info(), view.Index()), More: true})
	if w.replay(view, first) != nil || w.over {
		return func() {}
	}
	m.watches.add(w)
	w.cancel = m.b.Watch(w.key, w.recursive, w.deliver)
	return w.drop
}

// past finds the next event in the history: nil where there is none yet.
func (w *watch) past(view *store.View) (*store.Event, *store.Error) {
	if w.next > view.Index() {
		return nil, nil
	}
	return view.Since(w.key, w.recursive, w.next)
}

// replay delivers e and what follows it in the history. The error is that of
// history which is gone.
func (w *watch) replay(view *store.View, e *store.Event) (err *store.Error) {
	for e != nil && !w.over {
		w.deliver(e)
		e, err = w.past(view)
		if err != nil {
			w.end()
			return err
		}
	}
	return nil
}

// deliver hands e to the reader. A long poll is over with it. A reader too far
// behind loses the connection, not an event: it asks again from where it was.
func (w *watch) deliver(e *store.Event) {
	if w.over || e.Index < w.next {
		return
	}
	w.next = e.Index + 1
	if !w.sees(e) && !planted.On(planted.AuthWatchLeaks) {
		return
	}
	ok := w.r.Chunk(w.m.bodies.of(e))
	if !ok && planted.On(planted.WatchDropsSilently) {
		return
	}
	if !ok || !w.stream {
		w.end()
	}
}

// end closes the answer.
func (w *watch) end() {
	if !w.over {
		w.drop()
		w.r.End()
	}
}

// drop forgets the watch without a word to the reader.
func (w *watch) drop() {
	if w.over {
		return
	}
	w.over = true
	if w.cancel != nil {
		w.cancel()
		w.m.watches.remove(w)
	}
}

// Watches is how many watches wait for events.
func (m *Mux) Watches() int { return m.watches.n }

// Restored must be called when the backend's view has moved on without telling
// watches of each event, as when a snapshot arrives. Every watch gets what it
// missed from the history; one whose history is gone ends, and its reader learns
// by asking again that events were lost.
func (m *Mux) Restored() {
	m.AuthChanged()
	view := m.b.View()
	for w := m.watches.first; w != nil; {
		after := w.after
		e, err := w.past(view)
		if err != nil {
			w.end()
		} else {
			_ = w.replay(view, e)
		}
		w = after
	}
	m.pumpFeeds(false, false)
}

// Stop ends every watch, as a server does that goes away.
func (m *Mux) Stop() {
	for m.feeds.first != nil {
		m.feeds.first.end()
	}
	for m.watches.first != nil {
		m.watches.first.end()
	}
}
