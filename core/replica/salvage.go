package replica

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/wal"
)

// Salvaged is what one member's log comes to without the others.
type Salvaged struct {
	Index, Term uint64 // of the last entry
	// Unsure is how many of the entries were not known to be committed. They are kept:
	// some may have been acknowledged by a leader whose word did not get here any more.
	Unsure  uint64
	Members []env.NodeID // everybody who ever was in the group, by ID
}

// Salvage applies all that a log holds to m.
func Salvage(log *wal.Recovered, m Machine) (*Salvaged, error) {
	r := &Replica{machine: m}
	rec := &recovered{conf: &raftpb.ConfState{}, hard: &raftpb.HardState{}}
	if log.Snapshot == nil {
		return nil, fmt.Errorf("the log has no beginning yet")
	}
	if err := r.recoverSnapshot(rec, log); err != nil {
		return nil, fmt.Errorf("the snapshot: %w", err)
	}
	if err := unmarshal(log.HardState, rec.hard); err != nil {
		return nil, fmt.Errorf("the hard state: %w", err)
	}
	last, err := rec.takeEntries(log.Entries)
	if err != nil {
		return nil, err
	}
	s := &Salvaged{Index: last, Term: rec.term, Members: append(everybody(rec.conf), rec.removed...)}
	for _, e := range rec.entries {
		if err := s.take(e, m); err != nil {
			return nil, fmt.Errorf("entry %d: %w", e.GetIndex(), err)
		}
	}
	if known := max(rec.hard.GetCommit(), rec.index); known < last {
		s.Unsure = last - known
	}
	slices.Sort(s.Members)
	s.Members = slices.Compact(s.Members)
	return s, nil
}

func (s *Salvaged) take(e *raftpb.Entry, m Machine) error {
	s.Term = e.GetTerm()
	entry := e.GetData()
	if e.GetType() == raftpb.EntryConfChange {
		return nil // it only says that a removal is settled
	}
	if e.GetType() == raftpb.EntryConfChangeV2 {
		cc := &raftpb.ConfChangeV2{}
		if err := unmarshal(entry, cc); err != nil {
			return err
		}
		for _, c := range cc.GetChanges() {
			s.Members = append(s.Members, env.NodeID(c.GetNodeId()))
		}
		entry = cc.GetContext()
	}
	if len(entry) > 0 {
		m.Apply(e.GetIndex(), entry)
	}
	return nil
}

// alone is the beginning of the log of a group that id forms alone. Whoever was there
// before never comes back.
func (s *Salvaged) alone(id env.NodeID) wal.Snapshot {
	m := meta{conf: &raftpb.ConfState{Voters: []uint64{uint64(id)}}, removed: without(s.Members, id)}
	return wal.Snapshot{Index: s.Index, Term: s.Term, Meta: m.encode()}
}

// Files gives the files of that log, m being the state.
func (s *Salvaged) Files(cluster uint64, id env.NodeID, m Machine) []wal.File {
	return wal.Files(cluster, id, s.alone(id), content{m.Snapshot(), new(int64)}, wal.Record{})
}
