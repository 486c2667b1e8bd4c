package fleetctl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/unit"
)

// blockFlags say how long a command waits.
var blockFlags = []string{"no-block", "block-attempts", "output"}

func (c *call) limit() time.Duration { return time.Duration(c.number("block-attempts")) * attempt }

// raise has units loaded or launched: verb is what it is called in messages. It gives the
// goals that were set, those of global units apart, since nobody waits for them.
func (c *call) raise(ctx context.Context, verb string, state unit.State, targets []target, made []created) ([]goal, error) {
	var goals []goal
	for _, t := range targets {
		u, err := c.cluster.Get(ctx, t.name)
		if err != nil {
			return nil, err
		}
		if u == nil {
			return nil, fmt.Errorf("unit %s was destroyed meanwhile", t.name)
		}
		g := goal{name: t.name, state: state}
		if i := slices.IndexFunc(made, func(m created) bool { return m.name == t.name }); i >= 0 && made[i].state != unit.Inactive {
			g.hash = made[i].hash // it has what is wanted already, but for the contents
		} else if unit.State(u.DesiredState) == state {
			continue
		} else if err := c.cluster.Put(ctx, &client.Unit{Name: t.name, DesiredState: string(state)}); err != nil {
			return nil, err
		}
		if u.Global() {
			c.triggered("global unit", t.name, verb)
			continue
		}
		goals = append(goals, g)
	}
	return goals, nil
}

func (c *call) triggered(what, name, verb string) {
	c.tell(event{Unit: name, Event: "triggered " + verb}, "Triggered %s %s %s", what, name, verb)
}

// await waits until the cluster says that the goals are reached, and tells of each.
func (c *call) await(ctx context.Context, verb string, goals []goal) error {
	if c.yes("no-block") {
		for _, g := range goals {
			c.triggered("unit", g.name, verb)
		}
		return nil
	}
	w := &waiter{c: c, open: goals, ready: arrived, reached: func(g goal, u *client.Unit) { c.tellState(ctx, g, u) }}
	err := w.wait(ctx, c.limit())
	var failed *client.StartError
	switch {
	case errors.As(err, &failed):
		return c.unstarted(failed)
	case !errors.Is(err, errTime):
		return err
	}
	for _, g := range w.open {
		c.warn("Error waiting for units: %v", late(g))
	}
	return late(w.open[0])
}

func late(g goal) error {
	return fmt.Errorf("timed out waiting for unit %s to report state %s", g.name, g.state)
}

func (c *call) tellState(ctx context.Context, g goal, u *client.Unit) {
	e := event{Unit: g.name, Event: string(g.state), MachineID: u.MachineID}
	if g.state == unit.Inactive {
		e.MachineID = ""
		c.tell(e, "Unit %s %s", g.name, g.state)
		return
	}
	e.IP = c.ip(ctx, u.MachineID)
	c.tell(e, "Unit %s %s on %s", g.name, g.state, c.place(ctx, u.MachineID, false))
}

// awaited puts the end of waiting into the words of the original.
func awaited(err error) error {
	var exit *tool.Exit
	if errors.As(err, &exit) {
		return err
	}
	return refuse("Error waiting for unit states, exit status: %w", plain(err))
}

// settle waits until systemd has done what the cluster told it to: the units are started,
// or have ended well.
func (c *call) settle(ctx context.Context, goals []goal) error {
	if c.yes("no-block") || len(goals) == 0 {
		return nil
	}
	w := &waiter{c: c, open: goals, ready: c.settled(), reached: func(goal, *client.Unit) {}}
	err := w.wait(ctx, c.limit())
	if err == nil {
		err = c.lasting(ctx, goals)
	}
	if err == nil {
		return nil
	}
	var failed *client.StartError
	switch {
	case errors.Is(err, errTime):
		failed = &client.StartError{Unit: w.open[0].name, Why: "it is not yet started"}
	case !errors.As(err, &failed):
		return refuse("Error waiting for systemd unit states, err: %w", plain(err))
	}
	return c.unstarted(failed)
}

// unstarted puts a start that failed into the words of the original.
func (c *call) unstarted(failed *client.StartError) error {
	why := fmt.Errorf("Failed to find an active unit %s within %v, err: %s", failed.Unit, max(attempt, c.limit()), failed.Why) //nolint:staticcheck // the original's words
	c.warn("Error waiting for units: %v", why)
	return refuse("Error waiting for systemd unit states, err: %w", why)
}

// settleFor is how long after its start a unit is looked at once more.
const settleFor = 100 * time.Millisecond

// lasting finds out which units were started and have failed at once.
func (c *call) lasting(ctx context.Context, goals []goal) error {
	if err := c.clock.Sleep(ctx, settleFor); err != nil {
		return err
	}
	p, err := c.look(ctx, goals)
	if err != nil {
		return nil // they were seen to be started
	}
	for _, g := range goals {
		if s := p.on(g.name); s != nil {
			if _, err := s.Started(); err != nil {
				return err
			}
		}
	}
	return nil
}

// settled judges a start by what systemd says: running is good, failed is not, and a unit
// that has ended is good if it ended well. Where the server does not say how a job ended,
// a unit that is still not active after an attempt counts as one that has ended.
func (c *call) settled() func(g goal, p *picture) (bool, error) {
	began := c.clock.Now()
	return func(g goal, p *picture) (bool, error) {
		u, s := p.units[g.name], p.on(g.name)
		switch {
		case u == nil:
			return false, &client.StartError{Unit: g.name, Why: "it was destroyed meanwhile"}
		case s == nil:
			return false, nil
		case s.ActiveState == "inactive" && s.Result == "" && s.LoadState == "loaded" && !c.changes.Streams():
			return c.clock.Now()-began >= attempt, nil
		}
		return s.Started()
	}
}

// bracketed is how the original shows names: [a b].
func bracketed(names []string) string { return "[" + strings.Join(names, " ") + "]" }
