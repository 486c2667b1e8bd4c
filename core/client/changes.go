package client

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Changes wakes whoever waits for something about units to change: by the stream of
// events, or after a short while where the server has none. What woke it is not told:
// the caller looks again.
type Changes struct {
	u      *Units
	poll   bool // there is no stream
	stream bool // there is one
	open   *UnitEvents
	opened time.Duration
}

// PollEvery is how long a server without a stream of events is left alone.
const PollEvery = 250 * time.Millisecond

// Changes begins to wait for changes; without stream the server is not asked for any.
func (u *Units) Changes(stream bool) *Changes { return &Changes{u: u, poll: !stream} }

// Wait returns after a change, or when it is worth looking again for another reason,
// which is at most d from now. Nothing is missed between two calls, once the first has
// returned.
func (h *Changes) Wait(ctx context.Context, d time.Duration) error {
	pause := func() error { return h.u.c.doer.Sleep(ctx, min(d, PollEvery)) }
	switch {
	case h.poll:
		return pause()
	case h.open == nil:
		return h.subscribe(ctx, d, pause)
	}
	if _, err := h.open.Next(); err != nil {
		h.Close()
		if h.u.c.doer.Now()-h.opened < PollEvery { // a server that hangs up is not asked in a tight loop
			return pause()
		}
	}
	return context.Cause(ctx)
}

// subscribe opens the stream; what changed before it was open has to be looked at.
func (h *Changes) subscribe(ctx context.Context, d time.Duration, pause func() error) (err error) {
	h.opened = h.u.c.doer.Now()
	if h.open, err = h.u.Events(ctx, d); err == nil {
		h.stream = true
		return nil
	}
	h.poll = errors.Is(err, ErrNoPage)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return pause()
}

// Streams tells whether the server is known to have a stream of events, as the original
// has not.
func (h *Changes) Streams() bool { return h.stream }

// Close ends the stream, if there is one. Wait may be called again.
func (h *Changes) Close() {
	if h.open != nil {
		h.open.Close()
		h.open = nil
	}
}

// Outage bears with servers that give no answer for a while, as when they elect a leader
// or start anew. The zero value is ready.
type Outage struct {
	since time.Duration
	on    bool
}

// outageMax is how long it bears.
const outageMax = 15 * time.Second

// Bear takes how a read has ended, at that time on the Doer's clock. False is an error
// that ends the wait: a refusal, or no answer for too long.
func (o *Outage) Bear(now time.Duration, err error) bool {
	var refused *UnitError
	switch {
	case err == nil:
		o.on = false
		return true
	case errors.Is(err, ErrNoPage), errors.As(err, &refused) && refused.Status < 500, !noAnswer(err):
		return false
	case !o.on:
		o.on, o.since = true, now
	}
	return now-o.since < outageMax
}

func noAnswer(err error) bool {
	var cluster *ClusterError
	var refused *UnitError
	return errors.As(err, &cluster) || errors.As(err, &refused) || errors.Is(err, ErrUnknown)
}

// StartError says that systemd could not start a unit.
type StartError struct{ Unit, Why string }

func (e *StartError) Error() string { return e.Unit + ": " + e.Why }

// Started judges a start by what systemd says: running is good, a unit that has ended is
// good if it ended well, failed is not, and what is on its way is not done.
func (s *UnitState) Started() (done bool, err error) {
	switch {
	case s.LoadState != "" && s.LoadState != "loaded":
		return false, s.bad(fmt.Sprintf("its file is %s on %s", s.LoadState, s.short()))
	case s.ActiveState == "failed", s.SubState == "auto-restart":
		return false, s.bad(fmt.Sprintf("it is %s (%s) on %s", s.ActiveState, s.SubState, s.short()))
	case s.ActiveState == "active", s.ActiveState == "reloading":
		return true, nil
	case s.ActiveState != "inactive":
		return false, nil
	case s.Result == "" || GoodResult(s.Result):
		return true, nil
	}
	return false, s.bad(fmt.Sprintf("it is %s (%s) on %s", s.ActiveState, s.SubState, s.short()))
}

func (s *UnitState) bad(why string) error {
	if s.Result != "" && !GoodResult(s.Result) {
		why += ": " + s.Result
	}
	return &StartError{s.Name, why}
}

func (s *UnitState) short() string { return ShortID(s.MachineID) }

// GoodResult tells whether a result is that of a job that went well.
func GoodResult(result string) bool { return result == "success" || result == "done" }

// ShortID is how a machine's ID is shown to people: 1a1a1a1a...
func ShortID(id string) string {
	const shown = 8
	if len(id) <= shown {
		return id
	}
	return id[:shown] + "..."
}
