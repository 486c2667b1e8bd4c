package fleetctl

import (
	"context"

	"github.com/keelson/keelson/core/unit"
)

func startVerb() *verb {
	return &verb{
		name: "start", args: "UNIT…", summary: "Start units on machines of the cluster",
		help:  "Start units, after submitting and loading those that are not yet. It returns when systemd has\nstarted them: 0 where they run or have ended well, 1 where one has failed.",
		flags: append([]string{"replace", "sign"}, blockFlags...),
		run: func(ctx context.Context, c *call) error {
			targets, made, err := c.bring(ctx, unit.Launched, runnable)
			if err != nil || targets == nil {
				return err
			}
			goals, err := c.raise(ctx, "start", unit.Launched, targets, made)
			if err != nil {
				return refuse("Error starting units: %w", plain(err))
			}
			if err := c.await(ctx, "start", goals); err != nil {
				return awaited(err)
			}
			return c.settle(ctx, goals)
		},
	}
}
