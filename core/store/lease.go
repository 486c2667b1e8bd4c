package store

import "time"

// lease is the deadline of one key. Only pos changes after it is made, and only
// the Store reads that: a View may look at the rest at any time.
type lease struct {
	deadline Time
	expires  int64 // wall time for people, Unix nanoseconds, never 0
	key      string
	pos      int
}

func (l *lease) left(now Time) time.Duration { return time.Duration(l.deadline - now) }

// leases is a binary heap: the earliest deadline first, equal ones by key. Each
// lease knows its place, so one of them can be taken out.
//
// Invariant: h[i].pos == i, and h[i] is not before h[(i-1)/2].
type leases []*lease

func (h leases) before(i, j int) bool {
	if h[i].deadline != h[j].deadline {
		return h[i].deadline < h[j].deadline
	}
	return h[i].key < h[j].key
}

func (h leases) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

func (h *leases) add(l *lease) {
	if l == nil {
		return
	}
	l.pos = len(*h)
	*h = append(*h, l)
	h.up(l.pos)
}

func (h *leases) remove(l *lease) {
	if l == nil {
		return
	}
	i, last := l.pos, len(*h)-1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	if i < last {
		h.down(i)
		h.up(i)
	}
}

func (h leases) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.before(i, parent) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h leases) down(i int) {
	for {
		least := i
		for kid := 2*i + 1; kid <= 2*i+2 && kid < len(h); kid++ {
			if h.before(kid, least) {
				least = kid
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}
