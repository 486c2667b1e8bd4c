package linearizability

import (
	"fmt"
	"sync"

	"github.com/keelson/keelson/core/store"
)

// Recorder takes down a history. Its methods may be called from any goroutine,
// so that the clients of a live cluster share one; in the simulator there is
// only one thread.
type Recorder struct {
	mu   sync.Mutex
	now  func() int64
	seq  int64
	h    History
	base uint64 // index of the change before the first of h.Log
}

// NewRecorder returns an empty recorder. now reads one clock for all clients, in
// nanoseconds.
func NewRecorder(now func() int64) *Recorder { return &Recorder{now: now} }

// Pending is an operation that was called and has not returned.
type Pending struct {
	r  *Recorder
	op *Op
}

// Begin notes that client calls in at endpoint.
func (r *Recorder) Begin(client int, endpoint string, in Input) *Pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	o := &Op{Client: client, Endpoint: endpoint, Call: r.seq, Return: Never, InvokedAt: r.now(), Unknown: true, Input: in}
	r.h.Ops = append(r.h.Ops, o)
	return &Pending{r, o}
}

// End notes the answer. An answer of code 300 or 301 to a write leaves its
// outcome unknown; one of code 110 says that there was none.
func (p *Pending) End(out Output) {
	if out.Code == int(store.CodeUnauthorized) {
		p.Fail()
		return
	}
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if out.Code == int(store.CodeRaftInternal) || out.Code == int(store.CodeLeaderElection) {
		return
	}
	p.r.seq++
	p.op.Return, p.op.ReturnedAt, p.op.Unknown, p.op.Output = p.r.seq, p.r.now(), false, out
}

// Fail notes that the operation surely had no effect: it never left the client, or
// was refused before anything was looked at.
func (p *Pending) Fail() {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	for i := len(p.r.h.Ops) - 1; i >= 0; i-- {
		if p.r.h.Ops[i] == p.op {
			p.r.h.Ops = append(p.r.h.Ops[:i], p.r.h.Ops[i+1:]...)
			return
		}
	}
}

// Unknown notes that nobody will learn the outcome. An operation for which
// neither End nor Unknown is called is unknown too.
func (p *Pending) Unknown() {}

// Seen is a watch that is being recorded.
type Seen struct {
	r *Recorder
	w *Watch
}

// Watch notes that client asks for a watch.
func (r *Recorder) Watch(client int, endpoint, key string, recursive, stream bool, from uint64) *Seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	w := &Watch{Client: client, Endpoint: endpoint, Key: key, Recursive: recursive, Stream: stream, From: from, Call: r.seq}
	r.h.Watches = append(r.h.Watches, w)
	return &Seen{r, w}
}

// Accepted notes the answer's head with the store index that it carries.
func (s *Seen) Accepted(index uint64) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.w.Open, s.w.Accepted = true, index
}

// Refused notes an error, such as 401, with the store index it carries.
func (s *Seen) Refused(code int, index uint64) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.w.Code, s.w.Index = code, index
}

// Event notes a delivered change.
func (s *Seen) Event(e *Event) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.seq++
	e.Seq, e.At = s.r.seq, s.r.now()
	s.w.Events = append(s.w.Events, e)
}

// Live notes that the watch is open at the end and had time to catch up.
func (s *Seen) Live() {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.w.Live = true
}

// Applied notes a change that a node applied. Nodes apply the same changes, so
// all but the first are compared with it; one that differs is a contradiction.
// The text of the contradiction is returned, or the empty string.
func (r *Recorder) Applied(node string, e *store.Event) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	index := uint64(e.Index)
	if len(r.h.Log) == 0 {
		r.base = index - 1
	}
	next := r.base + uint64(len(r.h.Log)) + 1
	switch {
	case index == next:
		r.seq++
		le := FromStore(e)
		le.Seq, le.At = r.seq, r.now()
		r.h.Log = append(r.h.Log, le)
		return ""
	case index > next:
		return r.lost("%s applied index %d right after %d", node, index, next-1)
	case index <= r.base:
		return r.lost("%s applied index %d, before the first known one", node, index)
	}
	first := r.h.Log[index-r.base-1]
	if !sameAsStore(first, e) {
		return r.lost("%s applied %v where another node applied %v", node, FromStore(e), first)
	}
	return ""
}

func (r *Recorder) lost(format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	r.h.Lost = append(r.h.Lost, text)
	return text
}

// sameAsStore compares without making anything, since it runs for every change
// of every node.
func sameAsStore(a *Event, e *store.Event) bool {
	return a.Action == string(e.Action) && a.Refresh == e.Refresh && sameNode(a.Node, e.Node) && sameNode(a.Prev, e.Prev)
}

func sameNode(a *Node, n *store.Node) bool {
	if a == nil || n == nil {
		return (a == nil) == (n == nil)
	}
	return a.Key == n.Key && a.Value == n.Value && a.Dir == n.Dir && a.HasTTL == (n.Expires != 0) &&
		a.Created == uint64(n.Created) && a.Modified == uint64(n.Modified)
}

// Final notes the index that the cluster had reached at the end.
func (r *Recorder) Final(index uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h.Final = index
}

// History returns what was recorded so far. The caller must not record any more
// while using it.
func (r *Recorder) History() *History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &r.h
}
