package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/linearizability"
	"github.com/keelson/keelson/sim"
	"github.com/keelson/keelson/sim/check"
)

// bench is the clients of a run.
type bench struct {
	*run
	stop      bool // clients should end after the operation they are at
	calm      bool // readers are quick and connections are kept
	procs     []*sim.Proc
	readers   []*sim.Proc // watchers: they never end by themselves
	open      []*linearizability.Seen
	serial    int
	delivered int // changes that readers have got
	ids       int
	ttlMost   time.Duration
	access    *access
	held      map[string]bool          // reboot locks that clients surely hold
	swapped   map[string]time.Duration // when a key was last changed by compare-and-swap
	proxies   []*sim.Machine           // that some clients ask instead of members
	workers   []*sim.Machine           // that run units and are no members
}

func newBench(r *run) *bench {
	return &bench{run: r, held: map[string]bool{}, swapped: map[string]time.Duration{}}
}

// start spawns the clients of every workload. They share the rate.
func (b *bench) start() {
	busy := 0
	for _, w := range b.loads {
		if !w.watches {
			busy += b.clients
		}
	}
	for _, w := range b.loads {
		if w.open != nil {
			w.open(b)
		}
	}
	for _, w := range b.loads {
		for i := range b.clients {
			c := &caller{bench: b, id: b.nextID(), at: i, endpoints: b.founders()}
			if w.Name == proxiesLoad || w.watches && i%2 == 1 && b.proxies != nil {
				c.endpoints = nil
				for _, m := range b.proxies {
					c.endpoints = append(c.endpoints, m.URL())
				}
			}
			if busy > 0 {
				c.think = time.Duration(float64(busy) / b.Rate * float64(time.Second))
			}
			p := b.c.Spawn(fmt.Sprintf("%s-%d", w.Name, i), func(p *sim.Proc) {
				c.Proc = p
				c.begin()
				w.run(c)
			})
			if w.watches {
				b.readers = append(b.readers, p)
			} else {
				b.procs = append(b.procs, p)
			}
		}
	}
}

func (b *bench) nextID() int {
	b.ids++
	return b.ids
}

// working names a client that has not finished, or nobody.
func (b *bench) working() string {
	for _, p := range b.procs {
		if !p.Done() {
			return p.Name()
		}
	}
	return ""
}

func (b *bench) watching() bool { return len(b.readers) > 0 }

// live marks the watches that are open and have had time to catch up.
func (b *bench) live() {
	for _, s := range b.open {
		s.Live()
	}
	for _, p := range b.readers {
		p.Interrupt()
	}
}

// founders is where clients look for the cluster: machines that joined later may
// be members or still waiting to be.
func (b *bench) founders() []string { return b.c.Endpoints()[:b.Machines] }

// caller is one client at work.
type caller struct {
	*bench
	*sim.Proc
	id        int
	at        int      // the endpoint it talks to
	endpoints []string // where it looks for the cluster
	think     time.Duration
	keys      *client.Keys // nil: single requests, without the client library
	// requests counts those of the client library in one second.
	requests int
	second   time.Duration
}

// begin waits a little, so that clients do not march in step, and chooses
// whether this client is a program with the client library or plain requests.
func (c *caller) begin() {
	if c.Float64() < 0.5 {
		lib := client.New(c.Proc, c.patient())
		c.keys = lib.Keys()
	}
	c.Pause(time.Duration(c.Float64() * float64(time.Second)))
}

// patient is how the client library is used, each of its requests counted.
func (c *caller) patient() client.Options {
	return client.Options{Endpoints: c.endpoints, Timeout: c.patience, Total: 3 * c.patience, Trace: c.count}
}

// requestsMax is how many requests one client may make in a virtual second,
// with all its attempts at all machines. Clients of the standard load make less
// than one operation in a second each.
const requestsMax = 150

// count holds the client library to its back-off.
func (c *caller) count(*client.Request) {
	if second := c.Now() / time.Second; second != c.second {
		c.second, c.requests = second, 0
	}
	if c.requests++; c.requests > requestsMax {
		c.c.Fail(check.Resource, "%s made more than %d requests in the second after %v", c.Name(), requestsMax, c.second*time.Second)
	}
}

// draw gives a number below n.
func (c *caller) draw(n int) int { return int(c.Float64() * float64(n)) }

// value is one that nobody else writes.
func (c *caller) value() string {
	c.serial++
	return fmt.Sprintf("%d-%d", c.id, c.serial)
}

// next waits for the next operation's time; false when it is time to end.
func (c *caller) next() bool {
	wait := time.Duration(c.Float64() * 2 * float64(c.think))
	for end := c.Now() + wait; c.Now() < end && !c.stop; {
		c.Pause(min(end-c.Now(), 200*time.Millisecond))
	}
	return !c.stop
}

func (c *caller) endpoint() string { return c.endpoints[c.at%len(c.endpoints)] }

// do carries out one operation and records what came of it. After an unknown
// outcome the client goes on as somebody else, at another machine.
func (c *caller) do(in linearizability.Input) (linearizability.Output, bool) {
	if in.HasTTL {
		c.ttlMost = max(c.ttlMost, time.Duration(in.TTLSeconds)*time.Second)
	}
	var out linearizability.Output
	var err error
	called := c.Now()
	if c.keys != nil {
		out, err = c.byLibrary(in)
	} else {
		out, err = c.rec.Do(c.Context(), c.Proc, c.id, c.endpoint(), in, c.patience)
	}
	c.markSwap(&in, &out, err, called)
	if err != nil || out.Code >= 300 {
		c.id = c.nextID()
		c.at = c.draw(c.Machines)
		return out, false
	}
	if c.draw(20) == 0 {
		c.at = c.draw(c.Machines)
	}
	return out, true
}

// markSwap notes a compare-and-swap that lost to another beside it.
func (c *caller) markSwap(in *linearizability.Input, out *linearizability.Output, err error, called time.Duration) {
	switch {
	case in.Kind != linearizability.CAS || err != nil:
	case out.Code == 0:
		c.swapped[in.Key] = c.Now()
	case out.Code == int(store.CodeCompareFailed):
		if at, ok := c.swapped[in.Key]; ok && at > called {
			c.c.Mark("client: compare-and-swap lost to a concurrent one")
		}
	}
}

// byLibrary calls the client library. What is recorded is what the library told
// its caller, so that its retries are held to the promise too.
func (c *caller) byLibrary(in linearizability.Input) (linearizability.Output, error) {
	p := c.rec.Begin(c.id, "", in)
	e, err := call(c.Context(), c.keys, &in)
	var refused *client.Error
	switch {
	case err == nil:
		out := output(e, &in)
		p.End(out)
		return out, nil
	case errors.As(err, &refused) && !errors.Is(err, client.ErrUnknown) && refused.Code < 300:
		out := linearizability.Output{Code: int(refused.Code), Cause: refused.Cause, Index: refused.Index}
		p.End(out)
		return out, nil
	case !in.Write() || !errors.Is(err, client.ErrUnknown):
		p.Fail()
	}
	return linearizability.Output{}, err
}

func call(ctx context.Context, k *client.Keys, in *linearizability.Input) (*client.Event, error) {
	o := client.SetOptions{Dir: in.Dir, Refresh: in.Refresh, TTL: time.Duration(in.TTLSeconds) * time.Second}
	is := client.Condition{PrevValue: in.PrevValue, PrevIndex: in.PrevIndex}
	switch in.Kind {
	case linearizability.Get:
		reading := client.Linearizable
		if in.Local {
			reading = client.Local
		}
		return k.Get(ctx, in.Key, client.GetOptions{Recursive: in.Recursive, Reading: reading})
	case linearizability.Set:
		return k.Set(ctx, in.Key, in.Value, o)
	case linearizability.Create:
		return k.Create(ctx, in.Key, in.Value, o)
	case linearizability.Update:
		return k.Update(ctx, in.Key, in.Value, o)
	case linearizability.CAS:
		return k.CompareAndSwap(ctx, in.Key, in.Value, is, o)
	case linearizability.CAD:
		return k.CompareAndDelete(ctx, in.Key, is)
	case linearizability.Post:
		return k.CreateInOrder(ctx, in.Key, in.Value, o)
	}
	return k.Delete(ctx, in.Key, client.DeleteOptions{Dir: in.Dir, Recursive: in.Recursive})
}

func output(e *client.Event, in *linearizability.Input) linearizability.Output {
	out := linearizability.Output{Action: e.Action, Node: nodeOf(e.Node), Prev: nodeOf(e.PrevNode), Index: e.Index}
	if in.Write() {
		out.Index = out.Node.Modified
	}
	return out
}

func nodeOf(n *client.Node) *linearizability.Node {
	if n == nil {
		return nil
	}
	out := &linearizability.Node{
		Key: n.Key, Value: n.Value, Dir: n.Dir,
		Created: n.CreatedIndex, Modified: n.ModifiedIndex, HasTTL: n.Expiration != nil,
	}
	if out.Key == "" {
		out.Key = "/"
	}
	for _, k := range n.Nodes {
		out.Nodes = append(out.Nodes, nodeOf(k))
	}
	return out
}
