package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/keelson/keelson/core/format"
	"github.com/keelson/keelson/core/store"
)

// Version is the layout that this package writes and reads.
const Version = format.Archive

const (
	magic    = "keelarch"
	headSize = len(magic) + 2 + 4
	metaMax  = 64 << 10
	rawMax   = 1 << 20         // of a block, uncompressed
	zipMax   = rawMax + 64<<10 // of a block, compressed
	sumsSize = 3 * 8           // before the checksum
	tailSize = sumsSize + sha256.Size
)

// Meta describes a backup for people and for whoever restores it. Only Index and
// Keys must be right; the rest is where it came from.
type Meta struct {
	Cluster   string      `json:"cluster"`        // hex
	Member    string      `json:"member"`         // hex; whoever wrote it
	Name      string      `json:"name,omitempty"` // of that member
	Program   string      `json:"program,omitempty"`
	Index     store.Index `json:"index"`
	RaftIndex uint64      `json:"raftIndex"`
	Term      uint64      `json:"term"`
	Keys      int         `json:"keys"` // directories included
	Taken     time.Time   `json:"taken"`
}

// Summary is a whole archive, described.
type Summary struct {
	Meta
	Version int
	Raw     int64  // bytes of the state, uncompressed
	Size    int64  // bytes of the file
	State   uint64 // store.View.Hash
	Content uint64 // store.View.ContentHash
	Sum     [sha256.Size]byte
}

// SumText is the checksum as people write it.
func (s *Summary) SumText() string { return hex.EncodeToString(s.Sum[:]) }

// New gives the archive of a view as content for a file or an answer. It may be
// written more than once, on any goroutine. Index and Keys are filled in.
func New(m Meta, v *store.View) io.WriterTo {
	m.Index, m.Keys = v.Index(), v.Len()
	return &content{meta: m, view: v}
}

type content struct {
	meta Meta
	view *store.View
}

// WriteTo encodes the archive.
func (c *content) WriteTo(w io.Writer) (int64, error) {
	s := &summer{w: w, sum: sha256.New()}
	head, err := c.head()
	if err != nil {
		return 0, err
	}
	if _, err := s.Write(head); err != nil {
		return s.n, err
	}
	raw, err := writeBlocks(s, c.view.NewReader())
	if err != nil {
		return s.n, err
	}
	tail := binary.LittleEndian.AppendUint32(nil, 0)
	for _, v := range [...]uint64{uint64(raw), c.view.Hash(), c.view.ContentHash()} {
		tail = binary.LittleEndian.AppendUint64(tail, v)
	}
	if _, err := s.Write(tail); err != nil {
		return s.n, err
	}
	_, err = s.Write(s.sum.Sum(nil))
	return s.n, err
}

func (c *content) head() ([]byte, error) {
	meta, err := json.Marshal(&c.meta)
	if err != nil {
		return nil, fmt.Errorf("archive: describe: %w", err)
	}
	if len(meta) > metaMax {
		return nil, fmt.Errorf("archive: the description has %d bytes, at most %d fit", len(meta), metaMax)
	}
	p := append(make([]byte, 0, headSize+len(meta)), magic...)
	p = binary.LittleEndian.AppendUint16(p, Version)
	p = binary.LittleEndian.AppendUint32(p, uint32(len(meta)))
	return append(p, meta...), nil
}

// writeBlocks compresses what r gives. Blocks are compressed one by one, so that no
// goroutine is needed and a reader bounds its memory.
func writeBlocks(w io.Writer, r io.Reader) (raw int64, err error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(false))
	if err != nil {
		return 0, err
	}
	block, out := make([]byte, rawMax), []byte(nil)
	for {
		n, err := io.ReadFull(r, block)
		if n > 0 {
			raw += int64(n)
			out = z.EncodeAll(block[:n], append(out[:0], 0, 0, 0, 0))
			binary.LittleEndian.PutUint32(out, uint32(len(out)-4))
			if _, err := w.Write(out); err != nil {
				return raw, err
			}
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return raw, nil
		default:
			return raw, err
		}
	}
}

// summer counts and sums what passes through.
type summer struct {
	w   io.Writer
	sum hash.Hash
	n   int64
}

func (s *summer) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.sum.Write(p[:n])
	s.n += int64(n)
	return n, err
}

// Begins says whether p, the first bytes of something, begins an archive.
func Begins(p []byte) bool { return bytes.HasPrefix(p, []byte(magic)) }
