package sched

import (
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/keelson/keelson/core/unit"
)

// query is which machines can take a group of units, as sets that are put together word by
// word while the best is looked for.
type query struct {
	lead     *item   // whose wishes count
	deny     slots   // machines that cannot
	allow    []slots // each holds all that can
	narrowed bool    // only the one can, if any
	only     *host
	needs    []need // of the whole group
}

// need is how much has to be left of a resource.
type need struct {
	of     *stock
	amount int64
}

// query finds out which machines can take a group that is on one machine or none.
func (s *State) query(q *query, group []*item) *query {
	if q.deny == nil {
		q.deny = newSlots(s.words)
	}
	clear(q.deny)
	q.lead, q.allow, q.narrowed, q.only, q.needs = group[0], q.allow[:0], false, nil, q.needs[:0]
	if h := group[0].at; h != nil {
		q.deny.add(h.slot)
	}
	for _, u := range group {
		s.restrict(q, u, group)
	}
	return q
}

// restrict adds what one of the group asks for.
func (s *State) restrict(q *query, u *item, group []*item) {
	p := u.Place
	if u.filter != nil {
		q.allow = append(q.allow, u.filter.fits)
	}
	if p.MachineID != "" {
		q.allow = append(q.allow, s.called(p.MachineID, q))
	}
	if u.Held != "" && u.Held != u.Machine {
		q.narrow(s.hosts[u.Held])
	}
	for _, name := range p.Peers {
		s.follow(q, u, s.units[name], group)
	}
	s.keepApart(q, u)
	for _, r := range p.Resources {
		q.need(s.stock(r.Name), r.Amount)
	}
	if p.MaxPerMachine > 0 {
		s.bound(q, u, group)
	}
}

// narrow leaves one machine, or none.
func (q *query) narrow(h *host) {
	if q.narrowed && q.only != h {
		h = nil
	}
	q.narrowed, q.only = true, h
}

// called gives the machines that MachineID names.
func (s *State) called(id string, q *query) slots {
	var named []*host
	if h := s.hosts[id]; h != nil {
		named = append(named, h)
	}
	if len(id) == shortID {
		named = append(named, s.short[id]...)
	}
	set := newSlots(s.words)
	for _, h := range named {
		set.add(h.slot)
	}
	if len(named) == 1 {
		q.narrow(named[0])
	}
	return set
}

// follow restricts u to the machines where one that it must be with is.
func (s *State) follow(q *query, u, peer *item, group []*item) {
	switch {
	case peer == nil || peer == u:
		q.narrow(nil)
	case slices.Contains(group, peer):
	case !peer.Place.Global:
		q.narrow(peer.at)
	default:
		set := newSlots(s.words)
		for _, h := range s.slotted {
			if h != nil && slices.Contains(h.globals, peer) {
				set.add(h.slot)
			}
		}
		q.allow = append(q.allow, set)
	}
}

// keepApart denies machines where a conflict or a replacement stands in the way.
func (s *State) keepApart(q *query, u *item) {
	for _, p := range u.declares {
		if !p.key.replaces {
			p.hosts.into(q.deny)
		} else if u.at != nil {
			// What is moved does not push others away.
			p.hosts.each(func(at int32) {
				if h := s.slotted[at]; h != u.at && len(s.victims(u, h)) > 0 {
					q.deny.add(at)
				}
			})
		}
	}
	for _, p := range u.fits {
		if !p.key.replaces {
			p.declarers.into(q.deny)
		} else {
			p.declarers.each(func(at int32) {
				if replacer(u, s.slotted[at]) != nil {
					q.deny.add(at)
				}
			})
		}
	}
}

// replacer gives a unit on a machine that replaces u, or nil.
func replacer(u *item, h *host) *item {
	for _, o := range h.on {
		if supersedes(o, u) {
			return o
		}
	}
	return nil
}

func (q *query) need(of *stock, amount int64) {
	for i := range q.needs {
		if q.needs[i].of == of {
			q.needs[i].amount += amount
			return
		}
	}
	q.needs = append(q.needs, need{of, amount})
}

// bound denies machines that have as many of u's family as MaxPerMachine allows.
func (s *State) bound(q *query, u *item, group []*item) {
	most := u.Place.MaxPerMachine - kinIn(group, u)
	if most < 0 {
		q.narrow(nil)
		return
	}
	for _, o := range u.kin.on {
		if kinIn(o.at.on, u) > most {
			q.deny.add(o.at.slot)
		}
	}
}

// kinIn counts u's family in a list.
func kinIn(list []*item, u *item) int {
	n := 0
	for _, o := range list {
		if o.kin == u.kin {
			n++
		}
	}
	return n
}

// word gives the machines of one word that can take the group, but for its needs.
func (s *State) word(q *query, w int) uint64 {
	x := s.open[w] &^ q.deny[w]
	for _, a := range q.allow {
		x &= a[w]
	}
	return x
}

// suffices reports whether a machine has room for the group's needs.
func (q *query) suffices(at int32) bool {
	for _, n := range q.needs {
		if !n.of.announced.has(at) || n.amount > n.of.capacity[at]-n.of.used[at] {
			return false
		}
	}
	return true
}

// best gives the machine to choose among those that can take the group, or nil: the one
// that meets most preferences, then where the fewest of the family are, then with most
// room, then with the smallest load, then with the smallest ID; the first three where they
// are asked for.
func (s *State) best(q *query) *host {
	if q.narrowed {
		h := q.only
		if h == nil || h.slot < 0 || s.word(q, int(h.slot>>6))&(1<<(h.slot&63)) == 0 || !q.suffices(h.slot) {
			return nil
		}
		return h
	}
	if p := q.lead.Place; len(p.Prefer) > 0 || p.Spread != "" || p.MostFree {
		q.allow = append(q.allow, s.wish(q))
		defer func() { q.allow = q.allow[:len(q.allow)-1] }()
	}
	for _, l := range s.levels {
		if h := s.first(q, l); h != nil {
			return h
		}
	}
	return nil
}

// first gives the machine of a level with the smallest ID that can take the group, or nil.
func (s *State) first(q *query, l *level) *host {
	ordered := s.ordered >> 6
	var found *host
	for w := l.lo; w <= l.hi && w < ordered && found == nil; w++ {
		x := l.set[w]
		if x == 0 {
			continue
		}
		for x &= s.word(q, w); x != 0 && found == nil; x &= x - 1 {
			if at := int32(w<<6 + bits.TrailingZeros64(x)); q.suffices(at) {
				found = s.slotted[at]
			}
		}
	}
	for w := max(ordered, l.lo); w <= l.hi; w++ { // those that came since slots were given out
		for x := l.set[w] & s.word(q, w); x != 0; x &= x - 1 {
			h := s.slotted[w<<6+bits.TrailingZeros64(x)]
			if (found == nil || h.ID < found.ID) && q.suffices(h.slot) {
				found = h
			}
		}
	}
	return found
}

// wish gives those machines that can take the group which its lead would rather have,
// before load counts.
func (s *State) wish(q *query) slots {
	set := newSlots(s.words)
	for w := range set {
		set[w] = s.word(q, w)
	}
	if len(q.needs) > 0 {
		set.each(func(at int32) {
			if !q.suffices(at) {
				set.del(at)
			}
		})
	}
	set = prefer(q.lead, set)
	set = s.spread(q.lead, set)
	return s.mostFree(q.lead, set)
}

// prefer leaves those that meet most of the preferences.
func prefer(u *item, set slots) slots {
	// meets[k] holds those that meet k of the preferences so far, or more.
	meets := []slots{set}
	for _, f := range u.prefer {
		meets = append(meets, newSlots(len(set)))
		for k := len(meets) - 1; k > 0; k-- {
			for w := range set {
				meets[k][w] |= meets[k-1][w] & f.fits[w]
			}
		}
	}
	for k := len(meets) - 1; k > 0; k-- {
		if slices.ContainsFunc(meets[k], func(w uint64) bool { return w != 0 }) {
			return meets[k]
		}
	}
	return set
}

// spread leaves those with the values of the key that the fewest of the family have.
func (s *State) spread(u *item, set slots) slots {
	key := u.Place.Spread
	if key == "" {
		return set
	}
	counts, v := s.crowd(u.kin, key), s.valuesOf(key)
	left := newSlots(len(set))
	fewest := -1
	for i, name := range v.names {
		n := counts[name]
		if u.at != nil && u.at.alive && u.at.Metadata[key] == name {
			n-- // itself
		}
		if fewest >= 0 && n > fewest || !intersect(set, v.sets[i]) {
			continue
		}
		if n != fewest {
			clear(left)
		}
		fewest = n
		for w := range left {
			left[w] |= set[w] & v.sets[i][w]
		}
	}
	return left
}

func intersect(a, b slots) bool {
	for w := range a {
		if a[w]&b[w] != 0 {
			return true
		}
	}
	return false
}

// mostFree leaves those with the most room.
func (s *State) mostFree(u *item, set slots) slots {
	if !u.Place.MostFree {
		return set
	}
	left := newSlots(len(set))
	scarce := s.scarce(u)
	most := int64(-1)
	set.each(func(at int32) {
		n := room(scarce, at)
		if n > most {
			clear(left)
			most = n
		}
		if n == most {
			left.add(at)
		}
	})
	return left
}

// scarce gives the resources that count for u's room: those it asks for or, where it asks
// for none, all.
func (s *State) scarce(u *item) []need {
	var list []need
	for _, r := range u.Place.Resources {
		list = append(list, need{s.stock(r.Name), r.Amount})
	}
	if len(list) == 0 {
		for _, t := range s.stockList {
			list = append(list, need{t, 0})
		}
	}
	return list
}

// room is how much of the scarcest of some resources a machine that announces them would
// have left with u, in thousandths.
func room(scarce []need, at int32) int64 {
	left := int64(thousand)
	for _, n := range scarce {
		if t := n.of; t.announced.has(at) {
			left = min(left, share(t.capacity[at]-t.used[at]-n.amount, t.capacity[at]))
		}
	}
	return left
}

const thousand = 1000

// share is how many thousandths of the whole a part is.
func share(part, whole int64) int64 {
	switch {
	case whole <= 0 || part <= 0:
		return 0
	case whole < 1<<50:
		return part * thousand / whole
	default:
		return min(part/(whole/thousand), thousand)
	}
}

// whyBest says why a machine was chosen.
func (s *State) whyBest(u *item, h *host) string {
	p := u.Place
	switch {
	case p.MachineID != "":
		return "MachineID=" + p.MachineID
	case len(p.Peers) > 0:
		return "with " + p.Peers[0]
	case p.MostFree:
		return "most room of those that can have it"
	case len(p.Prefer) > 0, p.Spread != "":
		return "best of those that can have it, by " + wishes(p)
	}
	for len(s.whys) <= h.load && h.load < s.limits.whys {
		s.whys = append(s.whys, "least load of those that can have it: "+strconv.Itoa(len(s.whys)))
	}
	if h.load < s.limits.whys {
		return s.whys[h.load]
	}
	return "least load of those that can have it: " + strconv.Itoa(h.load)
}

func wishes(p *unit.Placement) string {
	switch {
	case len(p.Prefer) > 0 && p.Spread != "":
		return "Prefer and Spread=" + p.Spread
	case len(p.Prefer) > 0:
		return "Prefer"
	default:
		return "Spread=" + p.Spread
	}
}

// refusal says why a machine cannot take a group that is on one other machine or none, or
// "". It gives the same answer as a query, from the units on the machine.
func (s *State) refusal(group []*item, h *host) string {
	switch {
	case !h.alive:
		return "gone"
	case h.Draining:
		return "drained"
	case h.Cordoned:
		return "cordoned"
	}
	for _, u := range group {
		if r := unmet(u.Place, &h.Machine); r != "" {
			return r
		}
	}
	for _, u := range group {
		if r := s.astray(u, h, group); r != "" {
			return r
		}
	}
	for _, u := range group {
		if u.Held != "" && u.Held != h.ID && u.Held != u.Machine {
			return "Singleton: " + short(u.Held) + " has not let go of it"
		}
		if r := clash(u, h); r != "" {
			return r
		}
		if o := replacer(u, h); o != nil {
			return "replaced by " + o.Name
		}
		if u.at != nil && len(s.victims(u, h)) > 0 {
			return "Replaces: what is there would have to leave"
		}
	}
	return full(group, h)
}

// full says what of a group's needs a machine lacks, or "".
func full(group []*item, h *host) string {
	var needs []unit.Quantity
	for _, u := range group {
		for _, r := range u.Place.Resources {
			needs = addQuantity(needs, r)
		}
	}
	for _, n := range needs {
		have, known := amount(h.Capacity, n.Name)
		if !known {
			return "Resources=" + n.String() + ": " + n.Name + " is not announced"
		}
		if n.Amount > have-h.used[n.Name] {
			return "Resources=" + n.String() + ": too little is free"
		}
	}
	for _, u := range group {
		if most := u.Place.MaxPerMachine; most > 0 && kinIn(h.on, u)+kinIn(group, u) > most {
			return "MaxPerMachine=" + strconv.Itoa(most)
		}
	}
	return ""
}

// addQuantity adds an amount to a list sorted by name.
func addQuantity(list []unit.Quantity, q unit.Quantity) []unit.Quantity {
	at, found := slices.BinarySearchFunc(list, q.Name, func(a unit.Quantity, name string) int { return strings.Compare(a.Name, name) })
	if !found {
		return slices.Insert(list, at, q)
	}
	list[at].Amount += q.Amount
	return list
}
