package linearizability

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/store"
)

// tree is the plain second model of the store: slow, mutable, and written from
// the description of the API rather than from the code that it checks.
type tree struct {
	root *entry
}

// entry is one key of the model.
type entry struct {
	value    string
	dir      bool
	created  uint64
	modified uint64
	hasTTL   bool
	kids     map[string]*entry
	// seen is the last index at which some answer showed this state; a change
	// that nobody saw must lie behind it.
	seen uint64
	// by is the operation that gave the key its present TTL, or nil.
	by *Op
}

func newTree() *tree { return &tree{root: newDir(0)} }

func newDir(index uint64) *entry {
	return &entry{dir: true, created: index, modified: index, kids: map[string]*entry{}}
}

// refusal is an error of the API: a code and its cause.
type refusal struct {
	code  store.Code
	cause string
}

func (r *refusal) String() string {
	if r == nil {
		return "success"
	}
	return fmt.Sprintf("error %d (%s)", r.code, r.cause)
}

func segments(key string) []string {
	key = strings.Trim(key, "/")
	if key == "" {
		return nil
	}
	return strings.Split(key, "/")
}

func join(segs []string) string { return "/" + strings.Join(segs, "/") }

// find walks to key. Where it does not exist the refusal names the first missing
// path, or the file that is in the way.
func (t *tree) find(key string) (*entry, *refusal) {
	at, segs := t.root, segments(key)
	for i, s := range segs {
		if !at.dir {
			return nil, &refusal{store.CodeNotDir, join(segs[:i])}
		}
		next := at.kids[s]
		if next == nil {
			return nil, &refusal{store.CodeKeyNotFound, join(segs[:i+1])}
		}
		at = next
	}
	return at, nil
}

// parent finds the directory that holds key, making it and those above where
// make is set. It returns the file in the way as a refusal.
func (t *tree) parent(key string, index uint64, makeDirs bool) (*entry, string, *refusal) {
	segs := segments(key)
	at := t.root
	for i, s := range segs[:len(segs)-1] {
		next := at.kids[s]
		if next == nil {
			if !makeDirs {
				return nil, segs[len(segs)-1], nil
			}
			next = newDir(index)
			at.kids[s] = next
		}
		if !next.dir {
			return nil, "", &refusal{store.CodeNotDir, join(segs[:i+1])}
		}
		at = next
	}
	return at, segs[len(segs)-1], nil
}

// step gives what in does when it becomes the change at index, and does it if
// do is set. Exactly one of the results is nil.
func (t *tree) step(in *Input, index uint64, do bool, by *Op) (*Event, *refusal) {
	key := in.Key
	if key == "/" && in.Kind != Post {
		if in.Kind == CAD {
			return nil, &refusal{store.CodeNotFile, ""}
		}
		return nil, &refusal{store.CodeRootReadOnly, "/"}
	}
	switch in.Kind {
	case Post:
		name := fmt.Sprintf("%020d", index)
		put := *in
		put.Kind, put.Refresh, put.Key = Create, false, strings.TrimSuffix(key, "/")+"/"+name
		return t.put(&put, index, do, by)
	case Set, Create:
		return t.put(in, index, do, by)
	case Update:
		return t.update(in, index, do, by)
	case CAS:
		return t.swap(in, index, do, by)
	case CAD, Delete:
		return t.delete(in, index, do)
	}
	return nil, &refusal{store.CodeInvalidField, string(in.Kind)}
}

func (t *tree) put(in *Input, index uint64, do bool, by *Op) (*Event, *refusal) {
	dir, name, no := t.parent(in.Key, index, false)
	if no != nil {
		return nil, no
	}
	var old *entry
	if dir != nil {
		old = dir.kids[name]
	}
	if no := mayPut(in, old, t); no != nil {
		return nil, no
	}
	made := &entry{value: in.Value, created: index, modified: index, hasTTL: in.HasTTL, seen: index, by: by}
	if in.Kind == Set && in.Refresh {
		made.value = old.value
	}
	if in.Dir && !(in.Kind == Set && in.Refresh) {
		made.value, made.dir, made.kids = "", true, map[string]*entry{}
	}
	e := &Event{Index: index, Action: string(in.Kind), Node: made.show(in.Key), Prev: old.show(in.Key), Refresh: in.Refresh && in.Kind == Set}
	if do {
		dir, name, _ = t.parent(in.Key, index, true)
		dir.kids[name] = made
	}
	return e, nil
}

func mayPut(in *Input, old *entry, t *tree) *refusal {
	switch {
	case in.Kind == Create && old != nil:
		return &refusal{store.CodeExists, in.Key}
	case in.Kind == Set && in.Refresh && old == nil:
		_, no := t.find(in.Key)
		return no
	case old != nil && old.dir:
		return &refusal{store.CodeNotFile, in.Key}
	}
	return nil
}

func (t *tree) update(in *Input, index uint64, do bool, by *Op) (*Event, *refusal) {
	old, no := t.find(in.Key)
	if no != nil {
		return nil, no
	}
	if old.dir && in.Value != "" {
		return nil, &refusal{store.CodeNotFile, in.Key}
	}
	next := *old
	next.hasTTL, next.by, next.seen = in.HasTTL, by, index
	if !old.dir {
		next.modified = index
		if !in.Refresh {
			next.value = in.Value
		}
	}
	e := &Event{Index: index, Action: string(Update), Node: next.show(in.Key), Prev: old.show(in.Key), Refresh: in.Refresh}
	e.Node.Modified = index
	if do {
		*old = next
	}
	return e, nil
}

func (t *tree) swap(in *Input, index uint64, do bool, by *Op) (*Event, *refusal) {
	old, no := t.comparable(in)
	if no != nil {
		return nil, no
	}
	next := *old
	next.modified, next.hasTTL, next.by, next.seen = index, in.HasTTL, by, index
	if !in.Refresh {
		next.value = in.Value
	}
	e := &Event{Index: index, Action: string(CAS), Node: next.show(in.Key), Prev: old.show(in.Key), Refresh: in.Refresh}
	if do {
		*old = next
	}
	return e, nil
}

// comparable finds the file that a condition is about and compares it.
func (t *tree) comparable(in *Input) (*entry, *refusal) {
	old, no := t.find(in.Key)
	if no != nil {
		return nil, no
	}
	if old.dir {
		return nil, &refusal{store.CodeNotFile, in.Key}
	}
	var cause []string
	if in.PrevValue != "" && in.PrevValue != old.value {
		cause = append(cause, fmt.Sprintf("[%s != %s]", in.PrevValue, old.value))
	}
	if in.PrevIndex != 0 && in.PrevIndex != old.modified {
		cause = append(cause, fmt.Sprintf("[%d != %d]", in.PrevIndex, old.modified))
	}
	if len(cause) > 0 {
		return nil, &refusal{store.CodeCompareFailed, strings.Join(cause, " ")}
	}
	return old, nil
}

func (t *tree) delete(in *Input, index uint64, do bool) (*Event, *refusal) {
	var old *entry
	var no *refusal
	if in.Kind == CAD {
		old, no = t.comparable(in)
	} else {
		old, no = t.find(in.Key)
	}
	if no != nil {
		return nil, no
	}
	if old.dir && !in.Recursive {
		if !in.Dir {
			return nil, &refusal{store.CodeNotFile, in.Key}
		}
		if len(old.kids) > 0 {
			return nil, &refusal{store.CodeDirNotEmpty, in.Key}
		}
	}
	e := &Event{Index: index, Action: string(in.Kind), Node: old.gone(in.Key, index), Prev: old.show(in.Key)}
	if do {
		t.remove(in.Key)
	}
	return e, nil
}

func (t *tree) remove(key string) {
	if dir, name, _ := t.parent(key, 0, false); dir != nil {
		delete(dir.kids, name)
	}
}

// show gives the entry as an event shows it, without children.
func (e *entry) show(key string) *Node {
	if e == nil {
		return nil
	}
	return &Node{Key: key, Value: e.value, Dir: e.dir, Created: e.created, Modified: e.modified, HasTTL: e.hasTTL}
}

func (e *entry) gone(key string, index uint64) *Node {
	return &Node{Key: key, Dir: e.dir, Created: e.created, Modified: index}
}

// get reads as GET does: one level, or all; without hidden children.
func (t *tree) get(key string, recursive bool) (*Node, *refusal) {
	e, no := t.find(key)
	if no != nil {
		return nil, no
	}
	n := e.show(key)
	if e.dir {
		n.Nodes = e.list(key, recursive)
	}
	return n, nil
}

func (e *entry) list(key string, recursive bool) []*Node {
	var nodes []*Node
	for _, name := range slices.Sorted(maps.Keys(e.kids)) {
		if strings.HasPrefix(name, "_") {
			continue
		}
		kid := e.kids[name]
		n := kid.show(strings.TrimSuffix(key, "/") + "/" + name)
		if kid.dir && recursive {
			n.Nodes = kid.list(n.Key, true)
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// walk calls fn for e, found at key, and all below it, in order.
func (e *entry) walk(key string, fn func(key string, e *entry)) {
	fn(key, e)
	for _, name := range slices.Sorted(maps.Keys(e.kids)) {
		e.kids[name].walk(strings.TrimSuffix(key, "/")+"/"+name, fn)
	}
}

// same compares what was shown with what the model shows. The empty string
// stands for "equal"; otherwise it says where they differ.
func same(have, want *Node) string {
	switch {
	case have == nil && want == nil:
		return ""
	case have == nil:
		return "shows nothing, want " + want.text()
	case want == nil:
		return "shows " + have.text() + ", want nothing"
	case !have.looksLike(want):
		return "shows " + have.text() + ", want " + want.text()
	case len(have.Nodes) != len(want.Nodes):
		return fmt.Sprintf("%s shows %d children %v, want %d %v", want.Key, len(have.Nodes), names(have), len(want.Nodes), names(want))
	}
	kids := slices.Clone(have.Nodes)
	slices.SortStableFunc(kids, func(a, b *Node) int { return strings.Compare(a.Key, b.Key) })
	for i, k := range kids {
		if diff := same(k, want.Nodes[i]); diff != "" {
			return diff
		}
	}
	return ""
}

// looksLike compares without the children.
func (n *Node) looksLike(o *Node) bool {
	return n.Key == o.Key && n.Value == o.Value && n.Dir == o.Dir &&
		n.Created == o.Created && n.Modified == o.Modified && n.HasTTL == o.HasTTL
}

func names(n *Node) []string {
	var all []string
	for _, k := range n.Nodes {
		all = append(all, k.Key)
	}
	return all
}

func (n *Node) text() string {
	s := fmt.Sprintf("%s=%q", n.Key, brief(n.Value))
	if n.Dir {
		s = n.Key + "/"
	}
	s += fmt.Sprintf(" (created %d, modified %d)", n.Created, n.Modified)
	if n.HasTTL {
		s += " with ttl"
	}
	return s
}

// brief cuts a long value for people.
func brief(value string) string {
	const most = 200
	if len(value) <= most {
		return value
	}
	return fmt.Sprintf("%s… (%d bytes)", value[:most], len(value))
}
