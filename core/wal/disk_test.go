package wal

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"github.com/keelson/keelson/core/env"
)

const sector = 512

// file is what the page cache holds of a file, and how much of it is safe.
type file struct {
	cache  []byte
	synced int // bytes
}

// op is a request that the disk has not finished.
type op struct {
	name    string
	append  []byte
	replace []byte
	remove  bool
	done    func(error)
}

// testDisk finishes requests only when told to, one at a time, in order by name.
type testDisk struct {
	files   map[string]*file // what a process sees
	platter map[string]*file // what the directory on the disk says
	queue   []*op
	writes  int // bytes appended
	// leaky is a disk whose removals are never durable, only done.
	leaky bool
}

func newTestDisk() *testDisk {
	return &testDisk{files: map[string]*file{}, platter: map[string]*file{}}
}

func (d *testDisk) Names() ([]string, error) { return slices.Sorted(maps.Keys(d.files)), nil }

func (d *testDisk) Load(name string) ([]byte, error) {
	f, ok := d.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(f.cache), nil
}

func (d *testDisk) Append(name string, p []byte, done func(error)) {
	d.queue = append(d.queue, &op{name: name, append: p, done: done})
}

func (d *testDisk) Replace(name string, content io.WriterTo, done func(error)) {
	var b bytes.Buffer
	if _, err := content.WriteTo(&b); err != nil {
		panic(err)
	}
	d.queue = append(d.queue, &op{name: name, replace: b.Bytes(), done: done})
}

func (d *testDisk) Remove(name string, done func(error)) {
	d.queue = append(d.queue, &op{name: name, remove: true, done: done})
}

// heads are the positions in the queue of the requests that may finish next.
func (d *testDisk) heads() []int {
	seen := map[string]bool{}
	var out []int
	for i, o := range d.queue {
		if !seen[o.name] {
			out = append(out, i)
		}
		seen[o.name] = true
	}
	return out
}

// finish completes the request at position i of the queue, durably.
func (d *testDisk) finish(i int) {
	o := d.take(i)
	d.write(o)
	if f := d.files[o.name]; f != nil {
		f.synced, d.platter[o.name] = len(f.cache), f
	} else if !d.leaky {
		delete(d.platter, o.name)
	}
	o.end(nil)
}

// refuse completes the request at position i with an error and no effect.
func (d *testDisk) refuse(i int, err error) { d.take(i).end(err) }

func (d *testDisk) take(i int) *op {
	o := d.queue[i]
	d.queue = slices.Delete(d.queue, i, i+1)
	return o
}

func (o *op) end(err error) {
	if o.done != nil {
		o.done(err)
	}
}

// run finishes all requests, and those that follow from them.
func (d *testDisk) run() {
	for len(d.queue) > 0 {
		d.finish(0)
	}
}

// write applies a request to the page cache, names included.
func (d *testDisk) write(o *op) {
	if o.remove {
		delete(d.files, o.name)
		return
	}
	if o.append == nil {
		d.files[o.name] = &file{cache: o.replace, synced: len(o.replace)}
		return
	}
	f := d.files[o.name]
	if f == nil {
		f = &file{}
		d.files[o.name] = f
	}
	f.cache = append(f.cache, o.append...)
	d.writes += len(o.append)
}

// chooser decides what survives; n is the number of choices.
type chooser func(what string, n int) int

// kill drops the process: of each file's requests a prefix reached the cache.
func (d *testDisk) kill(choose chooser) {
	lost := map[string]bool{}
	for _, o := range d.queue {
		if lost[o.name] || choose("reached", 2) == 0 {
			lost[o.name] = true
			continue
		}
		d.write(o)
	}
	d.queue = nil
}

// cut is power loss: then any subset of the unsynced sectors survives, and of
// each name that was made, moved or removed the one state or the other.
func (d *testDisk) cut(choose chooser) {
	d.kill(choose)
	names := slices.Collect(maps.Keys(d.files))
	names = slices.AppendSeq(names, maps.Keys(d.platter))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if d.files[name] != d.platter[name] && choose("name lost", 3) == 0 {
			d.files[name] = d.platter[name]
		}
		f := d.files[name]
		if f == nil {
			delete(d.files, name)
			delete(d.platter, name)
			continue
		}
		if f.synced < len(f.cache) || d.platter[name] != f {
			f.tear(choose)
		}
		d.platter[name] = f
	}
}

func (f *file) tear(choose chooser) {
	if f.synced < len(f.cache) {
		mode := choose("survival", 3) // none, some, all
		for at := f.synced; at < len(f.cache); {
			end := min((at/sector+1)*sector, len(f.cache))
			if mode == 0 || (mode == 1 && choose("sector", 2) == 0) {
				clear(f.cache[at:end])
			}
			at = end
		}
		if choose("shorter", 2) == 0 {
			f.cache = append(f.cache[:f.synced], bytes.TrimRight(f.cache[f.synced:], "\x00")...)
		} else if choose("room", 3) == 0 {
			f.cache = append(f.cache, make([]byte, 700)...)
		}
	}
	f.synced = len(f.cache)
}

// calm is an env.Rare that takes no rare path.
type calm struct{}

func (calm) Chance(string) bool { return false }
func (calm) Mark(string)        {}

// seldom is an env.Rare whose paths are chosen.
type seldom struct{ choose chooser }

func (s seldom) Chance(name string) bool { return s.choose(name, 4) == 0 }
func (seldom) Mark(string)               {}

var errFull = fmt.Errorf("test disk: %w", env.ErrFull)

// text is content for snapshots.
type text string

func (s text) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, string(s))
	return int64(n), err
}
