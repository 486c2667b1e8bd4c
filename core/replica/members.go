package replica

import (
	"errors"
	"fmt"
	"slices"

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
// Replace promotes one and removes another in a single step, so that the number of
// voters stays what it is.
const (
	AddLearner ChangeKind = iota + 1
	Promote
	Remove
	Replace
)

// Change is one change of the group.
type Change struct {
	Kind ChangeKind
	ID   env.NodeID
	Old  env.NodeID // whom ID replaces; of Replace only
	// Entry, if there is one, is applied to the Machine at the index of the change:
	// what the machine knows of the group and the group never differ.
	Entry []byte
}

// Errors of ProposeConfChange beside those of Propose and *QuorumError. After
// ErrChanging, ErrBehind and ErrBusy the same may be asked again later.
var (
	ErrMember    = errors.New("already a member")
	ErrNoMember  = errors.New("not a member")
	ErrLeft      = errors.New("was removed and cannot return")
	ErrLastVoter = errors.New("is the last voter")
	ErrBehind    = errors.New("has not caught up")
	ErrChanging  = errors.New("another change is under way")
)

// QuorumError refuses a change after which too few voters could be reached.
type QuorumError struct {
	Voters int // after the change
	Active int // of them, those that can be reached
	Need   int // of them, those without which nothing can be committed
}

// Error gives the reason.
func (e *QuorumError) Error() string {
	return fmt.Sprintf("would leave %d voting members of which %d can be reached, but %d are needed", e.Voters, e.Active, e.Need)
}

// ProposeConfChange asks the leader to change the group. A nil error says that
// the change was proposed; whether it happened shows in Status, or in the Machine,
// which gets its Entry. Changes that make no sense for the present group, or would
// take its quorum away, are refused. So is a second change before the first is
// wholly carried out.
func (r *Replica) ProposeConfChange(c Change) error {
	if err := r.proposeChange(c); err != nil {
		return fmt.Errorf("change members: %v: %w", c.ID, err)
	}
	return nil
}

func (r *Replica) proposeChange(c Change) error {
	if err := r.MayChange(c); err != nil {
		return err
	}
	return r.proposeConf(&raftpb.ConfChangeV2{Changes: c.singles(), Context: c.Entry})
}

// proposeConf puts a change into the log. Raft turns one that it does not take into
// an empty entry, which ends it just as well.
func (r *Replica) proposeConf(cc raftpb.ConfChangeI) error {
	if err := r.raft.ProposeConfChange(cc); err != nil {
		return ErrBusy
	}
	r.drain()
	r.confPending = r.storage.last()
	return nil
}

// Changing tells, on the leader, whether a change is not wholly carried out yet.
func (r *Replica) Changing() bool {
	return r.confPending > r.applied || len(r.conf.GetVotersOutgoing()) > 0 || len(r.unsettled) > 0
}

// MayChange tells whether ProposeConfChange would be refused, and why.
func (r *Replica) MayChange(c Change) error {
	if _, ok := r.Leading(); !ok {
		return ErrNotLeader
	}
	if r.Changing() {
		return ErrChanging
	}
	return r.refuses(c)
}

func (c *Change) singles() []*raftpb.ConfChangeSingle {
	single := func(kind raftpb.ConfChangeType, id env.NodeID) *raftpb.ConfChangeSingle {
		return &raftpb.ConfChangeSingle{Type: kind.Enum(), NodeId: new(uint64(id))}
	}
	switch c.Kind {
	case AddLearner:
		return []*raftpb.ConfChangeSingle{single(raftpb.ConfChangeAddLearnerNode, c.ID)}
	case Promote:
		return []*raftpb.ConfChangeSingle{single(raftpb.ConfChangeAddNode, c.ID)}
	case Remove:
		return []*raftpb.ConfChangeSingle{single(raftpb.ConfChangeRemoveNode, c.ID)}
	default: // two at once go through a joint group, which raft leaves by itself
		return []*raftpb.ConfChangeSingle{single(raftpb.ConfChangeAddNode, c.ID), single(raftpb.ConfChangeRemoveNode, c.Old)}
	}
}

func (r *Replica) refuses(c Change) error {
	voter, learner := r.votes(c.ID), slices.Contains(r.conf.GetLearners(), uint64(c.ID))
	switch {
	case c.ID == 0 || c.Kind < AddLearner || c.Kind > Replace || (c.Kind == Replace) != (c.Old != 0) || c.Old == c.ID:
		return errors.New("malformed change")
	case r.left(c.ID):
		return ErrLeft
	case c.Kind == AddLearner && (voter || learner), (c.Kind == Promote || c.Kind == Replace) && voter:
		return ErrMember
	case c.Kind != AddLearner && !voter && !learner:
		return ErrNoMember
	case c.Kind == Replace && !r.votes(c.Old) && !slices.Contains(r.conf.GetLearners(), uint64(c.Old)):
		return ErrNoMember
	case c.Kind == Remove && voter && len(r.conf.GetVoters()) == 1:
		return ErrLastVoter
	case (c.Kind == Promote || c.Kind == Replace) && !r.caughtUp(c.ID):
		return ErrBehind
	}
	return r.endangers(c)
}

// endangers refuses a change of the voters after which too few of them are there.
func (r *Replica) endangers(c Change) error {
	if planted.On(planted.PromoteWithoutCatchingUp) {
		return nil
	}
	var after []env.NodeID
	switch {
	case c.Kind == AddLearner || c.Kind == Remove && !r.votes(c.ID):
		return nil
	case c.Kind != Remove:
		after = append(after, c.ID)
	}
	for _, id := range r.Voters() {
		if c.Kind == Promote || c.Kind == Remove && id != c.ID || c.Kind == Replace && id != c.Old {
			after = append(after, id)
		}
	}
	active := 0
	for _, id := range after {
		if id == r.cfg.ID || r.active(id) {
			active++
		}
	}
	if need := len(after)/2 + 1; active < need {
		return &QuorumError{Voters: len(after), Active: active, Need: need}
	}
	return nil
}

// active tells whether id was heard of within half an election timeout.
func (r *Replica) active(id env.NodeID) bool {
	l := r.link(id)
	return r.ticks-l.heard <= uint64(r.cfg.ElectionTicks+1)/2 && l.codec.Heard() > 0
}

// votes tells whether id is a voter.
func (r *Replica) votes(id env.NodeID) bool { return slices.Contains(r.conf.GetVoters(), uint64(id)) }

// caughtUp tells whether a member holds what was committed a tick ago.
func (r *Replica) caughtUp(id env.NodeID) bool {
	if planted.On(planted.PromoteWithoutCatchingUp) {
		return true
	}
	for _, p := range r.Progress() {
		if p.ID == id {
			return p.Active && !p.Snapshot && p.Match >= min(r.tickCommit, r.applied)
		}
	}
	return false
}

// Steady lists the learners that have kept up with the leader for an election
// timeout, by ID. It is empty except on the leader.
func (r *Replica) Steady() (ids []env.NodeID) {
	if _, ok := r.Leading(); !ok {
		return nil
	}
	for _, id := range r.conf.GetLearners() {
		if r.link(env.NodeID(id)).steady >= r.cfg.ElectionTicks || planted.On(planted.PromoteWithoutCatchingUp) {
			ids = append(ids, env.NodeID(id))
		}
	}
	return ids
}

// tickMembers follows how steadily learners keep up, on the leader, and finishes
// what a change has left to do.
func (r *Replica) tickMembers() {
	for _, l := range r.peers {
		if r.role == Leader && slices.Contains(r.conf.GetLearners(), uint64(l.id)) && r.caughtUp(l.id) {
			l.steady++
		} else {
			l.steady = 0
		}
	}
	r.tickCommit = r.commit
	r.askWhetherRemoved()
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
	was, before := r.conf, everybody(r.conf)
	r.conf = r.raft.ApplyConfChange(cc)
	r.markChange(changes)
	for _, c := range changes {
		if c.GetType() == raftpb.ConfChangeUpdateNode {
			r.noteSettled(env.NodeID(c.GetNodeId()))
		}
	}
	after := everybody(r.conf)
	for _, id := range before {
		if _, stays := slices.BinarySearch(after, id); !stays {
			r.noteRemoved(id)
		}
	}
	if entry := cc.AsV2().GetContext(); len(entry) > 0 {
		r.machine.Apply(e.GetIndex(), entry)
	}
	if slices.Equal(was.GetVoters(), r.conf.GetVoters()) && slices.Equal(was.GetLearners(), r.conf.GetLearners()) {
		return // a removal was settled, or a joint change completed
	}
	r.env.Log.Log(env.Info, "members changed", "id", r.cfg.ID, "voters", r.Voters(), "learners", r.Group().Learners)
}

// everybody lists all that a group consists of, by ID. Whoever leaves in a joint
// change still votes until the change is complete.
func everybody(c *raftpb.ConfState) []env.NodeID {
	ids := slices.Concat(nodeIDs(c.GetVoters()), nodeIDs(c.GetVotersOutgoing()), nodeIDs(c.GetLearners()), nodeIDs(c.GetLearnersNext()))
	slices.Sort(ids)
	return slices.Compact(ids)
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
			Active:   r.active(env.NodeID(id)),
			Learner:  kind == raft.ProgressTypeLearner,
			Snapshot: p.State == tracker.StateSnapshot,
		})
	})
	return list
}
