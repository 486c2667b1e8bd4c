package node

import (
	"time"

	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
)

// timeBase ties log time to the leader's clock for one term. It is fixed when the
// leader has applied an entry of its own term and so knows how far its
// predecessors had come. The time between their last batch and this moment is
// not counted, so log time runs late at each change of leader and never early.
type timeBase struct {
	term  uint64
	log   store.Time
	clock env.Instant
}

// logTime is the time to stamp on a batch now. Before the base is fixed it is
// zero, which leaves the store's time where it is.
func (n *Node) logTime() store.Time {
	term, ok := n.replica.Leading()
	if !ok {
		return 0
	}
	now := n.env.Clock.Now()
	if n.base.term != term {
		n.base = timeBase{term: term, log: n.store.Time(), clock: now}
	}
	return n.base.log.Add(now.Sub(n.base.clock))
}

// keep tells the keeper of log time how things stand.
func (n *Node) keep() {
	if n.inert() {
		return
	}
	_, leading := n.replica.Leading()
	s := control.State{Leading: leading, Applied: n.store.Time()}
	if s.Deadline, s.Any = n.store.NextDeadline(); s.Any && leading {
		s.Now = n.logTime()
	}
	n.keeper.Look(s)
}

// wake is the one timer for everything that waits: it is armed only while
// something does, for the moment at which the first thing is due.
type wake struct {
	timer env.Timer
	at    env.Instant
}

func (w *wake) stop() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}

// arm sets the timer to the next moment at which something is due.
func (n *Node) arm() {
	at, any := n.nextDue()
	if !any || n.inert() || n.wake.timer != nil && n.wake.at <= at {
		return
	}
	n.wake.stop()
	n.wake.at = at
	n.wake.timer = n.env.Clock.After(at.Sub(n.env.Clock.Now()), n.woken)
}

func (n *Node) nextDue() (at env.Instant, any bool) {
	due := func(t env.Instant) {
		if !any || t < at {
			at, any = t, true
		}
	}
	q := &n.commands
	if q.first < q.next {
		due(q.list[0].until)
		if q.sent > q.first && q.leader != n.cfg.ID && q.leader != 0 {
			due(q.sentAt.Add(n.resendAfter()))
		}
	}
	if rd := n.reads.oldest(); rd != nil {
		due(rd.until)
	}
	return at, any
}

// resendAfter is how long to wait for a sign of commands sent to the leader.
func (n *Node) resendAfter() time.Duration {
	return n.cfg.election() / 2 << min(n.commands.repeats, 4)
}

func (n *Node) woken() {
	n.wake.timer = nil
	if n.inert() {
		return
	}
	now := n.env.Clock.Now()
	n.expire(now)
	n.expireReads(now)
	n.again(now)
}
