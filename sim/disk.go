package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/planted"
)

// sectorBytes is what a disk writes wholly or not at all.
const sectorBytes = 512

// renameSettles is how long a new name may stay in memory only where nobody
// syncs the directory: the interval at which a journal is written out.
const renameSettles = 5 * time.Second

// ErrIO is the error of a sync or write that the hardware refused.
var ErrIO = errors.New("input/output error")

// ErrReadOnly is the error of every write to a disk that was set read-only.
var ErrReadOnly = errors.New("read-only file system")

// DiskConfig says how fast and how large a disk is.
type DiskConfig struct {
	Latency   time.Duration // least time of a write
	Jitter    time.Duration // mean of an exponential tail on top
	Sync      time.Duration // least extra time of a durable write
	Bandwidth int           // bytes per second; 0: no limit
	Capacity  int           // bytes; 0: no limit
}

// DefaultDisk is a solid-state disk.
func DefaultDisk() DiskConfig {
	return DiskConfig{
		Latency:   20 * time.Microsecond,
		Jitter:    200 * time.Microsecond,
		Sync:      400 * time.Microsecond,
		Bandwidth: 300 << 20,
	}
}

// Disk is one machine's disk: the oracle's and the saboteur's side of it.
//
// Above it lies the page cache. What was written but not synced is in the cache
// only: killing the process keeps it, losing power keeps any part of it. A name
// is durable when its directory was synced, which is part of every durable verb.
type Disk struct {
	m        *Machine
	rand     *random
	conf     DiskConfig
	files    map[string]*file
	stalled  time.Duration // no write finishes before
	failSync int           // so many syncs will fail
	readOnly bool
	bad      map[string]bool // names that cannot be read
	survival float64
	life     int
	loaded   map[string]bool // names that this life has read
}

// file is one name. Its requests are carried out in the order asked.
type file struct {
	name     string
	live     *inode // what a process sees; nil: nothing
	platter  *inode // what the directory on disk says; nil: nothing
	requests []*request
	last     time.Duration // when the last request will be done
	starved  error         // an append that owed no answer found no room
}

// inode is the content of a file: data[:synced] is on disk but for the holes,
// what follows is in the page cache only.
type inode struct {
	data   []byte
	synced int
	ends   []int  // where each unsynced write ends
	holes  []span // sectors that a failed sync lost and the cache still has
	grows  bool   // it was appended to
}

type span struct{ from, to int }

type verb uint8

const (
	verbAppend verb = iota
	verbReplace
	verbRemove
)

func (v verb) String() string { return [...]string{"append", "replace", "remove"}[v] }

// request is one thing that a node asked of its disk.
type request struct {
	verb    verb
	p       []byte
	sum     uint64 // of p when it was handed over
	content io.WriterTo
	buffer  []byte // content, once read
	done    func(error)
	written time.Duration // when it reaches the page cache
	missing bool          // there was nothing to remove
	err     error
}

func newDisk(m *Machine, c DiskConfig) *Disk {
	r := m.w.stream("disk/" + strconv.FormatUint(uint64(m.id), 10))
	return &Disk{m: m, rand: r, conf: c, files: make(map[string]*file), survival: -1}
}

// Config is how the disk behaves now.
func (d *Disk) Config() DiskConfig { return d.conf }

// Set changes how the disk behaves from the next request on.
func (d *Disk) Set(c DiskConfig) { d.conf = c }

// SetCapacity sets the bytes that fit; 0 is no limit. Raising it lets writes
// succeed again.
func (d *Disk) SetCapacity(bytes int) {
	d.conf.Capacity = bytes
	d.m.note(KindHurt, "disk capacity", uint64(bytes))
}

// Used is the bytes of all files.
func (d *Disk) Used() int {
	n := 0
	for _, name := range sortedKeys(d.files) {
		if live := d.files[name].live; live != nil {
			n += len(live.data)
		}
	}
	return n
}

// Files lists the files that a process would see now, sorted.
func (d *Disk) Files() []string {
	var names []string
	for _, name := range sortedKeys(d.files) {
		if d.files[name].live != nil {
			names = append(names, name)
		}
	}
	return names
}

// Content is what a process would read from a file now, from the page cache; nil
// if there is none.
func (d *Disk) Content(name string) []byte {
	if f := d.files[name]; f != nil && f.live != nil {
		return bytes.Clone(f.live.data)
	}
	return nil
}

// Durable is what a file surely begins with after a power loss now; false: it
// may be missing, or be another one.
func (d *Disk) Durable(name string) ([]byte, bool) {
	f := d.files[name]
	if f == nil || f.platter == nil || f.platter != f.live {
		return nil, false
	}
	p := bytes.Clone(f.platter.data[:f.platter.synced])
	f.platter.punch(p)
	return p, true
}

// Pending counts the requests under way.
func (d *Disk) Pending() int {
	n := 0
	for _, name := range sortedKeys(d.files) {
		n += len(d.files[name].requests)
	}
	return n
}

// Stall lets no write finish for t.
func (d *Disk) Stall(t time.Duration) {
	d.stalled = max(d.stalled, d.m.w.now+t)
	d.m.note(KindHurt, "disk stall", uint64(t))
}

// Unstall ends a stall for requests to come; those that were caught in it end
// with it.
func (d *Disk) Unstall() { d.stalled = d.m.w.now }

// FailSync makes the next durable write fail. The pages are marked clean all the
// same: a later sync succeeds, reads see the new bytes as long as they stay in
// the cache, and some sectors never reach the disk.
func (d *Disk) FailSync() {
	d.failSync = 1
	d.m.note(KindHurt, "disk sync error", 0)
}

// SetReadOnly makes every write fail until it is lifted.
func (d *Disk) SetReadOnly(on bool) {
	d.readOnly = on
	d.m.note(KindHurt, "disk read-only", b2u(on))
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// SetUnreadable makes every Load of a file fail until it is lifted, as a bad
// sector does.
func (d *Disk) SetUnreadable(name string, on bool) {
	if d.bad == nil {
		d.bad = make(map[string]bool)
	}
	d.bad[name] = on
	d.m.note(KindHurt, "disk unreadable "+name, b2u(on))
}

// Rot flips bits of one byte of a durable file where it lies; the seed says which.
// It reports the place, or false if the disk holds nothing that matches. An empty
// name is any file.
func (d *Disk) Rot(name string) (file string, offset int, ok bool) {
	var names []string
	for _, n := range sortedKeys(d.files) {
		if p := d.files[n].platter; p != nil && p.synced > 0 && (name == "" || name == n) {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return "", 0, false
	}
	file = names[d.rand.IntN(len(names))]
	offset = d.rand.IntN(d.files[file].platter.synced)
	return file, offset, d.RotAt(file, offset)
}

// RotAt flips bits of one byte of a durable file where it lies. False says that
// there is no such byte.
func (d *Disk) RotAt(name string, offset int) bool {
	f := d.files[name]
	if f == nil || f.platter == nil || offset < 0 || offset >= f.platter.synced {
		return false
	}
	f.platter.data[offset] ^= byte(1 + d.rand.IntN(255))
	d.m.note(KindHurt, "disk rot "+name, uint64(offset))
	return true
}

// Wipe removes all files, as a replaced disk does. The process must be down.
func (d *Disk) Wipe() {
	d.mustBeDown("wipe")
	d.files = make(map[string]*file)
	d.m.note(KindHurt, "disk wipe", 0)
}

// Image is a copy of a disk's files.
type Image struct{ files map[string][]byte }

// Image copies what a process would read now.
func (d *Disk) Image() *Image {
	i := &Image{files: make(map[string][]byte)}
	for _, name := range d.Files() {
		i.files[name] = d.Content(name)
	}
	return i
}

// Put sets one file of an image.
func (i *Image) Put(name string, content []byte) { i.files[name] = bytes.Clone(content) }

// Remove takes one file out of an image.
func (i *Image) Remove(name string) { delete(i.files, name) }

// Restore puts an image back, durably, in place of all there is. The process
// must be down. Any machine's disk will do.
func (d *Disk) Restore(i *Image) {
	d.mustBeDown("restore")
	d.files = make(map[string]*file)
	for _, name := range sortedKeys(i.files) {
		n := &inode{data: bytes.Clone(i.files[name]), synced: len(i.files[name])}
		d.files[name] = &file{name: name, live: n, platter: n}
	}
	d.m.note(KindHurt, "disk restore", 0)
}

func (d *Disk) mustBeDown(what string) {
	if d.m.running {
		panic(fmt.Sprintf("sim: %s the disk of %s while its process runs", what, d.m.name))
	}
}

// SetSurvival fixes the chance that an unsynced write survives the next power
// losses, in [0,1]; negative draws it each time from 0, 0.5 and 1, which is the default.
func (d *Disk) SetSurvival(chance float64) { d.survival = chance }

// begin is the start of a life.
func (d *Disk) begin() {
	d.life = d.m.life
	d.loaded = make(map[string]bool)
}

// read is what Load does.
func (d *Disk) read(name string) ([]byte, error) {
	f := d.files[name]
	if f == nil || f.live == nil {
		return nil, &fs.PathError{Op: "load", Path: name, Err: fs.ErrNotExist}
	}
	if d.bad[name] {
		return nil, &fs.PathError{Op: "load", Path: name, Err: ErrIO}
	}
	d.loaded[name] = true
	n := f.live
	// What a failed sync lost stays in the cache until its pages are evicted.
	if len(n.holes) > 0 && d.rand.chance(0.5) {
		n.punch(n.data)
		n.holes = nil
	}
	// Reading makes nothing durable: what an earlier process wrote and did not
	// sync may still be lost with the power.
	p := bytes.Clone(n.data)
	if n.grows && d.rand.chance(0.3) {
		p = append(p, make([]byte, 1+d.rand.IntN(2*sectorBytes))...)
	}
	d.m.w.record(KindDisk, d.m.id, 0, len(p), hashBytes(0, p), "load")
	return p, nil
}

// ask takes a request and draws when it will be written and done.
func (d *Disk) ask(name string, r *request) {
	f := d.files[name]
	if f == nil {
		f = &file{name: name}
		d.files[name] = f
	}
	size := len(r.p)
	if r.content != nil && d.rand.chance(0.5) {
		r.read(&d.m.w.scratch)
		size, r.sum = len(r.buffer), hashBytes(0, r.buffer)
	}
	took := d.conf.Latency + d.rand.tail(d.conf.Jitter)
	if r.done != nil || r.verb == verbReplace {
		took += d.conf.Sync
	}
	if d.conf.Bandwidth > 0 {
		took += time.Duration(size) * time.Second / time.Duration(d.conf.Bandwidth)
	}
	now := d.m.w.now
	begin := now
	if n := len(f.requests); n > 0 {
		begin = max(begin, f.requests[n-1].written)
	}
	f.last = max(f.last, now+took)
	r.written = begin + d.rand.upTo(f.last-begin)
	f.requests = append(f.requests, r)
	d.m.w.record(KindDisk, d.m.id, 0, size, hashString(r.sum, name), r.verb.String())
	life := d.life
	d.m.w.push(f.last, &diskEvent{d, f, life})
}

// read asks the content for its bytes, once. They gather in scratch, which keeps its
// room for the next request.
func (r *request) read(scratch *bytes.Buffer) {
	if r.buffer != nil {
		return
	}
	scratch.Reset()
	_, r.err = r.content.WriteTo(scratch)
	if r.buffer = bytes.Clone(scratch.Bytes()); r.buffer == nil {
		r.buffer = []byte{}
	}
}

// diskEvent finishes the oldest request of one file: there is one event for each.
type diskEvent struct {
	d    *Disk
	f    *file
	life int
}

func (e *diskEvent) run(w *World) {
	d := e.d
	if e.life != d.life || !d.m.running || len(e.f.requests) == 0 {
		return
	}
	if d.stalled > w.now {
		w.push(d.stalled, e)
		return
	}
	r := e.f.requests[0]
	e.f.requests = e.f.requests[1:]
	if r.p != nil && hashBytes(0, r.p) != r.sum {
		w.fail(&Failure{Oracle: "ownership", Node: d.m.id, Message: fmt.Sprintf("%s: appended bytes were changed after the call", e.f.name)})
		return
	}
	d.guard(func() { d.finish(e.f, r) })
	if r.done != nil && w.failure == nil {
		d.m.input(&diskDone{e.f.name, r})
	}
}

// guard runs what may call the node's io.WriterTo.
func (d *Disk) guard(fn func()) {
	calling := d.m.calling
	defer func() { d.m.calling = d.m.calling || calling }()
	defer d.m.caught()
	fn()
}

// finish carries out a request: first the cache, then the disk.
func (d *Disk) finish(f *file, r *request) {
	d.write(f, r)
	switch {
	case r.err != nil:
		return
	case r.done == nil && r.verb != verbReplace && r.verb != verbRemove:
		return
	}
	switch r.verb {
	case verbAppend:
		r.err = d.sync(f)
	case verbReplace:
		d.rename(f)
	case verbRemove:
		if !r.missing {
			f.platter = nil
		}
	}
}

// write brings a request into the page cache.
func (d *Disk) write(f *file, r *request) {
	if d.readOnly {
		r.err = pathError(r.verb, f.name, ErrReadOnly)
		return
	}
	switch r.verb {
	case verbAppend:
		d.writeAppend(f, r)
	case verbReplace:
		d.writeReplace(f, r)
	case verbRemove:
		r.missing = f.live == nil
		f.live = nil
	}
}

func pathError(v verb, name string, err error) error {
	return &fs.PathError{Op: v.String(), Path: name, Err: err}
}

// writeAppend adds to a file. Once an append that owes no answer found no room,
// nothing may follow it: the appends behind it fail too, until one has said so.
func (d *Disk) writeAppend(f *file, r *request) {
	if f.starved == nil && d.full(len(r.p)) {
		f.starved = pathError(r.verb, f.name, env.ErrFull)
	}
	if f.starved != nil {
		if r.err = f.starved; r.done != nil {
			f.starved = nil
		}
		return
	}
	if f.live == nil {
		f.live = &inode{grows: true}
	}
	f.live.data = append(f.live.data, r.p...)
	f.live.ends = append(f.live.ends, len(f.live.data))
}

// writeReplace writes a file beside the old one, syncs it and renames it.
func (d *Disk) writeReplace(f *file, r *request) {
	if r.read(&d.m.w.scratch); r.err != nil {
		return
	}
	if d.full(len(r.buffer)) {
		r.err = pathError(r.verb, f.name, env.ErrFull)
		return
	}
	if d.failSync > 0 {
		d.failSync--
		r.err = pathError(r.verb, f.name, ErrIO)
		return
	}
	f.live = &inode{data: r.buffer, synced: len(r.buffer)}
}

func (d *Disk) full(more int) bool { return d.conf.Capacity > 0 && d.Used()+more > d.conf.Capacity }

// rename makes the name durable. With the planted bug nobody syncs the directory,
// so that for a while the old content may come back.
func (d *Disk) rename(f *file) {
	if !planted.On(planted.RenameNotSynced) {
		f.platter = f.live
		return
	}
	mine := f.live
	d.m.w.push(d.m.w.now+renameSettles, call(func() {
		if f.live == mine {
			f.platter = mine
		}
	}))
}

// sync makes all that was written to a file durable, or says that it did not.
func (d *Disk) sync(f *file) error {
	n := f.live
	if d.failSync > 0 {
		d.failSync--
		d.lose(n)
		return pathError(verbAppend, f.name, ErrIO)
	}
	n.synced, n.ends = len(n.data), nil
	f.platter = n
	return nil
}

// lose marks pages clean that did not reach the disk: at least one of the
// sectors, each with even odds.
func (d *Disk) lose(n *inode) {
	from := n.synced
	if from == len(n.data) {
		return
	}
	sure := from/sectorBytes + d.rand.IntN((len(n.data)-1)/sectorBytes-from/sectorBytes+1)
	for s := from / sectorBytes; s*sectorBytes < len(n.data); s++ {
		if s == sure || d.rand.chance(0.5) {
			n.holes = append(n.holes, span{max(from, s*sectorBytes), min(len(n.data), (s+1)*sectorBytes)})
		}
	}
	n.synced, n.ends = len(n.data), nil
}

// punch clears in p what a failed sync lost.
func (n *inode) punch(p []byte) {
	for _, h := range n.holes {
		clear(p[min(h.from, len(p)):min(h.to, len(p))])
	}
}

// killed is the end of a process: what had reached the page cache stays.
func (d *Disk) killed() {
	d.life = -1
	for _, name := range sortedKeys(d.files) {
		f := d.files[name]
		d.cached(f)
		f.requests, f.last, f.starved = nil, 0, nil
	}
}

// cached carries out the part of a file's requests that had happened by now.
func (d *Disk) cached(f *file) {
	for _, r := range f.requests {
		if r.written > d.m.w.now || d.stalled > d.m.w.now {
			return
		}
		d.guard(func() { d.write(f, r) })
		if r.err != nil && !errors.Is(r.err, env.ErrFull) {
			return
		}
	}
}

// powerLoss draws what the disk holds when power comes back.
func (d *Disk) powerLoss() {
	d.killed()
	chance := d.survival
	if chance < 0 {
		chance = float64(d.rand.IntN(3)) / 2
	}
	for _, name := range sortedKeys(d.files) {
		f := d.files[name]
		if f.live != f.platter && !d.rand.chance(chance) {
			f.live = f.platter // the directory entry was lost
		}
		if f.live == nil {
			delete(d.files, name)
			continue
		}
		d.survive(f.live, chance)
		f.platter = f.live
	}
}

// survive draws which unsynced writes of a file reached the disk. Each is lost,
// whole or torn, and the file's size is that of any moment since the last sync,
// whatever became of the content: what is missing reads as zeros.
func (d *Disk) survive(n *inode, chance float64) {
	n.punch(n.data)
	n.holes = nil
	from := n.synced
	if len(n.data) == from {
		return
	}
	kept := make([]byte, len(n.data)-from)
	begin := from
	for _, end := range n.ends {
		if d.rand.chance(chance) {
			d.keep(n, kept, begin, end)
		}
		begin = end
	}
	size := len(n.data)
	switch {
	case chance == 0:
		size = from
	case chance < 1:
		size = d.sizeAfterCrash(n)
	}
	copy(n.data[from:], kept)
	n.data = n.data[:size:size]
	n.synced, n.ends = size, nil
}

// keep copies the sectors of one write that reached the disk, each with what
// earlier writes had put into the same sector.
func (d *Disk) keep(n *inode, kept []byte, begin, end int) {
	torn := d.rand.chance(0.5) && d.survival != 1
	for s := begin / sectorBytes; s*sectorBytes < end; s++ {
		if torn && d.rand.chance(0.5) {
			continue
		}
		from, to := max(n.synced, s*sectorBytes), min(end, (s+1)*sectorBytes)
		copy(kept[from-n.synced:to-n.synced], n.data[from:to])
	}
}

func (d *Disk) sizeAfterCrash(n *inode) int {
	switch d.rand.IntN(4) {
	case 0:
		return n.synced
	case 1:
		return n.ends[d.rand.IntN(len(n.ends))]
	case 2:
		return n.synced + d.rand.IntN(len(n.data)-n.synced+1)
	}
	return len(n.data)
}

// diskDone is the input that a completion is.
type diskDone struct {
	name string
	r    *request
}

func (*diskDone) live() bool    { return true }
func (*diskDone) drop(*Machine) {}

func (i *diskDone) deliver(m *Machine) {
	text := ""
	if i.r.err != nil {
		text = i.r.err.Error()
	}
	m.w.record(KindDone, m.id, 0, len(i.r.p), hashString(uint64(i.r.verb), i.name), text)
	i.r.done(i.r.err)
}

// nodeDisk is the disk as one life of the node sees it.
type nodeDisk struct {
	d    *Disk
	life int
}

var _ env.Disk = (*nodeDisk)(nil)

// atStart refuses what is for the start only, loudly: the real disk may answer,
// but only by blocking the loop.
func (n *nodeDisk) atStart(what string) {
	if !n.d.m.opening || n.life != n.d.life {
		panic("sim: Disk." + what + " after the start")
	}
}

func (n *nodeDisk) Names() ([]string, error) {
	n.atStart("Names")
	return n.d.Files(), nil
}

func (n *nodeDisk) Load(name string) ([]byte, error) {
	n.atStart("Load")
	if err := checkName(name); err != nil {
		return nil, err
	}
	return n.d.read(name)
}

func (n *nodeDisk) Append(name string, p []byte, done func(error)) {
	if n.d.loaded[name] && n.life == n.d.life {
		panic(fmt.Sprintf("sim: append to %s, which was there when this life began", name))
	}
	n.ask(name, &request{verb: verbAppend, p: p, sum: hashBytes(0, p), done: done})
}

func (n *nodeDisk) Replace(name string, content io.WriterTo, done func(error)) {
	n.ask(name, &request{verb: verbReplace, content: content, done: done})
}

func (n *nodeDisk) Remove(name string, done func(error)) {
	if n.life == n.d.life {
		delete(n.d.loaded, name) // whatever has the name from here on is another file
	}
	n.ask(name, &request{verb: verbRemove, done: done})
}

func (n *nodeDisk) ask(name string, r *request) {
	if err := checkName(name); err != nil {
		panic("sim: " + err.Error())
	}
	if n.life == n.d.life {
		n.d.ask(name, r)
	}
}

func checkName(name string) error {
	directory, element, found := strings.Cut(name, "/")
	if !found {
		element = directory
	}
	for _, e := range []string{directory, element} {
		if e == "" || e == "." || e == ".." || strings.ContainsAny(e, "/\x00") {
			return fmt.Errorf("file name %q: want one path element, or a directory and one", name)
		}
	}
	return nil
}
