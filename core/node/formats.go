package node

import (
	"cmp"
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
	seen   int  // of the last batch applied
	guards bool // a command that makes guards count has been written
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

// write is the format of the next batch. From the first that makes guards count, all
// tell them.
func (f *formats) write() int {
	if f.guards || f.n.store.Guard() != 0 {
		return max(f.read(), store.GuardedFormat)
	}
	return f.read()
}

// forwards is the format of commands for the leader.
func (f *formats) forwards() int { return min(f.write(), format.Commands) }

// propose is the format of a batch with these commands.
func (f *formats) propose(list []store.Command) int {
	number := f.write()
	if number < store.GuardedFormat {
		f.guards = slices.ContainsFunc(list, func(c store.Command) bool { return c.Conditional() })
		number = f.write()
	}
	return number
}

// read is the newest format that every member is known to read.
func (f *formats) read() int {
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
		if !slices.Contains(voters, id) {
			reads = store.GuardedFormat // the first version that can be added to a cluster
		}
		if node, missing := f.n.View().Get(memberKey(id), false); missing == nil {
			reads = max(reads, recordedBatch(node))
		}
		f.agreed = min(f.agreed, reads)
	}
	return f.agreed
}

// behind names the members of which it is not known that they read a format; see read.
func (f *formats) behind(number int) (names []string) {
	for _, m := range f.n.members() {
		node, missing := f.n.View().Get(memberKey(m.ID), false)
		if m.ID == f.n.cfg.ID || m.Learner || missing == nil && recordedBatch(node) >= number {
			continue
		}
		names = append(names, cmp.Or(m.Name, m.ID.String()))
	}
	return names
}

func recordedBatch(node *store.Node) int {
	a, _ := attributesOf(node.Value)
	return a.Batch
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
