package fleetctl

import "context"

func destroyVerb() *verb {
	return &verb{
		name: "destroy", args: "UNIT…", summary: "Stop units and have the cluster forget them",
		help:  "Have the cluster forget units. Machines stop what they run of them. It does not wait.",
		flags: blockFlags,
		run: func(ctx context.Context, c *call) error {
			known, err := c.known(ctx, every)
			if err != nil {
				return err
			}
			for _, u := range known {
				if err := c.cluster.Delete(ctx, u.Name); err != nil {
					return refuse("Error destroying units: %w", plain(err))
				}
				c.tell(event{Unit: u.Name, Event: "destroyed"}, "Destroyed %s", u.Name)
			}
			return nil
		},
	}
}
