package store

import "math/bits"

// hash is a running 64-bit hash. For a given input each step is a bijection of
// what came before, so that two chains which differ cannot meet by decay; it is
// the same on every architecture and guards against mistakes, not malice.
type hash uint64

func (h *hash) word(x uint64) {
	v := bits.RotateLeft64(uint64(*h)^x*0x9e3779b97f4a7c15, 29)
	*h = hash(v*0xbf58476d1ce4e5b9 + 0x94d049bb133111eb)
}

func (h *hash) flag(b bool) {
	if b {
		h.word(1)
		return
	}
	h.word(0)
}

func (h *hash) text(s string) {
	h.word(uint64(len(s)))
	for len(s) >= 8 {
		h.word(uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56)
		s = s[8:]
	}
	var tail uint64
	for i := 0; i < len(s); i++ {
		tail |= uint64(s[i]) << (8 * i)
	}
	h.word(tail)
}

func (h *hash) node(n *Node) {
	h.text(n.Key)
	h.text(n.Value)
	h.flag(n.Dir)
	h.flag(n.Deleted)
	h.word(uint64(n.Created))
	h.word(uint64(n.Modified))
	h.word(uint64(n.Expires))
	h.word(uint64(n.TTL))
}

func (h *hash) event(e *Event) {
	h.text(string(e.Action))
	h.word(uint64(e.Index))
	h.flag(e.Refresh)
	h.node(e.Node)
	h.flag(e.Prev != nil)
	if e.Prev != nil {
		h.word(uint64(e.Prev.Created))
		h.word(uint64(e.Prev.Modified))
	}
}

// tree takes in everything under n.
func (h *hash) tree(n *node) {
	var w walk
	w.enter(n)
	for {
		n, left := w.next()
		switch {
		case n != nil:
			h.text(n.name())
			h.stored(n)
		case left:
			h.word(0)
		default:
			return
		}
	}
}

func (h *hash) stored(n *node) {
	h.flag(n.isDir())
	h.text(n.value())
	h.word(uint64(n.created))
	h.word(uint64(n.modified))
	l := n.lease()
	h.flag(l != nil)
	if l != nil {
		h.word(uint64(l.deadline))
		h.word(uint64(l.expires))
	}
}
