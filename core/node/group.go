package node

import (
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strconv"

	"github.com/keelson/keelson/core/env"
)

// regroup tells the network who this node is and where others are: what members
// say of themselves, and what was told at the start of those that have not spoken.
func (n *Node) regroup() {
	n.groupStale = false
	urls := make(map[env.NodeID][]string)
	for _, m := range n.cfg.Members {
		urls[m.ID] = m.PeerURLs
	}
	if dir, missing := n.View().Get(membersKey, true); missing == nil {
		for _, child := range dir.Nodes {
			id, err := strconv.ParseUint(path.Base(child.Key), 16, 64)
			var a attributes
			if err == nil && json.Unmarshal([]byte(child.Value), &a) == nil && len(a.PeerURLs) > 0 {
				urls[env.NodeID(id)] = a.PeerURLs
			}
		}
	}
	g := env.Group{Cluster: n.cfg.Cluster, Self: n.cfg.ID}
	for _, id := range slices.Sorted(maps.Keys(urls)) {
		g.Peers = append(g.Peers, env.Peer{ID: id, URLs: urls[id]})
	}
	n.env.Net.Set(g)
}
