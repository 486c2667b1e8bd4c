package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/linearizability"
	"github.com/keelson/keelson/realnet/web"
)

// load is clients at work on every member, each of whose steps is recorded.
type load struct {
	c        *cluster
	rec      *linearizability.Recorder
	stop     context.CancelFunc
	tasks    sync.WaitGroup
	clients  atomic.Int64
	phase    atomic.Int64 // registers are new in each, so that porcupine gets short histories
	watchers []*watcher
	taken    sync.Map // values taken from the queue, with the client that has them
	probes   *web.Doer
	twice    atomic.Int64 // how many were taken again
	written  atomic.Int64 // acknowledged writes
	foreign  bool         // members come and go, which changes the store, too
	failed   atomic.Int64 // operations of unknown outcome, or refused for lack of a leader
	urls     atomic.Pointer[[]string]
	ever     map[string]bool // every URL that was ever among them
}

// at says which members the clients ask from now on.
func (l *load) at(urls ...string) {
	for _, u := range urls {
		l.ever[u] = true
	}
	l.urls.Store(&urls)
}

// How much load: a client does something about every think.
const (
	writers   = 6
	registers = 6
	takers    = 2
	think     = 10 * time.Millisecond
	// patience bounds the wait for an answer. It is shorter than the server's, so
	// that a client that waits for a member which is cut off tries another.
	patience = time.Second
	// worksMin is how many writes are acknowledged between two faults, at least.
	worksMin = 60
)

const queue = "/load/queue"

func startLoad(t *testing.T, c *cluster) *load {
	t.Helper()
	begin := time.Now()
	l := &load{c: c, rec: linearizability.NewRecorder(func() int64 { return int64(time.Since(begin)) }), probes: newDoer(t), ever: make(map[string]bool)}
	l.at(c.client...)
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	t.Cleanup(func() {
		stop()
		for _, w := range l.watchers {
			w.dead.Store(true)
		}
		l.tasks.Wait()
	})
	for range writers {
		w := l.worker(t)
		l.tasks.Go(func() { w.run(ctx, w.register) })
	}
	producer := l.worker(t)
	l.tasks.Go(func() { producer.run(ctx, producer.produce) })
	for range takers {
		w := l.worker(t)
		l.tasks.Go(func() { w.run(ctx, w.take) })
	}
	for i := range 2 {
		w := &watcher{worker: l.worker(t), stream: i == 0}
		l.watchers = append(l.watchers, w)
		l.tasks.Go(w.run)
	}
	return l
}

// worker is one client: one operation at a time, at one member until it fails.
type worker struct {
	l     *load
	id    int
	doer  *web.Doer
	rand  *rand.Rand
	at    int
	count int
	seen  map[string]*linearizability.Node // what it last saw of a key
}

func (l *load) worker(t *testing.T) *worker {
	id := int(l.clients.Add(1))
	return &worker{
		l: l, id: id, doer: newDoer(t), at: id,
		rand: rand.New(rand.NewPCG(uint64(id), 1)), seen: map[string]*linearizability.Node{},
	}
}

func (w *worker) run(ctx context.Context, step func(context.Context)) {
	for ctx.Err() == nil {
		step(ctx)
		if w.rand.IntN(50) == 0 {
			w.move()
		}
		w.doer.Sleep(ctx, think)
	}
}

func (w *worker) endpoint() string {
	urls := *w.l.urls.Load()
	return urls[w.at%len(urls)]
}

func (w *worker) move() { w.at++ }

// do carries out one operation. An operation under way is never given up because
// the load ends: its answer counts.
func (w *worker) do(in linearizability.Input) (linearizability.Output, bool) {
	out, err := w.l.rec.Do(context.Background(), w.doer, w.id, w.endpoint(), in, patience)
	if err != nil || out.Code == int(store.CodeRaftInternal) || out.Code == int(store.CodeLeaderElection) {
		if err == nil || errors.Is(err, client.ErrUnknown) {
			w.l.failed.Add(1)
		}
		w.move()
		return out, false
	}
	if out.Code == 0 && in.Write() {
		w.l.written.Add(1)
	}
	return out, true
}

// works waits until the clients have got something done.
func (l *load) works(t *testing.T) {
	t.Helper()
	goal := l.written.Load() + worksMin
	until(t, "the load goes on", func() bool { return l.written.Load() >= goal })
}

// unique is a value that nobody else ever writes.
func (w *worker) unique() string {
	w.count++
	return fmt.Sprintf("%d.%d", w.id, w.count)
}

// register does something to one of the registers.
func (w *worker) register(context.Context) {
	in := linearizability.Input{Key: fmt.Sprintf("/load/r%d-%d", w.l.phase.Load(), w.rand.IntN(registers))}
	last := w.seen[in.Key]
	switch n := w.rand.IntN(100); {
	case n < 30:
		in.Kind = linearizability.Get
	case n < 40:
		in.Kind, in.Local = linearizability.Get, true
	case n < 60:
		in.Kind, in.Value = linearizability.Set, w.unique()
	case n < 72:
		in.Kind, in.Value = linearizability.Create, w.unique()
	case n < 82:
		in.Kind = linearizability.Delete
	case last == nil || last.Value == "": // as a deleted key is shown
		in.Kind, in.Value = linearizability.Update, w.unique()
	default:
		in.Kind, in.Value = linearizability.CAS, w.unique()
		if n%2 == 0 {
			in.PrevValue = last.Value
		} else {
			in.PrevIndex = last.Modified
		}
	}
	if out, ok := w.do(in); ok && out.Code == 0 {
		w.seen[in.Key] = out.Node
	}
}

// produce puts something into the queue.
func (w *worker) produce(context.Context) {
	w.do(linearizability.Input{Kind: linearizability.Post, Key: queue, Value: w.unique()})
}

// take takes the first thing out of the queue, unless another client is faster.
func (w *worker) take(context.Context) {
	out, ok := w.do(linearizability.Input{Kind: linearizability.Get, Key: queue, Recursive: true})
	if !ok || out.Code != 0 || len(out.Node.Nodes) == 0 {
		return
	}
	first := slices.MinFunc(out.Node.Nodes, func(a, b *linearizability.Node) int { return int(a.Created) - int(b.Created) })
	out, ok = w.do(linearizability.Input{Kind: linearizability.CAD, Key: first.Key, PrevIndex: first.Modified})
	if ok && out.Code == 0 {
		if _, had := w.l.taken.LoadOrStore(first.Value, w.id); had {
			w.l.twice.Add(1)
		}
	}
}

// watcher follows everything below /load, at each member for a while, and always
// from where it was.
type watcher struct {
	*worker
	stream   bool
	next     uint64 // the lowest index not yet seen; 0 at first
	requests int
	last     atomic.Uint64 // index of the last event
	until    atomic.Uint64 // index at which it may end; 0 is never
	dead     atomic.Bool
}

// stay bounds the time at one member.
const stay = 700 * time.Millisecond

func (w *watcher) run() {
	for !w.dead.Load() && (w.until.Load() == 0 || w.last.Load() < w.until.Load()) {
		if err := w.once(); err != nil {
			w.doer.Sleep(context.Background(), think)
		}
		w.move()
	}
}

func (w *watcher) once() error {
	ctx, cancel := context.WithTimeout(context.Background(), stay)
	defer cancel()
	q := url.Values{"wait": {"true"}, "recursive": {"true"}}
	if w.stream {
		q.Set("stream", "true")
	}
	if w.next > 0 {
		q.Set("waitIndex", strconv.FormatUint(w.next, 10))
	}
	seen := w.l.rec.Watch(w.id, w.endpoint(), "/load", true, w.stream, w.next)
	resp, err := w.doer.Do(ctx, &client.Request{Endpoint: w.endpoint(), Method: "GET", Path: "/v2/keys/load", Query: q.Encode(), Stream: true})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.Status != 200 {
		return w.refused(seen, resp)
	}
	w.requests++
	index := linearizability.IndexOf(resp)
	seen.Accepted(index)
	if w.next == 0 {
		w.next = index + 1
	}
	return seen.Follow(resp.Body, func(e *linearizability.Event) bool {
		w.next = e.Index + 1
		w.last.Store(e.Index)
		return w.stream && (w.until.Load() == 0 || e.Index < w.until.Load())
	})
}

func (w *watcher) refused(seen *linearizability.Seen, resp *client.Response) error {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	out, err := linearizability.Decode(body, 0)
	if err != nil {
		return err
	}
	seen.Refused(out.Code, out.Index)
	if out.Code == int(store.CodeIndexCleared) {
		w.next = out.Index + 1 // the checker judges whether that was right
	}
	return errors.New(out.Cause)
}

// acknowledged writes at each of the given members at once, again where that
// fails, and says how long it took until one of them had acknowledged; false means
// that none had for most. The probes are part of the history.
func (l *load) acknowledged(t *testing.T, most time.Duration, members ...int) (time.Duration, bool) {
	t.Helper()
	begin := time.Now()
	answers := make(chan bool, len(members))
	for _, i := range members {
		id := int(l.clients.Add(1))
		l.tasks.Go(func() {
			ok := false
			for n := 1; !ok && time.Since(begin) < most; n++ {
				in := linearizability.Input{Kind: linearizability.Set, Key: fmt.Sprintf("/load/probe-%d", id), Value: strconv.Itoa(n)}
				out, err := l.rec.Do(context.Background(), l.probes, id, l.c.client[i], in, most-time.Since(begin))
				ok = err == nil && out.Code == 0
				if !ok {
					time.Sleep(think)
				}
			}
			answers <- ok
		})
	}
	for range members {
		if <-answers {
			return time.Since(begin), true
		}
	}
	return time.Since(begin), false
}

// settled waits until every member answers a linearizable read again.
func (l *load) settled(t *testing.T) {
	t.Helper()
	for _, u := range *l.urls.Load() {
		id := int(l.clients.Add(1))
		until(t, u+" answers", func() bool {
			out, err := l.rec.Do(context.Background(), l.probes, id, u, linearizability.Input{Kind: linearizability.Get, Key: "/load/none"}, patience)
			return err == nil && out.Code == int(store.CodeKeyNotFound)
		})
	}
}

// finish ends the load, lets the watchers catch up and checks the history.
func (l *load) finish(t *testing.T) {
	t.Helper()
	l.settled(t)
	l.stop()
	id := int(l.clients.Add(1))
	end, err := l.rec.Do(context.Background(), l.probes, id, (*l.urls.Load())[0], linearizability.Input{Kind: linearizability.Set, Key: "/load/end", Value: "x"}, waitMax)
	require.NoError(t, err)
	require.Zero(t, end.Code)
	for _, w := range l.watchers {
		w.until.Store(end.Index)
	}
	for _, w := range l.watchers {
		ok := assert.Eventually(t, func() bool { return w.last.Load() >= end.Index }, waitMax, think, "a watcher that moves on never sees index %d, only %d", end.Index, w.last.Load())
		if !ok {
			w.dead.Store(true)
		}
	}
	l.tasks.Wait()
	for _, u := range *l.urls.Load() {
		all, err := l.rec.Do(context.Background(), l.probes, id, u, linearizability.Input{Kind: linearizability.Get, Key: "/load", Recursive: true}, waitMax)
		require.NoError(t, err, u)
		require.Zero(t, all.Code, u)
	}
	assert.Zero(t, l.twice.Load(), "something was taken from the queue twice")
	l.check(t)
}

func (l *load) check(t *testing.T) {
	t.Helper()
	h := l.rec.History()
	r := linearizability.Check(h, linearizability.Options{RegisterTimeout: 2 * time.Second, Foreign: l.foreign})
	acknowledged := 0
	members := map[string]bool{}
	for _, op := range h.Ops {
		if !op.Unknown && op.Output.Code == 0 && op.Input.Write() {
			acknowledged++
			members[op.Endpoint] = true
		}
	}
	taken := 0
	l.taken.Range(func(any, any) bool { taken++; return true })
	resumed := 0
	for _, w := range l.watchers {
		resumed += w.requests
	}
	t.Logf("%d operations, %d of them acknowledged writes, %d of unknown outcome; %d taken from the queue; %d watches; %d keys by porcupine, %d left out, %d undecided; %d changes that no one saw",
		r.Ops, acknowledged, r.Unknown, taken, resumed, r.Keys, r.KeysSkipped, r.KeysUndecided, r.Gaps)
	for _, v := range r.Violations {
		t.Error(v)
	}
	if !r.OK() {
		l.keep(t, h)
	}
	// A check of nothing holds always.
	assert.Len(t, members, len(l.ever), "every member acknowledged something")
	assert.GreaterOrEqual(t, acknowledged, worksMin*int(l.phase.Load()))
	assert.Greater(t, taken, 20)
	assert.Greater(t, resumed, 2*len(l.ever))
	assert.Greater(t, r.Keys-r.KeysUndecided, registers)
}

// keep writes a broken history where it survives the test.
func (l *load) keep(t *testing.T, h *linearizability.History) {
	f, err := os.CreateTemp("", "keelson-e2e-history-*.jsonl")
	if err != nil {
		t.Log(err)
		return
	}
	defer f.Close()
	if _, err := h.WriteTo(f); err != nil {
		t.Log(err)
		return
	}
	t.Logf("the history is in %s", f.Name())
}
