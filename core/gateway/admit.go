package gateway

import (
	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/store"
)

// Admission is a request to another API over the same store, to be judged by the users
// and roles of this one.
type Admission struct {
	Request *Request
	May     func(auth.Rights) bool
	// Then is called in a turn in which users and roles allow the request, with what
	// ties the commands that are proposed in that very turn to them.
	Then func(Ticket)
	// Refused is called instead with the reason.
	Refused func(cause string)
}

// Ticket ties commands to the users and roles that they were judged by.
type Ticket struct {
	Guarded bool
	Guard   store.Index
}

// Stamp gives c tied to what it was judged by. Where that has changed when it is applied,
// it does nothing, and its result is Stale: it has to be judged again.
func (t Ticket) Stamp(c store.Command) store.Command {
	c.Guarded, c.Guard = t.Guarded, t.Guard
	return c
}

// Admit judges a request by the rules of Guard. The caller has made sure that the state
// of this member is fresh enough. After cancel neither function is called any more.
func (m *Mux) Admit(a *Admission) (cancel func()) {
	op := &Operation{Kind: KindForeign, User: a.Request.User, Password: a.Request.Password, Peer: a.Request.Peer, judge: a.May}
	c := &call{r: refusedTo(a.Refused)}
	m.admit(&admission{op: op, c: c, then: func(*auth.Rights) {
		c.end()
		a.Then(m.ticket(op))
	}})
	return c.end
}

// ticket is for a request that has just been allowed.
func (m *Mux) ticket(op *Operation) Ticket {
	if m.guard == nil || op.Peer {
		return Ticket{}
	}
	_, index := m.guard.Auth()
	return Ticket{Guarded: true, Guard: index}
}

// refusedTo takes the answer to a request that is refused.
type refusedTo func(cause string)

func (f refusedTo) Reply(r *Reply)    { f(string(r.Body)) }
func (f refusedTo) Chunk([]byte) bool { return false }
func (f refusedTo) End()              {}
