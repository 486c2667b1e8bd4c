package gateway

import (
	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/store"
)

// read answers from this member's state, after it has caught up with what was
// acknowledged anywhere unless the caller is content with less.
func (m *Mux) read(op *Operation, c *call) {
	if m.local(op) {
		m.answer(op, c, false)
		return
	}
	m.b.ReadIndex(func(err *store.Error) {
		if c.over {
			return
		}
		if err != nil {
			m.gets.fail++
			c.reply(failure(m.b.Info(), err))
			return
		}
		m.answer(op, c, true)
	})
}

// answer answers from the state as it is. Fresh says that it holds all that was
// acknowledged before.
func (m *Mux) answer(op *Operation, c *call, fresh bool) {
	if m.unjudged(op) {
		m.tell(op, c, nil)
		return
	}
	m.admit(&admission{op: op, c: c, fresh: fresh, then: func(r *auth.Rights) { m.tell(op, c, r) }})
}

func (m *Mux) tell(op *Operation, c *call, rights *auth.Rights) {
	r := readReply(m.b.View(), m.b.Info(), op, rights)
	if r.Status == 200 {
		m.gets.success++
	} else {
		m.gets.fail++
	}
	c.reply(r)
}

// readReply is the answer of a read, with its body. Nil rights are everything.
func readReply(view *store.View, info *Info, op *Operation, rights *auth.Rights) *Reply {
	n, err := view.Get(op.Key, op.Recursive)
	if err != nil {
		return failure(info, err)
	}
	if !trimmed(rights, n) {
		return failure(info, &store.Error{Code: store.CodeUnauthorized, Cause: insufficient})
	}
	return &Reply{
		Status: 200,
		Header: keysHeaders(info, view.Index()),
		Body:   AppendGet(make([]byte, 0, sizeHint(n)), n),
	}
}

// sizeHint guesses how long n is when encoded, so that small answers need one
// allocation.
func sizeHint(n *store.Node) int { return 160 + len(n.Key) + len(n.Value) + 128*len(n.Nodes) }

func (m *Mux) write(op *Operation, c *call) {
	if m.unjudged(op) {
		m.propose(op, c)
		return
	}
	m.admit(&admission{op: op, c: c, then: func(*auth.Rights) { m.propose(op, c) }})
}

// propose has a write done that is allowed now, unless that has changed by then.
func (m *Mux) propose(op *Operation, c *call) {
	command := op.Command
	if m.guard != nil && !op.Peer {
		command.Guarded = true
		_, command.Guard = m.guard.Auth()
	}
	m.b.Propose(command, func(res store.Result) {
		switch {
		case c.over:
		case res.Stale:
			m.write(op, c)
		default:
			c.reply(m.outcome(res, op.NoValue))
		}
	})
}

// outcome is the answer to a write.
func (m *Mux) outcome(res store.Result, noValue bool) *Reply {
	info := m.b.Info()
	switch {
	case res.Err != nil:
		return failure(info, res.Err)
	case res.Event == nil:
		return failure(info, &store.Error{Code: store.CodeRaftInternal, Cause: "the write was applied, its answer is lost", Index: res.Index})
	}
	r := &Reply{Status: 200, Header: keysHeaders(info, res.Event.Index)}
	if made(res.Event) {
		r.Status = 201
	}
	if noValue {
		r.Body = []byte(`{"action":"` + string(res.Event.Action) + "\"}\n")
		return r
	}
	r.Body = m.bodies.of(res.Event)
	return r
}

// made reports whether e made a key that was not there.
func made(e *store.Event) bool {
	return e.Action == store.ActionCreate || e.Action == store.ActionSet && e.Prev == nil
}

// The bodies that are kept: enough for the events of one turn, and no big ones,
// so that the memory is bounded by their product.
const (
	bodiesKept   = 64
	bodyBytesMax = 64 << 10
)

// bodies keeps the encoding of recent events, so that the writer's answer and
// all watchers share one. Events are immutable, and so are the bodies.
type bodies struct {
	last body
	kept [bodiesKept]body
}

type body struct {
	event *store.Event
	text  []byte
}

// of gives the body of e, encoding it unless that was done lately.
func (b *bodies) of(e *store.Event) []byte {
	if b.last.event == e {
		return b.last.text
	}
	slot := &b.kept[e.Index%bodiesKept]
	if slot.event == e {
		return slot.text
	}
	b.last = body{e, AppendEvent(make([]byte, 0, eventHint(e)), e)}
	if len(b.last.text) <= bodyBytesMax {
		*slot = b.last
	}
	return b.last.text
}

func eventHint(e *store.Event) int {
	n := 64 + sizeHint(e.Node)
	if e.Prev != nil {
		n += sizeHint(e.Prev)
	}
	return n
}
