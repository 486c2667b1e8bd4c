package sim

import (
	"time"

	"github.com/keelson/keelson/core/env"
)

// nodeWork is env.Work for one life of a node: another processor, which takes its
// time.
type nodeWork struct {
	m    *Machine
	life int
}

var _ env.Work = (*nodeWork)(nil)

// Work takes up to workMost, drawn anew for each piece; pieces do not wait for
// each other.
const workMost = 5 * time.Millisecond

// Run implements env.Work.
func (n *nodeWork) Run(fn func(), done func()) {
	w := n.m.w
	if n.life != n.m.life {
		return
	}
	r := w.stream("work")
	begin := w.now + r.upTo(workMost)
	end := begin + r.upTo(workMost)
	w.push(begin, call(func() {
		if n.life != n.m.life || !n.m.running {
			return
		}
		n.m.disk.guard(fn)
		w.push(end, call(func() {
			if n.life == n.m.life && n.m.running {
				n.m.input(&answer{"work", done})
			}
		}))
	}))
}
