package store

import (
	"strconv"

	"github.com/keelson/keelson/core/planted"
)

// HistoryMax is how many of the last events are kept for watches that begin in
// the past, refreshes included.
const HistoryMax = 1000

// history is the last events, oldest first, without a gap: their indexes are
// consecutive and the last is the store's. A View shares it; it is only ever
// appended to, behind the end that the View sees.
type history []*Event

func (h history) add(e *Event) history {
	h = append(h, e)
	if len(h) > HistoryMax {
		h = h[1:]
	}
	return h
}

// Since gives the first event kept in the history, at index from or later, that
// a watch on key would have been woken by; a from of 0 is the same as 1. It
// gives nil and nil if no such event has happened yet, and CodeIndexCleared if
// events since from may have left the history.
//
// An event matches in the history exactly if it wakes a live watch, see
// Watchers. The classic store differs in three ways that only surprise: there a
// recursive watch into the past also sees hidden keys; the removal of a
// directory matches every key that begins with its text, such as /dzz for /d;
// and a stream that began in the past stops after one event.
func (v *View) Since(key string, recursive bool, from Index) (*Event, *Error) {
	from = max(from, 1)
	if from > v.index {
		return nil, nil
	}
	oldest := v.index + 1 - Index(len(v.history))
	if from < oldest {
		cause := "the requested history has been cleared [" +
			strconv.FormatUint(uint64(oldest), 10) + "/" + strconv.FormatUint(uint64(from), 10) + "]"
		return nil, &Error{Code: CodeIndexCleared, Cause: cause, Index: v.index}
	}
	for _, e := range v.history[from-oldest:] {
		if planted.On(planted.WatchLosesEdge) && (e.Index == oldest || e.Index == v.loaded) {
			continue
		}
		if e.wakes(key, recursive) {
			return e, nil
		}
	}
	return nil, nil
}

// wakes says whether the event wakes a watch on key.
func (e *Event) wakes(key string, recursive bool) bool {
	if e.Refresh {
		return false
	}
	if e.Node.Key == key {
		return true
	}
	if inside := below(e.Node.Key, key); inside != "" {
		return recursive && !hiddenIn(inside)
	}
	if e.gone == nil {
		return false
	}
	inside := below(key, e.Node.Key)
	return inside != "" && e.gone.has(inside)
}

// hiddenIn reports whether an element of path, which begins with a slash, is hidden.
func hiddenIn(path string) bool {
	for s := segmentsOf(path); ; {
		name, more := s.next()
		if !more || hidden(name) {
			return more
		}
	}
}

// has reports whether path, which begins with a slash, exists under n.
func (n *node) has(path string) bool {
	for s := segmentsOf(path); ; {
		name, more := s.next()
		if !more {
			return true
		}
		if n = n.children().get(name); n == nil {
			return false
		}
	}
}
