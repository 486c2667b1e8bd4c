package sim

import "time"

// runner is what an event does when its time has come.
type runner interface{ run(w *World) }

// call is a runner made of a function.
type call func()

func (c call) run(*World) { c() }

// queue holds all that will happen, ordered by (at, id): for every i > 0,
// entries[i] is not before entries[(i-1)/4]. Entries are small and what they do
// lies in slots beside them, so that sifting moves little and nothing is
// allocated once the queue has grown.
type queue struct {
	entries []entry
	slots   []slot
	free    []int32
}

type entry struct {
	at   time.Duration
	id   uint64
	slot int32
}

type slot struct {
	cause uint64
	do    runner
}

func (e entry) before(o entry) bool { return e.at < o.at || e.at == o.at && e.id < o.id }

func (q *queue) push(at time.Duration, id, cause uint64, do runner) {
	var s int32
	if n := len(q.free); n > 0 {
		s = q.free[n-1]
		q.free = q.free[:n-1]
		q.slots[s] = slot{cause, do}
	} else {
		s = int32(len(q.slots))
		q.slots = append(q.slots, slot{cause, do})
	}
	q.entries = append(q.entries, entry{at, id, s})
	q.up(len(q.entries) - 1)
}

func (q *queue) pop() (entry, slot) {
	first := q.entries[0]
	last := len(q.entries) - 1
	q.entries[0] = q.entries[last]
	q.entries = q.entries[:last]
	if last > 0 {
		q.down(0)
	}
	s := q.slots[first.slot]
	q.slots[first.slot] = slot{}
	q.free = append(q.free, first.slot)
	return first, s
}

func (q *queue) up(i int) {
	e := q.entries[i]
	for i > 0 {
		parent := (i - 1) / 4
		if !e.before(q.entries[parent]) {
			break
		}
		q.entries[i] = q.entries[parent]
		i = parent
	}
	q.entries[i] = e
}

func (q *queue) down(i int) {
	e := q.entries[i]
	n := len(q.entries)
	for {
		child := 4*i + 1
		if child >= n {
			break
		}
		for c := child + 1; c < min(child+4, n); c++ {
			if q.entries[c].before(q.entries[child]) {
				child = c
			}
		}
		if !q.entries[child].before(e) {
			break
		}
		q.entries[i] = q.entries[child]
		i = child
	}
	q.entries[i] = e
}
