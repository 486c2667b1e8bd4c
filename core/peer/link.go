package peer

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/format"
)

// Version is the frame layout that this package writes and reads.
const Version = format.Frame

// The limits of a frame. A frame beyond them is not built, and is refused when
// it arrives.
const (
	MaxFrame    = 16 << 20 // bytes, header and trailer included
	MaxMessages = 1 << 16  // messages
	// MaxPayload is the longest payload that fits a frame of its own.
	MaxPayload = MaxFrame - headerSize - trailerSize - 1 - binary.MaxVarintLen32
)

const (
	headerSize  = 41
	trailerSize = 4

	// A frame under construction begins with the size of the one before, within
	// these bounds: a heartbeat is about 100 bytes, a busy turn some thousand.
	roomMin = 256
	roomMax = 4 << 10
)

// Window is how many sequences behind the newest one a late frame may be and
// still be delivered. Older frames are taken for lost.
const Window = 1024

// Config names the two ends of a link. All fields are required.
type Config struct {
	Cluster uint64
	Self    env.NodeID
	Peer    env.NodeID
	// Incarnation is this start of Self. It must be durable before the first
	// frame is sent, so that no two lives of a node ever share one.
	Incarnation uint64
}

// Message is one thing said to the other node. What kinds mean is the business
// of the caller.
type Message struct {
	Kind    byte
	Payload []byte
}

// Stats counts what happened to frames since the link was made.
type Stats struct {
	Sent      uint64 // frames built
	Delivered uint64 // frames opened and handed up
	Repeated  uint64 // frames dropped because they came before
	Stale     uint64 // frames dropped as too old: an earlier life, or behind the window
	Refused   uint64 // frames that Open returned an error for
}

// Link is this node's end of the connection with one other node. Both
// directions are independent. It is not safe for concurrent use.
type Link struct {
	cfg   Config
	sent  uint64 // Invariant: the highest sequence ever put into a frame.
	buf   []byte // the frame under construction; nil when there is none
	count int    // messages in buf
	room  int    // size of the frame before
	in    inbox
	out   []Message // reused by Open
	stats Stats
}

// NewLink makes a link that has sent and heard nothing.
func NewLink(cfg Config) *Link { return &Link{cfg: cfg} }

// Pending is the number of messages that wait for Frame.
func (l *Link) Pending() int { return l.count }

// Size is the number of bytes that Frame would return now, 0 if nothing waits.
func (l *Link) Size() int {
	if l.count == 0 {
		return 0
	}
	return len(l.buf) + trailerSize
}

// Stats returns the counters of the link.
func (l *Link) Stats() Stats { return l.stats }

// Add puts a message into the frame under construction. The payload is copied.
// It returns false, and changes nothing, when the frame has no room left: take
// it with Frame and add again. A payload longer than MaxPayload never fits.
func (l *Link) Add(kind byte, payload []byte) bool {
	p, ok := l.Reserve(kind, len(payload))
	if ok {
		copy(p, payload)
	}
	return ok
}

// Reserve is Add for callers that encode in place: it returns the size bytes of
// the payload for the caller to fill before the next call of any method. They
// are zero at first. False means what it means for Add.
func (l *Link) Reserve(kind byte, size int) ([]byte, bool) {
	if size < 0 || size > MaxPayload || l.count == MaxMessages {
		return nil, false
	}
	need := 1 + uvarintLen(uint64(size)) + size
	if l.count > 0 && len(l.buf)+need+trailerSize > MaxFrame {
		return nil, false
	}
	if l.buf == nil {
		l.buf = make([]byte, headerSize, max(roomMin, l.room, headerSize+need+trailerSize))
	}
	l.buf = append(l.buf, kind)
	l.buf = binary.AppendUvarint(l.buf, uint64(size))
	at := len(l.buf)
	l.buf = append(l.buf, make([]byte, size)...)
	l.count++
	return l.buf[at:], true
}

// Frame finishes the frame under construction and gives it away: the link keeps
// no reference to it, so that it may be handed to env.Net.Send. It returns nil
// when no message waits.
func (l *Link) Frame() []byte {
	if l.count == 0 {
		return nil
	}
	l.sent++
	l.stats.Sent++
	p := l.buf
	p[0] = Version
	binary.LittleEndian.PutUint64(p[1:], l.cfg.Cluster)
	binary.LittleEndian.PutUint64(p[9:], uint64(l.cfg.Self))
	binary.LittleEndian.PutUint64(p[17:], uint64(l.cfg.Peer))
	binary.LittleEndian.PutUint64(p[25:], l.cfg.Incarnation)
	binary.LittleEndian.PutUint64(p[33:], l.sent)
	l.buf, l.count, l.room = nil, 0, min(len(p)+trailerSize, roomMax)
	return seal(p)
}

// seal appends the checksum of p.
func seal(p []byte) []byte {
	return binary.LittleEndian.AppendUint32(p, crc32.Checksum(p, castagnoli()))
}

// Open checks a frame and returns its messages. Their payloads share memory with
// frame, which must not change while they are in use; the slice itself is
// valid until the next Open.
//
// A frame that came before, that is from an earlier life of the sender, or that
// is more than Window behind gives no messages and no error: a network does
// such things. A frame that cannot be from the other end of this link is an
// error that wraps ErrChecksum, ErrVersion, ErrCluster, ErrSender, ErrReceiver
// or ErrMalformed; it changes nothing but the counter.
func (l *Link) Open(frame []byte) ([]Message, error) {
	h, body, err := l.check(frame)
	if err == nil {
		l.out, err = appendMessages(l.out[:0], body)
	}
	if err != nil {
		l.stats.Refused++
		return nil, err
	}
	switch l.in.admit(h.incarnation, h.sequence) {
	case fresh:
		l.stats.Delivered++
		return l.out, nil
	case repeated:
		l.stats.Repeated++
	case stale:
		l.stats.Stale++
	}
	return nil, nil
}

// Heard is the incarnation of the newest life of the other node that a frame
// arrived from, 0 if none did.
func (l *Link) Heard() uint64 { return l.in.incarnation }

// check returns the header and the messages of a frame that is whole and meant
// for this link.
func (l *Link) check(frame []byte) (header, []byte, error) {
	h, body, err := parse(frame)
	if err != nil {
		return h, nil, err
	}
	switch {
	case h.cluster != l.cfg.Cluster:
		return h, nil, &FrameError{Err: ErrCluster, Got: h.cluster, Want: l.cfg.Cluster}
	case h.from != l.cfg.Peer:
		return h, nil, &FrameError{Err: ErrSender, Got: uint64(h.from), Want: uint64(l.cfg.Peer)}
	case h.to != l.cfg.Self:
		return h, nil, &FrameError{Err: ErrReceiver, Got: uint64(h.to), Want: uint64(l.cfg.Self)}
	case h.sequence == 0:
		return h, nil, &FrameError{Err: ErrMalformed, Got: 0, Want: 1}
	}
	return h, body, nil
}

type header struct {
	cluster     uint64
	from, to    env.NodeID
	incarnation uint64
	sequence    uint64
}

// parse checks what can be checked without knowing the link. The version comes
// first: a frame of another version may keep its checksum elsewhere.
func parse(frame []byte) (header, []byte, error) {
	if len(frame) < headerSize+trailerSize || len(frame) > MaxFrame {
		return header{}, nil, &FrameError{Err: ErrMalformed, Got: uint64(len(frame)), Want: headerSize + trailerSize}
	}
	if frame[0] != Version {
		return header{}, nil, &FrameError{Err: ErrVersion, Got: uint64(frame[0]), Want: Version}
	}
	end := len(frame) - trailerSize
	got, want := binary.LittleEndian.Uint32(frame[end:]), crc32.Checksum(frame[:end], castagnoli())
	if got != want {
		return header{}, nil, &FrameError{Err: ErrChecksum, Got: uint64(got), Want: uint64(want)}
	}
	return header{
		cluster:     binary.LittleEndian.Uint64(frame[1:]),
		from:        env.NodeID(binary.LittleEndian.Uint64(frame[9:])),
		to:          env.NodeID(binary.LittleEndian.Uint64(frame[17:])),
		incarnation: binary.LittleEndian.Uint64(frame[25:]),
		sequence:    binary.LittleEndian.Uint64(frame[33:]),
	}, frame[headerSize:end], nil
}

// appendMessages splits the body of a frame whose checksum is right.
func appendMessages(dst []Message, p []byte) ([]Message, error) {
	for len(p) > 0 {
		size, n := binary.Uvarint(p[1:])
		if n <= 0 || size > uint64(len(p)-1-n) {
			return dst[:0], &FrameError{Err: ErrMalformed, Got: size, Want: uint64(len(p))}
		}
		if len(dst) == MaxMessages {
			return dst[:0], &FrameError{Err: ErrMalformed, Got: MaxMessages + 1, Want: MaxMessages}
		}
		end := 1 + n + int(size)
		dst = append(dst, Message{Kind: p[0], Payload: p[1+n : end : end]})
		p = p[end:]
	}
	return dst, nil
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// castagnoli is the table that crc32 has hardware support for; MakeTable
// returns the same pointer each time.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
