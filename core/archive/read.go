package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/keelson/keelson/core/format"
	"github.com/keelson/keelson/core/store"
)

// DamagedError says that something is no whole archive.
type DamagedError struct {
	Offset int64
	Reason string
}

// Error says where the damage shows.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("damaged at byte %d: %s: take another copy", e.Offset, e.Reason)
}

// Check reads an archive to its end and says what it holds. Every byte is summed up,
// but the state is not built: see Read. Errors are a *format.UnknownError, a *DamagedError or
// the reader's.
func Check(r io.Reader) (*Summary, error) {
	a, err := open(r)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, a); err != nil {
		return nil, err
	}
	return a.finish()
}

// Read is Check, and gives the state, which must have the hashes that the archive
// tells.
func Read(r io.Reader) (*Summary, *store.Store, error) {
	a, err := open(r)
	if err != nil {
		return nil, nil, err
	}
	s, err := store.Load(a)
	var damaged *DamagedError
	switch {
	case a.err != nil && !errors.Is(a.err, io.EOF):
		return nil, nil, a.err
	case errors.As(err, &damaged):
		return nil, nil, err
	case err != nil:
		return nil, nil, a.damaged("%v", err)
	}
	sum, err := a.finish()
	if err != nil {
		return nil, nil, err
	}
	v := s.View()
	switch {
	case v.Index() != sum.Index || v.Len() != sum.Keys:
		return nil, nil, a.damaged("it describes itself as %d keys at index %d and holds %d at %d", sum.Keys, sum.Index, v.Len(), v.Index())
	case v.Hash() != sum.State || v.ContentHash() != sum.Content:
		return nil, nil, a.damaged("the state has the hash %016x and not %016x", v.Hash(), sum.State)
	}
	return sum, s, nil
}

// reader gives the state of an archive, uncompressed.
type reader struct {
	r     io.Reader
	sum   hash.Hash
	n     int64 // bytes read
	zip   *zstd.Decoder
	in    []byte
	block []byte // scratch
	rest  []byte // of block, not yet given
	raw   int64
	meta  Meta
	err   error // io.EOF where the blocks ended well
}

func open(r io.Reader) (*reader, error) {
	a := &reader{r: r, sum: sha256.New()}
	head := make([]byte, headSize)
	if err := a.full(head); err != nil {
		return nil, err
	}
	if !Begins(head) {
		a.n = 0
		return nil, a.damaged("it is no archive")
	}
	if v := binary.LittleEndian.Uint16(head[len(magic):]); v != Version {
		return nil, &format.UnknownError{Name: "archive", Got: int(v), Oldest: 1, Newest: Version}
	}
	size := binary.LittleEndian.Uint32(head[len(magic)+2:])
	if size > metaMax {
		return nil, a.damaged("a description of %d bytes", size)
	}
	text := make([]byte, size)
	if err := a.full(text); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &a.meta); err != nil {
		return nil, a.damaged("description: %v", err)
	}
	var err error
	a.zip, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(rawMax))
	return a, err
}

func (a *reader) damaged(format string, args ...any) error {
	return &DamagedError{a.n, fmt.Sprintf(format, args...)}
}

// full reads and sums up exactly len(p) bytes.
func (a *reader) full(p []byte) error {
	n, err := io.ReadFull(a.r, p)
	a.n += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return a.damaged("cut short")
	}
	a.sum.Write(p)
	return err
}

// Read gives the next bytes of the state.
func (a *reader) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.err == nil {
			a.err = a.fill()
		}
		if a.err != nil {
			return 0, a.err
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// fill uncompresses the next block; io.EOF behind the last.
func (a *reader) fill() error {
	var head [4]byte
	if err := a.full(head[:]); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint32(head[:])
	switch {
	case size == 0:
		return io.EOF
	case size > zipMax:
		return a.damaged("a block of %d bytes", size)
	}
	if cap(a.in) < int(size) {
		a.in = make([]byte, size)
	}
	in := a.in[:size]
	if err := a.full(in); err != nil {
		return err
	}
	block, err := a.zip.DecodeAll(in, a.block[:0])
	if err != nil {
		return a.damaged("block: %v", err)
	}
	if len(block) == 0 || len(block) > rawMax {
		return a.damaged("a block of %d bytes, uncompressed", len(block))
	}
	a.block, a.rest = block, block
	a.raw += int64(len(block))
	return nil
}

// finish reads what follows the blocks.
func (a *reader) finish() (*Summary, error) {
	var sums [sumsSize]byte
	if err := a.full(sums[:]); err != nil {
		return nil, err
	}
	s := &Summary{Meta: a.meta, Version: Version, Raw: a.raw}
	a.sum.Sum(s.Sum[:0])
	var sum [sha256.Size]byte
	if err := a.full(sum[:]); err != nil {
		return nil, err
	}
	at := func(i int) uint64 { return binary.LittleEndian.Uint64(sums[8*i:]) }
	s.State, s.Content, s.Size = at(1), at(2), a.n
	switch {
	case sum != s.Sum:
		return nil, a.damaged("the checksum does not match")
	case at(0) != uint64(a.raw):
		return nil, a.damaged("%d bytes of state, and %d were written", a.raw, at(0))
	}
	n, err := a.r.Read(make([]byte, 1))
	for n == 0 && err == nil {
		n, err = a.r.Read(make([]byte, 1))
	}
	switch {
	case n > 0:
		return nil, a.damaged("bytes behind the end")
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return s, nil
}
