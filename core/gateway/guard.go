package gateway

import (
	"strings"

	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/store"
)

// Guard is what a Backend may offer besides, so that requests are judged by users and
// roles. Without it everybody may do everything.
//
// The rules, which hold for every request that is judged:
//
//   - A write happens only if the users and roles in force at the very moment at
//     which it is applied allow it: the command carries the index of those it was
//     judged by, and is judged again where they have changed.
//   - A linearizable read is judged after the read-index round, by the same state
//     that the answer is taken from. A local read is judged by the local state.
//   - A watch is judged by the local state when it begins and again whenever users
//     or roles change: it ends where it would not be allowed to begin. Each event is
//     judged by users and roles that are at least as new as the event.
//   - Nobody is refused by a stale state alone: before it refuses, a member catches
//     up with what was acknowledged anywhere, if it can.
type Guard interface {
	// Auth gives users and roles as this member has applied them, and the index of
	// their last change, 0 where there never was one.
	Auth() (*auth.State, store.Index)
	// Work runs fn outside the loop and then done on it.
	Work(fn, done func())
}

const insufficient = "Insufficient credentials"

// unjudged says that op may be done by anybody.
func (m *Mux) unjudged(op *Operation) bool {
	if m.guard == nil || op.Peer {
		return true
	}
	state, _ := m.guard.Auth()
	return !state.Enabled
}

// gated says that op is judged before anything is done about it. Keys are judged at
// the moment that counts for each kind, and the pages that are left out are open.
func (m *Mux) gated(op *Operation) bool {
	switch op.Kind {
	case KindRead, KindWatch, KindWrite, KindAuth,
		KindMembers, KindMembersLeader, KindMembersOther, KindMachines, KindPeerMembers,
		KindStatsStore, KindStatsSelf, KindStatsLeader, KindVersion, KindHealth:
		return false
	default:
		return !m.unjudged(op)
	}
}

// gate performs op once it is allowed.
func (m *Mux) gate(op Operation, r Responder) (cancel func()) {
	c := &call{r: r, head: op.Head}
	var stop func()
	a := &admission{op: &op, c: c, then: func(*auth.Rights) {
		c.end()
		stop = m.perform(&op, r)
	}}
	if op.Freshness == FreshLocal {
		m.admit(a)
	} else {
		m.b.ReadIndex(func(err *store.Error) {
			a.fresh = err == nil // a member that is cut off judges by what it has
			m.admit(a)
		})
	}
	m.limit(&op, c)
	return func() {
		c.end()
		if stop != nil {
			stop()
		}
	}
}

// allowed says whether somebody with rights r may do what op asks for.
func (op *Operation) allowed(r auth.Rights) bool {
	switch op.Kind {
	case KindRead, KindWatch:
		return readable(r, op.Key, op.Slash, op.Recursive)
	case KindWrite:
		return writable(r, &op.Command, op.Slash)
	case KindMirror:
		return coversAll(r, op.Prefixes)
	case KindForeign:
		return op.judge(r)
	default:
		return r.Root()
	}
}

// readable judges a read or watch of key. A path with a slash at its end is that of a
// directory, for which the right to what is in it is enough.
func readable(r auth.Rights, key string, slash, recursive bool) bool {
	if recursive {
		return r.ReadAll(key) || slash && r.ReadAll(key+"/")
	}
	return r.Read(key) || slash && r.Read(key+"/")
}

func writable(r auth.Rights, c *store.Command, slash bool) bool {
	may := r.Write
	if c.Recursive {
		may = r.WriteAll
	}
	directory := slash && (c.Dir || c.Recursive || c.Op == store.OpCreateInOrder)
	return may(c.Key) || directory && may(c.Key+"/")
}

func coversAll(r auth.Rights, prefixes []string) bool {
	for _, p := range prefixes {
		if !r.ReadAll(p) {
			return false
		}
	}
	return true
}

// visible says whether an event may be shown to somebody with rights r.
func visible(r *auth.Rights, e *store.Event) bool {
	directory := e.Node.Dir && (e.Prev == nil || e.Prev.Dir)
	return r.Read(e.Node.Key) || directory && r.Read(e.Node.Key+"/")
}

// trimmed leaves out of an answer what may not be read: false where nothing is left.
func trimmed(r *auth.Rights, n *store.Node) bool {
	if r == nil || r.Root() {
		return true
	}
	if !n.Dir {
		return r.Read(n.Key)
	}
	kept := n.Nodes[:0]
	for _, kid := range n.Nodes {
		if r.Read(kid.Key) || kid.Dir && r.Read(kid.Key+"/") {
			kept = append(kept, kid)
		}
	}
	n.Nodes = kept
	return true
}

// admission is an operation on its way through the guard.
type admission struct {
	op    *Operation
	c     *call
	then  func(*auth.Rights) // nil rights are everything
	fresh bool               // the state holds all that was acknowledged before
	wrong string             // the hash that the password was found not to match
}

// admit calls a.then in a moment in which the state of this member allows a.op, or
// refuses.
func (m *Mux) admit(a *admission) {
	switch {
	case a.c.over:
		return
	case m.unjudged(a.op):
		a.then(nil)
		return
	}
	state, _ := m.guard.Auth()
	rights := state.Guest()
	if a.op.User != "" {
		u, known := state.User(a.op.User)
		if !known {
			// An unknown name takes as long as a wrong password.
			u = &auth.User{}
			if root, ok := state.User(auth.RootUser); ok {
				u.Hash = root.Hash
			}
		}
		switch {
		case a.wrong == u.Hash:
			rights = auth.Rights{}
		case known && m.proved.Has(u.Hash, a.op.Password):
			rights = state.Of(u)
		default:
			m.prove(a, u.Name, u.Hash)
			return
		}
	}
	switch {
	case a.op.allowed(rights):
		a.then(&rights)
	case a.fresh:
		a.c.reply(m.denied(a.op, insufficient))
	default:
		m.b.ReadIndex(func(err *store.Error) {
			if err != nil {
				a.c.reply(m.denied(a.op, insufficient))
				return
			}
			a.fresh = true
			m.admit(a)
		})
	}
}

// prove checks the password of a against hash and judges again.
func (m *Mux) prove(a *admission, user, hash string) {
	queued := m.checks.add(user, hash, a.op.Password, func(ok bool) {
		if !ok || user == "" {
			a.wrong = hash
		}
		m.admit(a)
	})
	if !queued {
		a.c.reply(m.denied(a.op, "too many passwords wait to be checked, ask again later"))
		return
	}
	m.work()
}

// work checks the next password, one at a time: so guessing costs at most one
// processor, and a user whose password is guessed at does not hold up others for
// longer than one check each.
func (m *Mux) work() {
	c := m.checks.next()
	if c == nil {
		return
	}
	ok := false
	m.guard.Work(func() { ok = m.o.Passwords.Check(c.hash, c.password) }, func() {
		m.checks.busy = false
		if ok {
			m.proved.Add(c.hash, c.password)
		}
		for _, done := range c.done {
			done(ok)
		}
		m.work()
	})
}

// denied is the answer to a request that is not allowed.
func (m *Mux) denied(op *Operation, cause string) *Reply {
	switch op.Kind {
	case KindRead, KindWatch, KindWrite, KindMirror:
		return failure(m.b.Info(), &store.Error{Code: store.CodeUnauthorized, Cause: cause})
	case KindForeign:
		return &Reply{Status: 401, Body: []byte(cause)}
	default:
		return jsonReply(401, message(cause))
	}
}

// caller is who began an answer that goes on.
type caller struct {
	user, hash string
	exempt     bool
}

// callerOf tells who asks for op, whose password was just found right if it was looked
// at.
func (m *Mux) callerOf(op *Operation) caller {
	c := caller{user: op.User, exempt: m.guard == nil || op.Peer}
	if !m.unjudged(op) {
		state, _ := m.guard.Auth()
		if u, ok := state.User(op.User); ok {
			c.hash = u.Hash
		}
	}
	return c
}

// rights is what c may do now; false where it must prove again who it is. Nil is
// everything.
func (m *Mux) rights(c *caller) (*auth.Rights, bool) {
	if c.exempt {
		return nil, true
	}
	state, _ := m.guard.Auth()
	if !state.Enabled {
		return nil, true
	}
	if c.user == "" {
		r := state.Guest()
		return &r, true
	}
	u, ok := state.User(c.user)
	if !ok || u.Hash != c.hash {
		return nil, false
	}
	r := state.Of(u)
	return &r, true
}

// AuthChanged must be called when users or roles are not what they were, before any
// later event is told to watches: those end that would not be allowed any more.
func (m *Mux) AuthChanged() {
	if planted.On(planted.AuthWatchLeaks) {
		return
	}
	for w := m.watches.first; w != nil; {
		after := w.after
		r, ok := m.rights(&w.caller)
		if ok && (r == nil || readable(*r, w.key, w.slash, w.recursive)) {
			w.rights = r
		} else {
			w.end()
		}
		w = after
	}
	for f := m.feeds.first; f != nil; {
		after := f.after
		if r, ok := m.rights(&f.caller); !ok || r != nil && !coversAll(*r, f.prefixes) {
			f.end()
		}
		f = after
	}
}

// sees says whether w may show e. The end of a directory above the watched key is the
// end of that key, so it is shown.
func (w *watch) sees(e *store.Event) bool {
	return w.rights == nil || w.rights.Root() || visible(w.rights, e) || strings.HasPrefix(w.key, e.Node.Key+"/")
}

// checksMax bounds the passwords that wait to be checked for one user.
const checksMax = 64

// checks are the passwords that wait to be checked, a queue for each user; names that
// nobody has share one.
type checks struct {
	queues []*checkQueue // those with something in them, the next first
	busy   bool
}

type checkQueue struct {
	user string
	list []*passwordCheck
}

type passwordCheck struct {
	hash, password string
	done           []func(bool)
}

// add queues a check, or joins one for the same password. False means that there is
// no room.
func (s *checks) add(user, hash, password string, done func(bool)) bool {
	var q *checkQueue
	for _, have := range s.queues {
		if have.user == user {
			q = have
		}
	}
	if q == nil {
		q = &checkQueue{user: user}
		s.queues = append(s.queues, q)
	}
	for _, c := range q.list {
		if c.hash == hash && c.password == password {
			c.done = append(c.done, done)
			return true
		}
	}
	if len(q.list) >= checksMax {
		return false
	}
	q.list = append(q.list, &passwordCheck{hash, password, []func(bool){done}})
	return true
}

// next takes a check from the queue whose turn it is; nil where one is under way or
// none waits.
func (s *checks) next() *passwordCheck {
	if s.busy || len(s.queues) == 0 {
		return nil
	}
	q := s.queues[0]
	s.queues = s.queues[1:]
	c := q.list[0]
	if q.list = q.list[1:]; len(q.list) > 0 {
		s.queues = append(s.queues, q)
	}
	s.busy = true
	return c
}
