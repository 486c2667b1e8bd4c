package store

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
)

// model is the store as slow and plain as can be: a flat map of keys, the list
// of all events, and a set of the names of all commands.
type model struct {
	index  Index
	time   Time
	wall   int64
	keys   map[string]*entry
	events []*fact
	known  map[env.NodeID]uint64 // incarnation
	seen   map[ID]bool
	floor  map[env.NodeID]uint64
}

type entry struct {
	dir               bool
	value             string
	created, modified Index
	leased            bool
	deadline          Time
	expires           int64
}

// fact is an event, and the keys that went with it.
type fact struct {
	*Event
	inside map[string]bool
}

func newModel() *model {
	return &model{
		keys: map[string]*entry{"/": {dir: true}}, known: map[env.NodeID]uint64{},
		seen: map[ID]bool{}, floor: map[env.NodeID]uint64{},
	}
}

func parents(key string) []string { // from the root down, without key
	up := []string{}
	for key != "/" {
		key = key[:max(1, strings.LastIndex(key, "/"))]
		up = append([]string{key}, up...)
	}
	return up
}

func under(key, dir string) bool {
	return slices.Contains(parents(key), dir)
}

func (m *model) apply(b *Batch) (results []Result, events []*Event) {
	from := len(m.events)
	m.time = max(m.time, b.Time)
	m.wall = b.Wall
	for m.expireOne() {
	}
	for i := range b.Commands {
		results = append(results, m.command(b.Commands[i]))
	}
	for _, f := range m.events[from:] {
		events = append(events, f.Event)
	}
	return results, events
}

func (m *model) expireOne() bool {
	due := ""
	for key, e := range m.keys {
		if !e.leased || e.deadline > m.time {
			continue
		}
		if due == "" || e.deadline < m.keys[due].deadline || e.deadline == m.keys[due].deadline && key < due {
			due = key
		}
	}
	if due == "" {
		return false
	}
	m.drop(ActionExpire, due)
	return true
}

func (m *model) copied(c Command) bool {
	id := c.ID
	if id == (ID{}) {
		return false
	}
	known, ok := m.known[id.Node]
	if ok && id.Incarnation < known {
		return true
	}
	if !ok || id.Incarnation > known {
		m.known[id.Node], m.floor[id.Node] = id.Incarnation, 0
	}
	copied := m.seen[id] || id.Number < m.floor[id.Node]
	m.seen[id] = true
	m.floor[id.Node] = max(m.floor[id.Node], min(c.Settled, id.Number))
	return copied
}

func (m *model) command(c Command) Result {
	if m.copied(c) {
		return Result{Copy: true, Index: m.index}
	}
	before := m.index
	e, err := m.do(c)
	if err != nil {
		err.Index = before
		return Result{Err: err, Index: before}
	}
	return Result{Event: e, Index: m.index}
}

func fail(code Code, cause string) (*Event, *Error) { return nil, &Error{Code: code, Cause: cause} }

// missing says which part of key does not exist or is in the way.
func (m *model) missing(key string) *Error {
	for _, up := range append(parents(key), key) {
		e := m.keys[up]
		if e == nil {
			return &Error{Code: CodeKeyNotFound, Cause: up}
		}
		if !e.dir && up != key {
			return &Error{Code: CodeNotDir, Cause: up}
		}
	}
	return nil
}

func (m *model) do(c Command) (*Event, *Error) {
	if c.Key == "/" && c.Op != OpCompareAndDelete && c.Op != OpCreateInOrder {
		return fail(CodeRootReadOnly, "/")
	}
	key, action := c.Key, ActionSet
	if c.Op == OpCreateInOrder {
		key = strings.TrimSuffix(key, "/") + fmt.Sprintf("/%020d", m.index+1)
	}
	gap, old := m.missing(key), m.keys[key]
	if gap != nil && gap.Code == CodeNotDir {
		return nil, gap
	}
	fresh := &entry{dir: c.Dir, value: c.Value, created: m.index + 1, modified: m.index + 1}
	switch c.Op {
	case OpCreate, OpCreateInOrder:
		if old != nil {
			return fail(CodeExists, key)
		}
		action, c.Refresh = ActionCreate, false
	case OpSet:
		if gap != nil && c.Refresh {
			return nil, gap
		}
		if old != nil && old.dir {
			return fail(CodeNotFile, key)
		}
	default:
		if gap != nil {
			return nil, gap
		}
		return m.existing(c, old)
	}
	if fresh.dir {
		fresh.value = ""
	} else if c.Refresh {
		fresh.value = old.value
	}
	for _, up := range parents(key) {
		if m.keys[up] == nil {
			m.keys[up] = &entry{dir: true, created: m.index + 1, modified: m.index + 1}
		}
	}
	return m.write(c, action, key, fresh), nil
}

func (m *model) existing(c Command, old *entry) (*Event, *Error) {
	compares := c.Op == OpCompareAndSwap || c.Op == OpCompareAndDelete
	if compares && old.dir {
		return fail(CodeNotFile, strings.TrimSuffix(c.Key, "/"))
	}
	if compares {
		var why []string
		if c.PrevValue != "" && c.PrevValue != old.value {
			why = append(why, fmt.Sprintf("[%s != %s]", c.PrevValue, old.value))
		}
		if c.PrevIndex != 0 && c.PrevIndex != old.modified {
			why = append(why, fmt.Sprintf("[%d != %d]", c.PrevIndex, old.modified))
		}
		if why != nil {
			return fail(CodeCompareFailed, strings.Join(why, " "))
		}
	}
	fresh := *old
	fresh.leased, fresh.deadline, fresh.expires = false, 0, 0
	fresh.modified = m.index + 1
	switch c.Op {
	case OpDelete:
		if old.dir && !c.Recursive && !c.Dir {
			return fail(CodeNotFile, c.Key)
		}
		if old.dir && !c.Recursive {
			for key := range m.keys {
				if under(key, c.Key) {
					return fail(CodeDirNotEmpty, c.Key)
				}
			}
		}
		return m.drop(ActionDelete, c.Key), nil
	case OpCompareAndDelete:
		return m.drop(ActionCompareAndDelete, c.Key), nil
	case OpUpdate:
		if old.dir && c.Value != "" {
			return fail(CodeNotFile, c.Key)
		}
	}
	if !old.dir && !c.Refresh {
		fresh.value = c.Value
	}
	action := ActionUpdate
	if c.Op == OpCompareAndSwap {
		action = ActionCompareAndSwap
	}
	e := m.write(c, action, c.Key, &fresh)
	if old.dir {
		fresh.modified = old.modified
	}
	return e, nil
}

func (m *model) show(key string, e *entry) *Node {
	n := &Node{Key: key, Dir: e.dir, Value: e.value, Created: e.created, Modified: e.modified}
	if e.leased {
		n.Expires, n.TTL = e.expires, time.Duration(e.deadline-m.time)
	}
	return n
}

func (m *model) write(c Command, action Action, key string, fresh *entry) *Event {
	ttl := max(c.TTL, 0)
	if c.HasTTL && int64(ttl) <= math.MaxInt64-int64(m.time) && int64(ttl) <= math.MaxInt64-max(m.wall, 0) {
		fresh.leased, fresh.deadline, fresh.expires = true, m.time+Time(ttl), m.wall+int64(ttl)
	}
	e := &Event{Action: action, Node: m.show(key, fresh), Refresh: c.Refresh}
	if old := m.keys[key]; old != nil {
		e.Prev = m.show(key, old)
	}
	m.keys[key] = fresh
	return m.happen(e, nil)
}

func (m *model) drop(action Action, key string) *Event {
	old := m.keys[key]
	e := &Event{Action: action, Prev: m.show(key, old), Node: &Node{
		Key: key, Dir: old.dir, Deleted: true, Created: old.created, Modified: m.index + 1,
	}}
	inside := map[string]bool{}
	for other := range m.keys {
		if under(other, key) {
			inside[other] = true
			delete(m.keys, other)
		}
	}
	delete(m.keys, key)
	return m.happen(e, inside)
}

func (m *model) happen(e *Event, inside map[string]bool) *Event {
	m.index++
	e.Index = m.index
	m.events = append(m.events, &fact{e, inside})
	return e
}

func (f *fact) wakes(key string, recursive bool) bool {
	if f.Refresh {
		return false
	}
	if f.Node.Key == key || f.inside[key] {
		return true
	}
	if !recursive || !under(f.Node.Key, key) {
		return false
	}
	rest := strings.TrimPrefix(f.Node.Key, strings.TrimSuffix(key, "/"))
	return !strings.Contains(rest, "/_")
}

func (m *model) since(key string, recursive bool, from Index) (*Event, *Error) {
	oldest := max(1, int(m.index)-999)
	if int(from) < oldest {
		return fail(CodeIndexCleared, fmt.Sprintf("the requested history has been cleared [%d/%d]", oldest, from))
	}
	for _, f := range m.events[oldest-1:] {
		if f.Index >= from && f.wakes(key, recursive) {
			return f.Event, nil
		}
	}
	return nil, nil
}

func (m *model) get(key string, recursive bool) (*Node, *Error) {
	if err := m.missing(key); err != nil {
		err.Index = m.index
		return nil, err
	}
	n := m.show(key, m.keys[key])
	all := []string{}
	for other := range m.keys {
		up := parents(other)
		if len(up) > 0 && up[len(up)-1] == key && !strings.HasPrefix(other[strings.LastIndex(other, "/"):], "/_") {
			all = append(all, other)
		}
	}
	sort.Strings(all)
	for _, other := range all {
		kid := m.show(other, m.keys[other])
		if recursive {
			kid, _ = m.get(other, true)
		}
		n.Nodes = append(n.Nodes, kid)
	}
	return n, nil
}

func (m *model) nextDeadline() (Time, bool) {
	next, ok := Time(0), false
	for _, e := range m.keys {
		if e.leased && (!ok || e.deadline < next) {
			next, ok = e.deadline, true
		}
	}
	return next, ok
}
