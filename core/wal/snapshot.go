package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/keelson/keelson/core/format"
)

// The snapshot file: magic (8), version (2), cluster, node, index, term (8 each),
// length of meta (4), meta, body, length of body (8), CRC-32C of all before (4).
// The checksum is last in every version, so that a newer version can be told from
// damage.
const (
	snapshotName    = "snapshot"
	snapshotMagic   = "keelsnap"
	snapshotHeader  = len(snapshotMagic) + 2 + 4*8 + 4
	snapshotTrailer = 8 + 4
	maxMeta         = 1 << 20
)

// snapshotFile is the content of the file, for env.Disk.Replace.
type snapshotFile struct {
	id   Identity
	snap Snapshot
	body io.WriterTo
}

// stored is the body of a snapshot that was loaded.
type stored []byte

// WriteTo writes the body; it may be called again.
func (b stored) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b)
	return int64(n), err
}

// WriteTo streams the file: nothing but the header is held in memory.
func (f *snapshotFile) WriteTo(w io.Writer) (int64, error) {
	if len(f.snap.Meta) > maxMeta {
		return 0, fmt.Errorf("wal: write snapshot: meta has %d bytes, at most %d fit", len(f.snap.Meta), maxMeta)
	}
	s := &summer{w: w}
	if _, err := s.Write(f.header()); err != nil {
		return s.n, err
	}
	before := s.n
	if _, err := f.body.WriteTo(s); err != nil {
		return s.n, err
	}
	if _, err := s.Write(binary.LittleEndian.AppendUint64(nil, uint64(s.n-before))); err != nil {
		return s.n, err
	}
	_, err := s.Write(binary.LittleEndian.AppendUint32(nil, s.sum))
	return s.n, err
}

func (f *snapshotFile) header() []byte {
	p := make([]byte, 0, snapshotHeader+len(f.snap.Meta))
	p = append(p, snapshotMagic...)
	p = binary.LittleEndian.AppendUint16(p, format.Image)
	p = binary.LittleEndian.AppendUint64(p, f.id.Cluster)
	p = binary.LittleEndian.AppendUint64(p, uint64(f.id.Node))
	p = binary.LittleEndian.AppendUint64(p, f.snap.Index)
	p = binary.LittleEndian.AppendUint64(p, f.snap.Term)
	p = binary.LittleEndian.AppendUint32(p, uint32(len(f.snap.Meta)))
	return append(p, f.snap.Meta...)
}

// summer counts and sums what passes through.
type summer struct {
	w   io.Writer
	n   int64
	sum uint32
}

func (s *summer) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.n += int64(n)
	s.sum = crc32.Update(s.sum, castagnoli(), p[:n])
	return n, err
}

// parseSnapshot reads a snapshot file. The result shares memory with p. Errors
// are *RotError and *WrongError.
func parseSnapshot(p []byte, id Identity) (*Snapshot, []byte, error) {
	rot := func(offset int, reason string) error {
		return &RotError{File: snapshotName, Offset: int64(offset), Reason: reason}
	}
	if len(p) < snapshotHeader+snapshotTrailer {
		return nil, nil, rot(len(p), "cut short")
	}
	end := len(p) - 4
	if binary.LittleEndian.Uint32(p[end:]) != crc32.Checksum(p[:end], castagnoli()) {
		return nil, nil, rot(0, "checksum does not match")
	}
	if string(p[:len(snapshotMagic)]) != snapshotMagic {
		return nil, nil, rot(0, "not a snapshot")
	}
	q := p[len(snapshotMagic):]
	if v := binary.LittleEndian.Uint16(q); v != format.Image {
		return nil, nil, wrongVersion(snapshotName, int(v))
	}
	at := func(i int) uint64 { return binary.LittleEndian.Uint64(q[2+8*i:]) }
	if err := checkOwner(snapshotName, id, at(0), at(1)); err != nil {
		return nil, nil, err
	}
	meta := uint64(binary.LittleEndian.Uint32(q[2+4*8:]))
	body := binary.LittleEndian.Uint64(p[end-8:])
	room := uint64(len(p) - snapshotHeader - snapshotTrailer)
	if meta > room || body != room-meta {
		return nil, nil, rot(snapshotHeader, "lengths do not add up")
	}
	from := snapshotHeader + int(meta)
	s := &Snapshot{Index: at(2), Term: at(3), Meta: p[snapshotHeader:from:from]}
	return s, p[from : end-8 : end-8], nil
}

func wrongVersion(file string, v int) error {
	return &WrongError{
		File:   file,
		Reason: fmt.Sprintf("format version %d, this program knows %d", v, formatVersion),
		Hint:   "start the version of the program that wrote it",
	}
}

// checkOwner says whether a file was written by this node of this cluster.
func checkOwner(file string, id Identity, cluster, node uint64) error {
	const hint = "point the node at its own data directory, or clear this one"
	switch {
	case cluster != id.Cluster:
		return &WrongError{file, fmt.Sprintf("belongs to cluster %x, this is %x", cluster, id.Cluster), hint}
	case node != uint64(id.Node):
		return &WrongError{file, fmt.Sprintf("belongs to node %x, this is %x", node, uint64(id.Node)), hint}
	}
	return nil
}
