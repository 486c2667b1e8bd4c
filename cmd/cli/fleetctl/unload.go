package fleetctl

import (
	"context"

	"github.com/keelson/keelson/core/unit"
)

func unloadVerb() *verb {
	return &verb{
		name: "unload", args: "UNIT…", summary: "Stop units and take them off their machines",
		help:  "Stop units and take them off their machines. The cluster still knows them.",
		flags: blockFlags,
		run: func(ctx context.Context, c *call) error {
			unloaded, err := c.lower(ctx, "unload", unit.Inactive)
			if err != nil || unloaded == nil {
				return err
			}
			c.warn("Successfully unloaded units %s.", bracketed(unloaded))
			return nil
		},
	}
}
