package etcdctl

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

func update() *cli.Command {
	return &cli.Command{
		Name:      "update",
		Usage:     "update an existing key with a given value",
		ArgsUsage: "<key> <value>",
		Flags:     []cli.Flag{ttlFlag()},
		Action: func(ctx context.Context, c *cli.Command) error {
			return writeValue(ctx, c, func(s *session, key, value string, o client.SetOptions) (*client.Event, error) {
				return s.Keys().Update(ctx, key, value, o)
			})
		},
	}
}
