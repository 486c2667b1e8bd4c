package replica

import (
	"fmt"
	"strings"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/keelson/keelson/core/env"
)

// Described is what an entry of the log says, for people.
type Described struct {
	Index, Term uint64
	Change      string // of the members, in words; empty where there is none
	Data        []byte // for the machine; may be there beside a change
}

// DescribeEntry reads an entry as the log holds it.
func DescribeEntry(p []byte) (Described, error) {
	e := &raftpb.Entry{}
	if err := unmarshal(p, e); err != nil {
		return Described{}, err
	}
	d := Described{Index: e.GetIndex(), Term: e.GetTerm(), Data: e.GetData()}
	var cc raftpb.ConfChangeI
	switch e.GetType() {
	case raftpb.EntryConfChange:
		one := &raftpb.ConfChange{}
		if err := unmarshal(e.GetData(), one); err != nil {
			return d, err
		}
		cc = one
	case raftpb.EntryConfChangeV2:
		many := &raftpb.ConfChangeV2{}
		if err := unmarshal(e.GetData(), many); err != nil {
			return d, err
		}
		cc = many
	default:
		return d, nil
	}
	var words []string
	for _, c := range cc.AsV2().GetChanges() {
		kind := strings.TrimPrefix(c.GetType().String(), "ConfChange")
		words = append(words, fmt.Sprintf("%s %v", kind, env.NodeID(c.GetNodeId())))
	}
	if words == nil {
		words = []string{"the joint group ends"}
	}
	d.Change, d.Data = strings.Join(words, ", "), cc.AsV2().GetContext()
	return d, nil
}

// DescribeHardState reads a hard state as the log holds it.
func DescribeHardState(p []byte) (term uint64, vote env.NodeID, commit uint64, err error) {
	h := &raftpb.HardState{}
	err = unmarshal(p, h)
	return h.GetTerm(), env.NodeID(h.GetVote()), h.GetCommit(), err
}

// DescribeMeta reads the header of a snapshot: who votes and who only listens.
func DescribeMeta(p []byte) (voters, learners, removed []env.NodeID, err error) {
	m, err := decodeMeta(p)
	if err != nil {
		return nil, nil, nil, err
	}
	return nodeIDs(m.conf.GetVoters()), nodeIDs(m.conf.GetLearners()), m.removed, nil
}
