package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// op builds the next request of a client.
type op func(client int, r *rand.Rand) []byte

func keyPath(i int) string { return fmt.Sprintf("/v2/keys/d%02d/k%06d", i%dirs, i) }

func putOp(keys, size int) op {
	v := strings.Repeat("v", size)
	return func(_ int, r *rand.Rand) []byte {
		return request("PUT", keyPath(r.IntN(keys)), "value="+v)
	}
}

func getOp(query string) op {
	return func(_ int, r *rand.Rand) []byte { return request("GET", keyPath(r.IntN(keyCount))+query, "") }
}

func mixOp(reads int, read, write op) op {
	return func(c int, r *rand.Rand) []byte {
		if r.IntN(100) < reads {
			return read(c, r)
		}
		return write(c, r)
	}
}

func postOp() op {
	return func(c int, _ *rand.Rand) []byte {
		return request("POST", fmt.Sprintf("/v2/keys/queue%02d", c%dirs), "value="+value)
	}
}

// casOp swaps the client's own key between two values, each write depending on
// the last.
func casOp(clients int) (op, [][]byte) {
	turn := make([]int, clients)
	var first [][]byte
	for c := range clients {
		first = append(first, request("PUT", fmt.Sprintf("/v2/keys/own/c%d", c), "value=v0"))
	}
	return func(c int, _ *rand.Rand) []byte {
		prev := turn[c]
		turn[c]++
		return request("PUT", fmt.Sprintf("/v2/keys/own/c%d?prevValue=v%d", c, prev), "value=v"+strconv.Itoa(turn[c]))
	}, first
}

// closed runs clients that each send the next request when the last is answered.
func closed(c *cluster, clients int, d time.Duration, next op) (sample, error) {
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		all     []time.Duration
		failure error
		stop    atomic.Bool
	)
	before, start := c.usage(), time.Now()
	for i := range clients {
		wg.Go(func() {
			lat, err := client(c.members[i%len(c.members)].client, i, next, &stop)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, lat...)
			if err != nil && failure == nil {
				failure = err
			}
		})
	}
	time.Sleep(d)
	stop.Store(true)
	wg.Wait()
	took, after := time.Since(start), c.usage()
	if failure != nil {
		return sample{}, failure
	}
	if len(all) == 0 {
		return sample{}, fmt.Errorf("no operation finished")
	}
	slices.Sort(all)
	n := float64(len(all))
	return sample{
		perSecond: n / took.Seconds(),
		p50:       all[len(all)/2],
		cpuPerOp:  time.Duration(float64(after.cpu-before.cpu) / n),
		bytes:     float64(after.written-before.written) / n,
	}, nil
}

func client(addr string, i int, next op, stop *atomic.Bool) ([]time.Duration, error) {
	cn := &conn{addr: addr}
	defer cn.close()
	r := rand.New(rand.NewPCG(uint64(i), 1))
	var lat []time.Duration
	for !stop.Load() {
		req := next(i, r)
		start := time.Now()
		status, _, err := cn.do(req, false, 20*time.Second)
		if err != nil {
			return lat, err
		}
		if status >= 300 {
			return lat, fmt.Errorf("status %d for %q", status, bytes.SplitN(req, []byte("\r\n"), 2)[0])
		}
		lat = append(lat, time.Since(start))
	}
	return lat, nil
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
	path := "/v2/keys/watched?recursive=true&wait=true"
	if stream {
		path += "&stream=true"
	}
	seen := make(chan time.Time, n*4)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	ready := make(chan error, n)
	for i := range n {
		wg.Go(func() { watch(c.members[i%len(c.members)].client, path, stream, ready, seen, stop) })
	}
	for range n {
		if err := <-ready; err != nil {
			close(stop)
			return sample{}, err
		}
	}
	time.Sleep(300 * time.Millisecond)
	var lat []time.Duration
	before := c.usage()
	w := &conn{addr: c.members[0].client}
	defer w.close()
	for i := range events {
		start := time.Now()
		if status, _, err := w.do(request("PUT", "/v2/keys/watched/k", "value="+strconv.Itoa(i)), false, 10*time.Second); err != nil || status >= 300 {
			close(stop)
			return sample{}, fmt.Errorf("event: status %d, %v", status, err)
		}
		last := start
		for k := range n {
			select {
			case t := <-seen:
				last = t
			case <-time.After(10 * time.Second):
				close(stop)
				return sample{}, fmt.Errorf("event %d reached %d of %d watchers", i, k, n)
			}
		}
		lat = append(lat, last.Sub(start))
		time.Sleep(time.Until(start.Add(100 * time.Millisecond)))
	}
	after := c.usage()
	close(stop)
	wg.Wait()
	slices.Sort(lat)
	return sample{p50: lat[len(lat)/2], cpuPerOp: (after.cpu - before.cpu) / time.Duration(n*events)}, nil
}

func watch(addr, path string, stream bool, ready chan<- error, seen chan<- time.Time, stop <-chan struct{}) {
	cn := &conn{addr: addr}
	defer cn.close()
	if err := cn.dial(); err != nil {
		ready <- err
		return
	}
	socket := cn.c
	go func() { // a watcher that waits in a read ends when its connection does
		<-stop
		socket.Close()
	}()
	req := request("GET", path, "")
	first := true
	for {
		if _, err := socket.Write(req); err != nil {
			return
		}
		_, length, chunked, err := cn.head()
		if err != nil {
			if first {
				ready <- err
			}
			return
		}
		if first {
			ready <- nil
			first = false
		}
		for {
			event, err := cn.event(length, chunked)
			if err != nil {
				break
			}
			seen <- time.Now()
			if next, ok := nextIndex(event); ok && !stream {
				req = request("GET", path+"&waitIndex="+next, "")
			}
			if !chunked {
				break
			}
		}
		if stream {
			return
		}
		select {
		case <-stop:
			return
		default:
		}
	}
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
