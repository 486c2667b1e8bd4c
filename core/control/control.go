// Package control is the habit all controllers share: woken by change, one round at a time, again later on failure.
//
// A controller looks at the whole of what is and of what should be, and an event
// only says "look again". It acts on the store by commands with a condition on
// what it read, so that the late write of a controller that is no longer in
// charge loses instead of doing harm.
package control

import (
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
)

// View is what a controller reads: the store at one moment.
type View interface {
	// Get shows a key, or says why not, as store.View does.
	Get(key string, recursive bool) (*store.Node, *store.Error)
	// Whole calls fn with the key and all that is below it, as store.View does: hidden
	// keys too, each directory before what it holds.
	Whole(key string, fn func(*store.Node))
	// Index is the index of the last change in the view.
	Index() store.Index
}

// Proposer takes a controller's writes.
type Proposer interface {
	// Propose puts c into the log and calls done once, possibly before it returns,
	// with the result or with an error of code 300 where that is unknown.
	Propose(c store.Command, done func(store.Result))
}

// Back-off of a Round: the first wait, and the bound it doubles up to.
const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 30 * time.Second
)

// Round lets one round of a controller run at a time.
//
//	idle ──Begin──▶ running ──End──▶ idle, or at once again if asked meanwhile
//	  ▲                │
//	  └──back-off──── Fail
//
// Begin may be called at any time and as often as one likes.
type Round struct {
	env      *env.Env
	run      func()
	running  bool
	asked    bool
	failures int
	timer    env.Timer
}

// NewRound gives a Round that calls run when another round is due. Run must call
// Begin itself, and go on only if it says so.
func NewRound(e *env.Env, run func()) *Round { return &Round{env: e, run: run} }

// Begin starts a round. False means that one is under way, or that the last one
// failed a moment ago: another follows without being asked again.
func (r *Round) Begin() bool {
	if r.running || r.timer != nil {
		r.asked = true
		return false
	}
	r.running, r.asked = true, false
	return true
}

// End finishes a round that came to its end. If Begin was called meanwhile,
// another follows in a later turn.
func (r *Round) End() {
	r.failures = 0
	r.finish(0)
}

// Fail finishes a round that could not be carried out. Another follows after a
// wait, which doubles with each failure in a row, from 100 ms up to 30 s, and
// differs a little from node to node.
func (r *Round) Fail(err error) {
	wait := backoffMin << min(r.failures, 16)
	wait = min(wait, backoffMax)
	wait += time.Duration(r.env.Rand.Int64N(int64(wait)/4 + 1))
	r.failures++
	r.asked = true
	r.env.Log.Log(env.Debug, "round failed", "reason", err, "again", wait)
	r.finish(wait)
}

func (r *Round) finish(wait time.Duration) {
	r.running = false
	if r.asked {
		r.timer = r.env.Clock.After(wait, r.again)
	}
}

func (r *Round) again() {
	r.timer = nil
	r.run()
}

// Stop makes sure that no further round follows by itself.
func (r *Round) Stop() {
	if r.timer != nil {
		r.timer.Stop()
	}
	r.timer, r.asked = nil, false
}
