package sched

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/keelson/keelson/core/unit"
)

// slots is a set of machines, each by its slot. The slots of most machines are in the
// order of their IDs, so that the first of a set is the one with the smallest ID; those of
// machines that came since the slots were given out are in the last word, in no order.
type slots []uint64

func newSlots(words int) slots { return make(slots, words) }

func (s slots) has(at int32) bool { return s[at>>6]&(1<<(at&63)) != 0 }
func (s slots) add(at int32)      { s[at>>6] |= 1 << (at & 63) }
func (s slots) del(at int32)      { s[at>>6] &^= 1 << (at & 63) }

func (s slots) union(t slots) {
	for i, w := range t {
		s[i] |= w
	}
}

// without gives the members that are not in t.
func (s slots) without(t slots) slots {
	r := make(slots, len(s))
	for i := range s {
		r[i] = s[i] &^ t[i]
	}
	return r
}

// strike removes the members of t, and says how many there were.
func (s slots) strike(t slots) (n int) {
	for i := range s {
		n += bits.OnesCount64(s[i] & t[i])
		s[i] &^= t[i]
	}
	return n
}

func (s slots) size() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// first gives the member with the smallest slot.
func (s slots) first() (at int32, found bool) {
	for i, w := range s {
		if w != 0 {
			return int32(i<<6 + bits.TrailingZeros64(w)), true
		}
	}
	return 0, false
}

// each calls fn for every member, which fn may remove.
func (s slots) each(fn func(at int32)) {
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			fn(int32(i<<6 + bits.TrailingZeros64(w)))
		}
	}
}

// tally counts something on machines. Most things are on few machines, and on few of those
// twice.
type tally struct {
	few  []int32 // a slot for each that is counted
	many slots   // the machines, once they are no longer few
	more map[int32]int
}

func (t *tally) add(at int32, s *State) {
	if t.many == nil {
		if len(t.few) < s.limits.few {
			t.few = append(t.few, at)
			return
		}
		t.many = newSlots(s.words)
		for _, f := range t.few {
			t.count(f)
		}
		t.few = nil
	}
	t.count(at)
}

func (t *tally) count(at int32) {
	if !t.many.has(at) {
		t.many.add(at)
		return
	}
	if t.more == nil {
		t.more = map[int32]int{}
	}
	t.more[at]++
}

func (t *tally) del(at int32) {
	if t.many == nil {
		i := slices.Index(t.few, at)
		last := len(t.few) - 1
		t.few[i] = t.few[last]
		t.few = t.few[:last]
		return
	}
	if n := t.more[at]; n > 1 {
		t.more[at] = n - 1
	} else if n == 1 {
		delete(t.more, at)
	} else {
		t.many.del(at)
	}
}

// into adds the machines to a set.
func (t *tally) into(s slots) {
	s.union(t.many)
	for _, at := range t.few {
		s.add(at)
	}
}

// each calls fn for every machine, perhaps more than once.
func (t *tally) each(fn func(at int32)) {
	t.many.each(fn)
	for _, at := range t.few {
		fn(at)
	}
}

// level is the machines that have the same load.
type level struct {
	load   int
	set    slots
	n      int
	lo, hi int // words before lo and after hi are empty
}

func (l *level) add(at int32) {
	w := int(at >> 6)
	if l.n == 0 {
		l.lo, l.hi = w, w
	}
	l.lo, l.hi = min(l.lo, w), max(l.hi, w)
	l.set.add(at)
	l.n++
}

func (l *level) del(at int32) {
	l.set.del(at)
	l.n--
	if l.n == 0 {
		return
	}
	for l.set[l.lo] == 0 {
		l.lo++
	}
	for l.set[l.hi] == 0 {
		l.hi--
	}
}

// enter puts a machine among those of its load.
func (s *State) enter(h *host) {
	i, found := s.findLevel(h.load)
	if !found {
		s.levels = slices.Insert(s.levels, i, s.emptyLevel(h.load))
	}
	s.levels[i].add(h.slot)
}

// leave takes it out again.
func (s *State) leave(h *host) {
	i, _ := s.findLevel(h.load)
	l := s.levels[i]
	l.del(h.slot)
	if l.n == 0 {
		s.levels = slices.Delete(s.levels, i, i+1)
		s.spareLevels = append(s.spareLevels, l)
	}
}

func (s *State) findLevel(load int) (int, bool) {
	return slices.BinarySearchFunc(s.levels, load, func(l *level, load int) int { return cmp.Compare(l.load, load) })
}

func (s *State) emptyLevel(load int) *level {
	if last := len(s.spareLevels) - 1; last >= 0 {
		l := s.spareLevels[last]
		s.spareLevels = s.spareLevels[:last]
		l.load = load
		return l
	}
	return &level{load: load, set: newSlots(s.words)}
}

// weigh changes the load of a machine.
func (s *State) weigh(h *host, by int) {
	if !h.alive || h.slot < 0 {
		h.load += by
		return
	}
	s.leave(h)
	h.load += by
	s.enter(h)
}

// filter is the machines that meet some conditions. Units with the same conditions share
// one.
type filter struct {
	key        string
	conditions []unit.Condition
	fits       slots
	users      int
}

func (f *filter) meets(m *Machine) bool {
	if len(f.conditions) == 1 {
		return f.conditions[0].Holds(m.Metadata)
	}
	return unit.Unmet(f.conditions, m.Metadata) == ""
}

func (f *filter) look(h *host) {
	if f.meets(&h.Machine) {
		f.fits.add(h.slot)
	} else {
		f.fits.del(h.slot)
	}
}

// filter gives the filter of some conditions, nil where there are none.
func (s *State) filter(conditions []unit.Condition) *filter {
	if len(conditions) == 0 {
		return nil
	}
	key := make([]byte, 0, 64)
	for _, c := range conditions {
		key = append(append(key, c.Key...), c.Op...)
		for _, v := range c.Values {
			key = append(append(key, v...), 0)
		}
	}
	f, known := s.filters[string(key)]
	if !known {
		f = &filter{key: string(key), conditions: conditions, fits: newSlots(s.words)}
		s.filters[f.key] = f
		s.filterList = append(s.filterList, f)
		for _, h := range s.slotted {
			if h != nil {
				f.look(h)
			}
		}
	}
	if f.users++; f.users == 1 && s.idleFilters > 0 && known {
		s.idleFilters--
	}
	return f
}

// dropFilter gives back what filter gave. Some filters that nobody uses are kept.
func (s *State) dropFilter(f *filter) {
	if f == nil {
		return
	}
	if f.users--; f.users == 0 {
		s.idleFilters++
	}
	if s.idleFilters <= s.limits.idle {
		return
	}
	s.idleFilters = 0
	s.filterList = slices.DeleteFunc(s.filterList, func(f *filter) bool {
		if f.users == 0 {
			delete(s.filters, f.key)
		}
		return f.users == 0
	})
}

// stock is what there is of one resource, by slot.
type stock struct {
	name           string
	announced      slots // machines that say how much they have
	capacity, used []int64
}

func (s *State) stock(name string) *stock {
	t := s.stocks[name]
	if t == nil {
		n := s.words * 64
		t = &stock{name, newSlots(s.words), make([]int64, n), make([]int64, n)}
		s.stocks[name] = t
		s.stockList = append(s.stockList, t)
	}
	return t
}

// use counts an amount as used on a machine.
func (s *State) use(h *host, q unit.Quantity, by int64) {
	if h.used == nil {
		h.used = map[string]int64{}
	}
	h.used[q.Name] += by * q.Amount
	if h.slot >= 0 {
		s.stock(q.Name).used[h.slot] = h.used[q.Name]
	}
}

// takeStock notes what a machine announces.
func (s *State) takeStock(h *host) {
	for _, t := range s.stockList {
		t.announced.del(h.slot)
	}
	for _, q := range h.Capacity {
		t := s.stock(q.Name)
		t.announced.add(h.slot)
		t.capacity[h.slot] = q.Amount
	}
}

// values is the machines by their value of a metadata key; those without it have "".
type values struct {
	epoch int
	names []string
	sets  []slots
}

func (s *State) valuesOf(key string) *values {
	v := s.byKey[key]
	if v != nil && v.epoch == s.epoch {
		return v
	}
	v = &values{epoch: s.epoch}
	at := map[string]int{}
	for _, h := range s.slotted {
		if h == nil || !h.alive {
			continue
		}
		name := h.Metadata[key]
		i, known := at[name]
		if !known {
			i = len(v.names)
			at[name] = i
			v.names = append(v.names, name)
			v.sets = append(v.sets, newSlots(s.words))
		}
		v.sets[i].add(h.slot)
	}
	s.byKey[key] = v
	return v
}
