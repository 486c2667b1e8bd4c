package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/planted"
)

// segment is a file of the log as Open found it.
type segment struct {
	first uint64
	scan  Scanned
	head  *header // nil if the first frame is bad
	bad   string  // why
}

func segmentName(first uint64) string { return fmt.Sprintf("wal-%016x", first) }

// parseName is the reverse of segmentName.
func parseName(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, "wal-")
	if !ok || len(digits) != 16 {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 16, 64)
	return first, err == nil && first > 0 && segmentName(first) == name
}

// firstMax bounds the sequence of frames, so that counting on never wraps.
const firstMax = 1 << 62

// cuts says, for people, where segments end in something that is not a frame.
func (r *recovery) cuts() []string {
	var list []string
	for _, s := range r.segs {
		if s.scan.Bad != "" {
			list = append(list, fmt.Sprintf("%s from byte %d: %s", segmentName(s.first), s.scan.End, s.scan.Bad))
		}
	}
	return list
}

// link is a frame that recovery has accepted.
type link struct {
	seg   *segment
	frame *Frame
}

// recovery follows the chain of frames through the segments.
type recovery struct {
	id   Identity
	snap *Snapshot
	segs []*segment // by name

	base  place    // where the chain starts: behind this frame
	last  position // the last entry at base
	chain []link   // Invariant: each continues the one before, the first continues base.

	claim       uint64 // the highest frame that any whole frame says is durable
	top         uint64 // the highest sequence in use
	incarnation uint64 // the highest seen
}

// load reads all segments. A whole header of somebody else is an error.
func load(d env.Disk, id Identity, snap *Snapshot) (*recovery, error) {
	names, err := d.Names()
	if err != nil {
		return nil, fmt.Errorf("wal: list files: %w", err)
	}
	r := &recovery{id: id, snap: snap}
	for _, name := range names {
		first, ok := parseName(name)
		if !ok {
			continue
		}
		if first >= firstMax {
			return nil, fmt.Errorf("wal: %s: no log gets that far, so the file is not one of this node: move it away", name)
		}
		p, err := d.Load(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("wal: read %s: %w", name, err)
		}
		if err := r.add(first, p); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *recovery) add(first uint64, p []byte) error {
	id := r.id
	id.First = first
	s := &segment{first: first, scan: Scan(p, id)}
	if err := s.readHeader(id); err != nil {
		return err
	}
	r.segs = append(r.segs, s)
	r.top = max(r.top, first)
	for _, frames := range [...][]Frame{s.scan.Frames, s.scan.Later} {
		for i := range frames {
			r.claim = max(r.claim, frames[i].Synced)
			r.top = max(r.top, frames[i].Seq)
		}
	}
	if s.head != nil {
		r.incarnation = max(r.incarnation, s.head.incarnation)
	}
	return nil
}

func (s *segment) readHeader(id Identity) error {
	if len(s.scan.Frames) == 0 {
		s.bad = s.scan.Bad
		if s.bad == "" {
			s.bad = "empty"
		}
		return nil
	}
	h, version, err := parseHeader(&s.scan.Frames[0])
	switch {
	case err != nil:
		return &RotError{File: segmentName(s.first), Seq: s.first, Reason: "no header in the first frame"}
	case version != formatVersion:
		return wrongVersion(segmentName(s.first), version)
	}
	s.head = h
	return checkOwner(segmentName(s.first), id, h.cluster, uint64(h.node))
}

// follow builds the chain. It starts from nothing, or from a segment that needs
// nothing before it; if there are several, the one that leads furthest is right:
// the others are void, or what a removal left behind.
func (r *recovery) follow() {
	var best recovery
	for i := -1; i < len(r.segs); i++ {
		if i >= 0 && !r.startsAnew(r.segs[i]) {
			continue
		}
		r.start(i)
		if len(r.chain) > 0 && r.end().seq > best.end().seq {
			best = *r
		}
	}
	r.base, r.last, r.chain = best.base, best.last, best.chain
}

// start builds the chain from segment i on, or from nothing if i is negative. A
// segment that does not continue it is passed over: it is void, or what comes
// before it is damaged, which judge tells apart.
func (r *recovery) start(i int) {
	r.base, r.last, r.chain = place{}, position{}, nil
	if i >= 0 {
		r.base, r.last = r.segs[i].head.before, r.segs[i].head.last
	}
	for _, s := range r.segs[max(i, 0):] {
		if s.head == nil {
			continue
		}
		n, ok := r.find(s.head.before)
		if !ok {
			continue
		}
		r.chain = r.chain[:n]
		for k := range s.scan.Frames {
			r.chain = append(r.chain, link{s, &s.scan.Frames[k]})
		}
	}
}

// find returns how many frames of the chain are kept by a segment that continues
// the log at p.
func (r *recovery) find(p place) (int, bool) {
	for n := len(r.chain); n > 0; n-- {
		f := r.chain[n-1].frame
		if f.Seq <= p.seq {
			return n, f.Seq == p.seq && f.Sum == p.chain
		}
	}
	return 0, p.seq == r.base.seq && p.chain == r.base.chain
}

// startsAnew says whether the log may begin with s: the segment before was
// removed, and the snapshot covers all entries before.
func (r *recovery) startsAnew(s *segment) bool {
	return s.head != nil && s.head.before.file > 0 && !r.has(s.head.before.file) &&
		s.head.last.index <= r.snapIndex()
}

func (r *recovery) has(first uint64) bool {
	for _, s := range r.segs {
		if s.first == first {
			return true
		}
	}
	return false
}

func (r *recovery) snapIndex() uint64 {
	if r.snap == nil {
		return 0
	}
	return r.snap.Index
}

// end is where the chain ends.
func (r *recovery) end() place {
	if len(r.chain) == 0 {
		return r.base
	}
	l := r.chain[len(r.chain)-1]
	return place{l.seg.first, l.frame.Seq, l.frame.Sum}
}

// judge tells a torn tail from damage: nil, or a *RotError.
func (r *recovery) judge() error {
	if planted.On(planted.TailCutTooFar) {
		r.cutTooFar()
		return nil
	}
	if r.claim > r.end().seq {
		return r.blame()
	}
	if len(r.chain) > 0 {
		return nil
	}
	// No snapshot is written before a header is durable.
	if r.snap != nil && len(r.segs) > 0 {
		return r.blame()
	}
	if r.snap != nil {
		return &RotError{File: segmentName(1), Seq: 1, Reason: "there is a snapshot but no log (if it is kept apart, give the same --wal-dir again)"}
	}
	return nil
}

// cutTooFar is a planted bug.
func (r *recovery) cutTooFar() {
	if n := len(r.chain); n > 1 && r.chain[n-1].seg.scan.Bad != "" {
		r.chain = r.chain[:n-1]
	}
	r.claim = min(r.claim, r.end().seq)
}

// blame finds the place that should continue the chain, from the oldest start.
func (r *recovery) blame() error {
	for i := -1; i < len(r.segs); i++ {
		if i >= 0 && !r.startsAnew(r.segs[i]) {
			continue
		}
		if r.start(i); len(r.chain) > 0 {
			break
		}
	}
	if mark := r.marked(); mark > r.snapIndex() && len(r.chain) == 0 {
		return staleSnapshot(mark)
	}
	end := r.end()
	for _, s := range r.segs { // a header that later frames prove
		if s.head == nil && s.first > end.seq && r.proven(s) {
			return &RotError{File: segmentName(s.first), Seq: s.first, Reason: s.bad}
		}
	}
	if n := len(r.chain); n > 0 {
		if l := r.chain[n-1]; l.seg.scan.Bad != "" {
			return r.rotBehind(l, l.seg.scan.Bad)
		}
	}
	for _, s := range r.segs {
		if s.head != nil && s.first > end.seq && s.head.before.file > 0 && !r.has(s.head.before.file) {
			return &RotError{
				File:   segmentName(s.head.before.file),
				Seq:    s.head.before.seq,
				Reason: fmt.Sprintf("missing, but %s continues it", segmentName(s.first)),
			}
		}
	}
	for _, s := range r.segs {
		if s.head == nil && s.first > end.seq {
			return &RotError{File: segmentName(s.first), Seq: s.first, Reason: s.bad}
		}
	}
	if n := len(r.chain); n > 0 {
		return r.rotBehind(r.chain[n-1], fmt.Sprintf("ends here, but frame %d was durable", r.claim))
	}
	return &RotError{File: segmentName(r.top), Seq: r.top, Reason: "does not continue any segment"}
}

// marked is the highest snapshot that any whole frame says was durable.
func (r *recovery) marked() uint64 {
	var sum state
	for _, s := range r.segs {
		for i := range s.scan.Frames {
			_ = sum.apply(s.scan.Frames[i].Records, nil) // evidence, as far as it goes
		}
	}
	return sum.mark.index
}

func staleSnapshot(mark uint64) error {
	return &RotError{
		File:   snapshotName,
		Reason: fmt.Sprintf("missing or older than entry %d, which the log says it held", mark),
	}
}

func (r *recovery) rotBehind(l link, reason string) error {
	return &RotError{
		File:   segmentName(l.seg.first),
		Offset: int64(l.frame.end()),
		Seq:    l.frame.Seq + 1,
		Reason: reason,
	}
}

// proven says whether a frame of s, or a segment behind it, shows that the bad
// header of s was there once.
func (r *recovery) proven(s *segment) bool {
	for i := range s.scan.Later {
		if s.scan.Later[i].Synced >= s.first {
			return true
		}
	}
	for _, t := range r.segs {
		if t.head != nil && t.head.before.file == s.first {
			return true
		}
	}
	return false
}

// replay is the content of the chain.
type replay struct {
	entries []Entry
	first   uint64   // index of entries[0], or of the entry that comes next
	before  position // the entry before first; term 0 where it is not known
	now     state
	proven  state  // as of the last frame that is proven durable
	at      place  // of that frame
	rest    []byte // records of the frames behind it, without headers
}

// replay reads the records of the chain. Errors name the frame.
func (r *recovery) replay() (*replay, error) {
	c := &replay{first: r.last.index + 1, before: r.last, at: r.base}
	c.now.last = r.last
	proven := max(r.claim, r.base.seq)
	for _, l := range r.chain {
		if err := c.now.apply(l.frame.Records, c.entry); err != nil {
			return nil, &RotError{
				File:   segmentName(l.seg.first),
				Offset: int64(l.frame.Offset),
				Seq:    l.frame.Seq,
				Reason: err.Error(),
			}
		}
		if l.frame.Seq <= proven {
			c.at = place{l.seg.first, l.frame.Seq, l.frame.Sum}
			continue
		}
		if c.rest == nil {
			c.rest = []byte{}
		}
		c.rest = append(c.rest, withoutHeader(l.frame)...)
	}
	return c, c.rewind(r, proven)
}

// rewind computes the state as of the last proven frame.
func (c *replay) rewind(r *recovery, proven uint64) error {
	c.proven.last = r.last
	for _, l := range r.chain {
		if l.frame.Seq > proven {
			break
		}
		if err := c.proven.apply(l.frame.Records, nil); err != nil {
			return err
		}
	}
	return nil
}

func withoutHeader(f *Frame) []byte {
	if len(f.Records) == 0 || f.Records[0] != kindHeader {
		return f.Records
	}
	_, _, rest, _ := nextRecord(f.Records) // replay has read them all
	return rest
}

// entry adds an entry to the log, or resets it.
func (c *replay) entry(e Entry, reset bool) error {
	next := c.first + uint64(len(c.entries))
	switch {
	case reset:
		c.entries, c.first, c.before = nil, e.Index+1, position{e.Index, e.Term}
		return nil
	case e.Index > next:
		return fmt.Errorf("entry %d follows entry %d", e.Index, next-1)
	case e.Index < c.first:
		c.entries, c.first, c.before = nil, e.Index, position{e.Index - 1, 0}
	default:
		c.entries = c.entries[:e.Index-c.first]
	}
	c.entries = append(c.entries, e)
	return nil
}

// trim drops the entries that the snapshot covers. It returns the record that the
// log needs to agree with the snapshot, if any: power may have failed between
// the two.
func (c *replay) trim(snap *Snapshot) ([]byte, error) {
	if snap == nil {
		snap = &Snapshot{}
	}
	if mark := c.now.mark.index; mark > snap.Index {
		return nil, staleSnapshot(mark)
	}
	if len(c.entries) > 0 && c.first > snap.Index+1 {
		return nil, &RotError{
			File:   snapshotName,
			Reason: fmt.Sprintf("ends with entry %d, but the log begins with entry %d", snap.Index, c.first),
		}
	}
	if snap.Index == 0 {
		return nil, nil
	}
	at := position{snap.Index, snap.Term}
	if !c.holds(at) {
		c.entries, c.first, c.now.last = nil, snap.Index+1, at
		return appendPosition(nil, kindReset, at), nil
	}
	if snap.Index >= c.first {
		c.entries, c.first = c.entries[snap.Index+1-c.first:], snap.Index+1
	}
	if c.now.mark.index < snap.Index {
		return appendPosition(nil, kindMark, at), nil
	}
	return nil, nil
}

// holds says whether the log has the entry at p, as far as it still knows.
func (c *replay) holds(p position) bool {
	switch {
	case p.index > c.now.last.index:
		return false
	case len(c.entries) == 0:
		return p == c.now.last
	case p.index < c.first:
		return p.index < c.before.index || c.before.term == 0 || p == c.before
	}
	return c.entries[p.index-c.first].Term == p.term
}
