package node

import (
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
)

// reads are the linearizable reads without an answer, oldest first.
type reads struct {
	list  []*read
	count int
}

type read struct {
	done    func(*store.Error) // nil once answered
	cancel  func()
	until   env.Instant
	changes uint64
}

// ReadIndex calls done(nil) once View holds every write that was acknowledged
// anywhere before the call; see gateway.Backend.
func (n *Node) ReadIndex(done func(*store.Error)) {
	switch {
	case n.inert():
		done(n.failed(causeStopped).Err)
		return
	case n.left:
		done(n.failed(causeRemoved).Err)
		return
	case n.reads.count >= n.cfg.PendingMax:
		n.env.Rare.Mark("node: too many reads wait")
		done(n.failed(causeTooMany).Err)
		return
	}
	rd := &read{done: done, until: n.env.Clock.Now().Add(n.cfg.Timeout), changes: n.info.changes}
	rd.cancel = n.replica.ReadIndex(func() { n.answer(rd, nil) })
	n.reads.list = append(n.reads.list, rd)
	n.reads.count++
}

func (n *Node) answer(rd *read, err *store.Error) {
	done := rd.done
	if done == nil {
		return
	}
	rd.done = nil
	n.reads.count--
	rd.cancel()
	done(err)
}

// oldest is the read that has waited longest.
func (s *reads) oldest() *read {
	for len(s.list) > 0 && s.list[0].done == nil {
		s.list = s.list[1:]
	}
	if len(s.list) == 0 {
		s.list = nil
		return nil
	}
	return s.list[0]
}

func (n *Node) expireReads(now env.Instant) {
	for rd := n.reads.oldest(); rd != nil && rd.until <= now; rd = n.reads.oldest() {
		n.answer(rd, n.failed(n.lateCause(rd.changes)).Err)
	}
}

// failAll ends everything that waits. What has its outcome already is told too: no turn of
// this node follows that would do it.
func (n *Node) failAll(cause string) {
	q := &n.commands
	for q.first < q.next {
		c := q.take(q.first)
		c.done(n.failed(cause))
	}
	for rd := n.reads.oldest(); rd != nil; rd = n.reads.oldest() {
		n.answer(rd, n.failed(cause).Err)
	}
	outcomes := n.outcomes
	n.outcomes = nil
	for _, o := range outcomes {
		o.done(o.result)
	}
}

// Watch calls fn with each later event that matches; see gateway.Backend.
func (n *Node) Watch(key string, recursive bool, fn func(*store.Event)) (cancel func()) {
	return n.watchers.Add(key, recursive, fn).Cancel
}
