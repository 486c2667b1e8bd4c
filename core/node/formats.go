package node

import (
	"slices"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/format"
	"github.com/keelson/keelson/core/store"
)

// formats decides in which format batches are written: the newest that every member
// says it reads, in the record that it publishes. A member that has not published
// itself reads only the oldest, as far as anybody knows.
type formats struct {
	n      *Node
	stale  bool         // a record has changed; a learner comes and goes with one
	voters []env.NodeID // of whom agreed was made
	agreed int
	seen   int // of the last batch applied
}

// newest is the newest format of batches that this node reads.
func (n *Node) newest() int {
	if n.cfg.NextFormats {
		return store.NextBatch
	}
	return format.Batch
}

// offers is what this node publishes: what it reads, unless it is told to hold back.
func (n *Node) offers() int {
	if n.cfg.HoldBatch > 0 {
		return min(n.newest(), n.cfg.HoldBatch)
	}
	return n.newest()
}

// write is the format of the next batch.
func (f *formats) write() int {
	voters := f.n.replica.Voters()
	if f.agreed != 0 && !f.stale && slices.Equal(voters, f.voters) {
		return f.agreed
	}
	f.stale, f.voters, f.agreed = false, voters, f.n.offers()
	for _, id := range slices.Concat(voters, f.n.replica.Status().Learners) {
		if id == f.n.cfg.ID {
			continue
		}
		reads := 1
		if node, missing := f.n.View().Get(memberKey(id), false); missing == nil {
			if a, ok := attributesOf(node.Value); ok {
				reads = max(reads, a.Batch)
			}
		}
		f.agreed = min(f.agreed, reads)
	}
	return f.agreed
}

// applied follows a batch. Where the cluster has gone back to an older format, what is
// in the newer one leaves the log with a snapshot, so that an older program can start
// from it.
func (f *formats) applied(number int) {
	switch {
	case number > f.seen && f.seen > 0:
		f.n.env.Rare.Mark("node: a newer batch format begins")
	case number < f.seen:
		f.n.env.Rare.Mark("node: an older batch format returns")
		f.n.replica.SnapshotSoon()
	}
	f.seen = number
}
