package linearizability

import (
	"maps"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/store"
)

// watchCheck compares what watches delivered with the changes that there were.
type watchCheck struct {
	limited
	order []uint64 // of the known changes, rising
	all   map[uint64]*change
	whole bool // every change is known
	alive *lifetimes
}

func checkWatches(h *History, changes map[uint64]*change, o *Options) []Violation {
	if len(h.Watches) == 0 {
		return nil
	}
	c := &watchCheck{limited: limited{max: o.ViolationsMax}, all: changes, whole: len(h.Log) > 0}
	c.order = slices.Sorted(maps.Keys(changes))
	c.alive = newLifetimes(c.order, changes)
	for _, w := range h.Watches {
		c.watch(w)
	}
	return c.bad
}

func (c *watchCheck) watch(w *Watch) {
	if w.Code == int(store.CodeIndexCleared) {
		c.cleared(w)
		return
	}
	if !w.Open {
		return
	}
	c.events(w)
	c.loss(w)
}

// historyLength is how many events a server keeps, at least.
const historyLength = 1000

func (c *watchCheck) cleared(w *Watch) {
	if w.From+historyLength > w.Index+1 {
		c.add(WatchLoss, "%v: refused as cleared at index %d, where the last %d events are kept", w, w.Index, historyLength)
	}
}

func (c *watchCheck) start(w *Watch) uint64 {
	if w.From > 0 {
		return w.From
	}
	return w.Accepted + 1
}

// events checks each event by itself and its place behind the one before.
func (c *watchCheck) events(w *Watch) {
	last := c.start(w) - 1
	for i, e := range w.Events {
		switch {
		case i > 0 && e.Index == w.Events[i-1].Index:
			c.add(WatchRepeat, "%v: %v came twice", w, e)
		case e.Index <= last && i > 0:
			c.add(WatchOrder, "%v: %v came after index %d", w, e, last)
		case e.Index <= last:
			c.add(WatchRepeat, "%v: %v is older than what was asked for", w, e)
		}
		last = max(last, e.Index)
		c.event(w, e)
		if i > 0 && !w.Stream {
			c.add(WatchRepeat, "%v: a second event %v on a watch for one", w, e)
		}
	}
}

func (c *watchCheck) event(w *Watch, e *Event) {
	known := c.all[e.Index]
	if known == nil || known.partial {
		if c.whole {
			c.add(WatchWrong, "%v: %v was never applied", w, e)
		}
		return
	}
	if known.event != e {
		if diff := differ(e, known.event); diff != "" {
			c.add(WatchWrong, "%v: %v is not what happened: %s", w, e, diff)
			return
		}
	}
	if known.event.Refresh {
		c.add(WatchWrong, "%v: %v is a refresh, which wakes nobody", w, e)
	}
	if !c.wakes(w, e) {
		c.add(WatchWrong, "%v: %v does not match", w, e)
	}
}

// loss checks that between the start and the last delivered event nothing that
// matched is missing; up to the end of the history, where the watch lives.
func (c *watchCheck) loss(w *Watch) {
	from := c.start(w)
	var upTo uint64
	if n := len(w.Events); n > 0 {
		upTo = w.Events[n-1].Index
	}
	if w.Live && len(c.order) > 0 && (w.Stream || len(w.Events) == 0) {
		upTo = max(upTo, c.order[len(c.order)-1])
	}
	have := map[uint64]bool{}
	for _, e := range w.Events {
		have[e.Index] = true
	}
	i, _ := slices.BinarySearch(c.order, from)
	for ; i < len(c.order) && c.order[i] <= upTo; i++ {
		ch := c.all[c.order[i]]
		if have[ch.event.Index] || ch.partial || ch.event.Refresh || !c.wakes(w, ch.event) {
			continue
		}
		c.add(WatchLoss, "%v: %v is missing", w, ch.event)
	}
}

// wakes says whether e must be delivered to w.
func (c *watchCheck) wakes(w *Watch, e *Event) bool {
	key := e.Node.Key
	if key == w.Key {
		return w.Key != "/"
	}
	if below, in := under(key, w.Key); in {
		return w.Recursive && !hidden(below)
	}
	if _, in := under(w.Key, key); in && gone(e) {
		return c.alive.existed(w.Key, e.Index-1)
	}
	return false
}

// under gives the part of key below dir.
func under(key, dir string) (string, bool) {
	if dir == "/" {
		return key, key != "/"
	}
	below, in := strings.CutPrefix(key, dir)
	return below, in && strings.HasPrefix(below, "/")
}

func hidden(path string) bool { return strings.Contains(path, "/_") }

func gone(e *Event) bool {
	switch store.Action(e.Action) {
	case store.ActionDelete, store.ActionCompareAndDelete, store.ActionExpire:
		return true
	}
	return false
}

// lifetimes knows which keys existed when.
type lifetimes struct {
	born map[string][]uint64
	died map[string][]uint64
}

func newLifetimes(order []uint64, all map[uint64]*change) *lifetimes {
	l := &lifetimes{map[string][]uint64{}, map[string][]uint64{}}
	for _, i := range order {
		e := all[i].event
		if gone(e) {
			l.died[e.Node.Key] = append(l.died[e.Node.Key], i)
			continue
		}
		segs := segments(e.Node.Key)
		for n := 1; n <= len(segs); n++ {
			at := join(segs[:n])
			l.born[at] = append(l.born[at], i)
		}
	}
	return l
}

// existed says whether key was there right after index.
func (l *lifetimes) existed(key string, index uint64) bool {
	born := lastUpTo(l.born[key], index)
	if born == 0 {
		return false
	}
	segs := segments(key)
	for n := 1; n <= len(segs); n++ {
		if lastUpTo(l.died[join(segs[:n])], index) > born {
			return false
		}
	}
	return true
}

func lastUpTo(rising []uint64, index uint64) uint64 {
	i, _ := slices.BinarySearch(rising, index+1)
	if i == 0 {
		return 0
	}
	return rising[i-1]
}
