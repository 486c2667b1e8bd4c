package etcdctl

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"
)

func authVerb() *cli.Command {
	return &cli.Command{
		Name:  "auth",
		Usage: "overall auth controls",
		Commands: []*cli.Command{
			{
				Name:      "enable",
				Usage:     "enable auth access controls",
				ArgsUsage: " ",
				Action: func(ctx context.Context, c *cli.Command) error {
					return switchAuth(ctx, c, "Enabled", func(s *session) error { return s.Auth().Enable(ctx) })
				},
			},
			{
				Name:      "disable",
				Usage:     "disable auth access controls",
				ArgsUsage: " ",
				Action: func(ctx context.Context, c *cli.Command) error {
					return switchAuth(ctx, c, "Disabled", func(s *session) error { return s.Auth().Disable(ctx) })
				},
			},
		},
		Action: noVerb,
	}
}

func switchAuth(ctx context.Context, c *cli.Command, to string, do func(s *session) error) error {
	if c.Args().Present() {
		return plain(exitBadArgs, errNoArguments)
	}
	return withAuth(ctx, c, func(s *session) error {
		if err := do(s); err != nil {
			return err
		}
		fmt.Fprintf(s.t.Out, "Authentication %s\n", to)
		return nil
	})
}

var errNoArguments = errors.New("No arguments accepted") //nolint:staticcheck // the original's words

// withAuth runs do on a connected session, and shows its error as it is. As the
// original, it says twice where it would ask when it is asked to explain itself.
func withAuth(ctx context.Context, c *cli.Command, do func(s *session) error) error {
	s, err := connect(ctx, c)
	if err != nil {
		return err
	}
	defer s.close()
	if c.Root().Bool("debug") {
		s.showEndpoints()
	}
	if err := do(s); err != nil {
		return plain(exitBadArgs, err)
	}
	return nil
}
