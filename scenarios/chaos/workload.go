package chaos

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/reboot"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/linearizability"
	"github.com/keelson/keelson/sim/check"
)

// Workload is one thing that clients do. Workloads know nothing of each other
// and of the trouble beside them.
type Workload struct {
	Name    string
	Doc     string
	watches bool // its clients wait for changes and never end by themselves
	run     func(c *caller)
	open    func(b *bench) // before any client starts; nil: nothing is needed
}

// Workloads lists all of them. The order is part of what a seed means.
func Workloads() []Workload {
	return []Workload{
		{"registers", "a few keys, read and written in every way", false, registers, nil},
		{"queue", "keys in order: made, listed and taken from the front", false, queue, nil},
		{"directories", "trees made, listed and removed as a whole", false, directories, nil},
		{"ttl", "keys and directories with a ttl, and refreshes that race with it", false, ttls, nil},
		{"streams", "watches that stay open, resumed at other machines", true, streams, nil},
		{"watchers", "the client library's watches, one change at a time", true, watchers, nil},
		{"locks", "machines that take and release the reboot lock", false, locks, nil},
		{"bulk", "large values, which fill queues and buffers", false, bulk, nil}, // drawn half as often: it is slow
		{"access", "administrators who give and take rights, and users who try what they can", false, accesses, nil},
		{proxiesLoad, "clients of machines that are no members, whose copies of the keys are held to what the members have", false, proxies, openProxies},
		{unitsLoad, "units that are submitted, started, stopped, replaced and destroyed", false, units, openUnits}, // drawn half as often
	}
}

func registers(c *caller) {
	known := map[string]linearizability.Output{}
	for c.next() {
		key := fmt.Sprintf("/r/%d", c.draw(4))
		out, ok := c.do(c.register(key, known[key]))
		if ok && out.Node != nil {
			known[key] = out
		}
	}
}

// register draws an operation on a key that was last seen as shown.
func (c *caller) register(key string, seen linearizability.Output) linearizability.Input {
	in := linearizability.Input{Kind: linearizability.Get, Key: key}
	value, index := "nothing", uint64(1)
	if seen.Node != nil {
		value, index = seen.Node.Value, seen.Node.Modified
		if value == "" {
			value = "nothing"
		}
	}
	switch c.draw(16) {
	case 0, 1, 2:
		in.Kind = linearizability.Set
	case 3:
		in.Kind = linearizability.Create
	case 4:
		in.Kind = linearizability.Update
	case 5, 6:
		in.Kind, in.PrevValue = linearizability.CAS, value
	case 7:
		in.Kind, in.PrevIndex = linearizability.CAS, index
	case 8:
		in.Kind, in.PrevValue = linearizability.CAD, value
	case 9:
		in.Kind = linearizability.Delete
	case 10:
		in.Local = true
	}
	switch in.Kind {
	case linearizability.Set, linearizability.Create, linearizability.Update, linearizability.CAS:
		in.Value = c.value()
	}
	return in
}

func queue(c *caller) {
	for c.next() {
		if c.draw(3) > 0 {
			c.do(linearizability.Input{Kind: linearizability.Post, Key: "/queue", Value: c.value()})
			continue
		}
		out, ok := c.do(linearizability.Input{Kind: linearizability.Get, Key: "/queue", Recursive: true})
		if !ok || out.Node == nil || len(out.Node.Nodes) == 0 {
			continue
		}
		first := out.Node.Nodes[0]
		c.do(linearizability.Input{Kind: linearizability.CAD, Key: first.Key, PrevIndex: first.Modified})
	}
}

func directories(c *caller) {
	for c.next() {
		dir := fmt.Sprintf("/d/%d", c.draw(3))
		file := fmt.Sprintf("%s/%s/%d", dir, []string{"a", "b", "_hidden"}[c.draw(3)], c.draw(2))
		in := linearizability.Input{Kind: linearizability.Set, Key: file, Value: c.value()}
		switch c.draw(10) {
		case 0:
			in = linearizability.Input{Kind: linearizability.Create, Key: dir, Dir: true}
		case 1:
			in = linearizability.Input{Kind: linearizability.Delete, Key: dir, Recursive: true}
		case 2:
			in = linearizability.Input{Kind: linearizability.Delete, Key: dir, Dir: true}
		case 3, 4:
			in = linearizability.Input{Kind: linearizability.Get, Key: "/d", Recursive: c.draw(2) == 0}
		case 5:
			in = linearizability.Input{Kind: linearizability.Get, Key: file}
		case 6:
			in = linearizability.Input{Kind: linearizability.Delete, Key: file}
		}
		c.do(in)
	}
}

func ttls(c *caller) {
	for c.next() {
		in := linearizability.Input{
			Kind: linearizability.Set, Key: fmt.Sprintf("/ttl/%d", c.draw(4)), Value: c.value(),
			HasTTL: true, TTLSeconds: int64(1 + c.draw(4)),
		}
		switch c.draw(10) {
		case 0, 1:
			in.Kind, in.Refresh, in.Value = linearizability.Update, true, ""
		case 2:
			in.Refresh, in.Value = true, ""
		case 3:
			in.Kind, in.Key, in.Dir, in.Value = linearizability.Create, "/ttl/dir", true, ""
		case 4:
			in.Key = fmt.Sprintf("/ttl/dir/%d", c.draw(2))
		case 5:
			in.HasTTL, in.TTLSeconds = false, 0
			in.Kind = linearizability.Delete
			in.Value = ""
		case 6, 7:
			in = linearizability.Input{Kind: linearizability.Get, Key: "/ttl", Recursive: true}
		case 8:
			in.Kind = linearizability.Create
		}
		c.do(in)
	}
}

// bulk writes large values, now and then. In one run out of four they are so
// large that a queue which is held up fills.
func bulk(c *caller) {
	most := 20_000
	if purpose(c.Seed, "bulk").IntN(4) == 0 {
		most = 200_000
	}
	c.think = time.Duration(c.clients) * 700 * time.Millisecond
	const text = "keelson "
	for c.next() {
		in := linearizability.Input{Kind: linearizability.Set, Key: fmt.Sprintf("/bulk/%d", c.draw(3))}
		in.Value = c.value() + strings.Repeat(text, c.draw(most/len(text)))
		c.do(in)
	}
}

// watched draws what to watch.
func (c *caller) watched() (key string, recursive bool) {
	switch c.draw(6) {
	case 0:
		return fmt.Sprintf("/r/%d", c.draw(4)), false
	case 1:
		return "/d", true
	case 2:
		return "/d/1/a", true
	case 3:
		return "/ttl/1", false
	}
	return "/", true
}

// streams keeps one watch open, over as many connections as it takes.
func streams(c *caller) {
	key, recursive := c.watched()
	next, last := uint64(0), c.endpoint()
	for c.Context().Err() == nil {
		if next > 0 && c.endpoint() != last {
			c.c.Mark("client: watch resumed on another member")
		}
		last = c.endpoint()
		next = c.stream(key, recursive, next)
		c.at = c.draw(c.Machines)
		c.Pause(50*time.Millisecond + time.Duration(c.Float64()*float64(300*time.Millisecond)))
	}
}

// stream is one connection of a watch. It returns the index to go on from.
func (c *caller) stream(key string, recursive bool, from uint64) uint64 {
	q := url.Values{"wait": {"true"}, "stream": {"true"}, "recursive": {strconv.FormatBool(recursive)}}
	if from > 0 {
		q.Set("waitIndex", strconv.FormatUint(from, 10))
	}
	w := c.rec.Watch(c.id, c.endpoint(), key, recursive, true, from)
	resp, err := c.Do(c.Context(), &client.Request{
		Endpoint: c.endpoint(), Method: "GET", Path: "/v2/keys" + key, Query: q.Encode(), Stream: true, Timeout: c.patience,
	})
	if err != nil {
		return from
	}
	defer resp.Body.Close()
	if resp.Status != 200 {
		return c.refused(w, resp, from)
	}
	w.Accepted(linearizability.IndexOf(resp))
	if from == 0 {
		from = linearizability.IndexOf(resp) + 1
	}
	c.open = append(c.open, w)
	_ = w.Follow(resp.Body, func(e *linearizability.Event) bool {
		from = e.Index + 1
		return c.goOnReading()
	})
	c.open = slices.DeleteFunc(c.open, func(o *linearizability.Seen) bool { return o == w })
	return from
}

// goOnReading makes some readers slow and some impatient, while there is trouble.
func (c *caller) goOnReading() bool {
	c.delivered++
	if c.calm {
		return true
	}
	switch c.draw(30) {
	case 0:
		c.Pause(time.Duration(c.Float64() * float64(3*time.Second)))
	case 1:
		return false
	}
	return true
}

func (c *caller) refused(w *linearizability.Seen, resp *client.Response, from uint64) uint64 {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return from
	}
	out, err := linearizability.Decode(body, 0)
	if err != nil {
		return from
	}
	w.Refused(out.Code, out.Index)
	if out.Code == int(store.CodeIndexCleared) {
		c.c.Mark("client: watch crossing compaction")
		return 0 // begin again from now
	}
	return from
}

// watchers uses the library's watch. The whole of it counts as one watch,
// whatever connections it is made of.
func watchers(c *caller) {
	lib := client.New(c.rec.Doer(c.id, c.Proc), client.Options{Endpoints: c.endpoints, Timeout: c.patience})
	key, recursive := c.watched()
	for c.Context().Err() == nil {
		c.session(lib, key, recursive)
		c.Pause(100 * time.Millisecond)
	}
}

func (c *caller) session(lib *client.Client, key string, recursive bool) {
	e, err := lib.Keys().Get(c.Context(), "/", client.GetOptions{Reading: client.Linearizable})
	if err != nil || e.Index == 0 {
		return
	}
	watch := lib.Keys().Watch(key, client.WatchOptions{Recursive: recursive, After: e.Index})
	w := c.rec.Watch(c.id, "", key, recursive, true, e.Index+1)
	w.Accepted(e.Index)
	c.open = append(c.open, w)
	defer func() {
		c.open = slices.DeleteFunc(c.open, func(o *linearizability.Seen) bool { return o == w })
	}()
	for c.Context().Err() == nil {
		e, err := watch.Next(c.Context())
		var gap *client.GapError
		switch {
		case errors.As(err, &gap):
			return
		case err != nil:
			c.Pause(100 * time.Millisecond)
			continue
		}
		w.Event(&linearizability.Event{
			Index: e.Node.ModifiedIndex, Action: e.Action, Node: nodeOf(e.Node), Prev: nodeOf(e.PrevNode),
		})
		c.goOnReading()
	}
}

// lockSlots is how many may hold the reboot lock of the workload.
const lockSlots = 2

func locks(c *caller) {
	lib := client.New(c.rec.Doer(c.id, c.Proc), c.patient())
	l := lib.Locks("")
	name := fmt.Sprintf("machine-%d", c.id)
	for c.next() {
		if c.draw(6) == 0 {
			_, _ = l.SetMax(c.Context(), lockSlots)
			continue
		}
		if l.Lock(c.Context(), name) == nil {
			c.holds(name)
			c.Pause(time.Duration(c.Float64() * float64(2*time.Second)))
			if c.draw(8) == 0 && !c.stop { // the holder dies; its slot stays taken until it is back
				c.c.Mark("client: lock holder dies")
				c.Pause(2 * time.Second)
				l = client.New(c.rec.Doer(c.id, c.Proc), c.patient()).Locks("")
			}
			delete(c.held, name)
		}
		c.release(l, name)
	}
}

// holds notes that name surely has the lock, and that no more do than may.
func (c *caller) holds(name string) {
	c.held[name] = true
	if len(c.held) > lockSlots {
		var all []string
		for n := range c.held {
			all = append(all, n)
		}
		slices.Sort(all)
		c.c.Fail(check.Holders, "%v hold %d slots", all, lockSlots)
	}
}

func (c *caller) release(l *reboot.Client, name string) {
	for range 5 {
		if err := l.Unlock(c.Context(), name); err == nil || !errors.Is(err, client.ErrUnknown) && !errors.Is(err, reboot.ErrUnknown) {
			return
		}
	}
}
