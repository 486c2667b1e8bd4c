package replica

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/invariant"
	"github.com/keelson/keelson/core/wal"
)

// images is what the replica knows about its own snapshots on disk.
type images struct {
	index   uint64 // of the last durable one
	size    int64  // its bytes
	bytes   int64  // volume applied since the last was begun
	entries uint64 // the same in entries
	retryAt uint64 // tick before which none is begun, after a full disk
	failed  bool   // the last one found the disk full
}

// image describes the present state to raft, for a follower that is far behind.
func (r *Replica) image() *raftpb.Snapshot {
	if r.applied == 0 || len(r.conf.GetVoters()) == 0 {
		return nil
	}
	return snapshotMessage(r.applied, r.appliedTerm, r.conf)
}

// maybeSnapshot takes a snapshot when the log has grown enough since the last.
// The machine gives an immutable value, so entries go on being applied while the
// disk takes it.
func (r *Replica) maybeSnapshot() {
	s := &r.images
	if !r.ready || r.inert() || s.entries == 0 || r.journal.installing > 0 || r.journal.log.Snapshotting() || r.ticks < s.retryAt {
		return
	}
	due := s.bytes >= max(r.cfg.SnapshotBytes, 2*s.size) ||
		r.cfg.SnapshotEntries > 0 && s.entries >= r.cfg.SnapshotEntries ||
		r.env.Rare.Chance("replica: snapshot early")
	if !due {
		return
	}
	m := meta{conf: r.conf, removed: r.removed, unsettled: r.unsettled}
	snapshot := wal.Snapshot{Index: r.applied, Term: r.appliedTerm, Meta: m.encode()}
	invariant.Check(snapshot.Index > s.index, "replica: snapshot of entry %d after one of entry %d", snapshot.Index, s.index)
	size := new(int64)
	s.bytes, s.entries = 0, 0
	r.journal.log.Snapshot(snapshot, content{r.machine.Snapshot(), size}, func(err error) {
		r.snapshotTaken(snapshot.Index, size, err)
	})
}

func (r *Replica) snapshotTaken(index uint64, size *int64, err error) {
	if r.dead || r.stopped {
		return
	}
	s := &r.images
	switch {
	case errors.Is(err, env.ErrFull):
		r.env.Rare.Mark("replica: disk full during snapshot")
		s.entries, s.bytes = s.entries+1, s.bytes+r.cfg.SnapshotBytes
		s.retryAt = r.ticks + fullRetryTicks
		if !s.failed {
			s.failed = true
			r.env.Log.Log(env.Warn, "disk full during a snapshot: the one before stays, and another is tried until there is room", "id", r.cfg.ID, "at", index, "before", s.index)
		}
	case err != nil:
		r.logBroken(err)
		return
	default:
		s.index, s.size = index, *size
		if s.failed {
			s.failed = false
			r.env.Log.Log(env.Info, "snapshot taken now that the disk has room", "id", r.cfg.ID, "at", index)
		}
	}
	r.continueInstall()
}

// loose is the volume applied since entries were last dropped from memory.
type loose struct {
	bytes   int64
	entries uint64
}

// trim drops applied entries from memory, but for the tail that late followers may
// ask for, each time a quarter of the tail has come together. It does not wait for
// a snapshot on disk: who needs what was dropped is sent the present state, and a
// restart reads the log from disk.
func (r *Replica) trim() {
	if r.loose.bytes < r.cfg.TailBytes/4 && r.loose.entries < max(r.cfg.TailEntries/4, 1) || r.journal.installing > 0 {
		return
	}
	r.loose = loose{}
	entries := r.cfg.TailEntries
	if len(r.conf.GetVoters())+len(r.conf.GetLearners()) == 1 {
		entries = 0 // nobody else asks
	}
	r.storage.keepTail(r.applied, entries, r.cfg.TailBytes)
}

// install is a snapshot from the leader: raft's description, and the state.
type install struct {
	index, term uint64
	conf        *raftpb.ConfState
	removed     []env.NodeID
	unsettled   []env.NodeID
	body        io.Reader
	content     io.WriterTo
}

// beginInstall replaces the log by a snapshot that raft has accepted.
func (r *Replica) beginInstall(s *raftpb.Snapshot) {
	m := s.GetMetadata()
	staged := r.in.staged
	invariant.Check(staged != nil && staged.index == m.GetIndex() && staged.term == m.GetTerm(),
		"replica: raft installs a snapshot at %d that was not received", m.GetIndex())
	r.in.staged = nil
	// What was gathered and not written is void, and need not be written to be
	// answered for: the answers leave when the snapshot and they are durable.
	r.journal.next.entries = nil
	if last := r.storage.last(); last >= staged.index {
		r.env.Rare.Mark("replica: snapshot applied over a conflicting tail")
	}
	err := r.storage.ApplySnapshot(s)
	invariant.Check(err == nil, "replica: install a snapshot at %d: %v", staged.index, err)
	if r.journal.install == nil {
		r.journal.installing++
	}
	r.journal.install = &install{
		index: staged.index, term: staged.term, conf: m.GetConfState(), removed: staged.removed, unsettled: staged.unsettled,
		body: staged.reader(), content: staged,
	}
	r.continueInstall()
}

// continueInstall hands the snapshot to the log as soon as no other is on its
// way. Until then everything that follows waits in memory.
func (r *Replica) continueInstall() {
	in := r.journal.install
	if in == nil || r.journal.log.Snapshotting() {
		return
	}
	r.journal.install = nil
	m := meta{conf: in.conf, removed: in.removed, unsettled: in.unsettled}
	s := wal.Snapshot{Index: in.index, Term: in.term, Meta: m.encode()}
	r.journal.log.Restore(s, in.content, func(err error) { r.installed(in, err) })
}

// installed follows a snapshot from the leader that is durable. The responses
// that raft waits for come with the next record, so nothing is applied in between.
func (r *Replica) installed(in *install, err error) {
	if r.dead || r.stopped {
		return
	}
	if err != nil {
		r.logBroken(err)
		return
	}
	if err := r.machine.Restore(in.body); err != nil {
		r.die(fmt.Errorf("replica: restore the state at entry %d that the leader sent: %w", in.index, err))
		return
	}
	r.journal.installing--
	r.applied, r.appliedTerm, r.commit = in.index, in.term, max(r.commit, in.index)
	r.conf, r.removed, r.unsettled = in.conf, in.removed, in.unsettled
	r.images.index, r.images.bytes, r.images.entries = in.index, 0, 0
	r.env.Log.Log(env.Info, "state installed from the leader", "id", r.cfg.ID, "index", in.index, "term", in.term)
	r.cfg.OnRestore()
	r.continueInstall() // another may have come meanwhile
}

// state is the received body of a snapshot, in the pieces it came in.
type state struct {
	index, term uint64
	removed     []env.NodeID
	unsettled   []env.NodeID
	pieces      [][]byte
}

func (s *state) reader() io.Reader {
	readers := make([]io.Reader, len(s.pieces))
	for i, p := range s.pieces {
		readers[i] = bytes.NewReader(p)
	}
	return io.MultiReader(readers...)
}

// WriteTo writes the body; it may be called again.
func (s *state) WriteTo(w io.Writer) (n int64, err error) {
	for _, p := range s.pieces {
		k, err := w.Write(p)
		if n += int64(k); err != nil {
			return n, err
		}
	}
	return n, nil
}
