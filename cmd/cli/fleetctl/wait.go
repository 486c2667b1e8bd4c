package fleetctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/unit"
)

// attempt is what --block-attempts counts.
const attempt = 2 * time.Second

// clock is what waiting needs of whoever carries the requests.
type clock interface {
	Sleep(ctx context.Context, d time.Duration) error
	Now() time.Duration
}

// goal is a unit that is waited for.
type goal struct {
	name  string
	state unit.State
	hash  string // of the file that the machine must have; "" is any
}

// picture is what the cluster says at one time of the units that are waited for.
type picture struct {
	units  map[string]*client.Unit // nil where it is gone
	states map[string][]client.UnitState
}

// waiter waits for goals, each of which is told of as soon as it is reached.
type waiter struct {
	c       *call
	open    []goal
	reached func(g goal, u *client.Unit) // in order of completion
	// ready tells whether a goal is reached, or can be no more.
	ready func(g goal, p *picture) (bool, error)
}

// errTime says that the attempts are used up.
var errTime = errors.New("timed out")

// wait returns when all goals are reached or one cannot be, or with errTime when max,
// unless it is 0, is over. What is left is in open then.
func (w *waiter) wait(ctx context.Context, limit time.Duration) error {
	began := w.c.clock.Now()
	var outage client.Outage
	for {
		p, err := w.c.look(ctx, w.open)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !outage.Bear(w.c.clock.Now(), err):
			return err
		}
		if err == nil {
			if err := w.check(p); err != nil || len(w.open) == 0 {
				return err
			}
			w.c.shown.show(ctx, w.c, w.c.clock.Now()-began, w.open, p)
		}
		left := attempt
		passed := w.c.clock.Now() - began
		if limit > 0 {
			if left = min(left, limit-passed); left <= 0 {
				return errTime
			}
		}
		if err := w.c.changes.Wait(ctx, left); err != nil {
			return err
		}
	}
}

func (w *waiter) check(p *picture) error {
	open := w.open
	w.open = nil
	var failed error
	for _, g := range open {
		done, err := w.ready(g, p)
		switch {
		case failed == nil && err != nil:
			failed = err
			w.open = append(w.open, g)
		case done && err == nil:
			w.reached(g, p.units[g.name])
		default:
			w.open = append(w.open, g)
		}
	}
	return failed
}

// listFrom is from how many units on the whole list is asked for instead of each.
const listFrom = 4

// look asks for all that is needed about the goals.
func (c *call) look(ctx context.Context, goals []goal) (*picture, error) {
	p := &picture{units: map[string]*client.Unit{}, states: map[string][]client.UnitState{}}
	if len(goals) >= listFrom {
		return p, c.lookAtAll(ctx, p)
	}
	for _, g := range goals {
		u, err := c.cluster.Get(ctx, g.name)
		if err != nil {
			return nil, err
		}
		states, err := c.cluster.States(ctx, client.StateFilter{Name: g.name, Details: true})
		if err != nil {
			return nil, err
		}
		p.units[g.name], p.states[g.name] = u, states
	}
	return p, nil
}

func (c *call) lookAtAll(ctx context.Context, p *picture) error {
	units, err := c.cluster.List(ctx, false)
	if err != nil {
		return err
	}
	states, err := c.cluster.States(ctx, client.StateFilter{Details: true})
	if err != nil {
		return err
	}
	for i := range units {
		p.units[units[i].Name] = &units[i]
	}
	for _, s := range states {
		p.states[s.Name] = append(p.states[s.Name], s)
	}
	return nil
}

// on gives what the machine that a unit is on says of it; nil where it says nothing.
func (p *picture) on(name string) *client.UnitState {
	u := p.units[name]
	if u == nil {
		return nil
	}
	for i, s := range p.states[name] {
		if s.MachineID == u.MachineID {
			return &p.states[name][i]
		}
	}
	return nil
}

// arrived tells whether the cluster says of a unit what is waited for.
func arrived(g goal, p *picture) (bool, error) {
	u := p.units[g.name]
	if u == nil {
		return false, fmt.Errorf("unit %s was destroyed meanwhile", g.name)
	}
	if unit.State(u.CurrentState) != g.state {
		return false, unfit(g, u, p.on(g.name))
	}
	if g.hash == "" || g.state == unit.Inactive {
		return true, nil
	}
	s := p.on(g.name)
	return s != nil && s.Hash == g.hash, nil
}

// unfit says why a unit that is to be launched cannot be: systemd refuses to start what
// stands in its file, which somebody has to change first.
func unfit(g goal, u *client.Unit, s *client.UnitState) error {
	if g.state != unit.Launched || s == nil || s.Hash != u.File().Hash().String() {
		return nil
	}
	bad := s.LoadState == "bad-setting" || s.LoadState == "error" || s.LoadState == "masked"
	if !bad && !strings.Contains(s.Result, env.ErrRefused.Error()) {
		return nil
	}
	_, err := s.Started()
	return err
}

// progress is the line on a terminal that says what is being waited for.
type progress struct{ width int }

const (
	progressAfter = time.Second // for so long somebody at a terminal is left without a word
	progressMax   = 79
)

func (p *progress) show(ctx context.Context, c *call, passed time.Duration, open []goal, now *picture) {
	if !c.Terminal || passed < progressAfter {
		return
	}
	g := open[0]
	text := fmt.Sprintf("waiting %d s for %s", int(passed/time.Second), g.name)
	if len(open) > 1 {
		text += fmt.Sprintf(" and %d more", len(open)-1)
	}
	text += ": " + c.situation(ctx, g, now)
	if len(text) > progressMax { // a line that the terminal breaks could not be wiped
		text = strings.ToValidUTF8(text[:progressMax-3], "") + "..."
	}
	io.WriteString(c.Err, "\r"+text+strings.Repeat(" ", max(0, p.width-len(text))))
	p.width = len(text)
}

// situation is where a unit stands, in a few words.
func (c *call) situation(ctx context.Context, g goal, p *picture) string {
	u := p.units[g.name]
	switch s := p.on(g.name); {
	case u == nil:
		return "destroyed"
	case u.MachineID == "":
		return "on no machine" + c.why(ctx, g.name)
	case s == nil:
		return u.CurrentState + " on " + client.ShortID(u.MachineID)
	default:
		return fmt.Sprintf("%s on %s, %s %s", u.CurrentState, client.ShortID(u.MachineID), s.ActiveState, s.SubState)
	}
}

// why is why a unit is on no machine, where the server says so.
func (c *call) why(ctx context.Context, name string) string {
	api := c.api()
	if api == nil {
		return ""
	}
	e, err := api.Why(ctx, name)
	if err != nil {
		return ""
	}
	return ": " + e.Why
}

func (p *progress) clear(w io.Writer) {
	if p.width > 0 {
		io.WriteString(w, "\r"+strings.Repeat(" ", p.width)+"\r")
		p.width = 0
	}
}
