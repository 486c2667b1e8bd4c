package control

import "github.com/keelson/keelson/core/store"

// Source is the store as the controllers of one machine have it: a member's own state, or
// what a mirror copies of it. Its methods are called on the loop.
type Source interface {
	Proposer
	// View is the present state, or nil before the first. A mirror shows its prefixes
	// only.
	View() View
	// Follow has fn called in a later turn, or at the end of this one, after changes of
	// View below prefix: with the events, in the order of their index, refreshes and
	// hidden keys included, or with nil where the whole has to be read anew. It is not
	// called for what View shows already.
	Follow(prefix string, fn func(events []*store.Event)) (cancel func())
	// Barrier calls done(nil) in a later turn, once View holds every write that was
	// acknowledged anywhere before the call, or with the reason why nobody can tell. It
	// takes a few seconds at most.
	Barrier(done func(error))
}
