package replica

import (
	"bytes"
	"fmt"
	"io"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/wal"
)

// recovered is what a life begins with.
type recovered struct {
	index, term uint64 // of the snapshot
	conf        *raftpb.ConfState
	removed     []env.NodeID
	unsettled   []env.NodeID
	hard        *raftpb.HardState
	entries     []*raftpb.Entry
	fresh       bool // the first life of a founding member
}

// recover opens the log and restores the machine.
func (r *Replica) recover() (*recovered, error) {
	log, old, err := wal.Open(r.env.Disk, r.env.Rare, wal.Options{
		Cluster: r.cfg.Cluster, Node: r.cfg.ID, SegmentBytes: r.cfg.SegmentBytes,
		Ready: r.begin, Fatal: r.logBroken,
	})
	if err != nil {
		return nil, err
	}
	r.journal.log, r.incarnation = log, old.Incarnation
	for _, where := range old.Cut {
		r.env.Log.Log(env.Warn, "unfinished write cut from the log", "id", r.cfg.ID, "file", where)
	}
	if n := len(old.Entries); n >= progressEntries {
		r.env.Log.Log(env.Info, "the log is read", "id", r.cfg.ID, "entries", n)
	}
	rec := &recovered{conf: &raftpb.ConfState{}, hard: &raftpb.HardState{}}
	if err := r.recoverSnapshot(rec, old); err != nil {
		return nil, fmt.Errorf("the snapshot: %w", err)
	}
	if len(old.HardState) > 0 {
		if err := unmarshal(old.HardState, rec.hard); err != nil {
			return nil, fmt.Errorf("the hard state: %w", err)
		}
	}
	last, err := rec.takeEntries(old.Entries)
	if err != nil {
		return nil, err
	}
	if err := rec.settle(last, old.HardState == nil); err != nil {
		return nil, err
	}
	if rec.hard.GetCommit() < last {
		r.env.Rare.Mark("replica: restart between log sync and apply")
	}
	if rec.hard.GetCommit() > rec.index {
		r.env.Rare.Mark("replica: entries applied again after a restart")
	}
	return rec, nil
}

func (r *Replica) recoverSnapshot(rec *recovered, old *wal.Recovered) error {
	if s := old.Snapshot; s != nil {
		m, err := decodeMeta(s.Meta)
		if err != nil {
			return err
		}
		rec.index, rec.term, rec.conf, rec.removed, rec.unsettled = s.Index, s.Term, m.conf, m.removed, m.unsettled
		r.images.index, r.images.size = s.Index, int64(len(old.Body))
		return r.machine.Restore(r.watched(bytes.NewReader(old.Body), int64(len(old.Body))))
	}
	if len(old.Entries) > 0 || len(old.HardState) > 0 || r.cfg.Join {
		return nil
	}
	rec.fresh = true
	rec.index, rec.term = 1, 1
	for _, id := range r.cfg.Voters {
		rec.conf.Voters = append(rec.conf.Voters, uint64(id))
	}
	return nil
}

func (rec *recovered) takeEntries(entries []wal.Entry) (last uint64, err error) {
	last = rec.index
	for _, old := range entries {
		e := &raftpb.Entry{}
		if err := unmarshal(old.Data, e); err != nil {
			return 0, fmt.Errorf("entry %d: %w", old.Index, err)
		}
		if e.GetIndex() != last+1 || e.GetIndex() != old.Index {
			return 0, fmt.Errorf("entry %d stands where %d should", e.GetIndex(), last+1)
		}
		rec.entries, last = append(rec.entries, e), last+1
	}
	return last, nil
}

// settle raises the hard state to what the snapshot proves. The commit index
// rides along with later writes, and a crash may fall between a snapshot from
// the leader and the hard state that belongs to it.
func (rec *recovered) settle(last uint64, first bool) error {
	h := rec.hard
	if h.GetCommit() > last {
		return fmt.Errorf("the log ends at entry %d, but %d are known to be committed", last, h.GetCommit())
	}
	term := max(h.GetTerm(), rec.term)
	vote := h.GetVote()
	if term != h.GetTerm() {
		vote = 0 // nobody was voted for in a term that was not entered
	}
	rec.hard = &raftpb.HardState{Term: new(term), Vote: new(vote), Commit: new(max(h.GetCommit(), rec.index))}
	if first && rec.index == 0 {
		rec.hard = &raftpb.HardState{}
	}
	return nil
}

// found writes the group's first members down, as the snapshot of an empty state.
func (r *Replica) found(rec *recovered) {
	m := meta{conf: rec.conf}
	s := wal.Snapshot{Index: rec.index, Term: rec.term, Meta: m.encode()}
	r.journal.log.Restore(s, content{r.machine.Snapshot(), new(int64)}, func(err error) {
		if err != nil {
			r.logBroken(err)
			return
		}
		r.continueInstall()
	})
}

// content writes a machine's state to the disk, and counts it.
type content struct {
	image Snapshot
	size  *int64
}

// WriteTo encodes the state.
func (c content) WriteTo(w io.Writer) (int64, error) {
	n, err := io.Copy(w, c.image.NewReader())
	*c.size = n
	return n, err
}
