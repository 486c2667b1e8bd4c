package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/format"
)

// Load reads a snapshot that View.NewReader wrote and gives a store in the very
// same state. The snapshot must end with the stream. Whatever the stream holds,
// the answer is a sound store or an error. Lengths and counts in it are not
// trusted: memory is taken as the bytes arrive.
func Load(r io.Reader) (*Store, error) {
	frames, err := openFrames(r)
	if err != nil {
		return nil, fmt.Errorf("load snapshot: %w", err)
	}
	s, err := loadBody(frames)
	if err != nil {
		return nil, fmt.Errorf("load snapshot: at byte %d of the body: %w", frames.total-int64(len(frames.rest)), err)
	}
	s.guard = guardOf(s.root)
	return s, nil
}

// frames takes the body out of its frames and checks their sums.
type frames struct {
	r     io.Reader
	table *crc32.Table
	sum   uint32
	buf   []byte
	rest  []byte // of the frame last read
	total int64  // bytes of body read
	ended bool
}

func openFrames(r io.Reader) (*frames, error) {
	var head [len(snapshotMagic) + 1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, short(err)
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return nil, errors.New("not a snapshot of a store")
	}
	if v := head[len(snapshotMagic)]; v != snapshotVersion {
		return nil, format.Check("state", int(v), 1, snapshotVersion)
	}
	return &frames{r: r, table: crc32.MakeTable(crc32.Castagnoli)}, nil
}

// short makes a stream that ends too early an error that says so.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("cut short")
	}
	return err
}

// frameCap bounds what a frame may claim; a writer's last record may take it
// over frameMax by the few numbers before a text.
const frameCap = 4 * frameMax

// fill reads the next frame; io.EOF after the last.
func (f *frames) fill() error {
	if f.ended {
		return io.EOF
	}
	var head [frameHead]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return short(err)
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > frameCap {
		return fmt.Errorf("frame of %d bytes, at most %d are allowed", size, frameCap)
	}
	if cap(f.buf) < int(size) {
		f.buf = make([]byte, size)
	}
	f.rest = f.buf[:size]
	if _, err := io.ReadFull(f.r, f.rest); err != nil {
		f.rest = nil
		return short(err)
	}
	f.sum = crc32.Update(f.sum, f.table, f.rest)
	if want := binary.LittleEndian.Uint32(head[4:]); want != f.sum {
		f.rest = nil
		return fmt.Errorf("checksum %08x, want %08x", f.sum, want)
	}
	f.total += int64(size)
	f.ended = size == 0
	if f.ended {
		return f.trailing()
	}
	return nil
}

// trailing makes sure that the stream ends where the snapshot does.
func (f *frames) trailing() error {
	var one [1]byte
	n, err := io.ReadFull(f.r, one[:])
	if n > 0 {
		return errors.New("bytes after the end")
	}
	return err // io.EOF, or the reader's own
}

// ReadByte gives the next byte of the body.
func (f *frames) ReadByte() (byte, error) {
	for len(f.rest) == 0 {
		if err := f.fill(); err != nil {
			return 0, err
		}
	}
	b := f.rest[0]
	f.rest = f.rest[1:]
	return b, nil
}

// Read gives the next bytes of the body.
func (f *frames) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		if err := f.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// body is what loader reads from.
type body interface {
	io.Reader
	io.ByteReader
}

// loader reads the records of a body. After the first error it gives zeros.
type loader struct {
	r   body
	err error
	buf []byte // the last text read
	s   *Store
}

func loadBody(r body) (*Store, error) {
	l := &loader{r: r, s: New()}
	l.head()
	l.sessions()
	l.tree()
	l.history()
	if l.err != nil {
		return nil, short(l.err)
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errors.New("records after the end")
		}
		return nil, err
	}
	return l.s, nil
}

func (l *loader) fail(format string, args ...any) {
	if l.err == nil {
		l.err = fmt.Errorf(format, args...)
	}
}

func (l *loader) byte() byte {
	if l.err != nil {
		return 0
	}
	b, err := l.r.ReadByte()
	if err != nil {
		l.err = err
	}
	return b
}

func (l *loader) uint() uint64 {
	if l.err != nil {
		return 0
	}
	v, err := binary.ReadUvarint(l.r)
	if err != nil {
		l.err = err
		return 0
	}
	return v
}

func (l *loader) int() int64 {
	v := l.uint()
	return int64(v>>1) ^ -int64(v&1)
}

// bytes reads n bytes into buf, which grows as they come: n may be a lie.
func (l *loader) bytes(n uint64) []byte {
	l.buf = l.buf[:0]
	for n > 0 && l.err == nil {
		step := int(min(n, frameMax))
		at := len(l.buf)
		for cap(l.buf) < at+step {
			l.buf = append(l.buf[:cap(l.buf)], 0)
		}
		l.buf = l.buf[:at+step]
		if _, err := io.ReadFull(l.r, l.buf[at:]); err != nil {
			l.err = err
		}
		n -= uint64(step)
	}
	if l.err != nil {
		return nil
	}
	return l.buf
}

func (l *loader) text() string { return string(l.bytes(l.uint())) }

func (l *loader) head() {
	s := l.s
	s.index = Index(l.uint())
	s.time = Time(l.int())
	s.wall = l.int()
	s.chain = hash(l.uint())
	s.loaded = s.index
	for _, count := range s.stats.counters() {
		*count = l.uint()
	}
	if s.time < 0 {
		l.fail("negative log time %d", s.time)
	}
}

func (l *loader) sessions() {
	for n := l.uint(); n > 0 && l.err == nil; n-- {
		one := session{node: env.NodeID(l.uint()), incarnation: l.uint(), floor: l.uint()}
		last := one.floor
		for k := l.uint(); k > 0 && l.err == nil; k-- {
			number := l.uint()
			if number < last || len(one.applied) > 0 && number == last {
				l.fail("session of node %s: number %d after %d", one.node, number, last)
			}
			one.applied = append(one.applied, number)
			last = number
		}
		if k := len(l.s.sessions); k > 0 && l.s.sessions[k-1].node >= one.node {
			l.fail("session of node %s out of order", one.node)
		}
		l.s.sessions = append(l.s.sessions, one)
	}
}

// opened is a directory whose children are being read.
type opened struct {
	dir  *node
	last string // the name of the child last read
	key  int    // the length of the directory's key in path
}

func (l *loader) tree() {
	s := l.s
	stack := []opened{{dir: s.root}}
	var path []byte
	for l.err == nil && len(stack) > 0 {
		top := &stack[len(stack)-1]
		path = path[:top.key]
		kind := l.byte()
		if kind == kindUp {
			stack = stack[:len(stack)-1]
			continue
		}
		n := l.node(kind, path)
		if n == nil {
			return
		}
		if !inPlace(n.name(), top.last) {
			l.fail("key %.100q out of order under %.100q", n.name(), path)
			return
		}
		top.last = n.name()
		top.dir.ext.root = top.dir.ext.root.put(n, s.edit)
		s.keys++
		if n.isDir() {
			path = append(append(path, '/'), n.name()...)
			stack = append(stack, opened{dir: n, key: len(path)})
		}
	}
}

// inPlace reports whether name may follow last in a directory.
func inPlace(name, last string) bool {
	return name > last && name != "." && name != ".." && !strings.Contains(name, "/")
}

// node reads one node of the tree; dir is the key of its directory, "" for the root.
func (l *loader) node(kind byte, dir []byte) *node {
	created := Index(l.uint())
	n := &node{created: created, modified: created + Index(l.uint())}
	var due *lease
	if kind&hasLease != 0 {
		due = &lease{deadline: Time(l.int()), expires: l.int()}
	}
	nameLen := l.uint()
	valueLen := l.uint()
	switch what := kind &^ hasLease; {
	case l.err != nil:
		return nil
	case what != kindFile && what != kindDir || what == kindDir && valueLen != 0:
		l.fail("unknown kind of record %d", kind)
		return nil
	case n.created > n.modified || n.modified > l.s.index:
		l.fail("index %d or %d of a key, in a store at %d", n.created, n.modified, l.s.index)
		return nil
	case due != nil && due.expires == 0:
		l.fail("deadline without a wall time")
		return nil
	case nameLen > 1<<31 || valueLen > 1<<40:
		l.fail("key of %d and value of %d bytes", nameLen, valueLen)
		return nil
	}
	n.nameLen = uint32(nameLen)
	n.data = string(l.bytes(nameLen + valueLen))
	if l.err != nil {
		return nil
	}
	if kind&kindDir != 0 || due != nil {
		n.ext = &ext{dir: kind&kindDir != 0, edit: l.s.edit, lease: due}
	}
	if due != nil {
		due.key = string(dir) + "/" + n.name()
		l.s.leases.add(due)
	}
	return n
}

func (l *loader) history() {
	count := l.uint()
	if count > HistoryMax || Index(count) > l.s.index {
		l.fail("history of %d events at index %d", count, l.s.index)
		return
	}
	for ; count > 0 && l.err == nil; count-- {
		e := l.event()
		if want := l.s.index + 1 - Index(count); l.err == nil && e.Index != want {
			l.fail("event %d in the place of %d", e.Index, want)
		}
		l.s.history = append(l.s.history, e)
	}
}

func (l *loader) event() *Event {
	flags := l.byte()
	m := &moment{}
	e := &m.event
	e.Action = action(l.bytes(l.uint()))
	e.Index = Index(l.uint())
	e.Refresh = flags&eventRefresh != 0
	e.Node = &m.node
	m.node = l.shown()
	m.node.Key = l.text()
	m.node.Value = l.text()
	if l.err == nil && (e.Action == "" || !ValidKey(m.node.Key) || m.node.Modified != e.Index) {
		l.fail("event %d is unsound: action %q, key %.100q, modified index %d",
			e.Index, e.Action, m.node.Key, m.node.Modified)
	}
	if flags&eventPrev != 0 {
		e.Prev = &m.prev
		m.prev = l.shown()
		m.prev.Key = m.node.Key
		m.prev.Value = l.text()
	}
	if flags&eventGone != 0 {
		e.gone = l.gone()
	}
	return e
}

// action gives the constant, so that no event holds a text of its own.
func action(p []byte) Action {
	for _, a := range []Action{
		ActionSet, ActionCreate, ActionUpdate, ActionCompareAndSwap,
		ActionDelete, ActionCompareAndDelete, ActionExpire,
	} {
		if string(p) == string(a) {
			return a
		}
	}
	return ""
}

func (l *loader) shown() Node {
	flags := l.byte()
	n := Node{
		Dir: flags&kindDir != 0, Deleted: flags&kindFile != 0,
		Created: Index(l.uint()), Modified: Index(l.uint()),
	}
	if flags&hasLease != 0 {
		n.Expires, n.TTL = l.int(), time.Duration(l.int())
	}
	return n
}

// gone reads the names of what was in a removed directory.
func (l *loader) gone() *node {
	top := newDir("", 0, nil, l.s.edit)
	stack := []opened{{dir: top}}
	for l.err == nil && len(stack) > 0 {
		at := &stack[len(stack)-1]
		kind := l.byte()
		if kind == kindUp {
			stack = stack[:len(stack)-1]
			continue
		}
		name := l.text()
		if l.err == nil && !inPlace(name, at.last) {
			l.fail("removed key %.100q out of order", name)
			break
		}
		n := newFile(name, "", 0, 0, nil)
		if kind == kindDir {
			n = newDir(name, 0, nil, l.s.edit)
		}
		at.last = name
		at.dir.ext.root = at.dir.ext.root.put(n, l.s.edit)
		if kind == kindDir {
			stack = append(stack, opened{dir: n, key: 0})
		}
	}
	return top
}
