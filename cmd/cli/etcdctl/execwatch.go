package etcdctl

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

func execWatch() *cli.Command {
	return &cli.Command{
		Name:      "exec-watch",
		Usage:     "watch a key for changes and exec an executable",
		ArgsUsage: "<key> <command> [args...]",
		Flags: []cli.Flag{
			afterFlag(),
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"r"}, Usage: "watch all values for key and child keys"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			args := slices.DeleteFunc(c.Args().Slice(), func(a string) bool { return a == "--" })
			if len(args) < 2 {
				return badArgs(errors.New("key and command to exec required"))
			}
			if tool.From(ctx).Run == nil {
				return plain(exitBadArgs, errors.New("running commands is not possible here"))
			}
			return follow(ctx, c, args[0], func(s *session, e *client.Event) (bool, error) {
				return true, execute(ctx, s, args[1:], e)
			})
		},
	}
}

// execute runs the command for one change and waits for its end, so that changes
// are handled one after the other and in order. How the command ends is its own
// affair; one that cannot be started ends the watch.
func execute(ctx context.Context, s *session, args []string, e *client.Event) error {
	if e.Node.Dir {
		fmt.Fprintf(s.t.Err, "Ignored dir %s change\n", e.Node.Key)
		return nil
	}
	var env []string
	if s.t.Environ != nil {
		env = s.t.Environ()
	}
	env = append(slices.Clone(env),
		"ETCD_WATCH_ACTION="+e.Action,
		"ETCD_WATCH_KEY="+e.Node.Key,
		fmt.Sprintf("ETCD_WATCH_MODIFIED_INDEX=%d", e.Node.ModifiedIndex),
		"ETCD_WATCH_VALUE="+e.Node.Value,
	)
	err := s.t.Run(ctx, &tool.Process{Args: args, Env: env, Out: s.t.Out, Err: s.t.Err})
	if err != nil && ctx.Err() == nil {
		return plain(exitBadArgs, err)
	}
	return nil
}
