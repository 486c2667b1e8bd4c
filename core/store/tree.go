package store

import "strings"

// node is a key in the tree. A file's node never changes once it is in the tree;
// a directory's changes only while the edit that made it lasts (see page).
type node struct {
	// data is the last element of the key, then the value: one allocation for
	// both, because a store of a million keys pays for every header.
	data     string
	created  Index
	modified Index
	ext      *ext // nil for a permanent file, the usual case
	nameLen  uint32
}

// ext is what only directories and keys with a deadline have.
type ext struct {
	edit  uint64 // the edit that may change this directory in place
	root  *page  // children; nil where there are none
	lease *lease
	dir   bool
}

// boxed lets a node and its ext share one allocation.
type boxed struct {
	node node
	ext  ext
}

func newFile(name, value string, created, modified Index, l *lease) *node {
	if l == nil {
		return &node{
			data: name + value, nameLen: uint32(len(name)),
			created: created, modified: modified,
		}
	}
	b := &boxed{
		node: node{data: name + value, nameLen: uint32(len(name)), created: created, modified: modified},
		ext:  ext{lease: l},
	}
	b.node.ext = &b.ext
	return &b.node
}

func newDir(name string, at Index, l *lease, edit uint64) *node {
	b := &boxed{
		node: node{data: strings.Clone(name), nameLen: uint32(len(name)), created: at, modified: at},
		ext:  ext{dir: true, edit: edit, lease: l},
	}
	b.node.ext = &b.ext
	return &b.node
}

func (n *node) name() string  { return n.data[:n.nameLen] }
func (n *node) value() string { return n.data[n.nameLen:] }
func (n *node) isDir() bool   { return n.ext != nil && n.ext.dir }

func (n *node) lease() *lease {
	if n.ext == nil {
		return nil
	}
	return n.ext.lease
}

// children is nil for a file and for an empty directory.
func (n *node) children() *page {
	if n.ext == nil {
		return nil
	}
	return n.ext.root
}

// ownDir gives a copy of directory n that edit may change, or n if it may already.
func (n *node) ownDir(edit uint64) *node {
	if n.ext.edit == edit {
		return n
	}
	b := &boxed{node: *n, ext: *n.ext}
	b.ext.edit = edit
	b.node.ext = &b.ext
	return &b.node
}

// show gives n as clients see it, under the given key, with now as log time.
func (n *node) show(key string, now Time) Node {
	v := Node{Key: key, Created: n.created, Modified: n.modified}
	if n.ext == nil {
		v.Value = n.value()
		return v
	}
	v.Dir = n.ext.dir
	if !v.Dir {
		v.Value = n.value()
	}
	if l := n.ext.lease; l != nil {
		v.Expires, v.TTL = l.expires, l.left(now)
	}
	return v
}

// pageMax is the most entries of a page. One more, for the moment before a
// split, makes a slice of 256 bytes.
const (
	pageMax = 31
	pageLow = 8
)

// page is a page of a B+tree of nodes ordered by name: the children of one
// directory. A page belongs to the edit that made it and is changed in place only
// within that edit; afterwards a View may hold it, and a write copies the pages
// on its path instead. (The idea is that of transient persistent maps, with the
// edit number in the place of an owner.)
type page struct {
	edit  uint64
	items []*node // leaf only
	in    *inner  // nil for a leaf
}

// inner is the content of a page above the leaves. Every name in kids[i] is at
// least seps[i] and less than seps[i+1]; seps[0] is not looked at.
type inner struct {
	kids []*page
	seps []string
}

func (p *page) size() int {
	if p.in != nil {
		return len(p.in.kids)
	}
	return len(p.items)
}

// at finds where name is in a leaf, or where it belongs.
func (p *page) at(name string) (int, bool) {
	lo, hi := 0, len(p.items)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if p.items[mid].name() < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(p.items) && p.items[lo].name() == name
}

// kid finds which child of an inner page name belongs to.
func (p *page) kid(name string) int {
	lo, hi := 1, len(p.in.seps)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if p.in.seps[mid] <= name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

// get finds the node of that name, or nil. A nil page is an empty tree.
func (p *page) get(name string) *node {
	if p == nil {
		return nil
	}
	for p.in != nil {
		p = p.in.kids[p.kid(name)]
	}
	if i, ok := p.at(name); ok {
		return p.items[i]
	}
	return nil
}

// own gives a page with the same content that edit may change.
func (p *page) own(edit uint64) *page {
	if p.edit == edit {
		return p
	}
	if p.in == nil {
		return &page{edit: edit, items: roomy(p.items)}
	}
	return &page{edit: edit, in: &inner{kids: roomy(p.in.kids), seps: roomy(p.in.seps)}}
}

// roomy copies s into a slice with a place to spare.
func roomy[T any](s []T) []T {
	room := 1
	for room <= len(s) {
		room *= 2
	}
	return append(make([]T, 0, room), s...)
}

func insertAt[T any](s []T, i int, v T) []T {
	s = append(s, v)
	copy(s[i+1:], s[i:])
	s[i] = v
	return s
}

func removeAt[T any](s []T, i int) []T {
	copy(s[i:], s[i+1:])
	clear(s[len(s)-1:])
	return s[:len(s)-1]
}

// cut moves s[at:] to a slice of its own.
func cut[T any](s []T, at int) (left, right []T) {
	right = roomy(s[at:])
	clear(s[at:])
	return s[:at], right
}

// put gives the tree with n in it, in the place of a node of the same name.
func (p *page) put(n *node, edit uint64) *page {
	if p == nil {
		return &page{edit: edit, items: []*node{n}}
	}
	left, right, sep := p.insert(n, edit)
	if right == nil {
		return left
	}
	return &page{edit: edit, in: &inner{kids: []*page{left, right}, seps: []string{"", sep}}}
}

// insert is put for one page. If it had to be split, right is the second half
// and sep the least name in it.
func (p *page) insert(n *node, edit uint64) (left, right *page, sep string) {
	p = p.own(edit)
	if p.in == nil {
		return p.insertLeaf(n, edit)
	}
	i := p.kid(n.name())
	kid, extra, sep := p.in.kids[i].insert(n, edit)
	p.in.kids[i] = kid
	if extra == nil {
		return p, nil, ""
	}
	p.in.kids = insertAt(p.in.kids, i+1, extra)
	p.in.seps = insertAt(p.in.seps, i+1, sep)
	size := len(p.in.kids)
	if size <= pageMax {
		return p, nil, ""
	}
	half := splitPoint(size, i+1)
	right = &page{edit: edit, in: &inner{}}
	p.in.kids, right.in.kids = cut(p.in.kids, half)
	p.in.seps, right.in.seps = cut(p.in.seps, half)
	sep, right.in.seps[0] = right.in.seps[0], ""
	return p, right, sep
}

func (p *page) insertLeaf(n *node, edit uint64) (left, right *page, sep string) {
	i, found := p.at(n.name())
	if found {
		p.items[i] = n
		return p, nil, ""
	}
	p.items = insertAt(p.items, i, n)
	if len(p.items) <= pageMax {
		return p, nil, ""
	}
	right = &page{edit: edit}
	p.items, right.items = cut(p.items, splitPoint(len(p.items), i))
	// A clone, because a name shares its memory with a value that may be large.
	return p, right, strings.Clone(right.items[0].name())
}

// splitPoint is the middle, except that names which arrive in order (in-order
// keys, a restored snapshot) leave full pages behind.
func splitPoint(size, inserted int) int {
	if inserted == size-1 {
		return size - 1
	}
	return size / 2
}

// del gives the tree without name, which must be in it.
func (p *page) del(name string, edit uint64) *page {
	p = p.remove(name, edit)
	for p.in != nil && len(p.in.kids) == 1 {
		p = p.in.kids[0]
	}
	if p.size() == 0 {
		return nil
	}
	return p
}

func (p *page) remove(name string, edit uint64) *page {
	p = p.own(edit)
	if p.in == nil {
		i, _ := p.at(name)
		p.items = removeAt(p.items, i)
		return p
	}
	i := p.kid(name)
	p.in.kids[i] = p.in.kids[i].remove(name, edit)
	if p.in.kids[i].size() < pageLow {
		p.mend(i, edit)
	}
	return p
}

// mend joins the small page kids[i] with a neighbour if both fit into one page
// with room to grow.
func (p *page) mend(i int, edit uint64) {
	if i == len(p.in.kids)-1 {
		i--
	}
	if i < 0 {
		return
	}
	a, b := p.in.kids[i], p.in.kids[i+1]
	if a.size()+b.size() > pageMax-pageLow {
		return
	}
	a = a.own(edit)
	if a.in == nil {
		a.items = append(a.items, b.items...)
	} else {
		size := len(a.in.kids)
		a.in.kids = append(a.in.kids, b.in.kids...)
		a.in.seps = append(a.in.seps, b.in.seps...)
		a.in.seps[size] = p.in.seps[i+1]
	}
	p.in.kids[i] = a
	p.in.kids = removeAt(p.in.kids, i+1)
	p.in.seps = removeAt(p.in.seps, i+1)
}

// walk goes through a tree in preorder: a directory, then its children in the
// order of their names. It keeps its own stack, so that it can pause anywhere
// and no depth of keys can exhaust the machine's.
type walk struct{ stack []spot }

type spot struct {
	p   *page
	i   int
	top bool // the first page of a directory: leaving it leaves the directory
}

// enter starts the walk with the children of n.
func (w *walk) enter(n *node) { w.stack = append(w.stack, spot{p: n.children(), top: true}) }

// next gives the next node, entering directories by itself; nil and true where
// a directory ends, nil and false at the end of the walk.
func (w *walk) next() (n *node, left bool) {
	for len(w.stack) > 0 {
		top := &w.stack[len(w.stack)-1]
		if top.p == nil || top.i == top.p.size() {
			left = top.top
			w.stack = w.stack[:len(w.stack)-1]
			if left {
				return nil, true
			}
			continue
		}
		top.i++
		if top.p.in != nil {
			w.stack = append(w.stack, spot{p: top.p.in.kids[top.i-1]})
			continue
		}
		n = top.p.items[top.i-1]
		if n.isDir() {
			w.enter(n)
		}
		return n, false
	}
	return nil, false
}
