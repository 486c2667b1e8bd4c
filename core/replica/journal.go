package replica

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/invariant"
	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/wal"
)

// journal is what is on its way to the log.
type journal struct {
	log    *wal.Log
	next   batch    // gathered, not asked yet
	writes []*write // asked, oldest first
	// install is a snapshot from the leader that waits for one of our own to be
	// finished. Nothing else is written meanwhile.
	install *install
	// installing counts snapshots from the leader that are not installed yet. The
	// machine is behind the log meanwhile.
	installing int
	term, vote uint64 // of the last hard state gathered
}

// batch is what one record will hold, and who waits for it.
type batch struct {
	entries   []*raftpb.Entry
	hard      *raftpb.HardState
	responses []*raftpb.Message
	// urgent says that somebody waits for this batch, so that it must be synced.
	// A commit index alone rides along with a later one.
	urgent bool
}

// write is one record under way.
type write struct {
	responses []*raftpb.Message
	since     env.Instant
}

// gather takes one MsgStorageAppend. Responses that speak only for what is
// already written, or being written, cost no write of their own.
func (r *Replica) gather(m *raftpb.Message) {
	j := &r.journal
	if s := m.GetSnapshot(); !raft.IsEmptySnap(s) {
		r.beginInstall(s)
		j.next.urgent = true
	}
	b := &j.next
	if hard := hardState(m); hard != nil {
		if hard.GetTerm() != j.term || hard.GetVote() != j.vote {
			b.urgent = true
		}
		j.term, j.vote, b.hard = hard.GetTerm(), hard.GetVote(), hard
	}
	if entries := m.GetEntries(); len(entries) > 0 {
		if entries[0].GetIndex() <= r.storage.last() {
			r.env.Rare.Mark("replica: conflicting tail overwritten")
		}
		err := r.storage.Append(entries)
		invariant.Check(err == nil, "replica: append to memory: %v", err)
		b.entries, b.urgent = append(b.entries, entries...), true
	}
	r.await(m.GetResponses())
}

// await delivers responses once all that was gathered so far is durable.
func (r *Replica) await(responses []*raftpb.Message) {
	j := &r.journal
	switch {
	case len(responses) == 0:
	case planted.On(planted.AckBeforeSync):
		r.respond(responses)
	case j.next.urgent || j.install != nil:
		j.next.responses, j.next.urgent = append(j.next.responses, responses...), true
	case len(j.writes) > 0:
		last := j.writes[len(j.writes)-1]
		last.responses = append(last.responses, responses...)
	default:
		r.respond(responses)
	}
}

func hardState(m *raftpb.Message) *raftpb.HardState {
	if m.Term == nil && m.Vote == nil && m.Commit == nil {
		return nil
	}
	return &raftpb.HardState{Term: new(m.GetTerm()), Vote: new(m.GetVote()), Commit: new(m.GetCommit())}
}

// submit writes what was gathered, if somebody waits for it.
func (r *Replica) submit() {
	j := &r.journal
	if r.dead || !j.next.urgent || j.install != nil || len(j.writes) >= r.cfg.WritesMax {
		return
	}
	b := j.next
	j.next = batch{}
	w := &write{responses: b.responses, since: r.env.Clock.Now()}
	j.writes = append(j.writes, w)
	j.log.Append(r.record(&b), func(err error) { r.written(w, err) })
}

func (r *Replica) record(b *batch) wal.Record {
	rec := wal.Record{Entries: make([]wal.Entry, 0, len(b.entries))}
	for i, e := range b.entries {
		if i > 0 && e.GetIndex() <= b.entries[i-1].GetIndex() {
			r.env.Rare.Mark("replica: tail replaced within one record")
		}
		rec.Entries = append(rec.Entries, wal.Entry{Index: e.GetIndex(), Term: e.GetTerm(), Data: r.enc.of(e)})
	}
	if b.hard != nil {
		rec.HardState = marshal(r.plantedHard(b.hard))
	}
	return rec
}

// plantedHard is h, but in builds that plant a bug there.
func (r *Replica) plantedHard(h *raftpb.HardState) *raftpb.HardState {
	if planted.On(planted.VoteNotPersisted) {
		return &raftpb.HardState{Term: h.Term, Vote: new(uint64(0)), Commit: h.Commit}
	}
	if planted.On(planted.TermNotPersisted) {
		term, _ := r.storage.Term(r.storage.last())
		return &raftpb.HardState{Term: new(term), Vote: new(uint64(0)), Commit: h.Commit}
	}
	return h
}

// written is the completion of one record.
func (r *Replica) written(w *write, err error) {
	if r.dead || r.stopped {
		return
	}
	if err != nil {
		r.logBroken(err)
		return
	}
	j := &r.journal
	invariant.Check(len(j.writes) > 0 && j.writes[0] == w, "replica: log writes complete out of order")
	j.writes = j.writes[1:]
	r.respond(w.responses)
}

// logBroken ends this life: what the disk holds is known only after recovery.
func (r *Replica) logBroken(err error) {
	if !r.dead {
		r.env.Rare.Mark("replica: sync error on log")
		r.die(fmt.Errorf("replica: write the log: %w", err))
	}
}

// tickDisk tries again, about once a second, to write to a disk that was full.
func (r *Replica) tickDisk() {
	full := r.journal.log.Full()
	if full != r.full {
		r.full = full
		r.env.Log.Log(env.Warn, "disk full", "id", r.cfg.ID, "full", full, "writes", map[bool]string{true: "refused", false: "taken again"}[full])
	}
	if full && r.ticks%fullRetryTicks == 0 {
		r.env.Rare.Mark("replica: disk full")
		r.journal.log.Retry()
	}
}

// fullRetryTicks is how long a full disk is left alone.
const fullRetryTicks = 8
