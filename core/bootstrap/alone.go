package bootstrap

import (
	"strconv"

	"github.com/keelson/keelson/core/gateway"
)

// Alone is the identity of a member that goes on as a cluster of its own from a Unix
// second on. Member and cluster have new IDs, so that nobody who was in the old cluster
// ever mixes with the new one.
func (id *Identity) Alone(at int64) *Identity {
	self := gateway.Member{ID: id.ID}
	for _, m := range id.Members {
		if m.ID == id.ID {
			self = m
		}
	}
	self.ID, self.Learner = MemberID(self.PeerURLs, strconv.FormatInt(at, 10)+id.ID.String()), false
	members := []gateway.Member{self}
	return &Identity{ID: self.ID, Cluster: clusterID(members), Members: members, Begun: true, Life: id.Life, Forced: true}
}
