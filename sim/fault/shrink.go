package fault

import (
	"slices"
	"time"
)

// Shrink looks for a small plan for which fails still holds, and gives the
// smallest found. It drops actions, halves at first and then one by one (delta
// debugging, Zeller and Hildebrandt, IEEE TSE 28, 2002), then shortens what
// lasts and names fewer machines. It calls fails at most tries times.
func (p Plan) Shrink(tries int, fails func(Plan) bool) Plan {
	s := &shrinker{best: slices.Clone(p), left: tries, fails: fails}
	for {
		before := s.best.String()
		s.drop()
		s.shorten()
		s.spare()
		if s.left <= 0 || s.best.String() == before {
			return s.best
		}
	}
}

type shrinker struct {
	best  Plan
	left  int
	fails func(Plan) bool
}

// try keeps a plan that still fails.
func (s *shrinker) try(p Plan) bool {
	if s.left <= 0 {
		return false
	}
	s.left--
	if !s.fails(p) {
		return false
	}
	s.best = p
	return true
}

func (s *shrinker) drop() {
	for size := (len(s.best) + 1) / 2; size > 0; size /= 2 {
		for at := len(s.best); at > 0 && s.left > 0; {
			from := max(0, at-size)
			without := slices.Delete(slices.Clone(s.best), from, min(at, len(s.best)))
			s.try(without)
			at = from
		}
	}
	if len(s.best) > 0 {
		s.try(nil)
	}
}

func (s *shrinker) shorten() {
	for i := range s.best {
		for s.best[i].For > 100*time.Millisecond {
			p := slices.Clone(s.best)
			p[i].For = (p[i].For / 2).Round(time.Millisecond)
			if !s.try(p) {
				break
			}
		}
	}
}

// spare takes machines out of groups, as long as each group keeps one.
func (s *shrinker) spare() {
	for i := range s.best {
		for g := range s.best[i].Groups {
			for m := len(s.best[i].Groups[g]) - 1; m >= 0 && len(s.best[i].Groups[g]) > 1; m-- {
				p := slices.Clone(s.best)
				p[i].Groups = slices.Clone(p[i].Groups)
				p[i].Groups[g] = slices.Delete(slices.Clone(p[i].Groups[g]), m, m+1)
				s.try(p)
			}
		}
	}
}
