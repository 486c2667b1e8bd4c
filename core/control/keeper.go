package control

import (
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
)

// Keeper moves log time on while keys have deadlines: it has an empty batch
// proposed when the next key is due, and every half second before. The latter
// bounds how much time the cluster loses when its leader dies, since a new
// leader counts on from the last batch. Without deadlines it does nothing.
type Keeper struct {
	env   *env.Env
	timer env.Timer
	at    env.Instant // when the timer fires
	due   bool
	asked store.Time // time of the last batch proposed
}

// keepPeriod is the longest time between two batches while keys have deadlines.
const keepPeriod = 500 * time.Millisecond

// keepMin is the shortest, so that deadlines close together share a batch.
const keepMin = 5 * time.Millisecond

// NewKeeper gives a Keeper that waits for Look.
func NewKeeper(e *env.Env) *Keeper { return &Keeper{env: e} }

// State is how things stand after a turn.
type State struct {
	Leading  bool       // this node leads, and so measures log time
	Now      store.Time // what log time would be if a batch were proposed now
	Applied  store.Time // log time as applied
	Deadline store.Time // the next one
	Any      bool       // there is one
}

// Look tells the keeper how things stand.
func (k *Keeper) Look(s State) {
	if !s.Leading || !s.Any {
		k.Stop()
		return
	}
	if k.due {
		return
	}
	wait := keepPeriod
	if under := s.Applied < k.asked; !under && s.Deadline < s.Now.Add(keepPeriod) {
		wait = max(time.Duration(s.Deadline-s.Now), keepMin)
	}
	at := k.env.Clock.Now().Add(wait)
	if k.timer != nil && k.at <= at {
		return
	}
	if k.timer != nil {
		k.timer.Stop()
	}
	k.at = at
	k.timer = k.env.Clock.After(wait, func() { k.timer, k.due = nil, true })
}

// Due tells whether a batch should be proposed now.
func (k *Keeper) Due() bool { return k.due }

// Moved says that a batch of time t was proposed, empty or not. While it is not
// applied, another is proposed only after the whole period.
func (k *Keeper) Moved(t store.Time) { k.asked, k.due = t, false }

// Stop ends the keeper's work until the next Look.
func (k *Keeper) Stop() {
	if k.timer != nil {
		k.timer.Stop()
	}
	k.timer, k.due, k.asked = nil, false, 0
}
