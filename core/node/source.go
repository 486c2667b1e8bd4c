package node

import (
	"errors"
	"slices"

	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/store"
)

// Source is the node as the controllers of its machine see it: its own state.
func (n *Node) Source() control.Source { return (*source)(n) }

// source implements control.Source.
type source Node

func (s *source) View() control.View { return s.store.View() }

func (s *source) Propose(c store.Command, done func(store.Result)) { (*Node)(s).Propose(c, done) }

// Barrier answers behind the followers, who were told then of all that View shows, and
// in a later turn even where ReadIndex refuses at once.
func (s *source) Barrier(done func(error)) {
	inside := true
	(*Node)(s).ReadIndex(func(err *store.Error) {
		var failed error
		if err != nil {
			failed = errors.New("node: cannot tell whether this member is up to date: " + err.Cause)
		}
		if inside {
			s.env.Clock.After(0, func() { done(failed) })
			return
		}
		s.outcomes = append(s.outcomes, outcome{func(store.Result) { done(failed) }, store.Result{}})
	})
	inside = false
}

func (s *source) Follow(prefix string, fn func([]*store.Event)) (cancel func()) {
	f := &follower{prefix: prefix, fn: fn, since: s.store.Index()}
	s.followers = append(s.followers, f)
	return func() {
		f.over = true
		s.followers = slices.DeleteFunc(slices.Clone(s.followers), func(g *follower) bool { return g == f })
	}
}

// follower is one call of Follow.
type follower struct {
	prefix string
	fn     func([]*store.Event)
	since  store.Index // what it was told of, or saw when it began
	over   bool
}

// tellFollowers hands over the events of this turn, or nil where the state was replaced.
func (n *Node) tellFollowers(events []*store.Event, restored bool) {
	now := n.store.Index()
	for _, f := range n.followers { // a call may add and cancel: see Follow
		news := f.of(events)
		again := restored && f.since < now
		f.since = now
		switch {
		case f.over:
		case again:
			f.fn(nil)
		case len(news) > 0:
			f.fn(news)
		}
	}
}

// of picks the events that f was not told of and that touch its prefix.
func (f *follower) of(events []*store.Event) (news []*store.Event) {
	for _, e := range events {
		if e.Index > f.since && e.Touches(f.prefix) {
			news = append(news, e)
		}
	}
	return news
}
