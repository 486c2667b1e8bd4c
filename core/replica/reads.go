package replica

import (
	"encoding/binary"

	"go.etcd.io/raft/v3"

	"github.com/keelson/keelson/core/planted"
)

// reads are the linearizable reads without an answer.
//
//	waiting ──next round──▶ asked ──index known──▶ settling ──applied──▶ done
//	   ▲                      │ no answer, or another leader
//	   └──────────────────────┘
//
// At most one round is under way; who comes meanwhile joins the next, since an
// index asked for earlier might be too old for it.
type reads struct {
	waiting  []*read
	asked    []*read
	settling []*read
	round    uint64 // counts rounds of this life
	since    uint64 // tick at which the round began
	retry    bool
}

type read struct {
	done  func()
	index uint64
}

// retryTicks is how long a round may stay without an answer before another is
// begun: a message may be lost on either way.
const retryTicks = 3

// ReadIndex calls done in this or a later turn, when everything that was
// committed anywhere before the call has been applied here. It goes on trying
// until then; cancel makes it forget the read.
func (r *Replica) ReadIndex(done func()) (cancel func()) {
	rd := &read{done: done}
	r.reads.waiting = append(r.reads.waiting, rd)
	return func() { rd.done = nil }
}

// again has the round under way asked anew, of whoever leads then.
func (s *reads) again() { s.retry = len(s.asked) > 0 }

func (r *Replica) tickReads() {
	s := &r.reads
	if len(s.asked) > 0 && r.ticks-s.since >= retryTicks {
		s.retry = true
	}
}

// askReads begins a round where one is due, and tells whether it did.
func (r *Replica) askReads() bool {
	s := &r.reads
	s.waiting = live(s.waiting)
	if !r.ready || r.inert() || r.lead == 0 {
		return false
	}
	if r.role == Leader && r.appliedTerm != r.term {
		return false // see step, for the same question of another replica
	}
	if len(s.asked) > 0 && s.retry {
		r.env.Rare.Mark("replica: read retried")
		s.waiting = append(live(s.asked), s.waiting...)
		s.asked = nil
	}
	if len(s.waiting) == 0 || len(s.asked) > 0 {
		return false
	}
	if planted.On(planted.ReadWithoutQuorum) && r.role == Leader {
		r.settle(s.waiting, r.applied)
		s.waiting = nil
		return false
	}
	s.asked, s.waiting = s.waiting, nil
	s.round, s.since, s.retry = s.round+1, r.ticks, false
	r.raft.ReadIndex(r.readContext())
	return true
}

// readContext names the round: an answer to one of an earlier life, or to an
// earlier round, must not be taken for this one's.
func (r *Replica) readContext() []byte {
	p := binary.LittleEndian.AppendUint64(nil, r.incarnation)
	return binary.LittleEndian.AppendUint64(p, r.reads.round)
}

func (r *Replica) readState(s raft.ReadState) {
	if string(s.RequestCtx) != string(r.readContext()) {
		return
	}
	r.settle(r.reads.asked, s.Index)
	r.reads.asked, r.reads.retry = nil, false
}

func (r *Replica) settle(list []*read, index uint64) {
	for _, rd := range list {
		rd.index = index
	}
	r.reads.settling = append(r.reads.settling, list...)
}

// answerReads completes the reads whose index has been applied.
func (r *Replica) answerReads() {
	list := r.reads.settling
	r.reads.settling = nil
	for _, rd := range list {
		switch {
		case rd.done == nil:
		case rd.index <= r.applied:
			rd.done()
		default:
			r.reads.settling = append(r.reads.settling, rd)
		}
	}
}

func live(list []*read) []*read {
	kept := list[:0]
	for _, rd := range list {
		if rd.done != nil {
			kept = append(kept, rd)
		}
	}
	return kept
}
