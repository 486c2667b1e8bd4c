package etcdctl

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

func mkdir() *cli.Command {
	return &cli.Command{
		Name:      "mkdir",
		Usage:     "make a new directory",
		ArgsUsage: "<key>",
		Flags:     []cli.Flag{ttlFlag()},
		Action: func(ctx context.Context, c *cli.Command) error {
			return writeDir(ctx, c, (*client.Keys).Create)
		},
	}
}

// writeDir is what all verbs that make or change a directory have in common.
func writeDir(ctx context.Context, c *cli.Command, write func(k *client.Keys, ctx context.Context, key, value string, o client.SetOptions) (*client.Event, error)) error {
	key, err := keyOf(c)
	if err != nil {
		return err
	}
	s, err := connect(ctx, c)
	if err != nil {
		return err
	}
	defer s.close()
	o := optionsOf(c)
	o.Dir = true
	e, err := write(s.Keys(), ctx, key, "", o)
	if err != nil {
		return refused(err)
	}
	s.showQuietly(e)
	return nil
}
