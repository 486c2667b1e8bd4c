package peer

import (
	"encoding/binary"
	"hash/crc32"
	"strings"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/format"
)

// LengthSize is how many bytes the length before a frame takes on a stream.
const LengthSize = 4

// HelloSize is the length of a Hello in bytes.
const HelloSize = 8 + 2 + 4*8 + 4

// magic opens a stream, so that whoever dials the wrong port gets a clear error.
const magic = "keelpeer"

// OpeningSize is how many bytes Opens looks at.
const OpeningSize = len(magic)

// Opens reports whether p, the first OpeningSize bytes of a stream, may open a Hello.
// Another protocol on the same port does not.
func Opens(p []byte) bool { return string(p) == magic }

// AppendStream appends a frame with its length before it.
func AppendStream(dst, frame []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(frame)))
	return append(dst, frame...)
}

// notesFormat is the first stream format that has notes.
const notesFormat = 2

// noteBit marks the length of what is no frame but a note about the sender.
const noteBit = 1 << 31

// NoteMax is the longest note.
const NoteMax = 16 << 10

// AppendNote appends a note for the other end of a stream: URLs at which the sender
// can be called, for a node that does not know it yet. One that is too long is left
// out.
func AppendNote(dst []byte, urls []string) []byte {
	text := strings.Join(urls, "\n")
	if len(text) > NoteMax {
		return dst
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(text))|noteBit)
	return append(dst, text...)
}

// NoteLength tells whether the LengthSize bytes before it announce a note, and how
// long it is. A length that no note can have wraps ErrTooLong.
func NoteLength(p [LengthSize]byte) (n int, isNote bool, err error) {
	size := binary.LittleEndian.Uint32(p[:])
	if size&noteBit == 0 {
		return 0, false, nil
	}
	if size &^= noteBit; size > NoteMax {
		return 0, true, &FrameError{Err: ErrTooLong, Got: uint64(size), Want: NoteMax}
	}
	return int(size), true, nil
}

// ParseNote gives the URLs of a note.
func ParseNote(p []byte) []string { return strings.Fields(string(p)) }

// StreamLength reads the length of the frame that follows from the LengthSize
// bytes before it. A length that no frame can have wraps ErrTooLong or
// ErrMalformed: the stream is out of step and must be closed.
func StreamLength(p [LengthSize]byte) (int, error) {
	n := binary.LittleEndian.Uint32(p[:])
	if n > MaxFrame {
		return 0, &FrameError{Err: ErrTooLong, Got: uint64(n), Want: MaxFrame}
	}
	if n < headerSize+trailerSize {
		return 0, &FrameError{Err: ErrMalformed, Got: uint64(n), Want: headerSize + trailerSize}
	}
	return int(n), nil
}

// Split takes the first frame off the bytes read from a stream so far. A nil
// frame without an error means that more bytes are needed. The frame shares
// memory with p. Errors are those of StreamLength.
func Split(p []byte) (frame, rest []byte, err error) {
	if len(p) < LengthSize {
		return nil, p, nil
	}
	n, err := StreamLength([LengthSize]byte(p))
	if err != nil {
		return nil, p, err
	}
	end := LengthSize + n
	if len(p) < end {
		return nil, p, nil
	}
	return p[LengthSize:end:end], p[end:], nil
}

// helloVersion is that of the bytes of a Hello, which never changes: what may follow
// is agreed by the stream format in it.
const helloVersion = 1

// Hello opens a stream: who calls whom, in which cluster.
type Hello struct {
	Cluster  uint64
	From, To env.NodeID
	// Reads is the newest stream format that the sender reads. AppendHello fills it
	// in; programs from before there were several say 0.
	Reads uint64
}

// TakesNotes tells whether whoever said h understands notes. One that does not would
// take them for frames, and hang up.
func (h Hello) TakesNotes() bool { return h.Reads >= notesFormat }

// AppendHello appends the HelloSize bytes that open a stream.
func AppendHello(dst []byte, h Hello) []byte {
	start := len(dst)
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint16(dst, helloVersion)
	dst = binary.LittleEndian.AppendUint64(dst, h.Cluster)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.From))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.To))
	dst = binary.LittleEndian.AppendUint64(dst, format.Stream)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli()))
}

// ParseHello reads what AppendHello wrote. It does not judge cluster and
// receiver: see Hello.Check. Errors wrap ErrMalformed, ErrVersion or
// ErrChecksum.
func ParseHello(p []byte) (Hello, error) {
	if len(p) != HelloSize || string(p[:len(magic)]) != magic {
		return Hello{}, &FrameError{Err: ErrMalformed, Got: uint64(len(p)), Want: HelloSize}
	}
	if v := binary.LittleEndian.Uint16(p[8:]); v != helloVersion {
		return Hello{}, &FrameError{Err: ErrVersion, Got: uint64(v), Want: helloVersion}
	}
	end := HelloSize - 4
	got, want := binary.LittleEndian.Uint32(p[end:]), crc32.Checksum(p[:end], castagnoli())
	if got != want {
		return Hello{}, &FrameError{Err: ErrChecksum, Got: uint64(got), Want: uint64(want)}
	}
	return Hello{
		Cluster: binary.LittleEndian.Uint64(p[10:]),
		From:    env.NodeID(binary.LittleEndian.Uint64(p[18:])),
		To:      env.NodeID(binary.LittleEndian.Uint64(p[26:])),
		Reads:   binary.LittleEndian.Uint64(p[34:]),
	}, nil
}

// Check says whether a stream that opens with h may be served by this node. The
// error wraps ErrCluster or ErrReceiver.
func (h Hello) Check(cluster uint64, self env.NodeID) error {
	if h.Cluster != cluster {
		return &FrameError{Err: ErrCluster, Got: h.Cluster, Want: cluster}
	}
	if h.To != self {
		return &FrameError{Err: ErrReceiver, Got: uint64(h.To), Want: uint64(self)}
	}
	return nil
}
