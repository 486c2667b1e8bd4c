package wal

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/keelson/keelson/core/env"
)

// frameSize is the length of a frame without records.
const frameSize = 28

// Identity says which segment frames belong to.
type Identity struct {
	Cluster uint64
	Node    env.NodeID
	First   uint64 // sequence of the first frame, as in the name of the file
}

// seed is what the checksums of all frames but the first start from. It can be
// told from name and owner alone, so that frames behind a damaged header can
// still be read as evidence.
func (id Identity) seed() uint32 {
	var p [24]byte
	binary.LittleEndian.PutUint64(p[0:], id.Cluster)
	binary.LittleEndian.PutUint64(p[8:], uint64(id.Node))
	binary.LittleEndian.PutUint64(p[16:], id.First)
	return crc32.Checksum(p[:], castagnoli())
}

// castagnoli is the table that crc32 has hardware support for; MakeTable
// returns the same pointer each time.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Encoder writes the frames of one segment, in order. It is used as
//
//	start := len(dst)
//	dst = e.Begin(dst)
//	dst = AppendEntry(dst, entry) // any number of records
//	e.End(dst[start:], synced)
//
// and allocates nothing beyond what dst needs.
type Encoder struct {
	id    Identity
	seed  uint32
	seq   uint64
	chain uint32
}

// NewEncoder starts a segment: its first frame has the sequence id.First and
// chain as the checksum of the frame before.
func NewEncoder(id Identity, chain uint32) *Encoder {
	return &Encoder{id: id, seed: id.seed(), seq: id.First - 1, chain: chain}
}

// Seq is the sequence of the frame that was ended last.
func (e *Encoder) Seq() uint64 { return e.seq }

// Chain is the checksum of the frame that was ended last.
func (e *Encoder) Chain() uint32 { return e.chain }

// Begin appends room for the fields of a frame.
func (e *Encoder) Begin(dst []byte) []byte {
	var room [frameSize]byte
	return append(dst, room[:]...)
}

// End fills in the fields of the frame that Begin started. Frame is all of it,
// from the first byte that Begin appended.
func (e *Encoder) End(frame []byte, synced uint64) {
	e.seq++
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)))
	binary.LittleEndian.PutUint64(frame[8:], e.seq)
	binary.LittleEndian.PutUint64(frame[16:], synced)
	binary.LittleEndian.PutUint32(frame[24:], e.chain)
	e.chain = checksum(frame, e.seq == e.id.First, e.seed)
	binary.LittleEndian.PutUint32(frame[4:], e.chain)
}

// checksum is that of a frame. The first frame of a segment must be readable by
// somebody else, if only to say that it is not theirs: it has no seed.
func checksum(frame []byte, first bool, seed uint32) uint32 {
	if first {
		seed = 0
	}
	return crc32.Update(seed, castagnoli(), frame[8:])
}

// Frame is one whole frame of a segment.
type Frame struct {
	Offset  int // in the segment, bytes
	Size    int // bytes
	Seq     uint64
	Synced  uint64
	Chain   uint32 // checksum of the frame before
	Sum     uint32 // checksum of this one
	Records []byte // shares memory with the segment
}

func (f *Frame) end() int { return f.Offset + f.Size }

// Scanned is what a segment holds.
type Scanned struct {
	Frames []Frame // from the start, each in sequence and chained to the one before
	End    int     // offset behind them
	Bad    string  // what is wrong at End; empty if only zeros follow, or nothing
	Later  []Frame // whole frames behind a bad place: evidence, not content
}

// Scan reads a segment. It never fails: whatever is not a frame ends it.
func Scan(p []byte, id Identity) Scanned {
	s := scanner{p: p, id: id, seed: id.seed()}
	var out Scanned
	seq, chain := id.First, uint32(0)
	for {
		f, bad := s.at(out.End, seq, chain)
		if bad != "" {
			out.Bad = bad
			break
		}
		out.Frames = append(out.Frames, f)
		out.End, seq, chain = f.end(), f.Seq+1, f.Sum
	}
	if zeros(p[out.End:]) {
		out.Bad = ""
		return out
	}
	out.Later = s.later(out.End, seq)
	return out
}

type scanner struct {
	p    []byte
	id   Identity
	seed uint32
}

// at reads the frame at offset, which must have the given sequence and chain.
func (s *scanner) at(offset int, seq uint64, chain uint32) (Frame, string) {
	f, bad := s.whole(offset)
	switch {
	case bad != "":
		return f, bad
	case f.Seq != seq:
		return f, "sequence out of order"
	case f.Seq != s.id.First && f.Chain != chain:
		return f, "does not continue the frame before"
	}
	return f, ""
}

// whole reads a frame whose length and checksum are right.
func (s *scanner) whole(offset int) (Frame, string) {
	p := s.p[offset:]
	if len(p) < frameSize {
		return Frame{}, "cut short"
	}
	size := uint64(binary.LittleEndian.Uint32(p))
	switch {
	case size == 0:
		return Frame{}, "empty"
	case size < frameSize || size > uint64(len(p)):
		return Frame{}, "length out of range"
	}
	f := Frame{
		Offset:  offset,
		Size:    int(size),
		Seq:     binary.LittleEndian.Uint64(p[8:]),
		Synced:  binary.LittleEndian.Uint64(p[16:]),
		Chain:   binary.LittleEndian.Uint32(p[24:]),
		Sum:     binary.LittleEndian.Uint32(p[4:]),
		Records: p[frameSize:size:size],
	}
	if f.Synced >= f.Seq || f.Sum != checksum(p[:size], f.Seq == s.id.First, s.seed) {
		return Frame{}, "checksum does not match"
	}
	return f, ""
}

// later finds whole frames behind a bad place, where the start of the next one
// is unknown. Nearly all offsets are ruled out by the sequence, which leaves few
// checksums to compute.
func (s *scanner) later(offset int, seq uint64) []Frame {
	var out []Frame
	top := s.id.First + uint64(len(s.p)/frameSize)
	for o := offset + 1; o+frameSize <= len(s.p); o++ {
		if got := binary.LittleEndian.Uint64(s.p[o+8:]); got < seq || got > top {
			continue
		}
		f, bad := s.whole(o)
		if bad != "" {
			continue
		}
		out = append(out, f)
		seq = f.Seq + 1
		o = f.end() - 1
	}
	return out
}

// zeros says whether p holds nothing else.
func zeros(p []byte) bool {
	for len(p) >= 8 {
		if binary.LittleEndian.Uint64(p) != 0 {
			return false
		}
		p = p[8:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
