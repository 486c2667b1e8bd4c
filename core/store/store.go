package store

import (
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/invariant"
	"github.com/keelson/keelson/core/planted"
)

// Store is the tree of keys with its history. It is used by one loop at a time;
// its Views may go anywhere.
type Store struct {
	root  *node
	index Index
	time  Time
	wall  int64
	chain hash
	keys  int // nodes but for the root

	leases       leases
	history      history
	sessions     sessions
	sessionsEdit uint64
	stats        Stats
	guard        Index // when SecretKey last changed; 0 where there is none

	edit   uint64 // pages and directories of this number may be changed in place
	view   *View  // the view of the present state, if one was taken
	loaded Index  // the index of the snapshot it began with
	emit   func(*Event)
}

// Stats counts applied commands by outcome, and expiries. Reads and watchers are
// counted by the member that serves them.
type Stats struct {
	SetsSuccess, SetsFail                         uint64
	DeleteSuccess, DeleteFail                     uint64
	UpdateSuccess, UpdateFail                     uint64
	CreateSuccess, CreateFail                     uint64
	CompareAndSwapSuccess, CompareAndSwapFail     uint64
	CompareAndDeleteSuccess, CompareAndDeleteFail uint64
	ExpireCount                                   uint64
}

// counters lists the counters in the order of the fields.
func (s *Stats) counters() [13]*uint64 {
	return [13]*uint64{
		&s.SetsSuccess, &s.SetsFail, &s.DeleteSuccess, &s.DeleteFail,
		&s.UpdateSuccess, &s.UpdateFail, &s.CreateSuccess, &s.CreateFail,
		&s.CompareAndSwapSuccess, &s.CompareAndSwapFail,
		&s.CompareAndDeleteSuccess, &s.CompareAndDeleteFail, &s.ExpireCount,
	}
}

// New gives an empty store: a root without children, at index 0 and time 0.
func New() *Store {
	s := &Store{edit: 1}
	s.root = newDir("", 0, nil, s.edit)
	return s
}

// Index is the index of the last change.
func (s *Store) Index() Index { return s.index }

// Guard is when SecretKey last changed; 0 where there is none.
func (s *Store) Guard() Index { return s.guard }

// Time is the log time that the store has reached.
func (s *Store) Time() Time { return s.time }

// Wall is the wall clock that came with the last batch, in Unix nanoseconds.
func (s *Store) Wall() int64 { return s.wall }

// Stats gives the counters.
func (s *Store) Stats() Stats { return s.stats }

// Chain is a rolling hash over everything that has happened: equal on all
// replicas that have applied the same batches, and kept in snapshots.
func (s *Store) Chain() uint64 { return uint64(s.chain) }

// NextDeadline is when the next key expires; false if none has a deadline.
func (s *Store) NextDeadline() (Time, bool) {
	if len(s.leases) == 0 {
		return 0, false
	}
	return s.leases[0].deadline, true
}

// Applied reports whether a command of that name would now be dropped as a copy:
// it was applied, or its node has settled it, or it is of an earlier life of its
// node than one already seen.
func (s *Store) Applied(id ID) bool { return s.sessions.knows(id) }

// View gives the present state. Without a change in between it is the same View.
func (s *Store) View() *View {
	if s.view == nil {
		s.view = &View{
			root: s.root, index: s.index, time: s.time, wall: s.wall, chain: s.chain,
			keys: s.keys, history: s.history, sessions: s.sessions, stats: s.stats, loaded: s.loaded, guard: s.guard,
		}
		s.edit++
	}
	return s.view
}

// Apply moves the store by one batch: log time moves on first (it never goes
// back), then the keys whose deadline is not after it expire, in the order of
// their deadlines and then of their keys, then the commands are done in order.
// The results are those of the commands, one each. Unless it is nil, emit gets
// every event in the order of its index, also those of expiries and refreshes;
// it must not call the store.
func (s *Store) Apply(b *Batch, emit func(*Event)) []Result {
	s.view, s.emit = nil, emit
	if b.Time > s.time {
		s.time = b.Time
	}
	s.wall = b.Wall
	s.chain.word(uint64(s.time))
	s.chain.word(uint64(s.wall))
	s.expire()
	results := make([]Result, len(b.Commands))
	for i := range b.Commands {
		results[i] = s.command(&b.Commands[i])
	}
	s.emit = nil
	return results
}

func (s *Store) command(c *Command) Result {
	if !s.admit(c) {
		s.chain.word(1)
		return Result{Copy: true, Index: s.index}
	}
	if c.Guarded && c.Guard != s.guard {
		s.chain.word(2)
		return Result{Stale: true, Index: s.index}
	}
	e, f := s.fenced(c)
	s.count(c.Op, f.code == 0)
	if f.code == 0 {
		return Result{Event: e, Index: s.index}
	}
	s.chain.word(uint64(f.code))
	return Result{Err: &Error{Code: f.code, Cause: f.cause, Index: s.index}, Index: s.index}
}

// fenced does a command unless its fence is down.
func (s *Store) fenced(c *Command) (*Event, fault) {
	if c.Fence.Key == "" || planted.On(planted.LateEngineWrites) {
		return s.do(c)
	}
	n, f := find(s.root, c.Fence.Key)
	if f.code != 0 || n.created != c.Fence.Created {
		return nil, fault{CodeCompareFailed, "the lease " + c.Fence.Key + " is another's by now"}
	}
	return s.do(c)
}

func (s *Store) count(op Op, ok bool) {
	good, bad := &s.stats.SetsSuccess, &s.stats.SetsFail
	switch op {
	case OpCreate, OpCreateInOrder:
		good, bad = &s.stats.CreateSuccess, &s.stats.CreateFail
	case OpUpdate:
		good, bad = &s.stats.UpdateSuccess, &s.stats.UpdateFail
	case OpCompareAndSwap:
		good, bad = &s.stats.CompareAndSwapSuccess, &s.stats.CompareAndSwapFail
	case OpDelete:
		good, bad = &s.stats.DeleteSuccess, &s.stats.DeleteFail
	case OpCompareAndDelete:
		good, bad = &s.stats.CompareAndDeleteSuccess, &s.stats.CompareAndDeleteFail
	}
	if ok {
		*good++
		return
	}
	*bad++
}

// fault is an error before it knows the index; no code is no error.
type fault struct {
	code  Code
	cause string
}

func (s *Store) do(c *Command) (*Event, fault) {
	switch c.Op {
	case OpSet:
		return s.set(c)
	case OpCreate:
		return s.create(c, c.Key)
	case OpCreateInOrder:
		return s.create(c, join(c.Key, inOrder(s.index+1)))
	case OpUpdate:
		return s.update(c)
	case OpCompareAndSwap:
		return s.compareAndSwap(c)
	case OpDelete:
		return s.remove(c)
	case OpCompareAndDelete:
		return s.compareAndDelete(c)
	default:
		return nil, fault{CodeInvalidField, "unknown operation " + strconv.Itoa(int(c.Op))}
	}
}

// inOrder is the name of an in-order key: 20 digits hold every index.
func inOrder(i Index) string {
	digits := strconv.FormatUint(uint64(i), 10)
	return "00000000000000000000"[len(digits):] + digits
}

// find looks key up. The fault is CodeKeyNotFound with the first part that is
// missing, or CodeNotDir with the file in the way.
func find(n *node, key string) (*node, fault) {
	for s := segmentsOf(key); ; {
		at := s.done()
		name, more := s.next()
		if !more {
			return n, fault{}
		}
		if !n.isDir() {
			return nil, fault{CodeNotDir, at}
		}
		if n = n.children().get(name); n == nil {
			return nil, fault{CodeKeyNotFound, s.done()}
		}
	}
}

func rootFault() fault { return fault{CodeRootReadOnly, "/"} }

func (s *Store) set(c *Command) (*Event, fault) {
	old, f := find(s.root, c.Key)
	if f.code == CodeNotDir || f.code != 0 && c.Refresh {
		return nil, f
	}
	if old == s.root {
		return nil, rootFault()
	}
	if old != nil && old.isDir() {
		return nil, fault{CodeNotFile, c.Key}
	}
	value := c.Value
	if c.Refresh {
		value = old.value()
	}
	return s.place(c, ActionSet, c.Key, value, old), fault{}
}

func (s *Store) create(c *Command, key string) (*Event, fault) {
	if key == "/" {
		return nil, rootFault()
	}
	old, f := find(s.root, key)
	if f.code == CodeNotDir {
		return nil, f
	}
	if old != nil {
		return nil, fault{CodeExists, key}
	}
	return s.place(c, ActionCreate, key, c.Value, nil), fault{}
}

// place puts a new node at key, over old unless that is nil.
func (s *Store) place(c *Command, action Action, key, value string, old *node) *Event {
	at := s.index + 1
	parent, name := split(key)
	var fresh *node
	if l := s.lend(c, key, old); c.Dir {
		fresh = newDir(name, at, l, s.edit)
	} else {
		fresh = newFile(name, value, at, at, l)
	}
	if old == nil {
		s.keys++
	}
	s.put(s.makeDirs(parent, at), fresh, old)
	return s.record(action, key, fresh, old, c.Refresh && action == ActionSet)
}

func (s *Store) update(c *Command) (*Event, fault) {
	if c.Key == "/" {
		return nil, rootFault()
	}
	old, f := find(s.root, c.Key)
	if f.code != 0 {
		return nil, f
	}
	if !old.isDir() {
		return s.write(c, ActionUpdate, old), fault{}
	}
	if c.Value != "" {
		return nil, fault{CodeNotFile, c.Key}
	}
	return s.relend(c, old), fault{}
}

func (s *Store) compareAndSwap(c *Command) (*Event, fault) {
	if c.Key == "/" {
		return nil, rootFault()
	}
	old, f := find(s.root, c.Key)
	if f.code != 0 {
		return nil, f
	}
	if f = compare(c, old); f.code != 0 {
		return nil, f
	}
	return s.write(c, ActionCompareAndSwap, old), fault{}
}

// compare checks the conditions of a command on a file.
func compare(c *Command, n *node) fault {
	if n.isDir() {
		if c.Key == "/" {
			return fault{code: CodeNotFile} // the one refusal that names no key
		}
		return fault{CodeNotFile, c.Key}
	}
	var causes []string
	if c.PrevValue != "" && c.PrevValue != n.value() {
		causes = append(causes, "["+c.PrevValue+" != "+n.value()+"]")
	}
	if c.PrevIndex != 0 && !sameIndex(c.PrevIndex, n.modified) {
		causes = append(causes, "["+strconv.FormatUint(uint64(c.PrevIndex), 10)+" != "+
			strconv.FormatUint(uint64(n.modified), 10)+"]")
	}
	if len(causes) == 0 {
		return fault{}
	}
	return fault{CodeCompareFailed, strings.Join(causes, " ")}
}

func sameIndex(want, have Index) bool {
	if planted.On(planted.CASOffByOne) {
		return want == have || want+1 == have || want == have+1
	}
	return want == have
}

// write gives file old the value and TTL of c; it keeps its created index.
func (s *Store) write(c *Command, action Action, old *node) *Event {
	parent, name := split(c.Key)
	value := c.Value
	if c.Refresh {
		value = old.value()
	}
	at := s.index + 1
	fresh := newFile(name, value, old.created, at, s.lend(c, c.Key, old))
	s.put(s.makeDirs(parent, at), fresh, old)
	return s.record(action, c.Key, fresh, old, c.Refresh)
}

// relend gives directory old the TTL of c. What is stored as its modified index
// does not move; only the event shows the new one.
func (s *Store) relend(c *Command, old *node) *Event {
	was := *old
	was.ext = &ext{dir: true, lease: old.ext.lease}
	dir := s.makeDirs(c.Key, 0)
	l := s.lend(c, c.Key, old)
	s.leases.remove(old.ext.lease)
	s.leases.add(l)
	dir.ext.lease = l
	shown := *dir
	shown.modified = s.index + 1
	return s.record(ActionUpdate, c.Key, &shown, &was, c.Refresh)
}

func (s *Store) remove(c *Command) (*Event, fault) {
	if c.Key == "/" {
		return nil, rootFault()
	}
	old, f := find(s.root, c.Key)
	if f.code != 0 {
		return nil, f
	}
	if old.isDir() && !c.Recursive {
		if !c.Dir {
			return nil, fault{CodeNotFile, c.Key}
		}
		if old.children() != nil {
			return nil, fault{CodeDirNotEmpty, c.Key}
		}
	}
	return s.take(ActionDelete, c.Key, old), fault{}
}

func (s *Store) compareAndDelete(c *Command) (*Event, fault) {
	old, f := find(s.root, c.Key)
	if f.code != 0 {
		return nil, f
	}
	if f = compare(c, old); f.code != 0 {
		return nil, f
	}
	return s.take(ActionCompareAndDelete, c.Key, old), fault{}
}

// take removes old, with all that is below, as one change.
func (s *Store) take(action Action, key string, old *node) *Event {
	s.keys -= 1 + s.forget(old)
	s.leases.remove(old.lease())
	parent, name := split(key)
	dir := s.makeDirs(parent, 0)
	dir.ext.root = dir.ext.root.del(name, s.edit)
	gone := &node{created: old.created, modified: s.index + 1}
	if old.isDir() {
		gone.ext = &ext{dir: true}
	}
	return s.record(action, key, gone, old, false)
}

// forget drops the deadlines of all that is below n, and counts it.
func (s *Store) forget(n *node) (count int) {
	if planted.On(planted.MapOrderLeaks) {
		s.leakOrder(n)
	}
	var w walk
	w.enter(n)
	for {
		kid, left := w.next()
		switch {
		case kid != nil:
			count++
			s.leases.remove(kid.lease())
		case !left:
			return count
		}
	}
}

// leakOrder is planted bug 12: what is removed enters the chain in the order of
// a map, as if events or effects were made while ranging over one.
func (s *Store) leakOrder(n *node) {
	names := map[string]bool{}
	var w walk
	for w.enter(n); ; {
		kid, left := w.next()
		if kid != nil {
			names[kid.name()] = true
		} else if !left {
			break
		}
	}
	//lint:commutative it is not, on purpose: this is a planted bug
	for name := range names {
		s.chain.text(name)
	}
}

// makeDirs gives the directory at key, to be changed in place; those missing are
// made, with index at. There must be no file in the way.
func (s *Store) makeDirs(key string, at Index) *node {
	s.root = s.root.ownDir(s.edit)
	dir := s.root
	for seg := segmentsOf(key); ; {
		name, more := seg.next()
		if !more {
			return dir
		}
		kid := dir.ext.root.get(name)
		if kid == nil {
			kid = newDir(name, at, nil, s.edit)
			s.keys++
			dir.ext.root = dir.ext.root.put(kid, s.edit)
		} else if own := kid.ownDir(s.edit); own != kid {
			kid = own
			dir.ext.root = dir.ext.root.put(kid, s.edit)
		}
		dir = kid
	}
}

// put stores fresh in dir, in the place of old unless that is nil, and moves the
// deadlines along.
func (s *Store) put(dir, fresh, old *node) {
	if old != nil {
		s.leases.remove(old.lease())
	}
	s.leases.add(fresh.lease())
	dir.ext.root = dir.ext.root.put(fresh, s.edit)
}

// racing is how near its deadline a key must be for planted bug 17 to strike.
const racing = Time(time.Second)

// lend gives the deadline that c asks for, or nil: no TTL, or one that ends
// later than can be told.
func (s *Store) lend(c *Command, key string, old *node) *lease {
	if !c.HasTTL {
		return nil
	}
	ttl := max(c.TTL, 0)
	l := &lease{deadline: s.time + Time(ttl), expires: s.wall + int64(ttl)}
	if l.deadline < s.time || l.expires < s.wall {
		return nil
	}
	if l.expires == 0 {
		l.expires = 1 // 0 would say that the key is permanent
	}
	if old != nil && old.lease() != nil {
		if planted.On(planted.RefreshLosesTTL) && c.Refresh && old.lease().deadline-s.time < racing {
			return nil
		}
		l.key = old.lease().key
		return l
	}
	l.key = strings.Clone(key) // a command's key shares the memory of its batch
	return l
}

// expire removes what is due.
func (s *Store) expire() {
	for len(s.leases) > 0 && s.due(s.leases[0]) {
		l := s.leases[0]
		n, f := find(s.root, l.key)
		invariant.Check(f.code == 0 && n.lease() == l, "store: deadline of %s, which is not there", l.key)
		s.take(ActionExpire, l.key, n)
		s.stats.ExpireCount++
	}
}

func (s *Store) due(l *lease) bool {
	if planted.On(planted.TTLByWallClock) && l.expires <= s.wall {
		return true
	}
	return l.deadline <= s.time
}

// moment holds an event and its nodes in one allocation.
type moment struct {
	event Event
	node  Node
	prev  Node
}

// record makes the change that turned old into fresh the next event. Fresh is
// without value and deadline where old was removed.
func (s *Store) record(action Action, key string, fresh, old *node, refresh bool) *Event {
	s.index++
	m := &moment{}
	m.node = fresh.show(key, s.time)
	e := &m.event
	*e = Event{Action: action, Index: s.index, Node: &m.node, Refresh: refresh}
	if old != nil {
		m.prev = old.show(key, s.time)
		e.Prev = &m.prev
	}
	if removes(action) {
		m.node.Deleted = true
		if old.children() != nil {
			e.gone = old
		}
	}
	s.history = s.history.add(e)
	s.chain.event(e)
	if key == SecretKey {
		if s.guard = s.index; removes(action) {
			s.guard = 0
		}
		e.conceal()
	}
	if s.emit != nil {
		s.emit(e)
	}
	return e
}

func removes(a Action) bool {
	return a == ActionDelete || a == ActionCompareAndDelete || a == ActionExpire
}
