package mirror

import (
	"fmt"
	"time"

	"github.com/keelson/keelson/core/env"
)

// barrierMax is how long a barrier waits for a member that can tell.
const barrierMax = 5 * time.Second

// barrier is one call of Barrier.
type barrier struct {
	after uint64 // connections begun when it was called: a later one must answer
	done  func(error)
	timer env.Timer
}

// Barrier calls done(nil) in a later turn, once the view holds every write that was
// acknowledged anywhere before the call, or with the reason why no member says so. It is
// that of control.Source.
//
// A feed begins with a sign that is fresh, so another one is begun: that takes a round
// trip, and what the feed under way has told is not asked for again.
func (m *Mirror) Barrier(done func(error)) {
	if m.stopped {
		return
	}
	b := &barrier{after: m.talks, done: done}
	b.timer = m.env.Clock.After(barrierMax, func() { m.late(b) })
	m.barriers = append(m.barriers, b)
	m.renew()
}

// renew begins another feed where the one under way has nothing more to say to barriers.
// One that has not said anything yet is waited for, so many barriers do not cost a
// connection each.
func (m *Mirror) renew() {
	if m.talk == nil || m.talk.listing || !m.talk.heard {
		return // the next feed begins by itself
	}
	m.hush()
	m.again(0)
}

// passed follows a fresh sign of t.
func (m *Mirror) passed(t *talk) {
	t.heard = true
	if len(m.barriers) == 0 {
		return
	}
	all := m.barriers
	m.barriers = nil
	var now []*barrier
	for _, b := range all {
		if b.after < t.number {
			now = append(now, b)
		} else {
			m.barriers = append(m.barriers, b)
		}
	}
	if len(m.barriers) > 0 {
		m.renew()
	}
	for _, b := range now {
		b.timer.Stop()
		b.done(nil)
	}
}

func (m *Mirror) late(b *barrier) {
	kept := m.barriers[:0]
	for _, have := range m.barriers {
		if have != b {
			kept = append(kept, have)
		}
	}
	m.barriers = kept
	err := m.err
	if err == nil {
		err = fmt.Errorf("mirror: no member said for %v that it is up to date", barrierMax)
	}
	b.done(err)
}
