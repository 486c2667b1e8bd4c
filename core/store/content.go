package store

// ClusterDir is where members keep what belongs to their cluster and not to its
// users: the bookkeeping of a cluster means nothing in another.
const ClusterDir = "/_etcd"

// ContentHash sums up what users have stored: every key with its value, indexes and
// deadline, but for those below ClusterDir. Unlike Hash it is the same before and
// after a state moves to another cluster, as long as nobody writes.
func (v *View) ContentHash() uint64 {
	var h hash
	var w walk
	depth := 0
	for w.enter(v.root); ; {
		n, left := w.next()
		switch {
		case n != nil:
			if depth == 0 && n.name() == ClusterDir[1:] {
				if n.isDir() {
					w.stack = w.stack[:len(w.stack)-1]
				}
				continue
			}
			if n.isDir() {
				depth++
			}
			h.text(n.name())
			h.stored(n)
		case left:
			depth--
			h.word(0)
		default:
			return uint64(h)
		}
	}
}

// membersDir is where members say who they are.
const membersDir = ClusterDir + "/members"

// Adopt makes s the first state of another cluster: what members of the former one
// said about themselves is deleted, as one change, and the commands of its nodes are
// forgotten, since nodes of the new one may have the same names. Keys, indexes,
// history and the time left of each key stay.
func (s *Store) Adopt() {
	b := &Batch{Time: s.time, Wall: s.wall}
	if n, _ := find(s.root, membersDir); n != nil {
		b.Commands = []Command{{Op: OpDelete, Key: membersDir, Dir: true, Recursive: true}}
	}
	s.Apply(b, nil)
	s.view, s.sessions, s.sessionsEdit = nil, nil, 0
}
