package wal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/format"
)

// The kinds of records. The numbers are on disks.
const (
	kindHeader    = 1 // first in a segment: see header
	kindHardState = 2 // opaque
	kindEntry     = 3 // index, term (uvarints), data
	kindMark      = 4 // index, term (u64): a snapshot of the log so far is durable
	kindReset     = 5 // index, term (u64): a snapshot replaced the log
)

// formatVersion is the version of segments and snapshots that this package
// writes and reads.
const formatVersion = format.Log

var errMalformed = errors.New("malformed record")

// AppendHardState appends a record with the hard state.
func AppendHardState(dst, state []byte) []byte {
	dst = append(dst, kindHardState)
	dst = binary.AppendUvarint(dst, uint64(len(state)))
	return append(dst, state...)
}

// AppendEntry appends a record with an entry.
func AppendEntry(dst []byte, e Entry) []byte {
	dst = append(dst, kindEntry)
	dst = binary.AppendUvarint(dst, uint64(uvarintLen(e.Index)+uvarintLen(e.Term)+len(e.Data)))
	dst = binary.AppendUvarint(dst, e.Index)
	dst = binary.AppendUvarint(dst, e.Term)
	return append(dst, e.Data...)
}

func appendPosition(dst []byte, kind byte, p position) []byte {
	dst = append(dst, kind, 16)
	dst = binary.LittleEndian.AppendUint64(dst, p.index)
	return binary.LittleEndian.AppendUint64(dst, p.term)
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// position is a place in the replicated log.
type position struct{ index, term uint64 }

// nextRecord takes the first record off p.
func nextRecord(p []byte) (kind byte, payload, rest []byte, err error) {
	size, n := binary.Uvarint(p[1:])
	if n <= 0 || size > uint64(len(p)-1-n) {
		return 0, nil, nil, errMalformed
	}
	end := 1 + n + int(size)
	return p[0], p[1+n : end : end], p[end:], nil
}

func parseEntry(p []byte) (Entry, error) {
	index, n := binary.Uvarint(p)
	if n <= 0 {
		return Entry{}, errMalformed
	}
	term, m := binary.Uvarint(p[n:])
	if m <= 0 {
		return Entry{}, errMalformed
	}
	return Entry{Index: index, Term: term, Data: p[n+m:]}, nil
}

func parsePosition(p []byte) (position, error) {
	if len(p) != 16 {
		return position{}, errMalformed
	}
	return position{binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])}, nil
}

// header is the first record of a segment.
type header struct {
	cluster     uint64
	node        env.NodeID
	incarnation uint64
	before      place    // where the log before this segment ends
	last        position // the last entry of the log before this segment
}

// place is the end of the log at some time: the last frame and the segment it
// is in. The chain is the checksum of that frame. All are zero before the first.
type place struct {
	file  uint64
	seq   uint64
	chain uint32 // on disk it is the chain of the frame with the header
}

const (
	segmentMagic = "keelwal\n"
	headerSize   = len(segmentMagic) + 2 + 7*8
)

func appendHeader(dst []byte, h *header) []byte {
	dst = append(dst, kindHeader, byte(headerSize))
	dst = append(dst, segmentMagic...)
	dst = binary.LittleEndian.AppendUint16(dst, formatVersion)
	for _, v := range [...]uint64{
		h.cluster, uint64(h.node), h.incarnation, h.before.file, h.before.seq, h.last.index, h.last.term,
	} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return dst
}

// parseHeader reads the header record of a segment's first frame. It may be
// wrong for this node: see check.
func parseHeader(f *Frame) (*header, int, error) {
	if len(f.Records) == 0 {
		return nil, 0, errMalformed
	}
	kind, p, _, err := nextRecord(f.Records)
	if err != nil || kind != kindHeader || len(p) < len(segmentMagic)+2 || string(p[:len(segmentMagic)]) != segmentMagic {
		return nil, 0, errMalformed
	}
	p = p[len(segmentMagic):]
	version := int(binary.LittleEndian.Uint16(p))
	if version != formatVersion {
		return nil, version, nil
	}
	if p = p[2:]; len(p) != 7*8 {
		return nil, version, errMalformed
	}
	at := func(i int) uint64 { return binary.LittleEndian.Uint64(p[8*i:]) }
	return &header{
		cluster:     at(0),
		node:        env.NodeID(at(1)),
		incarnation: at(2),
		before:      place{file: at(3), seq: at(4), chain: f.Chain},
		last:        position{at(5), at(6)},
	}, version, nil
}

// state is what the records of a log add up to, the entries themselves aside.
type state struct {
	last     position // the newest entry
	mark     position // the newest snapshot that was durable
	maxEntry uint64   // highest index of an entry since the field was cleared
	hard     []byte   // own memory
}

// copy makes s equal to t, in memory of its own.
func (s *state) copy(t *state) {
	hard := append(s.hard[:0], t.hard...)
	*s = *t
	s.hard = hard
}

// apply adds records to s. Each entry is passed to fn, if there is one; a reset
// is an entry without data that fn can tell by reset.
func (s *state) apply(records []byte, fn func(e Entry, reset bool) error) error {
	for len(records) > 0 {
		kind, p, rest, err := nextRecord(records)
		if err == nil {
			err = s.one(kind, p, fn)
		}
		if err != nil {
			return err
		}
		records = rest
	}
	return nil
}

func (s *state) one(kind byte, p []byte, fn func(e Entry, reset bool) error) error {
	switch kind {
	case kindHeader:
		return nil
	case kindHardState:
		s.hard = append(s.hard[:0], p...)
		return nil
	case kindEntry:
		e, err := parseEntry(p)
		if err != nil {
			return err
		}
		s.last = position{e.Index, e.Term}
		s.maxEntry = max(s.maxEntry, e.Index)
		return call(fn, e, false)
	case kindMark, kindReset:
		at, err := parsePosition(p)
		if err != nil {
			return err
		}
		if at.index > s.mark.index {
			s.mark = at
		}
		if kind == kindMark {
			return nil
		}
		s.last = at
		return call(fn, Entry{Index: at.index, Term: at.term}, true)
	}
	return fmt.Errorf("unknown kind of record %d", kind)
}

func call(fn func(Entry, bool) error, e Entry, reset bool) error {
	if fn == nil {
		return nil
	}
	return fn(e, reset)
}

// appendState appends what a new segment must repeat of s, so that older ones
// can be removed.
func appendState(dst []byte, s *state) []byte {
	if len(s.hard) > 0 {
		dst = AppendHardState(dst, s.hard)
	}
	if s.mark.index > 0 {
		dst = appendPosition(dst, kindMark, s.mark)
	}
	return dst
}
