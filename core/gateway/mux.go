package gateway

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/retry"
	"github.com/keelson/keelson/core/store"
)

// Mux answers requests from a backend. Apart from LocalGet, its methods are
// called on the node's loop.
type Mux struct {
	b       Backend
	o       Options
	bodies  bodies
	watches watchList
	feeds   feeds
	gets    struct{ success, fail uint64 }
	guard   Guard // nil: nothing is judged
	proved  auth.Proved
	checks  checks
}

// New makes a Mux over b.
func New(b Backend, o Options) *Mux {
	if o.Passwords == nil {
		o.Passwords = auth.Bcrypt(auth.CostDefault)
	}
	guard, _ := b.(Guard)
	return &Mux{b: b, o: o, guard: guard}
}

// Serve answers req through r, now or later. After cancel, r is not called any
// more; cancel may be called at any time and more than once. A write that was
// cancelled may still happen.
func (m *Mux) Serve(req *Request, r Responder) (cancel func()) {
	op, err := Parse(req)
	if err != nil {
		r.Reply(m.Failure(req, err))
		return func() {}
	}
	return m.Do(&op, r)
}

// CauseRemoved is the message where a member was taken out of the cluster. Others have
// to be asked.
const CauseRemoved = "etcdserver: the member has been permanently removed from the cluster"

// Removed is the answer of a member that was taken out of its cluster. Nothing was
// done: what it has may be older than what others have told already.
func Removed(info *Info, head bool) *Reply { return bare(removedReply(info), head) }

func removedReply(info *Info) *Reply {
	r := membersReply(info, 503, message(CauseRemoved))
	r.Header = append(r.Header, Header{retry.Header, retry.Unsent})
	return r
}

// Failure is the answer to a request that Parse refused with err.
func (m *Mux) Failure(req *Request, err error) *Reply {
	var no *Refusal
	if errors.As(err, &no) {
		return no.Reply
	}
	var member *MemberRefusal
	if errors.As(err, &member) {
		return bare(member.reply(m.b.Info()), req.Method == "HEAD")
	}
	var bad *store.Error
	if errors.As(err, &bad) {
		return bare(failure(m.b.Info(), bad), req.Method == "HEAD")
	}
	return refuse(req.Method, 500, err.Error()+"\n").Reply
}

// Do answers an operation that Parse made, as Serve does.
func (m *Mux) Do(op *Operation, r Responder) (cancel func()) {
	if m.gated(op) {
		return m.gate(*op, r)
	}
	return m.perform(op, r)
}

// perform does what is not, or not yet, judged.
func (m *Mux) perform(op *Operation, r Responder) (cancel func()) {
	switch op.Kind {
	case KindWatch:
		return m.watch(op, r)
	case KindRead, KindWrite, KindAuth, KindHealth, KindMembers, KindPeerMembers, KindMembersChange:
		return m.ask(*op, r)
	case KindMirror:
		return m.mirror(op, r)
	case KindSnapshot:
		return m.snapshot(op, r)
	default:
		r.Reply(bare(m.page(op), op.Head))
		return func() {}
	}
}

// LocalGet answers a read that this server may answer from its own state, with
// nothing but an immutable view and info, so it may run on any goroutine. False
// means that the request must go through Serve. The caller reports what it
// answered so with CountGets.
func (m *Mux) LocalGet(view *store.View, info *Info, req *Request) (*Reply, bool) {
	if view.Guard() != 0 || info.Removed {
		return nil, false // whether there is anything to judge by is known on the loop
	}
	op, err := Parse(req)
	if err != nil || op.Kind != KindRead || !m.local(&op) {
		return nil, false
	}
	return bare(readReply(view, info, &op, nil), op.Head), true
}

// CountGets adds reads that were answered outside Serve to the statistics.
func (m *Mux) CountGets(success, fail uint64) {
	m.gets.success += success
	m.gets.fail += fail
}

// local reports whether a read may be answered from what this member has.
func (m *Mux) local(op *Operation) bool {
	return op.Freshness == FreshLocal || op.Freshness == FreshDefault && m.o.ReadDefaultLocal
}

// call is one request that waits for the backend. It is answered once, or
// cancelled.
type call struct {
	r    Responder
	head bool
	over bool
	stop func() // of the alarm
}

func (c *call) reply(r *Reply) {
	if c.over {
		return
	}
	c.end()
	c.r.Reply(bare(r, c.head))
}

func (c *call) end() {
	c.over = true
	if c.stop != nil {
		c.stop()
	}
}

// ask answers an operation that may need other members.
func (m *Mux) ask(op Operation, r Responder) (cancel func()) {
	c := &call{r: r, head: op.Head}
	switch op.Kind {
	case KindRead:
		m.read(&op, c)
	case KindWrite:
		m.write(&op, c)
	case KindAuth:
		m.serveAuth(&op, c)
	case KindMembersChange:
		m.changeMembers(&op, c)
	case KindMembers, KindPeerMembers:
		op.TimeoutMS = membersTimeoutMS
		m.members(op.Kind, c)
	default:
		op.TimeoutMS = healthTimeoutMS
		m.health(c)
	}
	m.limit(&op, c)
	return c.end
}

// errTimeout is the answer where a request's own time limit ran out first.
const errTimeout = "etcdserver: request timed out"

// limit ends a call that takes longer than the request allows, where the backend
// can tell time.
func (m *Mux) limit(op *Operation, c *call) {
	a, ok := m.b.(Alarm)
	if !ok || c.over || op.TimeoutMS <= 0 {
		return
	}
	c.stop = a.After(time.Duration(op.TimeoutMS)*time.Millisecond, func() {
		c.reply(m.late(op))
	})
}

func (m *Mux) late(op *Operation) *Reply {
	switch op.Kind {
	case KindHealth:
		return healthReply(false)
	case KindMembersChange:
		return unknownChange(m.b.Info(), errTimeout)
	case KindAuth:
		return m.authReply(500, message(errTimeout))
	case KindMembers, KindPeerMembers:
		return m.membersNow(op.Kind)
	}
	return failure(m.b.Info(), &store.Error{Code: store.CodeRaftInternal, Cause: errTimeout, Index: m.b.View().Index()})
}

// numberMax is room for a number in decimal or hex.
const numberMax = 20

// keysHeaders are the headers of a success. The numbers share one string.
func keysHeaders(info *Info, index store.Index) []Header {
	var room [4 * numberMax]byte
	b := strconv.AppendUint(room[:0], info.ClusterID, 16)
	cluster := len(b)
	b = strconv.AppendUint(b, uint64(index), 10)
	at := len(b)
	b = strconv.AppendUint(b, info.RaftIndex, 10)
	raft := len(b)
	b = strconv.AppendUint(b, info.Term, 10)
	s := string(b)
	return []Header{
		{"Content-Type", "application/json"},
		{"X-Etcd-Cluster-Id", s[:cluster]},
		{"X-Etcd-Index", s[cluster:at]},
		{"X-Raft-Index", s[at:raft]},
		{"X-Raft-Term", s[raft:]},
	}
}

// failure is the answer to a request of the keys API that was refused.
func failure(info *Info, e *store.Error) *Reply {
	r := refused(info, e)
	if strings.HasPrefix(e.Cause, CauseFull) {
		r.Header = append(r.Header, Header{retry.Header, retry.Unsent})
	}
	return r
}

// CauseFull begins the cause of error 300 where the server's disk has no room for the
// write. Nothing was done: the same may be asked elsewhere, or later.
const CauseFull = "etcdserver: no space"

func refused(info *Info, e *store.Error) *Reply {
	return &Reply{
		Status: e.Code.Status(),
		Header: []Header{
			{"Content-Type", "application/json"},
			{"X-Etcd-Cluster-Id", strconv.FormatUint(info.ClusterID, 16)},
			{"X-Etcd-Index", strconv.FormatUint(uint64(e.Index), 10)},
		},
		Body: AppendError(make([]byte, 0, 128), e),
	}
}

// bare leaves out the body where only the head was asked for, and says how long
// it would have been.
func bare(r *Reply, head bool) *Reply {
	if !head {
		return r
	}
	h := append([]Header(nil), r.Header...)
	h = append(h, Header{"Content-Length", strconv.Itoa(len(r.Body))})
	return &Reply{Status: r.Status, Header: h}
}
