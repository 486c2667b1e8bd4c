package sched

import (
	"slices"
	"strconv"
)

// Rebalance decides on moves that even out the load of the machines, and takes them for
// done: at most budget units move, each once, from those with most load to those with
// least. A unit moves only where the difference becomes smaller, no preference is lost and
// its family stays as spread; with it go those that have to be where it is. Singletons
// that are held stay. On a Clone it is a preview.
func (s *State) Rebalance(budget int) []Decision {
	s.settle()
	moved, spent := map[*item]bool{}, newSlots(s.words)
	for budget > 0 {
		group, h := s.easing(budget, moved, spent)
		if h == nil {
			break
		}
		budget -= len(group)
		for _, u := range group {
			moved[u] = true
		}
		s.take(group, h, "evens out: from a load of "+strconv.Itoa(group[0].at.load)+" to one of "+strconv.Itoa(h.load))
		s.commit()
	}
	return s.decisions()
}

// easing gives a group and the machine that it should move to, or nil. Machines that have
// nothing to give are added to spent, and not looked at again.
func (s *State) easing(budget int, moved map[*item]bool, spent slots) ([]*item, *host) {
	least, open := s.leastOpen()
	for i := len(s.levels) - 1; open && i >= 0 && s.levels[i].load > least+1; i-- {
		for {
			at, found := s.levels[i].set.without(spent).first()
			if !found {
				break
			}
			if group, h := s.spare(s.slotted[at], budget, moved); h != nil {
				return group, h
			}
			spent.add(at)
		}
	}
	return nil, nil
}

// spare gives the first group of a machine, by name, whose move makes loads more even, and
// where it should go, or nil.
func (s *State) spare(from *host, budget int, moved map[*item]bool) ([]*item, *host) {
	on := slices.Clone(from.on)
	s.sort(on)
	for _, u := range on {
		group := s.group(u)
		stays := func(g *item) bool { return moved[g] || g.Held != "" || g.Move != "" }
		if len(group) > budget || slices.ContainsFunc(group, stays) {
			continue
		}
		if h := s.elsewhere(group); h != nil && s.eases(group, from, h) {
			return group, h
		}
	}
	return nil, nil
}

// leastOpen gives the smallest load of a machine that takes something new.
func (s *State) leastOpen() (load int, found bool) {
	for _, l := range s.levels {
		if intersect(l.set, s.open) {
			return l.load, true
		}
	}
	return 0, false
}

// eases reports whether moving a group makes the load of two machines more even, and
// costs none of them a wish.
func (s *State) eases(group []*item, from, to *host) bool {
	weight := 0
	for _, u := range group {
		weight += u.weight
		if liked(u, to) < liked(u, from) || !s.asSpread(u, from, to) || u.Place.MostFree && s.tighter(u, from, to) {
			return false
		}
	}
	return to.load+weight < from.load
}

// tighter reports whether u would have no more room than it has.
func (s *State) tighter(u *item, from, to *host) bool {
	there := room(s.scarce(u), to.slot)
	here := s.scarce(u)
	for i := range here {
		here[i].amount = 0 // it is counted already
	}
	return there <= room(here, from.slot)
}

// liked is how many preferences of u a machine meets.
func liked(u *item, h *host) int {
	n := 0
	for _, f := range u.prefer {
		if f.fits.has(h.slot) {
			n++
		}
	}
	return n
}

// asSpread reports whether the family of u is not less spread after a move.
func (s *State) asSpread(u *item, from, to *host) bool {
	key := u.Place.Spread
	if key == "" || from.Metadata[key] == to.Metadata[key] {
		return true
	}
	counts := s.crowd(u.kin, key)
	return counts[to.Metadata[key]] < counts[from.Metadata[key]]
}
