package wal

import (
	"io"

	"github.com/keelson/keelson/core/env"
)

// Entry is one entry of the replicated log.
type Entry struct {
	Index uint64
	Term  uint64
	Data  []byte // opaque
}

// Record is what one Append makes durable, wholly or not at all.
type Record struct {
	// HardState replaces the one before; empty means unchanged. It is opaque.
	HardState []byte
	// Entries follow the log without a gap. An entry with the index of an
	// earlier one replaces it and drops all entries behind that.
	Entries []Entry
}

// Snapshot stands for all entries up to Index.
type Snapshot struct {
	Index uint64
	Term  uint64 // of the entry at Index
	Meta  []byte // opaque, at most 1 MiB: the caller's own header
}

// Options say whose log it is. Cluster and Node are required.
type Options struct {
	Cluster uint64
	Node    env.NodeID
	// SegmentBytes is the size at which a new segment is begun, 16 MiB by
	// default. Tests and simulations use tiny ones.
	SegmentBytes int
	// Ready, if set, runs once the incarnation is durable: nothing of this
	// life may leave the node before. No completion of an Append or Snapshot
	// runs earlier.
	Ready func()
	// Fatal, if set, runs once at the first error that the log cannot recover
	// from: the node must stop and start again. Completions that wait get
	// the same error, in order, right after; nothing runs after that.
	Fatal func(error)
}

// Recovered is what the log remembers of earlier lives. All byte slices are the
// caller's to keep and must not be changed.
type Recovered struct {
	Incarnation uint64    // of this life, from 1; differs from all earlier ones that were Ready
	Snapshot    *Snapshot // nil if there is none
	Body        []byte    // of Snapshot, as its content wrote it
	HardState   []byte    // nil if there was none; may be older than Snapshot after a crash in Restore
	Entries     []Entry   // without a gap, the first right behind Snapshot
}

// Log owns the segments and the snapshot of one node. It is used from the
// node's loop only.
type Log struct {
	disk env.Disk
	rare env.Rare
	o    Options
}

// Open reads what is on the disk and begins a new segment. What the disk held
// of unfinished appends is dropped for good, or taken over for good: a later
// Open agrees. Appends may be asked for at once.
//
// Damage to what was durable is a *RotError, a disk of somebody else or of a
// newer version a *WrongError; both name the file.
func Open(d env.Disk, rare env.Rare, o Options) (*Log, *Recovered, error) {
	return &Log{disk: d, rare: rare, o: o}, &Recovered{}, nil
}

// Append makes rec durable after all that was appended before. Done runs once
// it is, and completions run in the order of the calls. A nil done asks for
// order but not for durability: the record may stay in memory until the next
// Append that has one. The record is encoded before Append returns.
//
// When the disk is full the log keeps its records in memory, in order, and
// completions wait: see Full and Retry.
func (l *Log) Append(rec Record, done func(error)) {}

// Snapshot stores a snapshot of what the log already holds, beside ongoing
// appends, and then removes segments with no entry behind s.Index. Content is
// written as env.Disk.Replace does. Done gets nil once the snapshot is durable,
// or an error that wraps env.ErrFull: then the old snapshot is still in
// place and the caller may try again later. One Snapshot or Restore runs at a
// time: see Snapshotting.
func (l *Log) Snapshot(s Snapshot, content io.WriterTo, done func(error)) {}

// Restore stores a snapshot that came from another node and replaces the log by
// it: all entries so far are dropped. Appends asked for later are durable later.
// Done runs once all this is durable. When the disk is full it waits, and
// content may be written again from its start.
//
// After a crash in the middle the snapshot may be there and the hard state of
// the following Append not: the caller must raise term and commit to those of
// the snapshot.
func (l *Log) Restore(s Snapshot, content io.WriterTo, done func(error)) {}

// Snapshotting says whether a Snapshot or Restore is under way.
func (l *Log) Snapshotting() bool { return false }

// Full says whether the log waits for space. The node should refuse writes of
// its clients meanwhile, for what is appended now stays in memory.
func (l *Log) Full() bool { return false }

// Retry tries again to write after the disk was full. Call it from time to time
// (for example each second) while Full; at other times it does nothing.
func (l *Log) Retry() {}

// Ready says whether the incarnation of this life is durable.
func (l *Log) Ready() bool { return false }

// Err is the error that stopped the log, nil while it works.
func (l *Log) Err() error { return nil }

// Size is the number of bytes of log written since the last snapshot that
// made room, that is the sum over the segments that are still there.
func (l *Log) Size() int64 { return 0 }

// Incarnation is the number of this life.
func (l *Log) Incarnation() uint64 { return 0 }
