package etcdctl

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

func rm() *cli.Command {
	return &cli.Command{
		Name:      "rm",
		Usage:     "remove a key or a directory",
		ArgsUsage: "<key>",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dir", Usage: "removes the key if it is an empty directory or a key-value pair"},
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"r"}, Usage: "removes the key and all child keys(if it is a directory)"},
			&cli.StringFlag{Name: "with-value", Usage: "previous value"},
			&cli.IntFlag{Name: "with-index", Usage: "previous index"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			return remove(ctx, c, func(k *client.Keys, key string) (*client.Event, error) {
				is := client.Condition{PrevValue: c.String("with-value"), PrevIndex: uint64(max(0, c.Int("with-index")))}
				if is != (client.Condition{}) {
					return k.CompareAndDelete(ctx, key, is)
				}
				return k.Delete(ctx, key, client.DeleteOptions{Dir: c.Bool("dir"), Recursive: c.Bool("recursive")})
			})
		},
	}
}

// remove is what all verbs that remove have in common. Of a directory the simple
// format has nothing to show.
func remove(ctx context.Context, c *cli.Command, do func(k *client.Keys, key string) (*client.Event, error)) error {
	key, err := keyOf(c)
	if err != nil {
		return err
	}
	s, err := connect(ctx, c)
	if err != nil {
		return err
	}
	defer s.close()
	e, err := do(s.Keys(), key)
	if err != nil {
		return refused(err)
	}
	if e.Node.Dir {
		s.showQuietly(e)
		return nil
	}
	s.show(e)
	return nil
}
