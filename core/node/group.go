package node

import (
	"maps"
	"slices"
	"time"

	"github.com/keelson/keelson/core/env"
)

// regroup tells the network who this node is and where others are: what members
// say of themselves, and what was told at the start of those that have not spoken.
func (n *Node) regroup() {
	n.groupStale, n.replacing = false, false
	urls := make(map[env.NodeID][]string)
	for _, m := range n.cfg.Members {
		if m.ID == n.cfg.ID || !n.replica.Left(m.ID) { // whoever tells this one that it has left must find it
			urls[m.ID] = m.PeerURLs
		}
	}
	if dir, missing := n.View().Get(membersKey, true); missing == nil {
		for _, child := range dir.Nodes {
			id, known := memberOf(child.Key)
			a, ok := attributesOf(child.Value)
			n.replacing = n.replacing || n.isMember(parseID(a.Replaces))
			if known && ok && len(a.PeerURLs) > 0 {
				urls[id] = a.PeerURLs
			}
		}
	}
	n.keepFormer(urls)
	g := env.Group{Cluster: n.cfg.Cluster, Self: n.cfg.ID}
	for _, id := range slices.Sorted(maps.Keys(urls)) {
		g.Peers = append(g.Peers, env.Peer{ID: id, URLs: urls[id]})
	}
	n.env.Net.Set(g)
}

// formerMax is how many members that have left stay within reach, and formerFor for how
// long: afterwards they are answered when they call.
const (
	formerMax = 4
	formerFor = 30 * time.Second
)

// keepFormer adds those that were there a moment ago: a member that was removed has to
// be told.
func (n *Node) keepFormer(urls map[env.NodeID][]string) {
	for _, p := range n.known {
		if _, stays := urls[p.ID]; !stays {
			n.former = append(n.former, p)
			n.env.Clock.After(formerFor, func() { n.forget(p.ID) })
		}
	}
	n.known = n.known[:0:0]
	for _, id := range slices.Sorted(maps.Keys(urls)) {
		n.known = append(n.known, env.Peer{ID: id, URLs: urls[id]})
	}
	n.former = slices.DeleteFunc(n.former, func(p env.Peer) bool { return n.succeeded(p) })
	n.former = n.former[max(0, len(n.former)-formerMax):]
	for _, p := range n.former {
		urls[p.ID] = p.URLs
	}
}

// succeeded tells whether a member stands where one that has left was.
func (n *Node) succeeded(former env.Peer) bool {
	return slices.ContainsFunc(n.known, func(p env.Peer) bool { return overlap(p.URLs, former.URLs) })
}

// forget ends the calls to one that has left.
func (n *Node) forget(id env.NodeID) {
	if n.inert() {
		return
	}
	n.former = slices.DeleteFunc(n.former, func(p env.Peer) bool { return p.ID == id })
	n.groupStale = true
}
