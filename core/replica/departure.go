package replica

import (
	"errors"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/planted"
)

// A member that is removed may be needed once more. Whoever has not applied the
// removal yet still counts it among the voters, and if the leader dies before it
// has spread the news, the others may have no majority without the one that left.
// So it goes on answering votes and appends until somebody tells it that the
// removal is settled:
//
//	member ──removal applied──▶ left, unsettled ──settled──▶ left ──told──▶ stops
//
// The leader, once it has applied a removal, puts an entry into the log that says
// so. It is committed by the remaining members alone, and whoever acknowledges it
// knows, durably, that everything before it is committed. So when it is committed a
// majority of them knows of the removal, every majority has one that knows among
// those furthest along, and the one that left is needed no more.

// ErrRemoved is passed to Fatal when the cluster has removed this member.
var ErrRemoved = errors.New("the member has been permanently removed from the cluster, the data-dir used by this member must be removed")

// noteRemoved follows a member that has left the group.
func (r *Replica) noteRemoved(id env.NodeID) {
	r.removed = with(r.removed, id)
	r.unsettled = with(r.unsettled, id)
	if id != r.cfg.ID {
		r.abandonTransfer(id, "member removed")
	}
}

// noteSettled follows a removal that is known to enough others.
func (r *Replica) noteSettled(id env.NodeID) {
	r.unsettled = without(r.unsettled, id)
	r.tellRemoved(id)
}

// settleRemovals puts into the log that removals applied here are settled once that
// is committed, on the leader.
func (r *Replica) settleRemovals() {
	_, leading := r.Leading()
	if !leading || len(r.unsettled) == 0 || r.confPending > r.applied || len(r.conf.GetVotersOutgoing()) > 0 {
		return
	}
	_ = r.proposeConf(&raftpb.ConfChange{ // refused, it is tried again in a later turn
		Type: raftpb.ConfChangeUpdateNode.Enum(), NodeId: new(uint64(r.unsettled[0])),
	})
}

// tellRemoved tells one that was removed, if it is safe to let it go.
func (r *Replica) tellRemoved(id env.NodeID) {
	if planted.On(planted.RemovedNotTold) {
		return
	}
	if _, waits := slices.BinarySearch(r.unsettled, id); !waits && r.left(id) && id != r.cfg.ID {
		r.post(id, kindRemoved, nil)
	}
}

// askWhetherRemoved asks the others, on a member that has applied its own removal:
// the leader does not talk to it any more.
func (r *Replica) askWhetherRemoved() {
	if !r.left(r.cfg.ID) || r.gone || r.ticks%uint64(r.cfg.ElectionTicks) != 0 {
		return
	}
	for _, id := range everybody(r.conf) {
		r.post(id, kindAsk, nil)
	}
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
	r.env.Log.Log(env.Warn, "the member has been permanently removed from the cluster", "id", r.cfg.ID)
	r.env.Log.Log(env.Warn, "the data-dir used by this member must be removed.", "id", r.cfg.ID)
	r.env.Clock.After(removedLinger, func() { r.die(ErrRemoved) })
}

// removedLinger is how long a removed replica lives on, so that clients get their
// answers.
const removedLinger = time.Second

// with gives ids, sorted, with id among them. The slice given is not changed.
func with(ids []env.NodeID, id env.NodeID) []env.NodeID {
	i, found := slices.BinarySearch(ids, id)
	if found {
		return ids
	}
	return slices.Insert(slices.Clone(ids), i, id)
}

// without gives ids, sorted, without id. The slice given is not changed.
func without(ids []env.NodeID, id env.NodeID) []env.NodeID {
	i, found := slices.BinarySearch(ids, id)
	if !found {
		return ids
	}
	return slices.Delete(slices.Clone(ids), i, i+1)
}
