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
	"fmt"
	"io/fs"
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
	dir  *os.File // for its lock and for syncing names
	post func(func()) bool
	opts Options
	sys  system

	files  map[string]*file // the loop's alone
	asked  []*file          // the loop's alone: to be worked on after the turn
	recent atomic.Int64     // nanoseconds that syncs took of late, as a moving mean
	volume atomic.Int64     // bytes that were synced together of late, likewise

	mu     sync.Mutex
	broken error // the first error after which nothing can be believed

	workers sync.WaitGroup
}

// Open takes hold of a directory, which it makes if there is none, and of the
// right to it: a second process that opens it gets an error until this one is
// closed or dead. Completions are handed to post, which runs them on the loop.
func Open(path string, post func(func()) bool, o Options) (*Disk, error) {
	if o.ReserveBytes == 0 {
		o.ReserveBytes = 4 << 20
	}
	if err := makeDir(path); err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s: in use by another process", path)
		}
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	d := &Disk{path: path, dir: dir, post: post, opts: o, sys: realSystem(), files: make(map[string]*file)}
	if err := d.removeLeftovers(); err != nil {
		dir.Close()
		return nil, err
	}
	return d, nil
}

// makeDir makes path and syncs the names of all directories that it had to make.
func makeDir(path string) error {
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
		}
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	p, err := os.Open(parent)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Sync()
}

func (d *Disk) removeLeftovers() error {
	names, err := d.list()
	if err != nil {
		return err
	}
	removed := false
	for _, name := range names {
		if strings.HasSuffix(name, tmpSuffix) {
			if err := os.Remove(d.file(name)); err != nil {
				return err
			}
			removed = true
		}
	}
	if removed {
		return d.dir.Sync()
	}
	return nil
}

func (d *Disk) file(name string) string { return filepath.Join(d.path, name) }

// list gives the plain files, sorted.
func (d *Disk) list() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
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

// check refuses what is not one element of a path: nothing outside the directory
// can be named, nor a file of Replace's own.
func check(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || strings.HasSuffix(name, tmpSuffix) {
		return fmt.Errorf("file name %q: want one path element that does not end in %s", name, tmpSuffix)
	}
	return nil
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
	return d.dir.Close()
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

// syncDir makes a name durable that was made, moved or removed.
func (d *Disk) syncDir() error { return d.dir.Sync() }
