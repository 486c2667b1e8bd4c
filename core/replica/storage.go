package replica

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/invariant"
)

// storage is the log in memory as raft reads it: the entries since the last
// compaction. What is in it may not be durable yet; raft itself remembers that.
type storage struct {
	*raft.MemoryStorage
	hard  *raftpb.HardState
	conf  *raftpb.ConfState
	image func() *raftpb.Snapshot
}

func newStorage(r *recovered) (*storage, error) {
	s := &storage{MemoryStorage: raft.NewMemoryStorage(), hard: r.hard, conf: r.conf}
	if r.index > 0 {
		if err := s.ApplySnapshot(snapshotMessage(r.index, r.term, r.conf)); err != nil {
			return nil, err
		}
	}
	return s, s.MemoryStorage.Append(r.entries)
}

// InitialState is what was durable when the replica started.
func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return s.hard, s.conf, nil
}

// Snapshot describes the machine's present state, for a follower that needs
// more than the log holds. The state itself travels beside raft.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	if m := s.image(); m != nil {
		return m, nil
	}
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

func (s *storage) first() uint64 {
	i, err := s.FirstIndex()
	invariant.Check(err == nil, "replica: first index: %v", err)
	return i
}

func (s *storage) last() uint64 {
	i, err := s.LastIndex()
	invariant.Check(err == nil, "replica: last index: %v", err)
	return i
}

// keepTail drops entries up to index, but for a tail of so many entries and bytes.
func (s *storage) keepTail(index, entries uint64, bytes int64) {
	first := s.first()
	from := index + 1
	for from > first && index+1-from < entries {
		tail, err := s.Entries(from-1, from, 0)
		if err != nil || len(tail) == 0 {
			break
		}
		if bytes -= int64(len(tail[0].GetData())) + entryOverhead; bytes < 0 {
			break
		}
		from--
	}
	if from > first {
		err := s.Compact(from - 1)
		invariant.Check(err == nil, "replica: compact to %d: %v", from-1, err)
	}
}

// entryOverhead is what an entry costs in memory beside its data, in bytes.
const entryOverhead = 96

func snapshotMessage(index, term uint64, conf *raftpb.ConfState) *raftpb.Snapshot {
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(index), Term: new(term), ConfState: conf}}
}

// logger hands raft's lines to the node's log. Raft's own debug lines are many
// and are not formatted at all.
type logger struct{ log env.Log }

func (l logger) Debug(...any)          {}
func (l logger) Debugf(string, ...any) {}
func (l logger) Info(...any)           {}
func (l logger) Infof(string, ...any)  {}

func (l logger) Warning(v ...any)                 { l.log.Log(env.Debug, fmt.Sprint(v...)) }
func (l logger) Warningf(format string, v ...any) { l.log.Log(env.Debug, fmt.Sprintf(format, v...)) }
func (l logger) Error(v ...any)                   { l.log.Log(env.Warn, fmt.Sprint(v...)) }
func (l logger) Errorf(format string, v ...any)   { l.log.Log(env.Warn, fmt.Sprintf(format, v...)) }
func (l logger) Fatal(v ...any)                   { l.Panic(v...) }
func (l logger) Fatalf(format string, v ...any)   { l.Panicf(format, v...) }
func (l logger) Panic(v ...any)                   { invariant.Check(false, "raft: %s", fmt.Sprint(v...)) }

func (l logger) Panicf(format string, v ...any) {
	invariant.Check(false, "raft: %s", fmt.Sprintf(format, v...))
}

// quiet replaces the logger that the library keeps for the whole process: it
// would write to the standard error of a process that is not ours to decide on.
type quiet struct{ logger }

func (quiet) Warning(...any)          {}
func (quiet) Warningf(string, ...any) {}
func (quiet) Error(...any)            {}
func (quiet) Errorf(string, ...any)   {}
