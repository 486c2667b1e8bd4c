package locksmithctl

import (
	"context"
	"fmt"
	"slices"

	"github.com/keelson/keelson/core/reboot"
)

func status() *verb {
	return &verb{
		name:    "status",
		summary: "Show the slots of the lock and who holds them",
		help:    "Show how many slots are free, how many there are, and the machines that hold one.",
		run: func(ctx context.Context, c *call, _ []string) error {
			return c.withLock(func(l *reboot.Client) error {
				s, err := l.Status(ctx)
				if err != nil {
					return c.refused("Error getting status:", err)
				}
				fmt.Fprintf(c.Out, "Available: %d\nMax: %d\n", s.Semaphore, s.Max)
				if len(s.Holders) == 0 {
					return nil
				}
				fmt.Fprint(c.Out, "\nMACHINE ID\n")
				for _, id := range slices.Sorted(slices.Values(s.Holders)) {
					fmt.Fprintln(c.Out, id)
				}
				return nil
			})
		},
	}
}
