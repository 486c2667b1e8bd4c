package sim

import (
	"context"
	"time"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/env"
)

// Proc is a program written as straight lines: a coroutine that is suspended
// while it waits. It is a client.Doer whose host is named like the Proc. Its
// methods may be called from its own function only, unless they say otherwise.
type Proc struct{}

var _ client.Doer = (*Proc)(nil)

// Spawn starts fn as a coroutine in an event of its own. A panic in it fails the run.
func (w *World) Spawn(name string, fn func(p *Proc)) *Proc { panic("sim: not built") }

// Name is what Spawn was given.
func (p *Proc) Name() string { panic("sim: not built") }

// World is where the Proc runs.
func (p *Proc) World() *World { panic("sim: not built") }

// Done says whether fn has returned. From anywhere.
func (p *Proc) Done() bool { panic("sim: not built") }

// Context is cancelled by Interrupt and at the end of the world.
func (p *Proc) Context() context.Context { panic("sim: not built") }

// Interrupt cancels the context and wakes the Proc, as Ctrl-C does. From anywhere.
func (p *Proc) Interrupt() { panic("sim: not built") }

// Pause suspends the Proc for d of virtual time.
func (p *Proc) Pause(d time.Duration) { panic("sim: not built") }

// WaitFor suspends the Proc until cond holds, asking every step of virtual time,
// for at most d, and reports whether it held.
func (p *Proc) WaitFor(d, step time.Duration, cond func() bool) bool { panic("sim: not built") }

// From gives a Doer whose requests leave from another host: a machine (loopback,
// if it asks itself) or a client of Net.Client.
func (p *Proc) From(host env.NodeID) client.Doer { panic("sim: not built") }

// Do carries a request in virtual time. An error wraps client.ErrUnknown where
// the request may have reached the node.
func (p *Proc) Do(ctx context.Context, req *client.Request) (*client.Response, error) {
	panic("sim: not built")
}

// Sleep returns after d, or with the context's error.
func (p *Proc) Sleep(ctx context.Context, d time.Duration) error { panic("sim: not built") }

// Now is the world's virtual time.
func (p *Proc) Now() time.Duration { panic("sim: not built") }

// Float64 draws from the Proc's own stream.
func (p *Proc) Float64() float64 { panic("sim: not built") }
