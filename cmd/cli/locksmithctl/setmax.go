package locksmithctl

import (
	"context"
	"fmt"
	"strconv"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/lock"
	"github.com/keelson/keelson/core/reboot"
)

func setMax() *verb {
	return &verb{
		name:    "set-max",
		args:    "MAX",
		summary: "Set the number of slots of the lock",
		help:    "Set how many machines may hold the lock at once. 0 freezes the group; holders keep their slots.",
		run: func(ctx context.Context, c *call, args []string) error {
			if len(args) == 0 {
				return &tool.Exit{Status: exitFailed, Text: "New maximum value must be set.\n"}
			}
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 0 || n > lock.MaxSlots {
				return &tool.Exit{Status: exitFailed, Text: fmt.Sprintf("Invalid maximum value: %s\n", args[0]), Err: err}
			}
			return c.withLock(func(l *reboot.Client) error {
				old, err := l.SetMax(ctx, n)
				if err != nil {
					return c.refused("Error setting maximum:", err)
				}
				fmt.Fprintf(c.Out, "Old-Max: %d\nMax: %d\n", old, n)
				return nil
			})
		},
	}
}
