package wal

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/keelson/keelson/core/env"
)

// Source is files that are read and left as they are. *env.Disk is one.
type Source interface {
	Names() ([]string, error)
	Load(name string) ([]byte, error)
}

// Piece is one thing that a log holds, for people: a record, or a place where it
// cannot be read.
type Piece struct {
	File   string
	Offset int
	Frame  uint64 // sequence; 0 where there is none
	Synced uint64 // as the frame says
	// Kind is segment, hard state, entry, mark, reset, snapshot, end or damage.
	Kind        string
	Index, Term uint64 // of entries, marks, resets and snapshots
	Data        []byte // of entries and hard states; the header of snapshots
	Size        int    // bytes of the frame, or of the body of a snapshot
	Incarnation uint64 // of segments
	Before      uint64 // of segments: the frame that they continue
	Text        string // of end and damage: what is wrong
}

// Dump tells everything that the files hold, in the order of their names, damage
// included, to fn. Whose log it is is taken from the log; where that cannot be read,
// id stands in. Only a source that cannot be read at all is an error.
func Dump(src Source, id Identity, fn func(Piece)) error {
	names, err := src.Names()
	if err != nil {
		return fmt.Errorf("wal: list files: %w", err)
	}
	for _, name := range names {
		first, segment := parseName(name)
		if !segment && name != snapshotName {
			continue
		}
		p, err := src.Load(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it went while we looked
		}
		if err != nil {
			fn(Piece{File: name, Kind: "damage", Text: err.Error()})
			continue
		}
		if segment {
			id.First = first
			dumpSegment(name, p, id, fn)
		} else {
			dumpSnapshot(name, p, id, fn)
		}
	}
	return nil
}

func dumpSnapshot(name string, p []byte, id Identity, fn func(Piece)) {
	s, body, err := parseSnapshot(p, id)
	var wrong *WrongError
	if errors.As(err, &wrong) && id.Cluster == 0 {
		id.Cluster, id.Node = owner(p)
		s, body, err = parseSnapshot(p, id)
	}
	if err != nil {
		fn(Piece{File: name, Kind: "damage", Text: err.Error()})
		return
	}
	fn(Piece{File: name, Kind: "snapshot", Index: s.Index, Term: s.Term, Data: s.Meta, Size: len(body)})
}

func dumpSegment(name string, p []byte, id Identity, fn func(Piece)) {
	scan := Scan(p, id)
	if len(scan.Frames) > 0 {
		if h, _, err := parseHeader(&scan.Frames[0]); err == nil && h != nil && (h.cluster != id.Cluster || h.node != id.Node) {
			id.Cluster, id.Node = h.cluster, h.node
			scan = Scan(p, id)
		}
	}
	for i := range scan.Frames {
		dumpFrame(name, &scan.Frames[i], fn)
	}
	if scan.Bad == "" {
		fn(Piece{File: name, Offset: scan.End, Kind: "end"})
		return
	}
	kind, text := "end", scan.Bad+": the end of what was written, or damage"
	for i := range scan.Later {
		if scan.Later[i].Synced > last(scan.Frames) {
			kind, text = "damage", fmt.Sprintf("%s; frame %d behind it says that it was durable", scan.Bad, scan.Later[i].Seq)
			break
		}
	}
	fn(Piece{File: name, Offset: scan.End, Kind: kind, Text: text})
	for i := range scan.Later {
		dumpFrame(name, &scan.Later[i], fn)
	}
}

func last(frames []Frame) uint64 {
	if len(frames) == 0 {
		return 0
	}
	return frames[len(frames)-1].Seq
}

func dumpFrame(name string, f *Frame, fn func(Piece)) {
	at := Piece{File: name, Offset: f.Offset, Frame: f.Seq, Synced: f.Synced, Size: f.Size}
	for rest := f.Records; len(rest) > 0; {
		kind, p, next, err := nextRecord(rest)
		piece := at
		if err == nil {
			err = piece.fill(kind, p, f)
		}
		if err != nil {
			piece.Kind, piece.Text = "damage", err.Error()
			fn(piece)
			return
		}
		fn(piece)
		rest = next
	}
}

func (d *Piece) fill(kind byte, p []byte, f *Frame) error {
	switch kind {
	case kindHeader:
		h, version, err := parseHeader(f)
		switch {
		case err != nil:
			return err
		case h == nil:
			return wrongVersion(d.File, version)
		}
		d.Kind, d.Incarnation, d.Before, d.Index, d.Term = "segment", h.incarnation, h.before.seq, h.last.index, h.last.term
	case kindHardState:
		d.Kind, d.Data = "hard state", p
	case kindEntry:
		e, err := parseEntry(p)
		if err != nil {
			return err
		}
		d.Kind, d.Index, d.Term, d.Data = "entry", e.Index, e.Term, e.Data
	case kindMark, kindReset:
		at, err := parsePosition(p)
		if err != nil {
			return err
		}
		d.Kind, d.Index, d.Term = "mark", at.index, at.term
		if kind == kindReset {
			d.Kind = "reset"
		}
	default:
		return fmt.Errorf("unknown kind of record %d", kind)
	}
	return nil
}

// owner reads whose a snapshot is.
func owner(p []byte) (cluster uint64, node env.NodeID) {
	at := len(snapshotMagic) + 2
	u := func(i int) (v uint64) {
		for k := 7; k >= 0; k-- {
			v = v<<8 | uint64(p[at+8*i+k])
		}
		return v
	}
	if len(p) < at+16 {
		return 0, 0
	}
	return u(0), env.NodeID(u(1))
}
