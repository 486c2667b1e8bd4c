package etcdctl

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

func ls() *cli.Command {
	return &cli.Command{
		Name:      "ls",
		Usage:     "retrieve a directory",
		ArgsUsage: "[key]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "sort", Usage: "returns result in sorted order"},
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"r"}, Usage: "returns all key names recursively for the given path"},
			&cli.BoolFlag{Name: "p", Usage: "append slash (/) to directories"},
			quorumFlag(),
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			s, err := connect(ctx, c)
			if err != nil {
				return err
			}
			defer s.close()
			key := "/"
			if c.Args().Present() {
				key = c.Args().First()
			}
			e, err := s.Keys().Get(ctx, key, client.GetOptions{
				Sorted: c.Bool("sort"), Recursive: c.Bool("recursive"), Reading: reading(c),
			})
			if err != nil {
				return refused(err)
			}
			if s.format != "simple" {
				s.show(e)
				return nil
			}
			list(s.t.Out, e.Node, c.Bool("p"))
			return nil
		},
	}
}

// list prints a file's own key, or the keys below a directory, each directory
// followed by what was sent of its inside.
func list(w io.Writer, n *client.Node, mark bool) {
	if !n.Dir {
		fmt.Fprintln(w, n.Key)
		return
	}
	for _, child := range n.Nodes {
		if !child.Dir {
			fmt.Fprintln(w, child.Key)
			continue
		}
		end := ""
		if mark {
			end = "/"
		}
		fmt.Fprintln(w, child.Key+end)
		list(w, child, mark)
	}
}
