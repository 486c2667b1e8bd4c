package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sample is what one run of a workload measured; a field that a workload does
// not measure is zero.
type sample struct {
	perSecond float64
	p50       time.Duration
	cpuPerOp  time.Duration
	bytes     float64 // written per operation
	memory    float64 // bytes resident
	duration  time.Duration
}

const (
	valueSize = 256
	dirs      = 20
	keyCount  = 2000
)

var value = strings.Repeat("v", valueSize)

// call is one request, and what its answer must agree with.
type call struct {
	req    []byte
	fresh  bool   // a linearizable read: it must not be older than any acknowledged write
	key    string // of a write that sets it to value; empty for other requests
	value  string
	posted bool // adds a child to key
}

// op builds the next call of a client.
type op func(client int, r *rand.Rand) call

func keyPath(i int) string { return fmt.Sprintf("/v2/keys/d%02d/k%06d", i%dirs, i) }

// putOp sets a random key to a value that no other call of the run has.
func putOp(keys, size int) op {
	turn := 0
	paths := make([]string, keys)
	for i := range paths {
		paths[i] = keyPath(i)
	}
	return func(_ int, r *rand.Rand) call {
		turn++
		key, v := paths[r.IntN(keys)], strconv.Itoa(turn)
		v += value[:max(0, size-len(v))]
		return call{req: request("PUT", key, "value="+v), key: key, value: v}
	}
}

func getOp(query string) op {
	return func(_ int, r *rand.Rand) call {
		return call{req: request("GET", keyPath(r.IntN(keyCount))+query, ""), fresh: query == "?quorum=true"}
	}
}

func mixOp(reads int, read, write op) op {
	return func(c int, r *rand.Rand) call {
		if r.IntN(100) < reads {
			return read(c, r)
		}
		return write(c, r)
	}
}

func postOp() op {
	return func(c int, _ *rand.Rand) call {
		key := fmt.Sprintf("/v2/keys/queue%02d", c%dirs)
		return call{req: request("POST", key, "value="+value), key: key, posted: true}
	}
}

// casOp swaps the client's own key between values, each write depending on the
// last.
func casOp(clients int) (op, [][]byte) {
	turn := make([]int, clients)
	var first [][]byte
	for c := range clients {
		first = append(first, request("PUT", fmt.Sprintf("/v2/keys/own/c%d", c), "value=v0"))
	}
	return func(c int, _ *rand.Rand) call {
		prev := turn[c]
		turn[c]++
		key, v := fmt.Sprintf("/v2/keys/own/c%d", c), "v"+strconv.Itoa(turn[c])
		return call{req: request("PUT", key+"?prevValue=v"+strconv.Itoa(prev), "value="+v), key: key, value: v}
	}, first
}

// closed runs clients that each send the next request when the last is answered,
// and then looks whether what was acknowledged is there.
func closed(c *cluster, clients int, d time.Duration, next op) (sample, error) {
	r, err := newReactor()
	if err != nil {
		return sample{}, err
	}
	defer r.close()
	run := &run{next: next, newest: make(map[string]newest), posted: make(map[string]int)}
	var all []*client
	for i := range clients {
		cl := &client{run: run, number: i, rand: rand.New(rand.NewPCG(uint64(i), 1))}
		if cl.sock, err = r.open(c.members[i%len(c.members)].client, whole(cl.answered)); err != nil {
			return sample{}, err
		}
		all = append(all, cl)
	}
	synced := c.syncs()
	before, start := c.usage(), time.Now()
	for _, cl := range all {
		if err := cl.sock.send(cl.begin()); err != nil {
			return sample{}, err
		}
	}
	run.open = clients
	err = r.run(20*time.Second, func() bool {
		run.over = time.Since(start) > d
		return run.open == 0
	})
	took, after := time.Since(start), c.usage()
	if err == nil && clients == 1 && run.acked > 0 {
		err = checkSyncs(synced, c.syncs(), len(run.took))
	}
	if err == nil {
		err = run.check(c)
	}
	if err != nil {
		return sample{}, err
	}
	slices.Sort(run.took)
	n := float64(len(run.took))
	return sample{
		perSecond: n / took.Seconds(),
		p50:       run.took[len(run.took)/2],
		cpuPerOp:  time.Duration(float64(after.cpu-before.cpu) / n),
		bytes:     float64(after.written-before.written) / n,
	}, nil
}

// checkSyncs sees that each write of a lone client was synced by a majority of
// members. Such writes share no sync, but for a member that has fallen behind and
// was not waited for.
func checkSyncs(before, after []int64, writes int) error {
	sum, counts := 0, []int64{}
	for i := range after {
		counts = append(counts, after[i]-before[i])
		sum += min(int(counts[i]), writes)
	}
	if majority := len(after)/2 + 1; sum < majority*writes {
		return fmt.Errorf("%d writes of one client, but the members synced only %v times", writes, counts)
	}
	return nil
}

// run is what the clients of one closed loop share.
type run struct {
	next   op
	over   bool // begin nothing new
	open   int  // clients that wait for an answer
	took   []time.Duration
	acked  uint64            // the highest index of an acknowledged write
	newest map[string]newest // the last acknowledged write of each key
	posted map[string]int    // acknowledged children of each directory
}

type newest struct {
	index uint64
	value string
}

// client is one connection and the call under way on it.
type client struct {
	run    *run
	number int
	rand   *rand.Rand
	sock   *sock
	call   call
	began  time.Time
	floor  uint64 // run.acked when it began
}

func (cl *client) begin() []byte {
	cl.call = cl.run.next(cl.number, cl.rand)
	cl.began, cl.floor = time.Now(), cl.run.acked
	return cl.call.req
}

func (cl *client) answered(a *reply) ([]byte, error) {
	run, o := cl.run, &cl.call
	run.took = append(run.took, time.Since(cl.began))
	if a.status >= 300 {
		return nil, fmt.Errorf("status %d for %q", a.status, bytes.SplitN(o.req, []byte("\r\n"), 2)[0])
	}
	if o.fresh && a.index < cl.floor {
		return nil, fmt.Errorf("a stale read: index %d after a write was acknowledged at %d", a.index, cl.floor)
	}
	if o.key != "" {
		run.note(o, a.index)
	}
	if run.over {
		run.open--
		return nil, nil
	}
	return cl.begin(), nil
}

// note remembers an acknowledged write.
func (r *run) note(o *call, index uint64) {
	r.acked = max(r.acked, index)
	if o.posted {
		r.posted[o.key]++
	} else if r.newest[o.key].index < index {
		r.newest[o.key] = newest{index, o.value}
	}
}

// checkedMax is how many keys are read back after a run.
const checkedMax = 200

// check reads keys back from another member than they were written to, as far as
// chance has it: each must hold the newest value that was acknowledged, and each
// directory of in-order keys exactly as many as were.
func (r *run) check(c *cluster) error {
	var wg sync.WaitGroup
	errs := make([]error, 8)
	keys := slices.Sorted(maps.Keys(r.newest))
	rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	keys = keys[:min(len(keys), checkedMax)]
	for i := range errs {
		wg.Go(func() {
			cn := &conn{addr: c.members[i%len(c.members)].client}
			defer cn.close()
			for k := i; k < len(keys) && errs[i] == nil; k += len(errs) {
				errs[i] = r.reads(cn, keys[k])
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, r.checkPosted(c))...)
}

func (r *run) reads(cn *conn, key string) error {
	status, body, err := cn.do(request("GET", key+"?quorum=true", ""), true, 10*time.Second)
	if err != nil || status != 200 {
		return fmt.Errorf("read %s back: status %d, %v", key, status, err)
	}
	if want := `"value":"` + r.newest[key].value + `"`; !bytes.Contains(body, []byte(want)) {
		return fmt.Errorf("read %s back: want %s, got %.100s", key, want, body)
	}
	return nil
}

func (r *run) checkPosted(c *cluster) error {
	cn := &conn{addr: c.members[0].client}
	defer cn.close()
	for key, n := range r.posted {
		status, body, err := cn.do(request("GET", key+"?quorum=true", ""), true, 20*time.Second)
		if err != nil || status != 200 {
			return fmt.Errorf("list %s: status %d, %v", key, status, err)
		}
		n += c.posted[key]
		if got := bytes.Count(body, []byte(`"createdIndex"`)) - 1; got != n {
			return fmt.Errorf("list %s: %d children, %d were acknowledged", key, got, n)
		}
		if c.posted == nil {
			c.posted = make(map[string]int)
		}
		c.posted[key] = n
	}
	return nil
}

// fill writes keys 0 to n-1, each once, with many clients.
func fill(c *cluster, n, size int) error {
	const clients = 64
	v := strings.Repeat("v", size)
	var wg sync.WaitGroup
	errs := make([]error, clients)
	for i := range clients {
		wg.Go(func() {
			cn := &conn{addr: c.members[i%len(c.members)].client}
			defer cn.close()
			for k := i; k < n; k += clients {
				status, _, err := cn.do(request("PUT", keyPath(k), "value="+v), false, 20*time.Second)
				if err != nil || status >= 300 {
					errs[i] = fmt.Errorf("fill: status %d, %v", status, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// watchers opens n watches on one directory, writes events at a steady rate and
// measures the time until the last watcher has each.
func watchers(c *cluster, n, events int, stream bool) (sample, error) {
	r, err := newReactor()
	if err != nil {
		return sample{}, err
	}
	defer r.close()
	h := &hub{path: "/v2/keys/watched?recursive=true&wait=true", stream: stream}
	if stream {
		h.path += "&stream=true"
	}
	for i := range n {
		w := &watcher{hub: h}
		s, err := r.open(c.members[i%len(c.members)].client, w.take)
		if err == nil {
			err = s.send(request("GET", h.path, ""))
		}
		if err != nil {
			return sample{}, err
		}
	}
	if err := r.run(10*time.Second, func() bool { return h.ready == n }); err != nil {
		return sample{}, fmt.Errorf("%d of %d watchers: %w", h.ready, n, err)
	}
	acked := false
	writer, err := r.open(c.members[0].client, whole(func(a *reply) ([]byte, error) {
		acked = a.status < 300
		return nil, nil
	}))
	if err != nil {
		return sample{}, err
	}
	var lat []time.Duration
	before := c.usage()
	for i := range events {
		start := time.Now()
		h.seen, acked = 0, false
		if err := writer.send(request("PUT", "/v2/keys/watched/k", "value="+strconv.Itoa(i))); err != nil {
			return sample{}, err
		}
		if err := r.run(10*time.Second, func() bool { return h.seen == n && acked }); err != nil {
			return sample{}, fmt.Errorf("event %d reached %d of %d watchers: %w", i, h.seen, n, err)
		}
		lat = append(lat, h.last.Sub(start))
		if err := r.run(10*time.Second, func() bool { return time.Since(start) > 100*time.Millisecond }); err != nil {
			return sample{}, err
		}
	}
	after := c.usage()
	slices.Sort(lat)
	return sample{p50: lat[len(lat)/2], cpuPerOp: (after.cpu - before.cpu) / time.Duration(n*events)}, nil
}

// hub is what the watchers share.
type hub struct {
	path   string
	stream bool
	ready  int // watchers that wait for their first event
	seen   int // deliveries of this event
	last   time.Time
}

// watcher is one connection with a watch.
type watcher struct {
	hub   *hub
	begun bool // the head of the answer under way was read
	next  string
	again bool // it waited before
}

// take reads heads and chunks.
func (w *watcher) take(p []byte) (used int, send []byte, err error) {
	for {
		n, send, err := w.step(p[used:])
		used += n
		if n == 0 || send != nil || err != nil {
			return used, send, err
		}
	}
}

func (w *watcher) step(p []byte) (used int, send []byte, err error) {
	if !w.begun {
		end := bytes.Index(p, []byte("\r\n\r\n"))
		if end < 0 {
			return 0, nil, nil
		}
		if !bytes.HasPrefix(p, []byte("HTTP/1.1 200 ")) || !bytes.Contains(bytes.ToLower(p[:end]), []byte("transfer-encoding: chunked")) {
			return 0, nil, fmt.Errorf("a watch was answered with %.60q", p)
		}
		if w.begun = true; !w.again {
			w.again = true
			w.hub.ready++
		}
		return end + 4, nil, nil
	}
	line := bytes.Index(p, []byte("\r\n"))
	if line < 0 {
		return 0, nil, nil
	}
	size, err := strconv.ParseInt(string(p[:line]), 16, 32)
	if err != nil {
		return 0, nil, err
	}
	if used = line + 2 + int(size) + 2; used > len(p) {
		return 0, nil, nil
	}
	if size == 0 {
		w.begun = false
		return used, request("GET", w.hub.path+"&waitIndex="+w.next, ""), nil
	}
	w.hub.seen++
	w.hub.last = time.Now()
	if !w.hub.stream {
		var ok bool
		if w.next, ok = nextIndex(p[line+2 : used-2]); !ok {
			return 0, nil, fmt.Errorf("an event without an index: %.60q", p)
		}
	}
	return used, nil, nil
}

// nextIndex is the index that a long poll goes on from after an event.
func nextIndex(event []byte) (string, bool) {
	_, rest, ok := bytes.Cut(event, []byte(`"modifiedIndex":`))
	end := bytes.IndexAny(rest, ",}")
	if !ok || end < 0 {
		return "", false
	}
	n, err := strconv.Atoi(string(rest[:end]))
	return strconv.Itoa(n + 1), err == nil
}
