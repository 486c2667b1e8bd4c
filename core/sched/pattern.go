package sched

import (
	"slices"
	"strings"

	"github.com/keelson/keelson/core/unit"
)

// pattern is a glob that units declare as Conflicts or as Replaces, and where in the
// cluster it matters: on which machines is a unit that it fits, and on which one that
// declares it. Units find the patterns that fit their name by its beginning, and patterns
// their units by the name of the template or, where the glob leaves that open, by a search.
type pattern struct {
	key       patternKey
	literal   string // what every name that it fits begins with
	tail      string // and ends with, where simple
	simple    bool   // literal, one star, tail
	exact     bool   // no special character: literal is all
	hosts     tally
	declarers tally
	users     int // units that declare it
}

type patternKey struct {
	glob     string
	replaces bool
}

func newPattern(k patternKey) *pattern {
	p := &pattern{key: k}
	at := strings.IndexAny(k.glob, `*?[\`)
	if at < 0 {
		p.literal, p.exact = k.glob, true
		return p
	}
	p.literal = k.glob[:at]
	if rest := k.glob[at:]; rest[0] == '*' && !strings.ContainsAny(rest[1:], `*?[\`) {
		p.tail, p.simple = rest[1:], true
	}
	return p
}

func (p *pattern) fits(name string) bool {
	if p.exact {
		return name == p.literal
	}
	if !p.simple {
		return unit.Match(p.key.glob, name)
	}
	if len(name) < len(p.literal)+len(p.tail) || !strings.HasPrefix(name, p.literal) || !strings.HasSuffix(name, p.tail) {
		return false
	}
	return strings.IndexByte(name[len(p.literal):len(name)-len(p.tail)], '/') < 0
}

// patterns finds patterns and the units that they fit.
type patterns struct {
	all       map[patternKey]*pattern
	byLiteral map[string][]*pattern // those that are known to their units
	lengths   []int                 // of the literals there, sorted
	fresh     []*pattern            // the others
	byStem    map[string][]*item    // units with an @, by what is before it
	idle      int                   // how many no unit declares any more
}

func newPatterns() patterns {
	return patterns{all: map[patternKey]*pattern{}, byLiteral: map[string][]*pattern{}, byStem: map[string][]*item{}}
}

func (ps *patterns) intern(globs []string, replaces bool, list []*pattern) []*pattern {
	for _, g := range globs {
		k := patternKey{g, replaces}
		p := ps.all[k]
		if p == nil {
			p = newPattern(k)
			ps.all[k] = p
			ps.fresh = append(ps.fresh, p)
			ps.idle++
		}
		if p.users++; p.users == 1 {
			ps.idle--
		}
		list = append(list, p)
	}
	return list
}

// release takes back what intern gave.
func (ps *patterns) release(list []*pattern) {
	for _, p := range list {
		if p.users--; p.users == 0 {
			ps.idle++
		}
	}
}

// fitting gives the known patterns that fit a name.
func (ps *patterns) fitting(name string) (list []*pattern) {
	for _, n := range ps.lengths {
		if n > len(name) {
			break
		}
		for _, p := range ps.byLiteral[name[:n]] {
			if p.fits(name) {
				list = append(list, p)
			}
		}
	}
	return list
}

// enter takes a unit in, so that later patterns find it.
func (ps *patterns) enter(u *item) {
	u.fits = ps.fitting(u.Name)
	if stem, _, at := strings.Cut(u.Name, "@"); at {
		u.stemAt = len(ps.byStem[stem])
		ps.byStem[stem] = append(ps.byStem[stem], u)
	}
}

func (ps *patterns) leave(u *item) {
	if stem, _, at := strings.Cut(u.Name, "@"); at {
		list := ps.byStem[stem]
		last := len(list) - 1
		list[u.stemAt] = list[last]
		list[u.stemAt].stemAt = u.stemAt
		list[last] = nil
		if ps.byStem[stem] = list[:last]; last == 0 {
			delete(ps.byStem, stem)
		}
	}
}

// introduce makes the fresh patterns known to the units that they fit.
func (s *State) introduce() {
	ps := &s.patterns
	if len(ps.fresh) == 0 {
		return
	}
	fresh := ps.fresh
	ps.fresh = nil
	var sorted []string
	searches := 0
	for _, p := range fresh {
		if p.exact {
			s.meet(p, s.units[p.literal])
		} else if stem, _, at := strings.Cut(p.literal, "@"); at {
			for _, u := range ps.byStem[stem] {
				s.meet(p, u)
			}
		} else {
			if searches++; searches > s.limits.search && sorted == nil {
				sorted = s.names()
			}
			s.search(p, sorted)
		}
		ps.byLiteral[p.literal] = append(ps.byLiteral[p.literal], p)
		if i, found := slices.BinarySearch(ps.lengths, len(p.literal)); !found {
			ps.lengths = slices.Insert(ps.lengths, i, len(p.literal))
		}
	}
}

// search has a pattern meet every unit whose name begins as it must. The names are sorted,
// or not there.
func (s *State) search(p *pattern, sorted []string) {
	if sorted == nil {
		for _, u := range s.items {
			s.meet(p, u)
		}
		return
	}
	from, _ := slices.BinarySearch(sorted, p.literal)
	for _, name := range sorted[from:] {
		if !strings.HasPrefix(name, p.literal) {
			break
		}
		s.meet(p, s.units[name])
	}
}

func (s *State) meet(p *pattern, u *item) {
	if u == nil || !p.fits(u.Name) {
		return
	}
	u.fits = append(u.fits, p)
	if u.at != nil && u.at.slot >= 0 {
		p.hosts.add(u.at.slot, s)
	}
	if !u.Place.Global {
		return
	}
	for _, h := range s.slotted {
		if h != nil && slices.Contains(h.globals, u) {
			p.hosts.add(h.slot, s)
		}
	}
}

// forget makes the patterns anew, without those that no unit declares, where there are too
// many of them. Slots have to be given out again after it.
func (s *State) forget() bool {
	if s.patterns.idle < s.limits.idle || s.patterns.idle < len(s.patterns.all)/2 {
		return false
	}
	s.patterns = newPatterns()
	for _, u := range s.items {
		u.fits = nil
		s.learn(u)
		s.patterns.enter(u)
	}
	return true
}

// against gives the glob by which two units may not be on one machine, or "".
func against(a, b *item) string {
	if a == b {
		return ""
	}
	if g := declared(a, b, false); g != "" {
		return g
	}
	return declared(b, a, false)
}

// supersedes reports whether b takes the place of a, and a not that of b.
func supersedes(b, a *item) bool {
	return a != b && declared(b, a, true) != "" && declared(a, b, true) == ""
}

// declared gives the first glob of a that fits b, or "".
func declared(a, b *item, replaces bool) string {
	if len(b.fits) == 0 {
		return ""
	}
	for _, p := range a.declares {
		if p.key.replaces == replaces && slices.Contains(b.fits, p) {
			return p.key.glob
		}
	}
	return ""
}
