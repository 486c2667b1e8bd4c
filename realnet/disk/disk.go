// Package disk keeps a node's files in a directory.
//
// Each file has a queue. Appends that wait there together become one write and one
// fdatasync; the sync under way is the only thing that an append ever waits for.
// Room is reserved ahead of the writer, so that a sync flushes data and not the
// file's size.
//
// A failed sync says that pages may be lost which the kernel now calls clean, so
// nothing is tried again: every later request fails with the same error.
package disk

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// tmpSuffix marks a file that Replace has not finished. Such files are removed
// at start.
const tmpSuffix = ".tmp"

// Options are the choices of one Disk.
type Options struct {
	// ReserveBytes is how much room a file that is appended to gets at a time;
	// 0 stands for 4 MiB, less than 0 for none.
	ReserveBytes int64
	// Observe, if not nil, is told of each write: how many bytes it had, and how
	// long its sync took, 0 where none was owed. It is called on any goroutine.
	Observe func(bytes int, sync time.Duration)
	// Idle, if not nil, says whether nothing else waits for the loop; then the
	// driver must call AfterTurn at the end of each turn. It lets a lone append to
	// a quick disk be written by the loop itself.
	Idle func() bool
	// Apart keeps the files whose names begin with a key in the directory of its
	// value. A key has a slash, as member/wal- does.
	Apart map[string]string
}

// inlineMax is how long syncs may have taken of late for the loop to wait for one:
// less than handing it to a goroutine and back could cost in a bad moment.
const inlineMax = 250 * time.Microsecond

// system holds the calls that fail in interesting ways, for tests to fail them.
type system struct {
	writeAt  func(fd *os.File, p []byte, at int64) (int, error)
	datasync func(fd *os.File) error
}

func realSystem() system {
	return system{writeAt: (*os.File).WriteAt, datasync: datasync}
}

// datasync is fdatasync, tried again only where it was interrupted.
func datasync(fd *os.File) error {
	for {
		err := unix.Fdatasync(int(fd.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Disk implements env.Disk on a directory. Its Disk methods are for the loop's
// goroutine.
type Disk struct {
	path string
	post func(func()) bool
	opts Options
	sys  system

	files  map[string]*file // the loop's alone
	asked  []*file          // the loop's alone: to be worked on after the turn
	recent atomic.Int64     // nanoseconds that syncs took of late, as a moving mean
	volume atomic.Int64     // bytes that were synced together of late, likewise

	mu     sync.Mutex
	broken error               // the first error after which nothing can be believed
	dirs   map[string]*os.File // by path, for their locks and for syncing names

	workers sync.WaitGroup
}

// Open takes hold of a directory, which it makes if there is none, and of the
// right to it: a second process that opens it gets an error until this one is
// closed or dead. Completions are handed to post, which runs them on the loop.
func Open(path string, post func(func()) bool, o Options) (*Disk, error) {
	if o.ReserveBytes == 0 {
		o.ReserveBytes = 4 << 20
	}
	d := &Disk{path: path, post: post, opts: o, sys: realSystem(), files: make(map[string]*file), dirs: make(map[string]*os.File)}
	for _, at := range append(slices.Sorted(maps.Values(o.Apart)), path) {
		dir, err := hold(at)
		if err != nil {
			d.release()
			return nil, err
		}
		d.dirs[filepath.Clean(at)] = dir
	}
	if err := d.removeLeftovers(); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// release gives the directories back.
func (d *Disk) release() {
	for _, dir := range d.dirs {
		dir.Close()
	}
}

// Names implements env.Disk.
func (d *Disk) Names() ([]string, error) {
	names, err := d.list()
	return slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, tmpSuffix) }), err
}

// Load implements env.Disk.
func (d *Disk) Load(name string) ([]byte, error) {
	if err := check(name); err != nil {
		return nil, err
	}
	return os.ReadFile(d.file(name))
}

// Close waits for what is under way and gives the directory back. What was not
// complete before may or may not have been done. The loop must have stopped.
func (d *Disk) Close() error {
	for _, f := range d.asked {
		go f.work()
	}
	d.workers.Wait()
	for _, f := range d.files {
		f.close()
	}
	d.release()
	return nil
}

// fail notes the first error after which nothing can be believed.
func (d *Disk) fail(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil {
		d.broken = err
	}
	return err
}

func (d *Disk) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broken
}

func (d *Disk) observe(bytes int, sync time.Duration) {
	if sync > 0 {
		moveMean(&d.recent, int64(sync))
		moveMean(&d.volume, int64(bytes))
	}
	if d.opts.Observe != nil {
		d.opts.Observe(bytes, sync)
	}
}

// moveMean draws a moving mean towards v. Two that do so at once may lose one step.
func moveMean(mean *atomic.Int64, v int64) {
	last := mean.Load()
	mean.Store(last + (v-last)/4)
}

// isQuick reports whether the loop may wait for a sync: the disk was quick of late,
// and there was no crowd, which is better served while the disk works.
func (d *Disk) isQuick() bool {
	return d.recent.Load() < int64(inlineMax) && d.volume.Load() < inlineBytesMax
}
