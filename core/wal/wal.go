package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/invariant"
	"github.com/keelson/keelson/core/planted"
)

const (
	defaultSegment = 16 << 20 // bytes
	// lazyBytes is how much may wait in memory for an Append with a completion.
	lazyBytes = 64 << 10
	// chunkBytes is how much memory is taken at a time for small frames. A chunk
	// is never used again: the disk may keep what it was given.
	chunkBytes = 64 << 10
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
	// Cut says where the log ended in bytes that were no record, which a crash in
	// the middle of a write leaves behind; each is a sentence for people.
	Cut []string
}

// Log owns the segments and the snapshot of one node. It is used from the
// node's loop only.
type Log struct {
	disk env.Disk
	rare env.Rare
	o    Options
	id   Identity // its First is that of the segment in use
	err  error

	incarnation uint64
	ready       bool

	enc   *Encoder
	seq   uint64 // Invariant: no frame on the disk has a higher sequence.
	segs  []live // oldest first; the last one is written to
	void  []uint64
	chunk []byte
	head  []byte // scratch

	// What was asked for and is not yet in a frame.
	pend  []byte
	dones []func(error)
	last  uint64 // index of the newest entry, that in pend included

	// Frames on their way to the disk, in order.
	flight []*flight
	// secure, while not nil, holds frames back: the snapshot that Open found is
	// being made durable, and they depend on it.
	secure *secure

	// written is what the log holds once all frames are durable, durable what it
	// holds for certain, up to and including the frame at.
	written, durable state
	at               place
	// synced is the sequence of that frame; until a frame of this life is durable
	// it is only what earlier frames prove, for at may be a place before files
	// that are gone.
	synced uint64

	full     bool     // a frame found no space: nothing is written until Retry
	snapping bool     // until the file is there, of a restore until its record is
	restore  *restore // until the file is there
	early    func()   // what waits for the first frame of this life
	covered  uint64   // index of the newest snapshot that is durable or being restored

	doomed   []uint64 // segments to remove, in this order
	removing bool
}

// live is a segment that is still needed.
type live struct {
	first    uint64
	maxEntry uint64 // highest index of an entry in it
	size     int64  // bytes
}

// flight is a frame that was handed to the disk.
type flight struct {
	place    place
	records  []byte // without the header; shares memory with the frame
	dones    []func(error)
	finished bool
	full     bool
}

// secure writes a snapshot again that was only loaded.
type secure struct {
	file    *snapshotFile
	waiting bool   // the disk was full
	held    []held // in order
}

// held is a frame that waits for the snapshot before it.
type held struct {
	flight *flight
	frame  []byte
}

// restore is a Restore that waits for its snapshot to be durable.
type restore struct {
	snap    Snapshot
	content io.WriterTo
	waiting bool // the disk was full
}

// Open reads what is on the disk and begins a new segment. What the disk held
// of unfinished appends is dropped for good, or taken over for good: a later
// Open agrees. Appends may be asked for at once.
//
// Damage to what was durable is a *RotError, a disk of somebody else or of a
// newer version a *WrongError; both name the file.
func Open(d env.Disk, rare env.Rare, o Options) (*Log, *Recovered, error) {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = defaultSegment
	}
	id := Identity{Cluster: o.Cluster, Node: o.Node}
	out := &Recovered{}
	if err := loadSnapshot(d, id, out); err != nil {
		return nil, nil, err
	}
	r, err := load(d, id, out.Snapshot)
	if err != nil {
		return nil, nil, err
	}
	r.follow()
	if err := r.judge(); err != nil {
		rare.Mark("wal: damage found at open")
		return nil, nil, err
	}
	c, err := r.replay()
	if err != nil {
		return nil, nil, err
	}
	fix, err := c.trim(out.Snapshot)
	if err != nil {
		return nil, nil, err
	}
	out.Incarnation = r.incarnation + 1
	out.Entries, out.Cut = c.entries, r.cuts()
	if len(c.now.hard) > 0 {
		out.HardState = c.now.hard
	}
	return resume(d, rare, o, r, c, fix, out.Body), out, nil
}

func loadSnapshot(d env.Disk, id Identity, out *Recovered) error {
	p, err := d.Load(snapshotName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wal: read %s: %w", snapshotName, err)
	}
	out.Snapshot, out.Body, err = parseSnapshot(p, id)
	return err
}

// resume begins the segment of this life. Its first frame repeats what is not
// proven durable, together with fix, so that it counts as a whole or not at all.
// A fix says that the snapshot is durable. Nothing proves that yet: it may come
// from the page cache, its directory not synced when the process died.
func resume(d env.Disk, rare env.Rare, o Options, r *recovery, c *replay, fix, body []byte) *Log {
	l := &Log{
		disk: d, rare: rare, o: o, id: r.id,
		incarnation: r.incarnation + 1,
		seq:         r.top,
		durable:     c.proven,
		at:          c.at,
		synced:      r.claim,
		last:        c.now.last.index,
		covered:     r.snapIndex(),
	}
	l.adopt(r)
	if len(fix) > 0 {
		rare.Mark("wal: snapshot made durable again at open")
		l.secure = &secure{file: &snapshotFile{r.id, *r.snap, stored(body)}}
		l.secureNow()
	}
	l.pend = append(c.rest, fix...)
	l.dones = append(l.dones, func(error) { l.begun(r.snapIndex()) })
	l.startAgain()
	return l
}

// secureNow writes the snapshot that Open found, then the frames that wait for it.
func (l *Log) secureNow() {
	k := l.secure
	k.waiting = false
	l.disk.Replace(snapshotName, k.file, func(err error) {
		switch {
		case l.err != nil:
		case errors.Is(err, env.ErrFull):
			k.waiting = true
		case err != nil:
			l.fail(fmt.Errorf("wal: write %s again: %w", snapshotName, err))
		default:
			l.secure = nil
			for _, h := range k.held {
				l.hand(h.flight, h.frame)
			}
		}
	})
}

// adopt takes over the segments with frames that stay. The others are void
// once this life's first frame is durable.
func (l *Log) adopt(r *recovery) {
	keep := map[uint64]bool{}
	for _, c := range r.chain {
		if c.frame.Seq <= l.at.seq {
			keep[c.seg.first] = true
		}
	}
	for _, s := range r.segs {
		if s.scan.Bad != "" {
			l.rare.Mark("wal: torn tail cut")
		}
		if !keep[s.first] {
			l.void = append(l.void, s.first)
			continue
		}
		l.segs = append(l.segs, live{s.first, s.maxEntry(), int64(s.scan.End)})
	}
}

// maxEntry is the highest index of an entry in any whole frame of s.
func (s *segment) maxEntry() uint64 {
	var sum state
	for i := range s.scan.Frames {
		if sum.apply(s.scan.Frames[i].Records, nil) != nil {
			break
		}
	}
	return sum.maxEntry
}

// begun runs when the first frame of this life is durable.
func (l *Log) begun(snapshot uint64) {
	l.ready = true
	l.compact(snapshot)
	if l.early != nil {
		l.early()
		l.early = nil
	}
	if l.o.Ready != nil {
		l.o.Ready()
	}
}

// Append makes rec durable after all that was appended before. Done runs once
// it is, and completions run in the order of the calls. A nil done asks for
// order but not for durability: the record may stay in memory until the next
// Append that has one; an empty record with a completion flushes. The record is
// encoded before Append returns.
//
// When the disk is full the log keeps its records in memory, in order, and
// completions wait: see Full and Retry. After a fatal error Append does nothing.
func (l *Log) Append(rec Record, done func(error)) {
	if l.err != nil {
		return
	}
	if len(rec.HardState) > 0 {
		l.pend = AppendHardState(l.pend, rec.HardState)
	}
	for i := range rec.Entries {
		// A gap would be damage to the next Open.
		index := rec.Entries[i].Index
		invariant.Check(index > 0 && index <= l.last+1, "wal: append entry %d behind entry %d", index, l.last)
		l.last = index
		l.pend = AppendEntry(l.pend, rec.Entries[i])
	}
	if done != nil {
		l.dones = append(l.dones, done)
	}
	l.flush()
}

// flush writes what waits, if somebody waits for it or it grows long.
func (l *Log) flush() {
	if l.full || l.restore != nil || (len(l.dones) == 0 && len(l.pend) < lazyBytes) {
		return
	}
	if len(l.pend) == 0 && len(l.dones) == 0 {
		return
	}
	l.write()
}

// write makes one frame of what waits, in a new segment if the one in use is
// long enough.
func (l *Log) write() {
	cur := &l.segs[len(l.segs)-1]
	if cur.size >= int64(l.o.SegmentBytes) || l.rare.Chance("wal: new segment early") {
		l.begin(place{cur.first, l.enc.Seq(), l.enc.Chain()}, &l.written)
		return
	}
	l.head = l.head[:0]
	l.send()
}

// startAgain begins a segment behind the last frame that is certainly durable,
// which voids all frames behind that.
func (l *Log) startAgain() {
	for len(l.segs) > 0 && l.segs[len(l.segs)-1].first > l.at.seq {
		l.void = append(l.void, l.segs[len(l.segs)-1].first)
		l.segs = l.segs[:len(l.segs)-1]
	}
	l.written.copy(&l.durable)
	l.dones = append(l.dones, func(error) { l.removeVoid() })
	l.begin(l.at, &l.durable)
}

// begin starts a segment that continues the log at before, where it adds up to
// st, and writes what waits as its first frame.
func (l *Log) begin(before place, st *state) {
	l.id.First = l.seq + 1
	l.enc = NewEncoder(l.id, before.chain)
	l.head = appendHeader(l.head[:0], &header{
		cluster:     l.o.Cluster,
		node:        l.o.Node,
		incarnation: l.incarnation,
		before:      before,
		last:        st.last,
	})
	l.head = appendState(l.head, st)
	l.segs = append(l.segs, live{first: l.id.First})
	l.send()
}

// send hands one frame to the disk: the head if there is one, then what waits.
func (l *Log) send() {
	p := l.enc.Begin(l.room(frameSize + len(l.head) + len(l.pend)))
	p = append(append(p, l.head...), l.pend...)
	l.enc.End(p, l.synced)
	l.seq = l.enc.Seq()

	f := &flight{
		place:   place{l.id.First, l.seq, l.enc.Chain()},
		records: p[frameSize+len(l.head):],
		dones:   l.dones,
	}
	l.pend, l.dones = l.pend[:0], nil
	if cap(l.pend) > 1<<20 {
		l.pend = nil
	}
	l.written.maxEntry = 0
	err := l.written.apply(f.records, nil)
	invariant.Check(err == nil, "wal: cannot read what was just encoded: %v", err)
	cur := &l.segs[len(l.segs)-1]
	cur.maxEntry = max(cur.maxEntry, l.written.maxEntry)
	cur.size += int64(len(p))

	l.flight = append(l.flight, f)
	if l.secure != nil {
		l.secure.held = append(l.secure.held, held{f, p})
		return
	}
	l.hand(f, p)
}

// hand gives a frame to the disk.
func (l *Log) hand(f *flight, p []byte) {
	l.disk.Append(segmentName(f.place.file), p, func(err error) { l.completed(f, err) })
}

// room returns an empty slice with the given capacity, from a chunk if it is
// small.
func (l *Log) room(n int) []byte {
	if n > chunkBytes/4 {
		return make([]byte, 0, n)
	}
	if len(l.chunk) < n {
		l.chunk = make([]byte, chunkBytes)
	}
	p := l.chunk[:0:n]
	l.chunk = l.chunk[n:]
	return p
}

func (l *Log) completed(f *flight, err error) {
	if l.err != nil {
		return
	}
	if planted.On(planted.SyncErrorIgnored) {
		err = nil
	}
	f.finished = true
	switch {
	case errors.Is(err, env.ErrFull):
		l.rare.Mark("wal: disk full")
		f.full, l.full = true, true
	case err != nil:
		l.fail(fmt.Errorf("wal: append to %s: %w", segmentName(f.place.file), err))
		return
	}
	l.release()
}

// release runs the completions of frames that are durable, as are all before
// them.
func (l *Log) release() {
	for len(l.flight) > 0 && l.err == nil {
		f := l.flight[0]
		if !f.finished || f.full {
			return
		}
		l.flight[0] = nil
		l.flight = l.flight[1:]
		l.at, l.synced = f.place, f.place.seq
		_ = l.durable.apply(f.records, nil) // checked in send
		for _, done := range f.dones {
			done(nil)
		}
	}
}

// fail stops the log for good.
func (l *Log) fail(err error) {
	if l.err != nil {
		return
	}
	l.err = err
	if l.o.Fatal != nil {
		l.o.Fatal(err)
	}
	for _, f := range l.flight {
		for _, done := range f.dones {
			done(err)
		}
	}
	for _, done := range l.dones {
		done(err)
	}
	l.flight, l.pend, l.dones, l.secure = nil, nil, nil, nil
}

// Snapshot stores a snapshot of what the log already holds, beside ongoing
// appends, and then removes segments with no entry behind s.Index. Content is
// written as env.Disk.Replace does. Done gets nil once the snapshot is durable,
// or an error. If that wraps env.ErrFull, the old snapshot is still in place and
// the caller may try again later; any other is fatal. One Snapshot or Restore
// runs at a time: see Snapshotting.
func (l *Log) Snapshot(s Snapshot, content io.WriterTo, done func(error)) {
	if l.err != nil {
		return
	}
	invariant.Check(!l.Snapshotting(), "wal: snapshot at %d while another is written", s.Index)
	invariant.Check(s.Index >= l.covered, "wal: snapshot at %d behind one at %d", s.Index, l.covered)
	l.snapping = true
	if planted.On(planted.TruncateEarly) {
		l.compact(s.Index)
	}
	l.whenReady(func() {
		l.disk.Replace(snapshotName, &snapshotFile{l.id, s, content}, func(err error) {
			l.snapped(s, done, err)
		})
	})
}

// whenReady runs fn now, or as soon as the first frame of this life is durable:
// a snapshot without any log would look like a log that was lost.
func (l *Log) whenReady(fn func()) {
	if l.ready {
		fn()
		return
	}
	l.early = fn
}

func (l *Log) snapped(s Snapshot, done func(error), err error) {
	l.snapping = false
	if l.err != nil {
		return
	}
	if err != nil {
		err = fmt.Errorf("wal: write %s: %w", snapshotName, err)
		if !errors.Is(err, env.ErrFull) {
			l.fail(err)
		}
		if done != nil {
			done(err)
		}
		return
	}
	l.covered = s.Index
	// From here on the log may be cut, so the log says that the snapshot must
	// be there.
	l.pend = appendPosition(l.pend, kindMark, position{s.Index, s.Term})
	l.dones = append(l.dones, func(err error) {
		if err == nil {
			l.compact(s.Index)
		}
	})
	l.flush()
	if done != nil {
		done(nil)
	}
}

// Restore stores a snapshot that came from another node and replaces the log by
// it: all entries so far are dropped. Appends asked for later are durable later.
// Done runs once all this is durable. When the disk is full it waits, and
// content may be written again from its start.
//
// After a crash in the middle the snapshot may be there and the hard state of
// the following Append not: the caller must raise term and commit to those of
// the snapshot.
func (l *Log) Restore(s Snapshot, content io.WriterTo, done func(error)) {
	if l.err != nil {
		return
	}
	invariant.Check(!l.Snapshotting(), "wal: restore of %d while another snapshot is written", s.Index)
	invariant.Check(s.Index > l.covered, "wal: restore of %d behind a snapshot at %d", s.Index, l.covered)
	l.snapping, l.covered = true, s.Index
	if len(l.pend) > 0 && !l.full {
		l.write()
	}
	l.pend = appendPosition(l.pend, kindReset, position{s.Index, s.Term})
	l.last = s.Index
	l.dones = append(l.dones, func(err error) {
		l.snapping = false
		if err == nil {
			l.compact(s.Index)
		}
		if done != nil {
			done(err)
		}
	})
	l.restore = &restore{snap: s, content: content}
	l.whenReady(l.replace)
}

// replace writes the snapshot of the restore under way.
func (l *Log) replace() {
	r := l.restore
	r.waiting = false
	l.disk.Replace(snapshotName, &snapshotFile{l.id, r.snap, r.content}, func(err error) {
		switch {
		case l.err != nil:
		case errors.Is(err, env.ErrFull):
			r.waiting = true
		case err != nil:
			l.fail(fmt.Errorf("wal: write %s: %w", snapshotName, err))
		default:
			l.restore = nil
			l.flush()
		}
	})
}

// compact removes segments that a durable snapshot at index makes superfluous.
func (l *Log) compact(index uint64) {
	for len(l.segs) > 1 && l.segs[0].maxEntry <= index && l.segs[1].first <= l.at.seq {
		l.doomed = append(l.doomed, l.segs[0].first)
		l.segs = l.segs[1:]
	}
	l.remove()
}

// removeVoid removes segments that a durable header has made void.
func (l *Log) removeVoid() {
	l.doomed = append(l.doomed, l.void...)
	l.void = nil
	l.remove()
}

// remove deletes one segment after the other, so that those which are left are
// always the newest.
func (l *Log) remove() {
	if l.removing || len(l.doomed) == 0 || l.err != nil {
		return
	}
	name := segmentName(l.doomed[0])
	l.doomed = l.doomed[1:]
	l.removing = true
	l.disk.Remove(name, func(err error) {
		l.removing = false
		if err != nil && !errors.Is(err, env.ErrFull) {
			l.fail(fmt.Errorf("wal: remove %s: %w", name, err))
			return
		}
		l.remove()
	})
}

// Snapshotting says whether a Snapshot or Restore is under way, its completion
// not yet begun.
func (l *Log) Snapshotting() bool { return l.snapping }

// Full says whether the log waits for space. The node should refuse writes of
// its clients meanwhile, for what is appended now stays in memory.
func (l *Log) Full() bool {
	return l.full || (l.restore != nil && l.restore.waiting) || (l.secure != nil && l.secure.waiting)
}

// Retry tries again to write after the disk was full. Call it from time to time
// (for example each second) while Full; at other times it does nothing.
func (l *Log) Retry() {
	if l.err != nil {
		return
	}
	if l.secure != nil && l.secure.waiting {
		l.secureNow()
	}
	if l.full {
		l.again()
	}
	if l.restore != nil && l.restore.waiting {
		l.replace()
	}
}

// again writes the frames that found no space, and those behind them, to a new
// segment. Frames behind a failed one may be on the disk, but nobody was told.
func (l *Log) again() {
	for _, f := range l.flight {
		if !f.finished {
			return // it may still be on its way into the old segment
		}
	}
	pend, dones := l.pend, l.dones
	l.pend, l.dones = nil, nil
	for _, f := range l.flight {
		l.pend = append(l.pend, f.records...)
		l.dones = append(l.dones, f.dones...)
	}
	l.flight = nil
	if l.restore == nil {
		l.pend, l.dones = append(l.pend, pend...), append(l.dones, dones...)
		pend, dones = nil, nil
	}
	l.full = false
	l.startAgain()
	l.pend, l.dones = append(l.pend, pend...), append(l.dones, dones...)
}

// Abandon has the log ask for nothing more, whatever of what it asked for is still
// under way, and gives the names of the files it may have. They may be removed then,
// since a disk does what concerns one file in the order asked.
func (l *Log) Abandon() []string {
	if l.err == nil {
		l.err = errAbandoned
	}
	names := []string{snapshotName}
	for _, s := range l.segs {
		names = append(names, segmentName(s.first))
	}
	for _, first := range slices.Concat(l.void, l.doomed) {
		names = append(names, segmentName(first))
	}
	return names
}

var errAbandoned = errors.New("wal: abandoned")

// Ready says whether the incarnation of this life is durable.
func (l *Log) Ready() bool { return l.ready }

// Err is the error that stopped the log, nil while it works.
func (l *Log) Err() error { return l.err }

// Size is the number of bytes in the segments that are still needed.
func (l *Log) Size() int64 {
	var n int64
	for i := range l.segs {
		n += l.segs[i].size
	}
	return n
}

// Incarnation is the number of this life.
func (l *Log) Incarnation() uint64 { return l.incarnation }
