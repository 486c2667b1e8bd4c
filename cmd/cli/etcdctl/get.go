package etcdctl

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

func get() *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "retrieve the value of a key",
		ArgsUsage: "<key>",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "sort", Usage: "returns result in sorted order"},
			quorumFlag(),
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			key, err := keyOf(c)
			if err != nil {
				return err
			}
			s, err := connect(ctx, c)
			if err != nil {
				return err
			}
			defer s.close()
			e, err := s.Keys().Get(ctx, key, client.GetOptions{Sorted: c.Bool("sort"), Reading: reading(c)})
			if err != nil {
				return refused(err)
			}
			if e.Node.Dir {
				return plain(exitBadArgs, fmt.Errorf("%s: is a directory", e.Node.Key))
			}
			s.show(e)
			return nil
		},
	}
}

func quorumFlag() cli.Flag {
	return &cli.BoolFlag{Name: "quorum", Aliases: []string{"q"}, Usage: "require quorum for get request"}
}

// reading leaves it to the server how fresh a read is, unless a quorum is asked
// for. The original says "no quorum" then, which would give up what a server
// promises of itself.
func reading(c *cli.Command) client.Reading {
	if c.Bool("quorum") {
		return client.Linearizable
	}
	return client.ByDefault
}
