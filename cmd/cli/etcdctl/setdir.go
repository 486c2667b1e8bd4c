package etcdctl

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

func setdir() *cli.Command {
	return &cli.Command{
		Name:      "setdir",
		Usage:     "create a new directory or update an existing directory TTL",
		ArgsUsage: "<key>",
		Flags:     []cli.Flag{ttlFlag()},
		Action: func(ctx context.Context, c *cli.Command) error {
			return writeDir(ctx, c, (*client.Keys).Set)
		},
	}
}
