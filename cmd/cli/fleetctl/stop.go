package fleetctl

import (
	"context"
	"errors"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/unit"
)

func stopVerb() *verb {
	return &verb{
		name: "stop", args: "UNIT…", summary: "Stop units; they stay on their machines",
		help:  "Stop units and wait until systemd has. They stay loaded where they are.",
		flags: blockFlags,
		run: func(ctx context.Context, c *call) error {
			stopped, err := c.lower(ctx, "stop", unit.Loaded)
			if err != nil || stopped == nil {
				return err
			}
			c.warn("Successfully stopped units %s.", bracketed(stopped))
			return nil
		},
	}
}

// lower has units loaded at most, or inactive, and gives the names of those it changed;
// nil where the cluster knows none.
func (c *call) lower(ctx context.Context, verb string, state unit.State) (names []string, err error) {
	known, err := c.known(ctx, placed)
	if err != nil || known == nil {
		return nil, err
	}
	var goals []goal
	names = []string{}
	for _, u := range known {
		change, err := c.lowerOne(ctx, verb, &u, state)
		if err != nil {
			return nil, err
		}
		if change {
			goals = append(goals, goal{name: u.Name, state: state})
			names = append(names, u.Name)
		}
	}
	if err := c.await(ctx, verb, goals); err != nil {
		return nil, awaited(err)
	}
	return names, c.ended(ctx, goals)
}

// lowerOne tells whether the unit will be waited for.
func (c *call) lowerOne(ctx context.Context, verb string, u *client.Unit, state unit.State) (bool, error) {
	global := u.Global()
	switch {
	case global && rank(unit.State(u.DesiredState)) <= rank(state):
		return false, nil
	case !global && verb == "stop" && unit.State(u.CurrentState) == unit.Inactive:
		return false, refuse("Unable to stop unit %s in state %s", u.Name, u.CurrentState)
	case !global && unit.State(u.DesiredState) == state, rank(unit.State(u.DesiredState)) < rank(state):
		return false, nil
	}
	if err := c.cluster.Put(ctx, &client.Unit{Name: u.Name, DesiredState: string(state)}); err != nil {
		return false, refuse("Error %sing units: %w", gerund(verb), plain(err))
	}
	if global {
		c.triggered("global unit", u.Name, verb)
	}
	return !global, nil
}

func gerund(verb string) string {
	if verb == "stop" {
		return "stopp"
	}
	return verb
}

// ended waits until systemd no longer runs the units.
func (c *call) ended(ctx context.Context, goals []goal) error {
	if c.yes("no-block") || len(goals) == 0 {
		return nil
	}
	w := &waiter{c: c, open: goals, ready: quiet, reached: func(goal, *client.Unit) {}}
	err := w.wait(ctx, c.limit())
	if errors.Is(err, errTime) {
		return refuse("Error waiting for systemd unit states, err: unit %s is still being stopped", w.open[0].name)
	}
	if err != nil {
		return refuse("Error waiting for systemd unit states, err: %w", plain(err))
	}
	return nil
}

// quiet tells whether no machine runs the unit.
func quiet(g goal, p *picture) (bool, error) {
	for _, s := range p.states[g.name] {
		switch s.ActiveState {
		case "inactive", "failed", "":
		default:
			return false, nil
		}
	}
	return true, nil
}

// keeper says which units a pattern may stand for.
type keeper = func(u *client.Unit) bool

// known gives those units of the arguments that the cluster knows; nil, with a word on
// standard error, where there are none.
func (c *call) known(ctx context.Context, keep keeper) (some []client.Unit, err error) {
	if len(c.args) == 0 {
		return nil, c.noUnits()
	}
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	targets, err := c.targets(ctx, keep)
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		u, err := c.get(ctx, t)
		if err != nil {
			return nil, refuse("Error retrieving list of units from repository: %w", plain(err))
		}
		if u != nil {
			some = append(some, *u)
		}
	}
	if some == nil {
		c.warn("Units not found in registry")
	}
	return some, nil
}
