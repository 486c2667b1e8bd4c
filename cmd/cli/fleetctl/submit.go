package fleetctl

import (
	"context"

	"github.com/keelson/keelson/core/unit"
)

func submitVerb() *verb {
	return &verb{
		name: "submit", args: "UNIT…", summary: "Make units known to the cluster, without loading them",
		help:  "Make units known to the cluster, from files or templates. What runs is left alone.",
		flags: []string{"replace", "sign", "output"},
		run: func(ctx context.Context, c *call) error {
			_, _, err := c.bring(ctx, unit.Inactive, every)
			return err
		},
	}
}

// bring creates the units of the arguments as far as they are unknown.
func (c *call) bring(ctx context.Context, state unit.State, keep keeper) (targets []target, made []created, err error) {
	if len(c.args) == 0 {
		return nil, nil, c.noUnits()
	}
	if err := c.connect(ctx); err != nil {
		return nil, nil, err
	}
	if targets, err = c.targets(ctx, keep); err != nil {
		return nil, nil, err
	}
	made, err = c.create(ctx, targets, state)
	return targets, made, err
}
