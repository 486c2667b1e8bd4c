package etcdctl

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

func watch() *cli.Command {
	return &cli.Command{
		Name:      "watch",
		Usage:     "watch a key for changes",
		ArgsUsage: "<key>",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "forever", Aliases: []string{"f"}, Usage: "forever watch a key until CTRL+C"},
			afterFlag(),
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"r"}, Usage: "returns all values for key and child keys"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			key, err := keyOf(c)
			if err != nil {
				return err
			}
			return follow(ctx, c, key, func(s *session, e *client.Event) (bool, error) {
				if e.Node.Dir {
					return true, nil
				}
				if c.Bool("recursive") {
					fmt.Fprintf(s.t.Out, "[%s] %s\n", e.Action, e.Node.Key)
				}
				s.show(e)
				return c.Bool("forever"), nil
			})
		},
	}
}

func afterFlag() cli.Flag {
	return &cli.IntFlag{Name: "after-index", Usage: "watch after the given index"}
}

// follow hands over the changes of a key until each says no more, or the user
// does, which is no failure.
func follow(ctx context.Context, c *cli.Command, key string, each func(s *session, e *client.Event) (more bool, err error)) error {
	s, err := connect(ctx, c)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer s.close()
	w := s.Keys().Watch(key, client.WatchOptions{
		Recursive: c.Bool("recursive"), After: uint64(max(0, c.Int("after-index"))),
	})
	for {
		e, err := w.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return refused(err)
		}
		if more, err := each(s, e); err != nil || !more {
			return err
		}
	}
}
