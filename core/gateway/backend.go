package gateway

import (
	"time"

	"github.com/keelson/keelson/core/store"
)

// Backend is the node as the gateway sees it. Its methods are called on the
// node's loop and its callbacks run there, possibly inside the call. Deadlines are
// the backend's: it runs each done once, at the latest when its own time limit
// for requests has passed.
type Backend interface {
	// Propose puts c into the log. The result is that of the applied command, or
	// has Err set with code 300 or 301 where the outcome is unknown or nothing was
	// proposed. The backend fills in ID and Settled.
	Propose(c store.Command, done func(store.Result))
	// ReadIndex calls done(nil) once View holds every write that was acknowledged
	// anywhere before the call.
	ReadIndex(done func(*store.Error))
	// View is the state as this member has applied it. It holds every event that
	// watches were told of.
	View() *store.View
	// Watch calls fn with each later event that matches, in index order, until
	// cancel is called.
	Watch(key string, recursive bool, fn func(*store.Event)) (cancel func())
	// Info describes the member and its cluster at this moment. The gateway does
	// not keep it.
	Info() *Info
}

// Counter is what a Backend may offer besides, so that /v2/stats tells of the
// traffic between members. Without it all figures are zero.
type Counter interface{ Traffic() *Traffic }

// Alarm is what a Backend may offer besides, so that a request with a time limit
// of its own (Request.TimeoutMS) and health checks are answered in time.
type Alarm interface {
	// After runs fn once, in a later turn, unless stop was called before.
	After(d time.Duration, fn func()) (stop func())
}
