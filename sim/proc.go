package sim

import (
	"context"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"
	"time"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/env"
)

// Proc is a program written as straight lines: a coroutine that is suspended
// while it waits. It is a client.Doer whose host is named like the Proc. Its
// methods may be called from its own function only, unless they say otherwise.
type Proc struct {
	w    *World
	name string
	host env.NodeID
	rand *random

	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool

	running     bool // it is the one that executes
	done        bool
	waits       uint64 // counts the waits, so that an old wake-up is ignored
	woken       bool   // a wake-up is on its way
	waiting     bool
	interrupted bool
	open        []*conn // whose body is still under way
}

var _ client.Doer = (*Proc)(nil)

// Spawn starts fn as a coroutine in an event of its own. A panic in it fails the
// run. Processes with the same name share a host and a random stream.
func (w *World) Spawn(name string, fn func(p *Proc)) *Proc {
	p := &Proc{w: w, name: name, host: w.net.Client(name), rand: w.stream("proc/" + name)}
	w.procs = append(w.procs, p)
	p.next, p.stop = iter.Pull(func(yield func(struct{}) bool) {
		p.yield = yield
		p.body(fn)
	})
	w.push(w.now, call(func() {
		w.record(KindProc, p.host, 0, 0, 0, "begin "+name)
		p.resume()
	}))
	return p
}

// stopped is what ends a Proc at the end of its world.
type procEnd struct{}

func (p *Proc) body(fn func(*Proc)) {
	defer func() {
		p.done = true
		switch r := recover().(type) {
		case nil, procEnd:
		default:
			p.w.fail(&Failure{Oracle: "panic", Message: p.name + ": " + fmt.Sprint(r), Stack: plainStack(debug.Stack())})
		}
	}()
	fn(p)
}

func (p *Proc) resume() {
	if p.done || p.w.closed {
		return
	}
	p.running = true
	p.next()
	p.running = false
	if p.done {
		p.hangUp()
		p.w.record(KindProc, p.host, 0, 0, 0, "end "+p.name)
		p.w.reap()
	}
}

// hangUp closes what the program left open, as the end of a process does.
func (p *Proc) hangUp() {
	for len(p.open) > 0 {
		p.open[len(p.open)-1].close()
	}
}

// reap forgets Procs that have ended, now and then.
func (w *World) reap() {
	if len(w.procs) < 64 {
		return
	}
	kept := w.procs[:0]
	for _, p := range w.procs {
		if !p.done {
			kept = append(kept, p)
		}
	}
	clear(w.procs[len(kept):])
	w.procs = kept
}

// end unwinds the coroutine.
func (p *Proc) end() {
	if !p.done {
		p.stop()
		p.done = true
	}
}

// park suspends the Proc until it is woken, or until the given time unless that
// is 0. It may return for no reason.
func (p *Proc) park(until time.Duration) {
	if !p.running {
		panic(fmt.Sprintf("sim: %s waits outside its own function", p.name))
	}
	p.waits++
	p.waiting, p.woken = true, false
	if until > 0 {
		p.w.push(until, &wakeUp{p, p.waits})
	}
	if !p.yield(struct{}{}) {
		panic(procEnd{})
	}
	p.waiting = false
}

// wake ends the present wait in an event of its own.
func (p *Proc) wake() {
	if p.waiting && !p.woken && !p.w.closed {
		p.woken = true
		p.w.push(p.w.now, &wakeUp{p, p.waits})
	}
}

// closed implements caller.
func (p *Proc) closed(c *conn) {
	p.open = slices.DeleteFunc(p.open, func(o *conn) bool { return o == c })
}

// mayReuse implements caller: a program may have left a connection idle for any
// time.
func (*Proc) mayReuse(*Machine) bool { return true }

type wakeUp struct {
	p    *Proc
	wait uint64
}

func (e *wakeUp) run(w *World) {
	if e.p.waiting && e.p.waits == e.wait {
		w.record(KindProc, e.p.host, 0, 0, e.wait, "")
		e.p.resume()
	}
}

// Name is what Spawn was given.
func (p *Proc) Name() string { return p.name }

// Host is where the Proc's requests leave from.
func (p *Proc) Host() env.NodeID { return p.host }

// World is where the Proc runs.
func (p *Proc) World() *World { return p.w }

// Done says whether fn has returned. From anywhere.
func (p *Proc) Done() bool { return p.done }

// Context ends by Interrupt and at the end of the world. It has no channel: what
// waits in this package asks it instead.
func (p *Proc) Context() context.Context { return procContext{context.Background(), p} }

type procContext struct {
	context.Context
	p *Proc
}

func (c procContext) Err() error {
	if c.p.interrupted || c.p.w.closed {
		return context.Canceled
	}
	return nil
}

// stopped says why a Proc should wait no longer.
func (p *Proc) stopped(ctx context.Context) error {
	if p.interrupted || p.w.closed {
		return context.Canceled
	}
	return ctx.Err()
}

// Interrupt cancels the context and wakes the Proc, as Ctrl-C does. From anywhere.
func (p *Proc) Interrupt() {
	p.interrupted = true
	p.wake()
}

// Pause suspends the Proc for d of virtual time, whatever the context says.
func (p *Proc) Pause(d time.Duration) {
	for end := p.w.now + d; p.w.now < end; {
		p.park(end)
	}
}

// WaitFor suspends the Proc until cond holds, asking every step of virtual time,
// for at most d, and reports whether it held.
func (p *Proc) WaitFor(d, step time.Duration, cond func() bool) bool {
	for end := p.w.now + d; ; p.Pause(step) {
		if cond() {
			return true
		}
		if p.w.now >= end {
			return false
		}
	}
}

// From gives a Doer whose requests leave from another host: a machine (loopback,
// if it asks itself) or a client of Net.Client.
func (p *Proc) From(host env.NodeID) client.Doer { return &doer{p, host} }

type doer struct {
	*Proc
	from env.NodeID
}

func (d *doer) Do(ctx context.Context, req *client.Request) (*client.Response, error) {
	return d.do(ctx, d.from, req)
}

// Do carries a request in virtual time. An error wraps client.ErrUnknown where
// the request may have reached the node.
func (p *Proc) Do(ctx context.Context, req *client.Request) (*client.Response, error) {
	return p.do(ctx, p.host, req)
}

// Sleep returns after d, or with the context's error.
func (p *Proc) Sleep(ctx context.Context, d time.Duration) error {
	for end := p.w.now + d; ; p.park(end) {
		if err := p.stopped(ctx); err != nil {
			return err
		}
		if p.w.now >= end {
			return nil
		}
	}
}

// Now is the world's virtual time.
func (p *Proc) Now() time.Duration { return p.w.now }

// Float64 draws from the Proc's own stream.
func (p *Proc) Float64() float64 { return p.rand.Float64() }
