package etcdctl

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

func rmdir() *cli.Command {
	return &cli.Command{
		Name:      "rmdir",
		Usage:     "removes the key if it is an empty directory or a key-value pair",
		ArgsUsage: "<key>",
		Action: func(ctx context.Context, c *cli.Command) error {
			return remove(ctx, c, func(k *client.Keys, key string) (*client.Event, error) {
				return k.Delete(ctx, key, client.DeleteOptions{Dir: true})
			})
		},
	}
}
