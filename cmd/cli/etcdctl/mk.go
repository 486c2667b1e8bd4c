package etcdctl

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

func mk() *cli.Command {
	return &cli.Command{
		Name:      "mk",
		Usage:     "make a new key with a given value",
		ArgsUsage: "<key> <value>",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "in-order", Usage: "create in-order key under directory <key>"},
			ttlFlag(),
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			return writeValue(ctx, c, func(s *session, key, value string, o client.SetOptions) (*client.Event, error) {
				if c.Bool("in-order") {
					return s.Keys().CreateInOrder(ctx, key, value, o)
				}
				return s.Keys().Create(ctx, key, value, o)
			})
		},
	}
}
