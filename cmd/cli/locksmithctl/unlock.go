package locksmithctl

import (
	"context"

	"github.com/keelson/keelson/core/reboot"
)

func unlock() *verb {
	return &verb{
		name:    "unlock",
		args:    "[MACHINE-ID]",
		summary: "Give a machine's slot of the lock back",
		help:    "Give back the slot of the given machine id, or of this machine.",
		run: func(ctx context.Context, c *call, args []string) error {
			id, err := c.holder(args)
			if err != nil {
				return err
			}
			return c.withLock(func(l *reboot.Client) error {
				if err := l.Unlock(ctx, id); err != nil {
					return c.refused("Error unlocking:", err)
				}
				return nil
			})
		},
	}
}
