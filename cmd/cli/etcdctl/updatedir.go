package etcdctl

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

func updatedir() *cli.Command {
	return &cli.Command{
		Name:      "updatedir",
		Usage:     "update an existing directory",
		ArgsUsage: "<key> <value>", // the original says so; a value is not needed
		Flags:     []cli.Flag{ttlFlag()},
		Action: func(ctx context.Context, c *cli.Command) error {
			return writeDir(ctx, c, (*client.Keys).Update)
		},
	}
}
