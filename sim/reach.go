package sim

import (
	"net/url"

	"github.com/keelson/keelson/core/env"
)

// nodeNet is the network as one life of a node sees it.
type nodeNet struct {
	m    *Machine
	life int

	self    env.NodeID // 0: no group yet
	cluster uint64
	hosts   map[env.NodeID][]string // by peer, in the order of its URLs
	found   map[env.NodeID]*Machine // by peer, as of places
	heard   map[env.NodeID]*Machine // others of the cluster, whose frames have arrived
	// places is the state of the world's hosts that found belongs to.
	places uint64
}

var _ env.Net = (*nodeNet)(nil)

// Set implements env.Net.
func (n *nodeNet) Set(g env.Group) {
	if n.life != n.m.life {
		return
	}
	n.self, n.cluster, n.found = g.Self, g.Cluster, nil
	n.hosts = make(map[env.NodeID][]string, len(g.Peers))
	for _, p := range g.Peers {
		if p.ID == g.Self {
			continue
		}
		for _, raw := range p.URLs {
			u, err := url.Parse(raw)
			if err != nil || u.Port() != "2380" && u.Port() != "7001" {
				(&nodeLog{n.m}).Log(env.Warn, "peer URL cannot be used", "peer", p.ID, "url", raw)
				continue
			}
			n.hosts[p.ID] = append(n.hosts[p.ID], u.Hostname())
		}
	}
}

// Send implements env.Net.
func (n *nodeNet) Send(to env.NodeID, frame []byte) bool {
	if n.life != n.m.life {
		return false
	}
	m := n.find(to)
	if m == nil {
		return false
	}
	return n.m.w.net.Link(n.m.id, m.id).send(n, frame)
}

// find gives the machine on which a node should be, or nil. A node whose URL leads
// back to this machine was here before, or will be: nobody answers in its place.
func (n *nodeNet) find(id env.NodeID) *Machine {
	w := n.m.w
	if n.found == nil || n.places != w.places {
		n.found, n.places = make(map[env.NodeID]*Machine, len(n.hosts)), w.places
	}
	m, known := n.found[id]
	if known {
		return m
	}
	for _, host := range n.hosts[id] {
		if m = w.host(host); m == n.m {
			m = nil
		}
		if m != nil {
			break
		}
	}
	if n.hosts[id] == nil {
		m = n.heard[id]
	}
	n.found[id] = m
	return m
}

// hear takes a frame of a node: one that is in no group of ours can be answered
// from now on.
func (n *nodeNet) hear(f *frame) {
	if n.hosts[f.from] != nil || f.cluster != n.cluster {
		return
	}
	m := n.m.w.byID[f.link.from]
	if n.heard == nil {
		n.heard = make(map[env.NodeID]*Machine)
	}
	if n.heard[f.from] != m {
		n.heard[f.from] = m
		delete(n.found, f.from)
	}
}
