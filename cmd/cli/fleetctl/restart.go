package fleetctl

import (
	"context"
	"errors"
	"fmt"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/unit"
)

func restartVerb() *verb {
	return &verb{
		name: "restart", args: "UNIT…", summary: "Stop units and start them again where they are",
		help:  "Stop units that were started and start them again, one after the other, on their machines. Loaded\nones are started. A global unit is restarted by systemd on each of its machines.",
		flags: append([]string{"ssh-port"}, blockFlags...),
		run: func(ctx context.Context, c *call) error {
			if len(c.args) == 0 {
				return c.noUnits()
			}
			if err := c.connect(ctx); err != nil {
				return err
			}
			targets, err := c.targets(ctx, placed)
			if err != nil {
				return err
			}
			for _, t := range targets {
				if err := c.restartOne(ctx, t); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (c *call) restartOne(ctx context.Context, t target) error {
	name := t.name
	u, err := c.get(ctx, t)
	switch {
	case err != nil:
		return refuse("Error retrieving list of units from repository: %w", plain(err))
	case u == nil:
		return creating(unknownUnit(name))
	case u.Global() && unit.State(u.DesiredState) != unit.Launched:
		c.warn("Unable to restart unit %s in state %s", name, u.DesiredState)
		return nil
	case u.Global():
		return c.restartGlobal(ctx, name)
	case unit.State(u.CurrentState) == unit.Inactive:
		c.warn("Unable to restart unit %s in state %s", name, u.CurrentState)
		return nil
	}
	if unit.State(u.CurrentState) == unit.Launched {
		if err := c.turn(ctx, "stop", goal{name: name, state: unit.Loaded}); err != nil {
			return err
		}
	}
	if err := c.turn(ctx, "start", goal{name: name, state: unit.Launched}); err != nil {
		return err
	}
	c.warn("INFO Unit(%s) was restarted.", name)
	return nil
}

// turn brings one unit into a state, and waits for systemd too. Even with --no-block the
// stop is waited for, since it would not happen otherwise.
func (c *call) turn(ctx context.Context, verb string, g goal) error {
	if err := c.cluster.Put(ctx, &client.Unit{Name: g.name, DesiredState: string(g.state)}); err != nil {
		return refuse("Error restarting units: %w", plain(err))
	}
	if verb == "stop" && c.yes("no-block") {
		delete(c.values, "no-block")
		defer func() { c.values["no-block"] = "true" }()
	}
	if err := c.await(ctx, verb, []goal{g}); err != nil {
		return awaited(err)
	}
	if verb == "stop" {
		return c.ended(ctx, []goal{g})
	}
	return c.settle(ctx, []goal{g})
}

func (c *call) restartGlobal(ctx context.Context, name string) error {
	states, err := c.cluster.States(ctx, client.StateFilter{Name: name})
	if err != nil {
		return refuse("Error retrieving list of units from repository: %w", plain(err))
	}
	for _, s := range states {
		if err := c.restartOn(ctx, name, s.MachineID); err != nil {
			return refuse("Error restarting units: %s on %s: %w", name, client.ShortID(s.MachineID), err)
		}
	}
	c.triggered("global unit", name, "restart")
	return nil
}

// restartOn has systemd on one machine restart a unit.
func (c *call) restartOn(ctx context.Context, name, machine string) error {
	if api := c.api(); api != nil {
		result, err := api.Restart(ctx, name, machine, 0)
		switch {
		case err == nil && client.GoodResult(result):
			return nil
		case err == nil:
			return fmt.Errorf("systemd says %s", result)
		case !errors.Is(err, client.ErrNoPage):
			return plain(err)
		}
	}
	status, err := c.onMachine(ctx, machine, "systemctl restart "+quoted(name))
	if err == nil && status != 0 {
		return fmt.Errorf("systemctl ended with status %d", status)
	}
	return err
}
