package etcdctl

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"
)

func user() *cli.Command {
	return &cli.Command{
		Name:     "user",
		Usage:    "user add, grant and revoke subcommands",
		Commands: []*cli.Command{userAdd(), userGet(), userList(), userRemove(), userGrant(), userRevoke(), userPasswd()},
		Action:   noVerb,
	}
}

var (
	errNoUser  = errors.New("Please provide a username")                //nolint:staticcheck // the original's words
	errNoRoles = errors.New("No roles specified; please use `--roles`") //nolint:staticcheck // the original's words
)

// withUser runs do for the user that the command line names.
func withUser(ctx context.Context, c *cli.Command, do func(s *session, name string) error) error {
	if c.NArg() != 1 {
		return plain(exitBadArgs, errNoUser)
	}
	return withAuth(ctx, c, func(s *session) error { return do(s, c.Args().First()) })
}

func userAdd() *cli.Command {
	return &cli.Command{
		Name:      "add",
		Usage:     "add a new user for the etcd cluster",
		ArgsUsage: "<user>",
		Action: func(ctx context.Context, c *cli.Command) error {
			return withUser(ctx, c, func(s *session, name string) error {
				name, password, given := strings.Cut(name, ":")
				if !given {
					var err error
					if password, err = askPassword(s.t, "New password: "); err != nil {
						return err
					}
				}
				if _, err := s.Auth().PutUser(ctx, name, password); err != nil {
					return err
				}
				fmt.Fprintf(s.t.Out, "User %s created\n", name)
				return nil
			})
		},
	}
}

func userGet() *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "get details for a user",
		ArgsUsage: "<user>",
		Action: func(ctx context.Context, c *cli.Command) error {
			return withUser(ctx, c, func(s *session, name string) error {
				u, err := s.Auth().User(ctx, name)
				if err != nil {
					return err
				}
				var roles []string
				for _, r := range u.Roles {
					roles = append(roles, r.Role)
				}
				// One more space for each role, as the original.
				fmt.Fprintf(s.t.Out, "User: %s\nRoles: %*s%s\n", u.User, len(roles), "", strings.Join(roles, " "))
				return nil
			})
		},
	}
}

func userList() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list all current users",
		ArgsUsage: "<user>",
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return plain(exitBadArgs, errNoArguments)
			}
			return withAuth(ctx, c, func(s *session) error {
				users, err := s.Auth().Users(ctx)
				for _, u := range users {
					fmt.Fprintln(s.t.Out, u.User)
				}
				return err
			})
		},
	}
}

func userRemove() *cli.Command {
	return &cli.Command{
		Name:      "remove",
		Usage:     "remove a user for the etcd cluster",
		ArgsUsage: "<user>",
		Action: func(ctx context.Context, c *cli.Command) error {
			return withUser(ctx, c, func(s *session, name string) error {
				if err := s.Auth().RemoveUser(ctx, name); err != nil {
					return err
				}
				fmt.Fprintf(s.t.Out, "User %s removed\n", name)
				return nil
			})
		},
	}
}

func userGrant() *cli.Command {
	return regrantUser("grant", "grant roles to an etcd user", func(ctx context.Context, s *session, name string, roles []string) error {
		return s.Auth().GrantUser(ctx, name, roles...)
	})
}

func userRevoke() *cli.Command {
	return regrantUser("revoke", "revoke roles for an etcd user", func(ctx context.Context, s *session, name string, roles []string) error {
		return s.Auth().RevokeUser(ctx, name, roles...)
	})
}

func regrantUser(verb, usage string, do func(ctx context.Context, s *session, name string, roles []string) error) *cli.Command {
	return &cli.Command{
		Name:      verb,
		Usage:     usage,
		ArgsUsage: "<user>",
		Flags:     []cli.Flag{&cli.StringFlag{Name: "roles", Usage: "List of roles to grant or revoke"}},
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.String("roles") == "" {
				return plain(exitBadArgs, errNoRoles)
			}
			return withUser(ctx, c, func(s *session, name string) error {
				if err := do(ctx, s, name, strings.Split(c.String("roles"), ",")); err != nil {
					return err
				}
				fmt.Fprintf(s.t.Out, "User %s updated\n", name)
				return nil
			})
		},
	}
}

func userPasswd() *cli.Command {
	return &cli.Command{
		Name:      "passwd",
		Usage:     "change password for a user",
		ArgsUsage: "<user>",
		Action: func(ctx context.Context, c *cli.Command) error {
			return withUser(ctx, c, func(s *session, name string) error {
				password, err := askPassword(s.t, "New password: ")
				if err != nil {
					return err
				}
				created, err := s.Auth().PutUser(ctx, name, password)
				switch {
				case err != nil:
					return err
				case created:
					return fmt.Errorf("there was no user %s: it was created", name)
				}
				fmt.Fprintln(s.t.Out, "Password updated")
				return nil
			})
		},
	}
}
