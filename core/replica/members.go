package replica

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/invariant"
	"github.com/keelson/keelson/core/planted"
)

// ChangeKind is what a change of the group does.
type ChangeKind uint8

// The changes. A member is added as a learner, which holds the log but does not
// vote, and promoted once it has caught up. A removed member's ID never returns.
const (
	AddLearner ChangeKind = iota + 1
	Promote
	Remove
)

// Change is one change of the group.
type Change struct {
	Kind ChangeKind
	ID   env.NodeID
}

// Errors of ProposeConfChange beside those of Propose.
var (
	ErrMember    = errors.New("already a member")
	ErrNoMember  = errors.New("not a member")
	ErrLeft      = errors.New("was removed and cannot return")
	ErrLastVoter = errors.New("is the last voter")
	ErrBehind    = errors.New("has not caught up")
	ErrChanging  = errors.New("another change is under way")
)

// ProposeConfChange asks the leader to change the group. A nil error says that
// the change was proposed; whether it happened shows in Status. Changes that
// make no sense for the present group are refused.
func (r *Replica) ProposeConfChange(c Change) error {
	if err := r.proposeChange(c); err != nil {
		return fmt.Errorf("change members: %v: %w", c.ID, err)
	}
	return nil
}

func (r *Replica) proposeChange(c Change) error {
	if r.role != Leader || r.inert() {
		return ErrNotLeader
	}
	if r.confPending > r.applied {
		return ErrChanging
	}
	if err := r.refuses(c); err != nil {
		return err
	}
	kind := map[ChangeKind]raftpb.ConfChangeType{
		AddLearner: raftpb.ConfChangeAddLearnerNode, Promote: raftpb.ConfChangeAddNode, Remove: raftpb.ConfChangeRemoveNode,
	}[c.Kind]
	cc := &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{{Type: kind.Enum(), NodeId: new(uint64(c.ID))}}}
	if err := r.raft.ProposeConfChange(cc); err != nil {
		return ErrBusy
	}
	r.drain()
	r.confPending = r.storage.last()
	return nil
}

func (r *Replica) refuses(c Change) error {
	id := uint64(c.ID)
	voter, learner := slices.Contains(r.conf.GetVoters(), id), slices.Contains(r.conf.GetLearners(), id)
	switch {
	case c.ID == 0 || c.Kind < AddLearner || c.Kind > Remove:
		return errors.New("malformed change")
	case r.left(c.ID):
		return ErrLeft
	case c.Kind == AddLearner && (voter || learner), c.Kind == Promote && voter:
		return ErrMember
	case c.Kind != AddLearner && !voter && !learner:
		return ErrNoMember
	case c.Kind == Remove && voter && len(r.conf.GetVoters()) == 1:
		return ErrLastVoter
	case c.Kind == Promote && !r.caughtUp(c.ID):
		return ErrBehind
	}
	return nil
}

// caughtUp tells whether a member holds what this leader has applied.
func (r *Replica) caughtUp(id env.NodeID) bool {
	for _, p := range r.Progress() {
		if p.ID == id {
			return p.Match >= r.applied
		}
	}
	return false
}

// applyConf carries out a committed change of the group.
func (r *Replica) applyConf(e *raftpb.Entry) {
	var cc raftpb.ConfChangeI
	if e.GetType() == raftpb.EntryConfChange {
		one := &raftpb.ConfChange{}
		invariant.Check(unmarshal(e.GetData(), one) == nil, "replica: entry %d is no change of members", e.GetIndex())
		cc = one
	} else {
		many := &raftpb.ConfChangeV2{}
		invariant.Check(unmarshal(e.GetData(), many) == nil, "replica: entry %d is no change of members", e.GetIndex())
		cc = many
	}
	changes := cc.AsV2().GetChanges()
	if planted.On(planted.RemovedStillVotes) && r.role != Leader && removes(changes) {
		return
	}
	r.conf = r.raft.ApplyConfChange(cc)
	r.markChange(changes)
	for _, c := range changes {
		if c.GetType() == raftpb.ConfChangeRemoveNode {
			r.noteRemoved(env.NodeID(c.GetNodeId()))
		}
	}
	r.env.Log.Log(env.Info, "members changed", "id", r.cfg.ID, "voters", r.conf.GetVoters(), "learners", r.conf.GetLearners())
}

// markChange notes the rare ways in which a leader changes the group.
func (r *Replica) markChange(changes []*raftpb.ConfChangeSingle) {
	if r.role != Leader {
		return
	}
	for _, c := range changes {
		switch {
		case c.GetType() == raftpb.ConfChangeRemoveNode && c.GetNodeId() == uint64(r.cfg.ID):
			r.env.Rare.Mark("replica: leader removed")
		case c.GetType() == raftpb.ConfChangeAddNode && slices.ContainsFunc(r.Progress(), func(p Progress) bool { return !p.Active }):
			r.env.Rare.Mark("replica: learner promoted while a member is out of reach")
		}
	}
}

func removes(changes []*raftpb.ConfChangeSingle) bool {
	return slices.ContainsFunc(changes, func(c *raftpb.ConfChangeSingle) bool {
		return c.GetType() == raftpb.ConfChangeRemoveNode
	})
}

func (r *Replica) noteRemoved(id env.NodeID) {
	if i, found := slices.BinarySearch(r.removed, id); !found {
		r.removed = slices.Insert(slices.Clone(r.removed), i, id)
	}
	if id == r.cfg.ID {
		r.leave()
		return
	}
	r.forget(id)
	// The leader does not talk to it any more, so it may never learn by itself.
	r.post(id, kindRemoved, nil)
}

// left tells whether id was a member once and is none for ever.
func (r *Replica) left(id env.NodeID) bool {
	_, found := slices.BinarySearch(r.removed, id)
	return found
}

// leave ends this replica's part in the group.
func (r *Replica) leave() {
	if r.gone {
		return
	}
	r.gone = true
	r.env.Rare.Mark("replica: removed member learns of it")
	r.env.Log.Log(env.Warn, "removed from the cluster", "id", r.cfg.ID)
	r.env.Clock.After(removedLinger, func() { r.die(ErrRemoved) })
}

// removedLinger is how long a removed replica lives on, so that what it has to
// say about its removal gets out.
const removedLinger = time.Second

// Progress is how far one other member is, as the leader knows it.
type Progress struct {
	ID       env.NodeID
	Match    uint64 // last index known to be durable there
	Next     uint64
	Active   bool // heard of within half an election timeout
	Learner  bool
	Snapshot bool // waits for a snapshot
}

// Progress lists the other members by ID. It is empty except on the leader.
func (r *Replica) Progress() []Progress {
	var list []Progress
	if r.role != Leader {
		return nil
	}
	r.raft.WithProgress(func(id uint64, kind raft.ProgressType, p tracker.Progress) {
		if id == uint64(r.cfg.ID) {
			return
		}
		list = append(list, Progress{
			ID: env.NodeID(id), Match: p.Match, Next: p.Next,
			Active:   r.ticks-r.link(env.NodeID(id)).heard <= uint64(r.cfg.ElectionTicks+1)/2 && r.link(env.NodeID(id)).codec.Heard() > 0,
			Learner:  kind == raft.ProgressTypeLearner,
			Snapshot: p.State == tracker.StateSnapshot,
		})
	})
	return list
}
