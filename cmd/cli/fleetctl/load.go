package fleetctl

import (
	"context"

	"github.com/keelson/keelson/core/unit"
)

func loadVerb() *verb {
	return &verb{
		name: "load", args: "UNIT…", summary: "Put units on machines, without starting them",
		help:  "Put units on machines and make them known to systemd there, after submitting those that the\ncluster does not know. A unit that was started is stopped.",
		flags: append([]string{"replace", "sign"}, blockFlags...),
		run: func(ctx context.Context, c *call) error {
			targets, made, err := c.bring(ctx, unit.Loaded, runnable)
			if err != nil || targets == nil {
				return err
			}
			goals, err := c.raise(ctx, "load", unit.Loaded, targets, made)
			if err != nil {
				return refuse("Error loading units: %w", plain(err))
			}
			if err := c.await(ctx, "load", goals); err != nil {
				return awaited(err)
			}
			return nil
		},
	}
}
