package store

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/keelson/keelson/core/format"
)

// A snapshot is the bytes "KLSN", a version byte, and frames. A frame is its
// length (4 bytes), the CRC-32C of everything in frames so far (4 bytes, both
// little-endian) and so many bytes of the body; a frame of length 0 ends it. The
// body is one stream of records cut anywhere:
//
//	index time wall chain counters…
//	sessions: count, then node incarnation floor count numbers…
//	the tree in preorder: kind name [value] created modified [deadline expires],
//	  a directory's children before the kind "up"; "up" of the root ends it
//	history: count, then action refresh node [prev] [names of what was inside]
const (
	snapshotMagic   = "KLSN"
	snapshotVersion = format.State
	frameHead       = 8
	frameMax        = 64 << 10
	frameLeast      = 1 << 10 // room for the frame of a small store; it grows
)

// Kinds of records of the tree, and of what else may follow a record.
const (
	kindUp   = 0
	kindFile = 1 << 0
	kindDir  = 1 << 1
	hasLease = 1 << 2
)

// Flags of an event in the history.
const (
	eventRefresh = 1 << iota
	eventPrev
	eventGone
)

// NewReader gives the snapshot of the view as a stream. It is encoded as it is
// read, in frames of at most 64 KiB, so that a Read does a bounded piece of work
// and the whole never lies in memory. The reader may be used on any goroutine,
// by one at a time.
func (v *View) NewReader() io.Reader {
	r := &snapshotReader{v: v, table: crc32.MakeTable(crc32.Castagnoli)}
	r.out = append(append(make([]byte, 0, frameLeast), snapshotMagic...), snapshotVersion)
	r.step = r.head
	return r
}

// snapshotReader is an encoder that stops whenever a frame is full. Its state
// is step, what to encode next; each step encodes one record and chooses the
// step after it.
type snapshotReader struct {
	v     *View
	table *crc32.Table
	sum   uint32

	out  []byte // encoded and not yet read; head of the frame at the front
	sent int    // how much of out was read
	text string // a long text that is still to be copied after out
	step func()
	tree walk
	next int      // the session or event to encode
	left []uint64 // numbers of a session still to encode
}

// Read fills p with the next part of the snapshot.
func (r *snapshotReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.sent == len(r.out) {
		if r.step == nil && r.text == "" {
			return 0, io.EOF
		}
		r.frame()
	}
	n := copy(p, r.out[r.sent:])
	r.sent += n
	return n, nil
}

// WriteTo writes what is left of the snapshot, a frame at a time.
func (r *snapshotReader) WriteTo(w io.Writer) (written int64, err error) {
	for {
		n, err := w.Write(r.out[r.sent:])
		r.sent += n
		if written += int64(n); err != nil {
			return written, err
		}
		if r.step == nil && r.text == "" {
			return written, nil
		}
		r.frame()
	}
}

// frame makes the next frame in out, or the last one, which is empty.
func (r *snapshotReader) frame() {
	r.out, r.sent = append(r.out[:0], make([]byte, frameHead)...), 0
	for len(r.out) < frameHead+frameMax {
		if r.text != "" {
			n := min(len(r.text), frameHead+frameMax-len(r.out))
			r.out = append(r.out, r.text[:n]...)
			r.text = r.text[n:]
			continue
		}
		if r.step == nil {
			break
		}
		r.step()
	}
	body := r.out[frameHead:]
	r.sum = crc32.Update(r.sum, r.table, body)
	binary.LittleEndian.PutUint32(r.out, uint32(len(body)))
	binary.LittleEndian.PutUint32(r.out[4:], r.sum)
	if r.step != nil || r.text != "" {
		return
	}
	if len(body) == 0 {
		return // this is the frame that ends it
	}
	r.out = binary.LittleEndian.AppendUint32(r.out, 0)
	r.out = binary.LittleEndian.AppendUint32(r.out, r.sum)
}

func (r *snapshotReader) uint(x uint64) { r.out = binary.AppendUvarint(r.out, x) }
func (r *snapshotReader) int(x int64)   { r.out = binary.AppendVarint(r.out, x) }

// string puts s at the end of a record: if it is long it is copied later.
func (r *snapshotReader) string(s string) {
	r.uint(uint64(len(s)))
	r.text = s
}

func (r *snapshotReader) head() {
	v := r.v
	r.uint(uint64(v.index))
	r.int(int64(v.time))
	r.int(v.wall)
	r.uint(uint64(v.chain))
	for _, count := range v.stats.counters() {
		r.uint(*count)
	}
	r.uint(uint64(len(v.sessions)))
	r.next = 0
	r.step = r.session
	if len(v.sessions) == 0 {
		r.beginTree()
	}
}

func (r *snapshotReader) session() {
	s := &r.v.sessions[r.next]
	r.uint(uint64(s.node))
	r.uint(s.incarnation)
	r.uint(s.floor)
	r.uint(uint64(len(s.applied)))
	r.left = s.applied
	r.step = r.sessionNumbers
}

// sessionNumbers puts some of the numbers: there may be many.
func (r *snapshotReader) sessionNumbers() {
	some := r.left[:min(len(r.left), 1000)]
	for _, number := range some {
		r.uint(number)
	}
	if r.left = r.left[len(some):]; len(r.left) > 0 {
		return
	}
	r.step = r.session
	if r.next++; r.next == len(r.v.sessions) {
		r.beginTree()
	}
}

func (r *snapshotReader) beginTree() {
	r.tree.enter(r.v.root)
	r.step = r.node
}

func (r *snapshotReader) node() {
	n, left := r.tree.next()
	if n != nil {
		r.stored(n)
		return
	}
	if left {
		r.out = append(r.out, kindUp)
		return
	}
	r.uint(uint64(len(r.v.history)))
	r.next = 0
	r.step = r.event
	if len(r.v.history) == 0 {
		r.step = nil
	}
}

func (r *snapshotReader) stored(n *node) {
	kind := byte(kindFile)
	if n.isDir() {
		kind = kindDir
	}
	l := n.lease()
	if l != nil {
		kind |= hasLease
	}
	r.out = append(r.out, kind)
	r.uint(uint64(n.created))
	r.uint(uint64(n.modified - n.created))
	if l != nil {
		r.int(int64(l.deadline))
		r.int(l.expires)
	}
	r.uint(uint64(n.nameLen))
	r.uint(uint64(len(n.data)) - uint64(n.nameLen))
	r.text = n.data
}

func (r *snapshotReader) event() {
	e := r.v.history[r.next]
	var flags byte
	if e.Refresh {
		flags |= eventRefresh
	}
	if e.Prev != nil {
		flags |= eventPrev
	}
	if e.gone != nil {
		flags |= eventGone
	}
	r.out = append(r.out, flags)
	r.out = appendText(r.out, string(e.Action))
	r.uint(uint64(e.Index))
	r.shown(e.Node)
	r.string(e.Node.Key)
	r.step = r.eventValue
}

func (r *snapshotReader) eventValue() {
	r.string(r.v.history[r.next].Node.Value)
	r.step = r.eventPrev
}

func (r *snapshotReader) eventPrev() {
	e := r.v.history[r.next]
	if e.Prev != nil {
		r.shown(e.Prev)
		r.string(e.Prev.Value)
	}
	r.step = r.nextEvent
	if e.gone != nil {
		r.tree = walk{}
		r.tree.enter(e.gone)
		r.step = r.eventGone
	}
}

// eventGone puts one name of the tree that was removed.
func (r *snapshotReader) eventGone() {
	n, left := r.tree.next()
	switch {
	case n != nil:
		kind := byte(kindFile)
		if n.isDir() {
			kind = kindDir
		}
		r.out = append(r.out, kind)
		r.string(n.name())
	case left:
		r.out = append(r.out, kindUp)
	default:
		r.nextEvent()
	}
}

func (r *snapshotReader) nextEvent() {
	r.next++
	r.step = r.event
	if r.next == len(r.v.history) {
		r.step = nil
	}
}

func (r *snapshotReader) shown(n *Node) {
	var flags byte
	if n.Dir {
		flags |= kindDir
	}
	if n.Deleted {
		flags |= kindFile
	}
	if n.Expires != 0 {
		flags |= hasLease
	}
	r.out = append(r.out, flags)
	r.uint(uint64(n.Created))
	r.uint(uint64(n.Modified))
	if n.Expires != 0 {
		r.int(n.Expires)
		r.int(int64(n.TTL))
	}
}
