package locksmithctl

import (
	"context"

	"github.com/keelson/keelson/core/reboot"
)

func lockVerb() *verb {
	return &verb{
		name:    "lock",
		args:    "[MACHINE-ID]",
		summary: "Take a slot of the lock for a machine",
		help:    "Take a slot for the given machine id, or for this machine. Without a free slot it fails.",
		run: func(ctx context.Context, c *call, args []string) error {
			id, err := c.holder(args)
			if err != nil {
				return err
			}
			return c.withLock(func(l *reboot.Client) error {
				if err := l.Lock(ctx, id); err != nil {
					return c.refused("Error locking:", err)
				}
				return nil
			})
		},
	}
}
