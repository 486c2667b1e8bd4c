package replica

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/peer"
)

// link is the connection with one other replica.
type link struct {
	id    env.NodeID
	codec *peer.Link
	heard uint64 // tick of the last frame

	foreign bool // it was said that this node is of another cluster

	steady int // ticks in a row in which it was a learner that keeps up

	appends appends
}

// link finds the connection with id, or makes one.
func (r *Replica) link(id env.NodeID) *link {
	i, found := slices.BinarySearchFunc(r.peers, id, func(l *link, id env.NodeID) int {
		switch {
		case l.id < id:
			return -1
		case l.id > id:
			return 1
		default:
			return 0
		}
	})
	if !found {
		codec := peer.NewLink(peer.Config{Cluster: r.cfg.Cluster, Self: r.cfg.ID, Peer: id, Incarnation: r.incarnation})
		r.peers = slices.Insert(r.peers, i, &link{id: id, codec: codec})
	}
	return r.peers[i]
}

// post puts a message into the turn's frame for a peer. Before the incarnation is
// durable nothing may be said.
func (r *Replica) post(to env.NodeID, kind byte, payload []byte) {
	if !r.ready || to == 0 || to == r.cfg.ID {
		return
	}
	l := r.link(to)
	if l.codec.Add(kind, payload) {
		return
	}
	r.sendFrame(l)
	if !l.codec.Add(kind, payload) {
		r.env.Log.Log(env.Warn, "message too long to be sent", "to", to, "bytes", len(payload))
	}
}

// postRaft is post for a raft message: it is encoded in place.
func (r *Replica) postRaft(m *raftpb.Message) {
	to := env.NodeID(m.GetTo())
	if !r.ready || to == 0 || to == r.cfg.ID {
		return
	}
	l, o := r.link(to), r.enc.message(m)
	p, ok := l.codec.Reserve(kindRaft, o.size)
	if !ok {
		r.sendFrame(l)
		p, ok = l.codec.Reserve(kindRaft, o.size)
	}
	if !ok {
		r.env.Log.Log(env.Warn, "message too long to be sent", "to", to, "bytes", o.size)
		return
	}
	o.appendTo(p[:0])
	r.sentRaft(l, m, o.size)
}

// sendFrames sends what the turn said, and tells raft of the peers that did not
// get it.
func (r *Replica) sendFrames() {
	for _, l := range r.peers {
		r.sendFrame(l)
	}
}

func (r *Replica) sendFrame(l *link) {
	frame := l.codec.Frame()
	if frame == nil {
		return
	}
	if !r.env.Net.Send(l.id, frame) && r.role == Leader && !r.inert() {
		l.appends.lost()
		r.raft.ReportUnreachable(uint64(l.id))
	}
	l.appends.queued = 0
}
