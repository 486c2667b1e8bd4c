package store

// View is the store at one moment. It is immutable: any number of goroutines may
// read it while the store goes on. Taking one costs a pointer; the writes after
// it copy the few pages they change.
type View struct {
	root     *node
	index    Index
	time     Time
	wall     int64
	chain    hash
	keys     int
	history  history
	sessions sessions
	stats    Stats
	loaded   Index
	guard    Index
}

// Index is the index of the last change in the view.
func (v *View) Index() Index { return v.index }

// Time is the log time of the view.
func (v *View) Time() Time { return v.time }

// Guard is when SecretKey last changed; 0 where there is none.
func (v *View) Guard() Index { return v.guard }

// Len counts the keys and directories, the root not among them.
func (v *View) Len() int { return v.keys }

// Chain is Store.Chain at the time of the view.
func (v *View) Chain() uint64 { return uint64(v.chain) }

// Get shows a key. A directory comes with its children, sorted by key and
// without hidden ones; with recursive, with all that is below. The error is
// CodeKeyNotFound, caused by the first part of the key that does not exist, or
// CodeNotDir, caused by a file in the middle of the key.
func (v *View) Get(key string, recursive bool) (*Node, *Error) {
	n, f := find(v.root, key)
	if n == nil {
		return nil, &Error{Code: f.code, Cause: f.cause, Index: v.index}
	}
	shown := n.show(key, v.time)
	if shown.Dir {
		shown.Nodes = v.list(n, key, recursive)
	}
	return &shown, nil
}

func (v *View) list(dir *node, key string, recursive bool) []*Node {
	return v.listPage(dir.children(), nil, key, recursive)
}

func (v *View) listPage(p *page, to []*Node, key string, recursive bool) []*Node {
	if p == nil {
		return nil
	}
	if p.in != nil {
		for _, kid := range p.in.kids {
			to = v.listPage(kid, to, key, recursive)
		}
		return to
	}
	nodes := make([]Node, len(p.items)) // one allocation for all of them
	for i, n := range p.items {
		if hidden(n.name()) {
			continue
		}
		shown := &nodes[i]
		*shown = n.show(join(key, n.name()), v.time)
		if recursive && shown.Dir {
			shown.Nodes = v.list(n, shown.Key, true)
		}
		to = append(to, shown)
	}
	return to
}

// Hash walks over everything that replicas must agree on (tree, deadlines,
// history, sessions, counters, time) and sums it up.
func (v *View) Hash() uint64 {
	var h hash
	h.word(uint64(v.index))
	h.word(uint64(v.time))
	h.word(uint64(v.wall))
	h.word(uint64(v.chain))
	h.word(uint64(v.keys))
	h.stored(v.root)
	h.tree(v.root)
	for _, e := range v.history {
		h.event(e)
		if e.Prev != nil {
			h.node(e.Prev)
		}
		if e.gone != nil {
			h.names(e.gone)
		}
	}
	for i := range v.sessions {
		s := &v.sessions[i]
		h.word(uint64(s.node))
		h.word(s.incarnation)
		h.word(s.floor)
		h.word(uint64(len(s.applied)))
		for _, number := range s.applied {
			h.word(number)
		}
	}
	for _, count := range v.stats.counters() {
		h.word(*count)
	}
	return uint64(h)
}

// names takes in what exists under n, but not what it holds.
func (h *hash) names(n *node) {
	var w walk
	w.enter(n)
	for {
		n, left := w.next()
		switch {
		case n != nil:
			h.text(n.name())
		case left:
			h.word(0)
		default:
			return
		}
	}
}
