package replica

import (
	"encoding/binary"
	"errors"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/format"
	"github.com/keelson/keelson/core/invariant"
)

// Kinds of messages between replicas.
const (
	kindRaft    = 1 // a raft message
	kindNode    = 2 // what Send was given
	kindChunk   = 3 // a piece of a snapshot
	kindAck     = 4 // how far a snapshot has come
	kindRemoved = 5 // the receiver is no member any more
	kindAsk     = 6 // the sender has left and wants to be told that it is no member any more
)

// encodings keeps the bytes of entries for one turn, so that an entry is encoded
// once for the log and all followers.
type encodings map[*raftpb.Entry][]byte

func (c encodings) of(e *raftpb.Entry) []byte {
	if p, ok := c[e]; ok {
		return p
	}
	p := marshal(e)
	c[e] = p
	return p
}

var deterministic = proto.MarshalOptions{Deterministic: true}

func marshal(m proto.Message) []byte {
	p, err := deterministic.Marshal(m)
	invariant.Check(err == nil, "replica: encode: %v", err)
	return p
}

// entriesTag is the key of raftpb.Message.entries on the wire: field 7, bytes.
const entriesTag = 7<<3 | 2

// outgoing is a raft message in two parts: all fields but the entries, and the
// entries. Fields of protocol buffers may come in any order, so one after the
// other they are the message, and the entries' bytes are those of the log.
type outgoing struct {
	head    []byte
	entries [][]byte
	size    int
}

func (c encodings) message(m *raftpb.Message) outgoing {
	entries := m.Entries
	m.Entries = nil
	o := outgoing{head: marshal(m)}
	m.Entries = entries
	o.size = len(o.head)
	for _, e := range entries {
		b := c.of(e)
		o.entries = append(o.entries, b)
		o.size += 1 + len(binary.AppendUvarint(nil, uint64(len(b)))) + len(b)
	}
	return o
}

// appendTo appends the message, o.size bytes, to p.
func (o *outgoing) appendTo(p []byte) []byte {
	p = append(p, o.head...)
	for _, b := range o.entries {
		p = append(p, entriesTag)
		p = binary.AppendUvarint(p, uint64(len(b)))
		p = append(p, b...)
	}
	return p
}

// meta is what a snapshot says about the group beside the machine's state.
type meta struct {
	conf      *raftpb.ConfState
	removed   []env.NodeID
	unsettled []env.NodeID // of removed; encoded only where there are any
}

const metaVersion = format.GroupState

func (m *meta) encode() []byte {
	version := byte(1)
	if len(m.unsettled) > 0 {
		version = metaVersion
	}
	p := appendBytes([]byte{version}, marshal(m.conf))
	p = appendIDs(p, m.removed)
	return appendTail(p, m.unsettled)
}

// appendTail appends IDs that take no room where there are none: readers that do
// not know of them understand what is written without.
func appendTail(p []byte, ids []env.NodeID) []byte {
	if len(ids) == 0 {
		return p
	}
	return appendIDs(p, ids)
}

func decodeMeta(p []byte) (*meta, error) {
	if len(p) == 0 {
		return nil, errShort
	}
	if err := format.Check("group", int(p[0]), 1, metaVersion); err != nil {
		return nil, err
	}
	d := decoder{p[1:], nil}
	m := &meta{conf: &raftpb.ConfState{}}
	d.proto(m.conf)
	m.removed = d.ids()
	m.unsettled = d.tail()
	return m, d.done()
}

// chunk is a piece of a snapshot. The first carries the raft message that the
// snapshot belongs to, the last the checksum of the whole.
type chunk struct {
	transfer uint64
	number   uint64
	last     bool
	sum      uint64 // CRC-64 of all data so far and of this chunk
	message  []byte
	removed  []env.NodeID
	data     []byte
	// unsettled is encoded only where there are any.
	unsettled []env.NodeID
}

func (c *chunk) encode() []byte {
	p := make([]byte, 0, len(c.data)+len(c.message)+64)
	p = binary.AppendUvarint(p, c.transfer)
	p = binary.AppendUvarint(p, c.number)
	p = append(p, flag(c.last))
	p = binary.AppendUvarint(p, c.sum)
	p = appendBytes(p, c.message)
	p = appendIDs(p, c.removed)
	p = appendBytes(p, c.data)
	return appendTail(p, c.unsettled)
}

func decodeChunk(p []byte) (*chunk, error) {
	d := decoder{p, nil}
	c := &chunk{transfer: d.uint(), number: d.uint(), last: d.flag(), sum: d.uint(), message: d.bytes(), removed: d.ids(), data: d.bytes(), unsettled: d.tail()}
	return c, d.done()
}

// ack answers chunks: all before next have arrived. Failed says that the transfer
// cannot be finished.
type ack struct {
	transfer uint64
	next     uint64
	complete bool
	failed   bool
}

func (a *ack) encode() []byte {
	p := binary.AppendUvarint(nil, a.transfer)
	p = binary.AppendUvarint(p, a.next)
	return append(p, flag(a.complete), flag(a.failed))
}

func decodeAck(p []byte) (*ack, error) {
	d := decoder{p, nil}
	a := &ack{transfer: d.uint(), next: d.uint(), complete: d.flag(), failed: d.flag()}
	return a, d.done()
}

func unmarshal(p []byte, m proto.Message) error { return proto.Unmarshal(p, m) }

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendBytes(p, b []byte) []byte {
	p = binary.AppendUvarint(p, uint64(len(b)))
	return append(p, b...)
}

func appendIDs(p []byte, ids []env.NodeID) []byte {
	p = binary.AppendUvarint(p, uint64(len(ids)))
	for _, id := range ids {
		p = binary.AppendUvarint(p, uint64(id))
	}
	return p
}

// decoder reads fields from the front of p until one does not fit.
type decoder struct {
	p   []byte
	err error
}

var errShort = errors.New("cut off or malformed")

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.p)
	if n <= 0 {
		d.p, d.err = nil, errShort
		return 0
	}
	d.p = d.p[n:]
	return v
}

func (d *decoder) flag() bool {
	if len(d.p) == 0 || d.p[0] > 1 {
		d.p, d.err = nil, errShort
		return false
	}
	set := d.p[0] == 1
	d.p = d.p[1:]
	return set
}

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.p)) {
		d.p, d.err = nil, errShort
		return nil
	}
	b := d.p[:n:n]
	d.p = d.p[n:]
	return b
}

func (d *decoder) ids() []env.NodeID {
	n := d.uint()
	if n > uint64(len(d.p)) {
		d.p, d.err = nil, errShort
		return nil
	}
	ids := make([]env.NodeID, 0, n)
	for range n {
		ids = append(ids, env.NodeID(d.uint()))
	}
	return ids
}

// tail reads what appendTail wrote.
func (d *decoder) tail() []env.NodeID {
	if len(d.p) == 0 {
		return nil
	}
	return d.ids()
}

func (d *decoder) proto(m proto.Message) {
	if err := proto.Unmarshal(d.bytes(), m); err != nil && d.err == nil {
		d.err = err
	}
}

func (d *decoder) done() error {
	if d.err == nil && len(d.p) > 0 {
		return errors.New("more bytes than expected")
	}
	return d.err
}
