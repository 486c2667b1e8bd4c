package daemon

import (
	"errors"
	"slices"

	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/store"
)

// source is the store for the units of this machine, for as long as the process lives:
// the member may be taken apart and rebuilt meanwhile. Its view never goes back. Between
// two members it stands still, and nothing can be written.
type source struct {
	env     *env.Env
	node    member // nil between two
	src     control.Source
	last    control.View // of the member before
	follows []*following
	cancel  func()
}

// member is what the source needs of a node besides its own source.
type member interface {
	Admit(a *gateway.Admission) (cancel func())
}

type following struct {
	s      *source
	prefix string
	fn     func([]*store.Event)
	cancel func() // at the present member
	stale  bool   // has to read everything anew
	over   bool
}

var errNoMember = errors.New("this member is being rebuilt")

// attach makes n the member that is followed.
func (s *source) attach(n member, src control.Source) {
	s.node, s.src = n, src
	for _, f := range s.follows {
		f.stale = true
		f.cancel = src.Follow(f.prefix, f.hear)
	}
	s.cancel = src.Follow("/", func([]*store.Event) { s.refresh() })
	s.env.Clock.After(0, s.refresh)
}

// detach leaves the member, whose last view stays.
func (s *source) detach() {
	if s.src == nil {
		return
	}
	s.last = s.View()
	for _, f := range s.follows {
		f.cancel()
	}
	s.cancel()
	s.node, s.src = nil, nil
}

// behind says that the present member does not know yet what an earlier one knew.
func (s *source) behind() bool {
	return s.src == nil || s.last != nil && s.src.View().Index() < s.last.Index()
}

// refresh tells those that have to read everything anew, once there is something newer.
func (s *source) refresh() {
	for _, f := range s.follows {
		if f.stale && !s.behind() {
			f.hear(nil)
		}
	}
}

func (f *following) hear(events []*store.Event) {
	switch {
	case f.over:
	case f.s.behind():
		f.stale = true
	case f.stale:
		f.stale = false
		f.fn(nil)
	default:
		f.fn(events)
	}
}

// View implements control.Source.
func (s *source) View() control.View {
	if s.behind() {
		return s.last
	}
	return s.src.View()
}

// Follow implements control.Source.
func (s *source) Follow(prefix string, fn func([]*store.Event)) (cancel func()) {
	f := &following{s: s, prefix: prefix, fn: fn, cancel: func() {}, stale: s.src == nil}
	if s.src != nil {
		f.cancel = s.src.Follow(prefix, f.hear)
	}
	s.follows = append(s.follows[:len(s.follows):len(s.follows)], f)
	return func() {
		f.over = true
		f.cancel()
		s.follows = slices.DeleteFunc(slices.Clone(s.follows), func(have *following) bool { return have == f })
	}
}

// Propose implements control.Source.
func (s *source) Propose(c store.Command, done func(store.Result)) {
	if s.src == nil {
		done(store.Result{Err: &store.Error{Code: store.CodeRaftInternal, Cause: "not sent: " + errNoMember.Error()}})
		return
	}
	s.src.Propose(c, done)
}

// Barrier implements control.Source.
func (s *source) Barrier(done func(error)) {
	if s.src == nil {
		s.env.Clock.After(0, func() { done(errNoMember) })
		return
	}
	s.src.Barrier(func(err error) {
		if err == nil && s.behind() {
			err = errNoMember
		}
		done(err)
	})
}

// Admit judges requests as the present member does.
func (s *source) Admit(a *gateway.Admission) (cancel func()) {
	if s.node == nil {
		a.Refused(errNoMember.Error())
		return func() {}
	}
	return s.node.Admit(a)
}
