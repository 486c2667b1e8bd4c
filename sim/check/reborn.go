package check

import (
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/sim"
)

// Reborn is the oracle of members that take part again although they have lost what
// they had promised.
const Reborn = "reborn member"

// past is what was seen of a member in the last life in which it took part.
type past struct {
	machine     env.NodeID
	life        int
	incarnation uint64
}

// pastOf names a member of a cluster.
type pastOf struct {
	cluster uint64
	member  env.NodeID
}

// reborn looks at a member that takes part: its log counts its lives, so one that
// begins to count again has lost its log.
func (a *Always) reborn(m *sim.Machine, n *node.Node, st *node.Status) {
	if !st.Ready {
		return
	}
	who := pastOf{n.Cluster(), n.ID()}
	was, now := a.pasts[who], past{m.ID(), m.Life(), st.Incarnation}
	if was == now {
		return
	}
	if was.incarnation >= now.incarnation && (a.o.Rotten == nil || !a.o.Rotten(m.ID())) {
		a.c.Fail(Reborn, "%s takes part as member %v for the %d. time, after it did for the %d. time: it has lost its log in between",
			m.Name(), n.ID(), now.incarnation, was.incarnation)
	}
	a.pasts[who] = now
}
