package replica

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/wal"
)

// Founding describes the snapshot that a group of these voters begins with, whatever
// state it holds. Every member of the group must begin with the same.
func Founding(voters []env.NodeID) wal.Snapshot {
	conf := &raftpb.ConfState{}
	for _, id := range slices.Sorted(slices.Values(voters)) {
		conf.Voters = append(conf.Voters, uint64(id))
	}
	m := meta{conf: conf}
	return wal.Snapshot{Index: 1, Term: 1, Meta: m.encode()}
}
