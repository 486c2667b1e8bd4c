package replica

import (
	"errors"
	"fmt"
	"hash/crc64"
	"io"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/keelson/keelson/core/env"
)

// A snapshot travels to a follower in chunks beside raft's messages, so that a
// large state neither delays heartbeats nor needs a buffer of its size here: it
// is encoded from an immutable value as the chunks leave. The follower
// acknowledges what arrived in order; chunks without an answer are sent again.
// When the last one has arrived and the checksum agrees, the follower hands
// raft's message to raft as if it had come with the whole state.

// transfers are the snapshots on their way to followers, by the order begun.
type transfers struct {
	list []*transfer
	last uint64 // numbers transfers of this life
}

type transfer struct {
	to        env.NodeID
	id        uint64
	message   []byte // raft's MsgSnap
	removed   []env.NodeID
	unsettled []env.NodeID
	body      io.Reader
	sum       uint64
	unacked   []*chunk // sent, oldest first; at most the window
	next      uint64   // number of the next chunk to be made
	ended     bool     // the last chunk has been made
	progress  uint64   // tick of the last acknowledgement or repetition
	alive     uint64   // tick of the last acknowledgement
}

// Ticks without an acknowledgement after which chunks are repeated, and election
// timeouts after which the transfer is given up.
const (
	repeatTicks    = 3
	patienceRounds = 3
)

// startTransfer takes raft's MsgSnap, which says that a follower needs more than
// the log holds.
func (r *Replica) startTransfer(m *raftpb.Message) {
	to := env.NodeID(m.GetTo())
	r.dropTransfer(to)
	index := m.GetSnapshot().GetMetadata().GetIndex()
	if index != r.applied {
		// Raft describes the state as it was when asked, within this turn.
		r.raft.ReportSnapshot(m.GetTo(), raft.SnapshotFailure)
		return
	}
	r.out.last++
	r.out.list = append(r.out.list, &transfer{
		to: to, id: r.out.last, message: marshal(m), removed: r.removed, unsettled: r.unsettled,
		body: r.machine.Snapshot().NewReader(), progress: r.ticks, alive: r.ticks,
	})
	r.env.Log.Log(env.Info, "send the state", "id", r.cfg.ID, "to", to, "index", index, "transfer", r.out.last)
}

// pumpTransfers sends what the windows allow.
func (r *Replica) pumpTransfers() {
	for _, t := range r.out.list {
		for !t.ended && len(t.unacked) < r.cfg.ChunkWindow {
			c, err := t.make(r.cfg.ChunkBytes)
			if err != nil {
				r.die(fmt.Errorf("replica: encode the state for %v: %w", t.to, err))
				return
			}
			t.unacked = append(t.unacked, c)
			r.post(t.to, kindChunk, c.encode())
		}
	}
}

// make encodes the next chunk.
func (t *transfer) make(size int) (*chunk, error) {
	data := make([]byte, size)
	n, err := io.ReadFull(t.body, data)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	t.ended = err != nil
	c := &chunk{transfer: t.id, number: t.next, last: t.ended, data: data[:n]}
	if t.next == 0 {
		c.message, c.removed, c.unsettled = t.message, t.removed, t.unsettled
	}
	t.next++
	t.sum = crc64.Update(t.sum, crcTable(), c.data)
	c.sum = t.sum
	return c, nil
}

// crcTable is cached by the library.
func crcTable() *crc64.Table { return crc64.MakeTable(crc64.ECMA) }

// takeAck follows a follower's word on its snapshot.
func (r *Replica) takeAck(from env.NodeID, payload []byte) error {
	a, err := decodeAck(payload)
	if err != nil {
		return err
	}
	for _, t := range r.out.list {
		if t.to != from || t.id != a.transfer {
			continue
		}
		if len(t.unacked) > 0 && a.next > t.unacked[0].number {
			t.progress, t.alive = r.ticks, r.ticks
		}
		for len(t.unacked) > 0 && t.unacked[0].number < a.next {
			t.unacked = t.unacked[1:]
		}
		switch {
		case a.failed:
			r.abandonTransfer(from, "refused")
		case a.complete:
			r.dropTransfer(from)
			r.raft.ReportSnapshot(uint64(from), raft.SnapshotFinish)
		}
		return nil
	}
	return nil // of a transfer that is over
}

// tickTransfers repeats what has no answer and gives up on followers that give
// none.
func (r *Replica) tickTransfers() {
	for _, t := range append([]*transfer(nil), r.out.list...) {
		switch {
		case r.ticks-t.alive > uint64(patienceRounds*r.cfg.ElectionTicks):
			r.abandonTransfer(t.to, "no answer")
		case r.ticks-t.progress >= repeatTicks && len(t.unacked) > 0:
			t.progress = r.ticks
			r.env.Rare.Mark("replica: snapshot chunks repeated")
			for _, c := range t.unacked {
				r.post(t.to, kindChunk, c.encode())
			}
		}
	}
	r.tickReception()
}

func (r *Replica) dropTransfer(to env.NodeID) bool {
	for i, t := range r.out.list {
		if t.to == to {
			r.out.list = append(r.out.list[:i:i], r.out.list[i+1:]...)
			return true
		}
	}
	return false
}

// abandonTransfer ends a transfer and tells raft, which may ask for another.
func (r *Replica) abandonTransfer(to env.NodeID, why string) {
	if r.dropTransfer(to) {
		r.env.Log.Log(env.Info, "sending the state is given up", "id", r.cfg.ID, "to", to, "reason", why)
		r.raft.ReportSnapshot(uint64(to), raft.SnapshotFailure)
	}
}

func (r *Replica) abandonTransfers(why string) {
	if len(r.out.list) > 0 {
		r.env.Rare.Mark("replica: leader change during snapshot transfer")
		r.env.Log.Log(env.Info, "sending states is given up", "id", r.cfg.ID, "transfers", len(r.out.list), "reason", why)
	}
	r.out.list = nil
}

// reception is the snapshot that is arriving, at most one.
type reception struct {
	from     env.NodeID
	transfer uint64 // 0 is none
	message  *raftpb.Message
	state    *state
	next     uint64
	sum      uint64
	heard    uint64 // tick

	bytes, told int64 // arrived so far, and when people were last told

	// The last one that was completed, so that a lost answer can be given again.
	doneFrom     env.NodeID
	doneTransfer uint64
	doneNext     uint64
	doneLife     uint64

	life   uint64 // incarnation of the sender
	staged *state // complete, handed to raft
}

// takeChunk collects the pieces of a snapshot.
func (r *Replica) takeChunk(from env.NodeID, payload []byte) error {
	c, err := decodeChunk(payload)
	if err != nil {
		return err
	}
	in, life := &r.in, r.link(from).codec.Heard()
	if in.doneFrom == from && in.doneTransfer == c.transfer && in.doneLife == life {
		r.answer(from, &ack{transfer: c.transfer, next: in.doneNext, complete: true})
		return nil
	}
	if c.number == 0 && (in.from != from || in.transfer != c.transfer || in.life != life) {
		if err := r.beginReception(from, life, c); err != nil {
			return err
		}
	}
	if in.from != from || in.transfer != c.transfer || in.life != life {
		return nil // its beginning never came, or a newer one is arriving
	}
	in.heard = r.ticks
	if c.number != in.next {
		r.answer(from, &ack{transfer: c.transfer, next: in.next})
		return nil
	}
	in.sum = crc64.Update(in.sum, crcTable(), c.data)
	in.state.pieces = append(in.state.pieces, c.data)
	r.receiving(len(c.data))
	in.next++
	if in.sum != c.sum {
		in.transfer = 0
		r.answer(from, &ack{transfer: c.transfer, failed: true})
		return errors.New("the checksum of a snapshot does not match")
	}
	if c.last {
		return r.finishReception()
	}
	r.answer(from, &ack{transfer: c.transfer, next: in.next})
	return nil
}

func (r *Replica) answer(to env.NodeID, a *ack) { r.post(to, kindAck, a.encode()) }

func (r *Replica) beginReception(from env.NodeID, life uint64, c *chunk) error {
	m := &raftpb.Message{}
	if err := unmarshal(c.message, m); err != nil {
		return err
	}
	if m.GetType() != raftpb.MsgSnap || m.GetFrom() != uint64(from) || m.GetTo() != uint64(r.cfg.ID) || raft.IsEmptySnap(m.GetSnapshot()) {
		return errors.New("a transfer without a snapshot message")
	}
	if m.GetTerm() < r.term {
		r.answer(from, &ack{transfer: c.transfer, failed: true})
		return errors.New("a snapshot of a former leader")
	}
	if r.in.transfer != 0 {
		r.env.Rare.Mark("replica: arriving snapshot superseded")
	}
	at := m.GetSnapshot().GetMetadata()
	in := &r.in
	in.bytes, in.told = 0, 0
	in.from, in.life, in.transfer, in.message, in.next, in.sum = from, life, c.transfer, m, 0, 0
	in.state = &state{index: at.GetIndex(), term: at.GetTerm(), removed: c.removed, unsettled: c.unsettled}
	return nil
}

// finishReception hands the snapshot to raft, which may still find that it is
// not needed any more.
func (r *Replica) finishReception() error {
	in := &r.in
	in.doneFrom, in.doneTransfer, in.doneNext, in.doneLife = in.from, in.transfer, in.next, in.life
	r.answer(in.from, &ack{transfer: in.transfer, next: in.next, complete: true})
	m := in.message
	in.staged, in.transfer, in.message, in.state = in.state, 0, nil, nil
	r.drain() // so that nothing of another snapshot is in between
	err := r.step(m)
	r.drain()
	in.staged = nil
	return err
}

// tickReception forgets a snapshot that stopped arriving.
func (r *Replica) tickReception() {
	in := &r.in
	if in.transfer != 0 && r.ticks-in.heard > uint64(2*patienceRounds*r.cfg.ElectionTicks) {
		in.transfer, in.message, in.state = 0, nil, nil
	}
}
