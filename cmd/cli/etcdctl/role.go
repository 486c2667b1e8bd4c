package etcdctl

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

func role() *cli.Command {
	return &cli.Command{
		Name:     "role",
		Usage:    "role add, grant and revoke subcommands",
		Commands: []*cli.Command{roleAdd(), roleGet(), roleList(), roleRemove(), roleGrant(), roleRevoke()},
		Action:   noVerb,
	}
}

var (
	errNoRole  = errors.New("Please provide a role name")                                   //nolint:staticcheck // the original's words
	errNoPath  = errors.New("No path specified; please use `--path`")                       //nolint:staticcheck // the original's words
	errNotOne  = errors.New("Please specify exactly one of --read, --write or --readwrite") //nolint:staticcheck // the original's words
	errGranted = errors.New("Role unchanged; already granted")                              //nolint:staticcheck // the original's words
	errRevoked = errors.New("Role unchanged; already revoked")                              //nolint:staticcheck // the original's words
)

// withRole runs do for the role that the command line names.
func withRole(ctx context.Context, c *cli.Command, do func(s *session, name string) error) error {
	if c.NArg() != 1 {
		return plain(exitBadArgs, errNoRole)
	}
	return withAuth(ctx, c, func(s *session) error { return do(s, c.Args().First()) })
}

func roleAdd() *cli.Command {
	return &cli.Command{
		Name:      "add",
		Usage:     "add a new role for the etcd cluster",
		ArgsUsage: "<role> ",
		Action: func(ctx context.Context, c *cli.Command) error {
			return withRole(ctx, c, func(s *session, name string) error {
				if _, err := s.Auth().Role(ctx, name); err == nil {
					return fmt.Errorf("Role %s already exists", name) //nolint:staticcheck // the original's words
				}
				if err := s.Auth().AddRole(ctx, name); err != nil {
					return err
				}
				fmt.Fprintf(s.t.Out, "Role %s created\n", name)
				return nil
			})
		},
	}
}

func roleGet() *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "get details for a role",
		ArgsUsage: "<role>",
		Action: func(ctx context.Context, c *cli.Command) error {
			return withRole(ctx, c, func(s *session, name string) error {
				r, err := s.Auth().Role(ctx, name)
				if err != nil {
					return err
				}
				fmt.Fprintf(s.t.Out, "Role: %s\nKV Read:\n", r.Role)
				for _, p := range r.Permissions.KV.Read {
					fmt.Fprintf(s.t.Out, "\t%s\n", p)
				}
				fmt.Fprintln(s.t.Out, "KV Write:")
				for _, p := range r.Permissions.KV.Write {
					fmt.Fprintf(s.t.Out, "\t%s\n", p)
				}
				return nil
			})
		},
	}
}

func roleList() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list all roles",
		ArgsUsage: " ",
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return plain(exitBadArgs, errNoArguments)
			}
			return withAuth(ctx, c, func(s *session) error {
				roles, err := s.Auth().Roles(ctx)
				var refused *client.AuthError
				if errors.As(err, &refused) {
					return fmt.Errorf("unexpected status code %d", refused.Status) // as the original
				}
				for _, r := range roles {
					fmt.Fprintln(s.t.Out, r.Role)
				}
				return err
			})
		},
	}
}

func roleRemove() *cli.Command {
	return &cli.Command{
		Name:      "remove",
		Usage:     "remove a role from the etcd cluster",
		ArgsUsage: "<role>",
		Action: func(ctx context.Context, c *cli.Command) error {
			return withRole(ctx, c, func(s *session, name string) error {
				if err := s.Auth().RemoveRole(ctx, name); err != nil {
					return err
				}
				fmt.Fprintf(s.t.Out, "Role %s removed\n", name)
				return nil
			})
		},
	}
}

func roleGrant() *cli.Command {
	return regrantRole("grant", "grant path matches to an etcd role", []cli.Flag{
		&cli.StringFlag{Name: "path", Usage: "Path granted for the role to access"},
		&cli.BoolFlag{Name: "read", Usage: "Grant read-only access"},
		&cli.BoolFlag{Name: "write", Usage: "Grant write-only access"},
		&cli.BoolFlag{Name: "readwrite", Aliases: []string{"rw"}, Usage: "Grant read-write access"},
	}, errGranted, (*client.Auth).GrantRole)
}

func roleRevoke() *cli.Command {
	return regrantRole("revoke", "revoke path matches for an etcd role", []cli.Flag{
		&cli.StringFlag{Name: "path", Usage: "Path revoked for the role to access"},
		&cli.BoolFlag{Name: "read", Usage: "Revoke read access"},
		&cli.BoolFlag{Name: "write", Usage: "Revoke write access"},
		&cli.BoolFlag{Name: "readwrite", Aliases: []string{"rw"}, Usage: "Revoke read-write access"},
	}, errRevoked, (*client.Auth).RevokeRole)
}

func regrantRole(verb, usage string, flags []cli.Flag, unchanged error, do func(a *client.Auth, ctx context.Context, name string, p client.Permissions) (*client.Role, error)) *cli.Command {
	return &cli.Command{
		Name:      verb,
		Usage:     usage,
		ArgsUsage: "<role>",
		Flags:     flags,
		Action: func(ctx context.Context, c *cli.Command) error {
			p, err := permissions(c)
			if err != nil {
				return plain(exitBadArgs, err)
			}
			return withRole(ctx, c, func(s *session, name string) error {
				before, err := s.Auth().Role(ctx, name)
				if err != nil {
					return err
				}
				after, err := do(s.Auth(), ctx, name, p)
				switch {
				case err != nil:
					return err
				case reflect.DeepEqual(before, after):
					return unchanged
				}
				fmt.Fprintf(s.t.Out, "Role %s updated\n", name)
				return nil
			})
		},
	}
}

// permissions reads the flags that say what is granted or revoked.
func permissions(c *cli.Command) (p client.Permissions, err error) {
	path := c.String("path")
	both := c.Bool("readwrite")
	modes := 0
	for _, on := range []bool{c.Bool("read"), c.Bool("write"), both} {
		if on {
			modes++
		}
	}
	switch {
	case path == "":
		return p, errNoPath
	case path[0] != '/':
		return p, fmt.Errorf("Not canonical path; please use `--path=/%s`", path) //nolint:staticcheck // the original's words
	case modes != 1:
		return p, errNotOne
	}
	if both || c.Bool("read") {
		p.KV.Read = []string{path}
	}
	if both || c.Bool("write") {
		p.KV.Write = []string{path}
	}
	return p, nil
}
