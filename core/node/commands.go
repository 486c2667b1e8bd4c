package node

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/replica"
	"github.com/keelson/keelson/core/store"
)

// commands are the writes of this node's clients that have no outcome yet, in the
// order in which they came. Each is kept until it is seen applied or its time is
// up: it is sent to the leader, and again to the next leader, and the state
// machine makes sure that a second copy changes nothing.
//
//	      settled          sent to the leader            not sent yet
//	───────────────── first ──────────────── sent ────────────────────── next
type commands struct {
	list  []*command // numbers first to next-1; nil where there is an outcome
	first uint64     // Invariant: list[0] is not nil, if there is any.
	sent  uint64     // Invariant: first <= sent <= next.
	next  uint64     // number of the next command
	count int
	bytes int

	leader  env.NodeID // to whom the sent ones went
	term    uint64
	sentAt  env.Instant // when the last was sent
	repeats int         // since something was last applied
}

type command struct {
	c       store.Command
	done    func(store.Result)
	until   env.Instant
	changes uint64 // leader changes this node had seen when it came
	tried   bool
	size    int

	// Of a change of the members, which is no command of the store yet.
	change  *change
	refused func(*gateway.MemberRefusal)
}

// outcome is a result on its way to the client.
type outcome struct {
	done   func(store.Result)
	result store.Result
}

// Causes of error 300 as clients know them.
const (
	causeTimeout    = "etcdserver: request timed out"
	causeLeaderLost = "etcdserver: request timed out, possibly due to previous leader failure"
	causeConnection = "etcdserver: request timed out, possibly due to connection lost"
	causeStopped    = "etcdserver: server stopped"
	causeTooMany    = "etcdserver: too many requests"
	causeRemoved    = gateway.CauseRemoved
	causeOlder      = "etcdserver: users and roles are for a cluster whose members all run this version: upgrade, or wait for, "
	causeUnknown    = "etcdserver: applied, but the result was lost: outcome unknown"
)

// commandOverhead is what a command costs beside its key and values, in bytes.
const commandOverhead = 64

// Propose puts c into the log; see gateway.Backend.
func (n *Node) Propose(c store.Command, done func(store.Result)) {
	q := &n.commands
	size := len(c.Key) + len(c.Value) + len(c.PrevValue) + commandOverhead
	switch {
	case n.inert():
		done(n.failed(causeStopped))
		return
	case n.left:
		done(n.failed(causeRemoved))
		return
	case c.Conditional() && n.formats.read() < store.GuardedFormat:
		n.env.Rare.Mark("node: users and roles wait for members of this version")
		n.proposeLater(c, done, n.env.Clock.Now().Add(n.cfg.Timeout))
		return
	case n.replica.Full():
		done(n.failed(gateway.CauseFull + " left on the disk of " + cmp.Or(n.cfg.Name, n.cfg.ID.String()) + ": nothing was written; free some, and writes go on by themselves"))
		return
	case q.count >= n.cfg.PendingMax || q.bytes+size > n.cfg.PendingBytesMax && q.count > 0:
		n.env.Rare.Mark("node: too many commands wait")
		done(n.failed(causeTooMany))
		return
	}
	c.ID = store.ID{Node: n.cfg.ID, Incarnation: n.replica.Incarnation(), Number: q.next}
	q.list = append(q.list, &command{
		c: c, done: done, size: size, until: n.env.Clock.Now().Add(n.cfg.Timeout), changes: n.info.changes,
	})
	q.next++
	q.count++
	q.bytes += size
}

// proposeLater waits until every member can read c: in a new cluster that is a matter of
// a moment. A member of an older version would do it without asking who may.
func (n *Node) proposeLater(c store.Command, done func(store.Result), until env.Instant) {
	n.env.Clock.After(formatPause, func() {
		switch {
		case n.inert() || n.left || n.formats.read() >= store.GuardedFormat:
			n.Propose(c, done)
		case n.env.Clock.Now() >= until:
			done(n.failed(causeOlder + strings.Join(n.formats.behind(store.GuardedFormat), ", ")))
		default:
			n.proposeLater(c, done, until)
		}
	})
}

// formatPause is the time between looks at what members read.
const formatPause = 50 * time.Millisecond

func (n *Node) failed(cause string) store.Result {
	return store.Result{Err: &store.Error{Code: store.CodeRaftInternal, Cause: cause, Index: n.store.Index()}, Index: n.store.Index()}
}

// finish notes the outcome of one of this node's commands.
func (n *Node) finish(number uint64, res store.Result) {
	q := &n.commands
	if number < q.first || number >= q.next || q.list[number-q.first] == nil {
		return // its time was up
	}
	if res.Copy {
		res = n.failed(causeUnknown)
	}
	c := q.take(number)
	q.repeats = 0
	n.outcomes = append(n.outcomes, outcome{c.done, res})
}

// take removes a command.
func (q *commands) take(number uint64) *command {
	c := q.list[number-q.first]
	q.list[number-q.first] = nil
	q.count--
	q.bytes -= c.size
	for len(q.list) > 0 && q.list[0] == nil {
		q.list = q.list[1:]
		q.first++
	}
	q.sent = max(q.sent, q.first)
	return c
}

// lostResults ends the commands whose results this node has missed because the
// state was replaced by a later one.
func (n *Node) lostResults() {
	q := &n.commands
	for number := q.first; number < q.next; number++ {
		if c := q.at(number); c != nil && n.store.Applied(c.name()) {
			n.env.Rare.Mark("node: result lost in a snapshot")
			n.outcomes = append(n.outcomes, outcome{q.take(number).done, n.failed(causeUnknown)})
		}
	}
}

// at is the command with a number, nil where it has an outcome.
func (q *commands) at(number uint64) *command {
	if number < q.first || number-q.first >= uint64(len(q.list)) {
		return nil
	}
	return q.list[number-q.first]
}

// name is what the store knows a command by.
func (c *command) name() store.ID {
	if c.change != nil {
		return c.change.id
	}
	return c.c.ID
}

// forwarded are commands of other nodes that wait to be proposed here. Whoever
// sent them keeps them and sends them again, so they may be dropped.
type forwarded struct {
	list  []store.Command
	bytes int
}

// forwardedMax bounds what waits, in bytes.
const forwardedMax = 8 << 20

// takeForwarded takes commands that a follower sends to its leader.
func (n *Node) takeForwarded(from env.NodeID, payload []byte) {
	list, err := store.DecodeCommands(payload)
	if err != nil {
		n.env.Log.Log(env.Warn, "forwarded commands dropped", "from", from, "reason", err)
		return
	}
	if leader, _ := n.replica.Leader(); leader != n.cfg.ID {
		n.env.Rare.Mark("node: commands forwarded to a former leader")
		return
	}
	for i := range list {
		if list[i].ID.Node != from || n.store.Applied(list[i].ID) {
			continue
		}
		size := sizeOf(&list[i])
		if n.forwarded.bytes+size > forwardedMax && len(n.forwarded.list) > 0 {
			n.env.Rare.Mark("node: forwarded commands dropped")
			return
		}
		n.forwarded.list = append(n.forwarded.list, list[i])
		n.forwarded.bytes += size
	}
}

func sizeOf(c *store.Command) int {
	return len(c.Key) + len(c.Value) + len(c.PrevValue) + commandOverhead
}

// pump moves commands on: into the log where this node leads, to the leader where
// another does.
func (n *Node) pump() {
	if n.inert() || !n.replica.Ready() {
		return
	}
	leader, term := n.replica.Leader()
	n.info.leads(n, leader, term)
	n.restart(leader, term)
	if leader != n.cfg.ID {
		n.changes.list = nil // whoever asked asks the next leader
	}
	switch {
	case leader == 0:
		n.forwarded = forwarded{}
	case leader == n.cfg.ID:
		n.proposeAll()
		n.tendMembers()
	default:
		n.forwarded = forwarded{}
		n.forwardAll(leader)
	}
}

// restart has everything sent again when somebody else leads, or the same one
// for another term: what the former leader had not committed is gone.
func (n *Node) restart(leader env.NodeID, term uint64) {
	q := &n.commands
	if q.leader == leader && q.term == term {
		return
	}
	q.leader, q.term, q.repeats = leader, term, 0
	n.changes.list = nil
	if q.sent > q.first && leader != 0 {
		n.env.Rare.Mark("node: commands sent again after a leader change")
	}
	q.sent = q.first
}

// collect lists commands that were not sent yet, up to the size of a batch, and
// gives the number after the last of them.
func (n *Node) collect() (list []store.Command, after uint64) {
	q := &n.commands
	bytes := 0
	for after = q.sent; after < q.next; after++ {
		c := q.at(after)
		if c == nil {
			continue
		}
		if c.change != nil {
			c.tried = true
			n.sendChange(q.leader, c.change)
			continue
		}
		if bytes += c.size; bytes > n.cfg.BatchBytes && len(list) > 0 {
			break
		}
		c.tried = true
		c.c.Settled = q.first
		list = append(list, c.c)
	}
	return list, after
}

// forwardAll sends what is new to the leader.
func (n *Node) forwardAll(leader env.NodeID) {
	q := &n.commands
	for q.sent < q.next {
		list, after := n.collect()
		if len(list) > 0 {
			n.replica.Send(leader, store.AppendCommands(nil, list, n.formats.forwards()))
			q.sentAt = n.env.Clock.Now()
		}
		q.sent = after
	}
}

// proposeAll puts what is new into the log, this node's own commands first.
func (n *Node) proposeAll() {
	q := &n.commands
	for q.sent < q.next {
		list, after := n.collect()
		for len(n.forwarded.list) > 0 && after == q.next && len(list) > 0 { // room is left: others join
			list = n.join(list)
			break
		}
		if len(list) > 0 && !n.propose(list) {
			return
		}
		q.sent = after
	}
	for len(n.forwarded.list) > 0 {
		if !n.propose(n.join(nil)) {
			return
		}
	}
	if (n.keeper.Due() || n.compare.due) && n.propose(nil) {
		n.env.Rare.Mark("node: time moved on by an empty batch")
	}
}

// join takes forwarded commands until the batch is full.
func (n *Node) join(list []store.Command) []store.Command {
	f := &n.forwarded
	bytes := 0
	for i := range list {
		bytes += sizeOf(&list[i])
	}
	for len(f.list) > 0 {
		size := sizeOf(&f.list[0])
		if bytes += size; bytes > n.cfg.BatchBytes && len(list) > 0 {
			break
		}
		list = append(list, f.list[0])
		f.list, f.bytes = f.list[1:], f.bytes-size
	}
	return list
}

// propose puts a batch into the log. False means that it was refused and should
// be tried again in a later turn.
func (n *Node) propose(list []store.Command) bool {
	b := store.Batch{Time: n.logTime(), Wall: n.env.Clock.Wall().UnixNano(), Commands: list}
	err := n.replica.Propose(store.AppendBatchAs(nil, &b, n.formats.propose(list)))
	switch {
	case err == nil:
		n.keeper.Moved(b.Time)
		n.compare.moved(b.Time)
		return true
	case errors.Is(err, replica.ErrBusy):
		n.env.Rare.Mark("node: proposal refused for now")
	}
	return false
}

// again sends what is pending to the leader once more if nothing was heard of it
// for a while: the message may have been lost on its way. The wait doubles.
func (n *Node) again(now env.Instant) {
	q := &n.commands
	if q.sent > q.first && q.leader != n.cfg.ID && now.Sub(q.sentAt) >= n.resendAfter() {
		n.env.Rare.Mark("node: commands sent again after a while")
		q.sent = q.first
		q.repeats++
	}
}

// expire ends the commands whose time is up.
func (n *Node) expire(now env.Instant) {
	q := &n.commands
	for q.first < q.next && q.list[0].until <= now {
		c := q.take(q.first)
		n.outcomes = append(n.outcomes, outcome{c.done, n.failed(n.lateCause(c.changes))})
	}
}

// lateCause is what a client is told whose request took too long.
func (n *Node) lateCause(changes uint64) string {
	switch {
	case changes != n.info.changes:
		return causeLeaderLost
	case n.commands.leader == n.cfg.ID:
		return causeConnection
	default:
		return causeTimeout
	}
}
