package disk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/invariant"
)

// writeMax bounds how many bytes of waiting appends are merged into one write.
const writeMax = 4 << 20

// file is the queue of one name and, while it is appended to, the open file.
type file struct {
	disk *Disk
	name string

	mu      sync.Mutex
	queue   []request
	working bool // a worker owns everything below until the queue is empty
	full    bool // fail appends until the loop has seen that there is no room

	fd       *os.File
	end      int64 // of what was appended
	reserved int64 // up to here the file's size need not change
	noRoom   bool  // the file system cannot reserve
	replaced bool  // the file is what Replace left in this life
	buf      []byte
}

// request is one of append (data), replace (content) or remove (neither).
type request struct {
	kind    kind
	data    []byte
	content io.WriterTo
	done    func(error)
}

type kind uint8

const (
	appending kind = iota
	replacing
	removing
)

// Append implements env.Disk.
func (d *Disk) Append(name string, p []byte, done func(error)) {
	d.ask(name, request{kind: appending, data: p, done: done})
}

// Replace implements env.Disk. Content goes to a file beside, which takes the
// name once it is synced.
func (d *Disk) Replace(name string, content io.WriterTo, done func(error)) {
	d.ask(name, request{kind: replacing, content: content, done: done})
}

// Remove implements env.Disk.
func (d *Disk) Remove(name string, done func(error)) {
	d.ask(name, request{kind: removing, done: done})
}

// ask queues r and starts a worker if the file has none.
func (d *Disk) ask(name string, r request) {
	if err := check(name); err != nil {
		d.complete([]request{r}, err)
		return
	}
	f := d.files[name]
	if f == nil {
		f = &file{disk: d, name: name}
		d.files[name] = f
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full && r.kind == appending {
		if r.done != nil {
			d.post(f.told)
		}
		d.complete([]request{r}, f.noSpace("append", unix.ENOSPC))
		return
	}
	f.queue = append(f.queue, r)
	if f.working {
		return
	}
	f.working = true
	d.workers.Add(1)
	if d.opts.Idle == nil {
		go f.work()
		return
	}
	d.asked = append(d.asked, f)
}

// AfterTurn begins what the turn asked for. One append that nothing else waits
// behind is done at once, on the loop, if the disk is quick; its completion still
// runs in a later turn.
func (d *Disk) AfterTurn() {
	if len(d.asked) == 0 {
		return
	}
	if len(d.asked) == 1 && d.asked[0].isLone() && d.isQuick() && d.opts.Idle() {
		d.asked[0].work()
	} else {
		for _, f := range d.asked {
			go f.work()
		}
	}
	clear(d.asked)
	d.asked = d.asked[:0]
}

// isLone reports whether the file has appends to do and nothing longer.
func (f *file) isLone() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	size := 0
	for _, r := range f.queue {
		if r.kind != appending {
			return false
		}
		size += len(r.data)
	}
	return f.fd != nil && size < inlineBytesMax
}

// inlineBytesMax bounds what the loop writes itself: about what one client has.
const inlineBytesMax = 1 << 10

// complete has the completions run on the loop, in order.
func (d *Disk) complete(rs []request, err error) {
	for _, r := range rs {
		if r.done != nil {
			d.post(func() {
				for _, r := range rs {
					if r.done != nil {
						r.done(err)
					}
				}
			})
			return
		}
	}
}

// work carries out what is queued until nothing is left.
func (f *file) work() {
	defer f.disk.workers.Done()
	gone := false
	for {
		rs := f.next()
		if len(rs) == 0 {
			break
		}
		gone = rs[0].kind == removing
		err := f.disk.failed()
		if err == nil {
			err = f.do(rs)
		}
		if errors.Is(err, env.ErrFull) && rs[0].kind == appending {
			rs = f.turnAway(rs)
		}
		f.disk.complete(rs, err)
	}
	if gone {
		f.disk.post(f.forget)
	}
}

// forget drops a removed file on the loop, unless it was asked for again.
func (f *file) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.working && f.disk.files[f.name] == f {
		delete(f.disk.files, f.name)
	}
}

// next takes the first request, with all appends that follow an append directly.
func (f *file) next() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 {
		f.working = false
		return nil
	}
	n, size := 1, len(f.queue[0].data)
	if f.queue[0].kind == appending {
		for n < len(f.queue) && f.queue[n].kind == appending && size+len(f.queue[n].data) <= writeMax {
			size += len(f.queue[n].data)
			n++
		}
	}
	rs := f.queue[:n:n]
	f.queue = f.queue[n:]
	return rs
}

// turnAway adds to rs, which found no space, the appends that wait behind: they
// must not be kept either, or the file would hold a later piece without an
// earlier one. Those that come before the loop knows share their fate; if nobody
// waits for any of rs, that is until one comes whose completion can tell.
func (f *file) turnAway(rs []request) []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < len(f.queue) && f.queue[n].kind == appending {
		n++
	}
	rs = append(rs, f.queue[:n]...)
	f.queue = f.queue[n:]
	f.full = true
	if slices.ContainsFunc(rs, func(r request) bool { return r.done != nil }) {
		f.disk.post(f.told) // before the completions, so that none of them finds it set
	}
	return rs
}

// told runs on the loop when it is about to hear that there was no room.
func (f *file) told() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full = false
}

func (f *file) do(rs []request) error {
	switch rs[0].kind {
	case appending:
		return f.append(rs)
	case replacing:
		return f.replace(rs[0].content)
	default:
		return f.remove()
	}
}

// append writes the data of all of rs, and syncs if any of them waits for that.
func (f *file) append(rs []request) error {
	if err := f.open(); err != nil {
		return err
	}
	p := f.join(rs)
	f.reserve(int64(len(p)))
	if _, err := f.disk.sys.writeAt(f.fd, p, f.end); err != nil {
		return f.undo(err)
	}
	f.end += int64(len(p))
	owed := false
	for _, r := range rs {
		owed = owed || r.done != nil
	}
	if !owed {
		f.disk.observe(len(p), 0)
		return nil
	}
	begin := time.Now()
	if err := f.sync(); err != nil {
		return err
	}
	f.disk.observe(len(p), time.Since(begin))
	return nil
}

func (f *file) sync() error {
	if err := f.disk.sys.datasync(f.fd); err != nil {
		return f.disk.fail(&fs.PathError{Op: "sync", Path: f.fd.Name(), Err: err})
	}
	return nil
}

// join gives all data of rs as one piece, in a buffer that is used again.
func (f *file) join(rs []request) []byte {
	if len(rs) == 1 {
		return rs[0].data
	}
	f.buf = f.buf[:0]
	for _, r := range rs {
		f.buf = append(f.buf, r.data...)
	}
	return f.buf
}

// open makes the file, durably by name, with its first room.
func (f *file) open() error {
	if f.fd != nil {
		return nil
	}
	flags := os.O_CREATE | os.O_WRONLY
	if !f.replaced {
		flags |= os.O_EXCL // what an earlier life left may end in reserved zeros
	}
	path := f.disk.file(f.name)
	dir, err := f.disk.directory(path)
	if isFull(err) {
		return f.noSpace("create", err)
	}
	if err != nil {
		return f.disk.fail(err)
	}
	fd, err := os.OpenFile(path, flags, 0o600)
	if isFull(err) {
		return f.noSpace("create", err)
	}
	if err != nil {
		return f.disk.fail(err)
	}
	end, err := fd.Seek(0, io.SeekEnd)
	if err != nil {
		return f.disk.fail(err)
	}
	f.fd, f.end, f.reserved = fd, end, end
	f.reserve(1)
	if err := fd.Sync(); err != nil {
		return f.disk.fail(&fs.PathError{Op: "sync", Path: fd.Name(), Err: err})
	}
	if err := dir.Sync(); err != nil {
		return f.disk.fail(err)
	}
	return nil
}

// reserve makes room for n more bytes and a good deal after them. Where that is
// not possible the write finds out for itself.
func (f *file) reserve(n int64) {
	chunk := f.disk.opts.ReserveBytes
	if f.noRoom || chunk < 0 || f.end+n <= f.reserved {
		return
	}
	want := (f.end + n + chunk - 1) / chunk * chunk
	if err := unix.Fallocate(int(f.fd.Fd()), 0, f.reserved, want-f.reserved); err != nil {
		f.noRoom = !isFull(err)
		return
	}
	f.reserved = want
}

// undo cuts off what a failed write left, so that nothing of it was kept. Nor is the
// file of a first write: who tries again under other names would fill a directory.
func (f *file) undo(cause error) error {
	if !isFull(cause) {
		return f.disk.fail(cause)
	}
	if f.end == 0 && !f.replaced {
		if err := f.remove(); err != nil {
			return err
		}
		return f.noSpace("append", cause)
	}
	f.reserved = 0
	if err := f.fd.Truncate(f.end); err != nil {
		return f.disk.fail(err)
	}
	if err := f.sync(); err != nil {
		return err
	}
	f.reserved = f.end
	return f.noSpace("append", cause)
}

func (f *file) noSpace(op string, cause error) error {
	return fmt.Errorf("%s %s: %w (%w)", op, f.disk.file(f.name), env.ErrFull, cause)
}

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// replace writes content beside and swaps it in. An error before the swap leaves
// the file as it was and the disk in order.
func (f *file) replace(content io.WriterTo) error {
	path := f.disk.file(f.name)
	n, err := f.beside(path+tmpSuffix, content)
	if err != nil {
		os.Remove(path + tmpSuffix)
		return err
	}
	f.close()
	f.replaced = true
	if err := os.Rename(path+tmpSuffix, path); err != nil {
		return f.disk.fail(err)
	}
	if err := f.disk.syncName(path); err != nil {
		return f.disk.fail(err)
	}
	f.disk.observe(int(n), 0)
	return nil
}

// beside writes content to a new file and syncs it.
func (f *file) beside(path string, content io.WriterTo) (int64, error) {
	if _, err := f.disk.directory(path); isFull(err) {
		return 0, f.noSpace("replace", err)
	} else if err != nil {
		return 0, err
	}
	fd, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if isFull(err) {
		return 0, f.noSpace("replace", err)
	}
	if err != nil {
		return 0, err
	}
	defer fd.Close()
	w := bufio.NewWriterSize(fd, 256<<10)
	n, err := content.WriteTo(w)
	if err == nil {
		err = w.Flush()
	}
	if isFull(err) {
		return n, f.noSpace("replace", err)
	}
	if err != nil {
		return n, err
	}
	if err := fd.Sync(); err != nil {
		if isFull(err) {
			return n, f.noSpace("replace", err) // only this file's pages are in doubt, and it goes
		}
		return n, f.disk.fail(err)
	}
	return n, nil
}

func (f *file) remove() error {
	f.close()
	f.replaced = false
	path := f.disk.file(f.name)
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return f.disk.fail(err)
	}
	if err := f.disk.syncName(path); err != nil {
		return f.disk.fail(err)
	}
	return nil
}

func (f *file) close() {
	if f.fd == nil {
		return
	}
	err := f.fd.Close()
	invariant.Check(err == nil, "disk: close %s: %v", f.name, err)
	f.fd, f.end, f.reserved = nil, 0, 0
}

var _ env.Disk = (*Disk)(nil)
