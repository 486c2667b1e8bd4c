package replica

import (
	"math/bits"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/keelson/keelson/core/env"
)

// Traffic counts the append messages of this life, heartbeats left out. The
// figures are for people: nothing is decided by them.
type Traffic struct {
	Received, Sent Flow
	Followers      []Latency // on the leader only: the other voters, by ID
}

// Flow is messages in one direction.
type Flow struct {
	Messages uint64 // since the start
	// Recent and RecentBytes passed within Span, the last second or a little
	// more. They are zero where nothing passed for a second.
	Recent, RecentBytes uint64
	Span                time.Duration
}

// Latency is how fast one follower answers append messages: the time from the
// end of the leader's turn that sent one to the turn that got the answer. Of
// several under way one is measured. Zero where none was.
type Latency struct {
	ID                          env.NodeID
	Current, Average            time.Duration
	Deviation, Minimum, Maximum time.Duration
	Answered                    uint64 // messages
	Failed                      uint64 // messages that could not be sent, or had no answer within an election timeout
}

// Traffic tells what was counted.
func (r *Replica) Traffic() Traffic {
	now := r.env.Clock.Now()
	t := Traffic{Received: r.received.flow(now), Sent: r.sent.flow(now)}
	if r.role != Leader {
		return t
	}
	for _, id := range r.Voters() {
		if id != r.cfg.ID {
			t.Followers = append(t.Followers, r.link(id).appends.latency(id))
		}
	}
	return t
}

// meter counts messages in one direction, in windows of a second: a rate is that
// of the last full one.
type meter struct {
	total uint64
	begun env.Instant // of the present window
	now   window
	last  window
}

type window struct {
	messages, bytes uint64
	span            time.Duration
}

const meterSpan = time.Second

func (m *meter) add(now env.Instant, bytes int) {
	m.turnOver(now)
	m.total++
	m.now.messages++
	m.now.bytes += uint64(bytes)
}

// turnOver begins a new window where the present one is full. Windows begin with a
// message, so that a burst after a pause is not spread over the pause.
func (m *meter) turnOver(now env.Instant) {
	span := now.Sub(m.begun)
	switch {
	case span < meterSpan:
		return
	case span < 2*meterSpan && m.now.messages > 0:
		m.now.span = span
		m.last = m.now
	default:
		m.last = window{}
	}
	m.begun, m.now = now, window{}
}

func (m *meter) flow(now env.Instant) Flow {
	f := Flow{Messages: m.total}
	w := m.last
	switch span := now.Sub(m.begun); {
	case span >= 2*meterSpan:
		return f
	case span >= meterSpan:
		w = m.now
		w.span = span
	}
	if w.messages > 0 {
		f.Recent, f.RecentBytes, f.Span = w.messages, w.bytes, w.span
	}
	return f
}

// appends measures the append messages to one follower.
type appends struct {
	queued uint64 // messages in the turn's frame

	// The message under way that is measured: the follower's log reaches index
	// with it. Zero is none.
	index uint64
	term  uint64
	since env.Instant

	count   uint64 // measurements
	sum     time.Duration
	current time.Duration
	least   time.Duration
	most    time.Duration
	squares uint64 // of the distances from the average, in square microseconds

	answered, failed uint64
}

// sentRaft follows a message that is in the frame to a follower.
func (r *Replica) sentRaft(l *link, m *raftpb.Message, bytes int) {
	if m.GetType() != raftpb.MsgApp {
		return
	}
	now, a := r.env.Clock.Now(), &l.appends
	r.sent.add(now, bytes)
	a.queued++
	if n := len(m.GetEntries()); n > 0 && (a.index == 0 || a.term != m.GetTerm()) {
		a.index, a.term, a.since = m.GetEntries()[n-1].GetIndex(), m.GetTerm(), now
	}
}

// gotRaft follows a message that arrived.
func (r *Replica) gotRaft(l *link, m *raftpb.Message, bytes int) {
	switch m.GetType() {
	case raftpb.MsgApp:
		r.received.add(r.env.Clock.Now(), bytes)
	case raftpb.MsgAppResp:
		if r.role == Leader && m.GetTerm() == r.term {
			l.appends.answer(r.env.Clock.Now(), m)
		}
	}
}

func (a *appends) answer(now env.Instant, m *raftpb.Message) {
	a.answered++
	switch {
	case a.index == 0 || a.term != m.GetTerm():
	case m.GetReject():
		a.index = 0 // sent again in another shape
	case m.GetIndex() >= a.index:
		a.index = 0
		a.measured(now.Sub(a.since))
	}
}

// measured adds one latency. The average comes from the exact sum; the squares
// are kept by Welford's method, in microseconds so that they do not overflow.
func (a *appends) measured(d time.Duration) {
	before := a.average()
	a.count++
	a.sum += d
	a.current, a.most = d, max(a.most, d)
	if a.count == 1 || d < a.least {
		a.least = d
	}
	if a.count > 1 {
		a.squares += uint64(max(0, (d-before).Microseconds()*(d-a.average()).Microseconds()))
	}
}

func (a *appends) average() time.Duration {
	if a.count == 0 {
		return 0
	}
	return a.sum / time.Duration(a.count)
}

// lost follows messages that could not be sent.
func (a *appends) lost() {
	a.failed += a.queued
	a.index = 0
}

// tickAppends gives up on answers that are late.
func (r *Replica) tickAppends() {
	if r.role != Leader {
		return
	}
	now := r.env.Clock.Now()
	for _, l := range r.peers {
		l.appends.overdue(now, r.term, r.cfg.election())
	}
}

// overdue gives up waiting for an answer.
func (a *appends) overdue(now env.Instant, term uint64, patience time.Duration) {
	if a.index != 0 && a.term == term && now.Sub(a.since) > patience {
		a.index = 0
		a.failed++
	}
}

func (a *appends) latency(id env.NodeID) Latency {
	l := Latency{
		ID: id, Current: a.current, Average: a.average(), Minimum: a.least, Maximum: a.most,
		Answered: a.answered, Failed: a.failed,
	}
	if a.count > 0 {
		l.Deviation = time.Duration(root(a.squares/a.count)) * time.Microsecond
	}
	return l
}

// root is the integer part of the square root of n, by Newton's method.
func root(n uint64) uint64 {
	if n == 0 {
		return 0
	}
	x := uint64(1) << ((bits.Len64(n) + 1) / 2) // not below the root
	for {
		y := (x + n/x) / 2
		if y >= x {
			return x
		}
		x = y
	}
}
