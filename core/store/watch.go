package store

import (
	"cmp"
	"maps"
	"slices"
)

// Watchers finds the watches that an event wakes without looking at the others:
// it is a tree of its own, by the elements of the watched keys. It is used by
// one loop.
//
// An event on key K wakes
//
//   - a watch on exactly K;
//   - a recursive watch on a directory above K, unless an element of K below the
//     watched key is hidden;
//   - if a directory was removed or expired, every watch on a key that existed
//     inside it, hidden or not, recursive or not.
//
// A refresh wakes nobody. Each watch gets an event at most once: the classic
// store sends the removal of a key twice to a stream on exactly that key.
type Watchers struct {
	root    watched
	count   int
	added   uint64
	scratch []*Watch // kept between calls of Notify
}

// watched is the watches on one key, and the way to keys below.
type watched struct {
	parent  *watched
	name    string
	kids    map[string]*watched
	watches []*Watch // in the order they were added, some of them cancelled
	live    int
}

// Watch is one registration with Watchers.
type Watch struct {
	set       *Watchers
	at        *watched
	fn        func(*Event)
	seq       uint64
	recursive bool
	cancelled bool
}

// NewWatchers gives a set without watches.
func NewWatchers() *Watchers { return &Watchers{} }

// Len counts the watches.
func (ws *Watchers) Len() int { return ws.count }

// Add has fn called with every event, from now on, that wakes a watch on key,
// until the watch is cancelled. The key need not exist. Calls of fn come from
// Notify; it may add and cancel watches.
func (ws *Watchers) Add(key string, recursive bool, fn func(*Event)) *Watch {
	at := &ws.root
	for s := segmentsOf(key); ; {
		name, more := s.next()
		if !more {
			break
		}
		kid := at.kids[name]
		if kid == nil {
			kid = &watched{parent: at, name: name}
			if at.kids == nil {
				at.kids = map[string]*watched{}
			}
			at.kids[name] = kid
		}
		at = kid
	}
	w := &Watch{set: ws, at: at, fn: fn, seq: ws.added, recursive: recursive}
	at.watches = append(at.watches, w)
	at.live++
	ws.added++
	ws.count++
	return w
}

// Cancel ends the watch: its function is not called any more, not even by a
// Notify that is under way. Cancelling twice does nothing.
func (w *Watch) Cancel() {
	if w.cancelled {
		return
	}
	w.cancelled = true
	w.set.count--
	w.at.live--
	w.at.tidy()
}

// tidy drops cancelled watches once they are the greater part, so that a
// thousand cancels in a row cost a thousand steps, and places without watches.
func (at *watched) tidy() {
	if len(at.watches) > 2*at.live {
		at.watches = slices.DeleteFunc(at.watches, func(w *Watch) bool { return w.cancelled })
	}
	for at.live == 0 && len(at.kids) == 0 && at.parent != nil {
		delete(at.parent.kids, at.name)
		at = at.parent
	}
}

// Notify calls the watches that e wakes, in the order in which they were added.
func (ws *Watchers) Notify(e *Event) {
	if e.Refresh || ws.count == 0 {
		return
	}
	woken := ws.woken(e, ws.scratch[:0])
	ws.scratch = nil // a function may call Notify
	for _, w := range woken {
		if !w.cancelled {
			w.fn(e)
		}
	}
	clear(woken)
	ws.scratch = woken[:0]
}

func (ws *Watchers) woken(e *Event, to []*Watch) []*Watch {
	key := e.Node.Key
	at, shown := &ws.root, lastHidden(key)
	for s := segmentsOf(key); ; {
		if s.pos > shown { // nothing hidden from here on down
			to = at.collect(to, true)
		}
		name, more := s.next()
		if !more {
			break
		}
		if at = at.kids[name]; at == nil {
			return sorted(to)
		}
		if s.pos > len(key) {
			to = at.collect(to, false)
			break
		}
	}
	if e.gone != nil {
		to = at.inside(e.gone, to)
	}
	return sorted(to)
}

// lastHidden is where the last hidden element of key begins, or 0.
func lastHidden(key string) int {
	for i := len(key) - 1; i > 0; i-- {
		if key[i] == '_' && key[i-1] == '/' {
			return i
		}
	}
	return 0
}

func (at *watched) collect(to []*Watch, recursiveOnly bool) []*Watch {
	for _, w := range at.watches {
		if !w.cancelled && (w.recursive || !recursiveOnly) {
			to = append(to, w)
		}
	}
	return to
}

// inside collects the watches below at on keys that existed in the removed
// directory.
func (at *watched) inside(gone *node, to []*Watch) []*Watch {
	for _, name := range slices.Sorted(maps.Keys(at.kids)) {
		if n := gone.children().get(name); n != nil {
			kid := at.kids[name]
			to = kid.inside(n, kid.collect(to, false))
		}
	}
	return to
}

func sorted(ws []*Watch) []*Watch {
	order := func(a, b *Watch) int { return cmp.Compare(a.seq, b.seq) }
	if !slices.IsSortedFunc(ws, order) {
		slices.SortStableFunc(ws, order)
	}
	return ws
}
