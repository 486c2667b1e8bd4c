// Package member is the command line of a cluster's members: list, add, remove, update, replace and how far they are.
package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

// Run runs one command line, args[0] being "member", and gives its exit status.
func Run(ctx context.Context, t *tool.Tool, args []string) int {
	cmd := Command()
	t.Prepare(cmd, "keelson", usageError)
	return t.Finish("keelson member", t.Execute(ctx, cmd, args))
}

// Command is the command tree.
func Command() *cli.Command {
	return &cli.Command{
		Name:     "member",
		Usage:    "list, add, replace and remove members",
		Commands: []*cli.Command{list(), add(), replace(), remove(), update(), status()},
		Action: func(ctx context.Context, c *cli.Command) error {
			if word := c.Args().First(); word != "" {
				return &tool.Exit{Status: exitUsage, Text: fmt.Sprintf("keelson member: unknown command %q: want list, add, replace, remove, update or promote-status\n", word)}
			}
			t := tool.From(ctx)
			_, err := io.WriteString(t.Out, tool.Help(c, "keelson", t.Version))
			return err
		},
	}
}

const (
	exitUsage   = 2
	exitUnknown = 4 // nobody knows whether it was done
)

func usageError(_ context.Context, _ *cli.Command, err error, help string) error {
	return &tool.Exit{Status: exitUsage, Text: err.Error() + "\n\n" + help, Err: err}
}

// flags are those of every verb, and more.
func flags(more ...cli.Flag) []cli.Flag {
	return append(append(tool.ConnectionFlags(), &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "simple", Usage: "`simple` or json"}), more...)
}

// session is one command on its cluster.
type session struct {
	t    *tool.Tool
	c    *cli.Command
	all  *client.Client
	json bool
}

// with runs do on a client made of the flags, with so many arguments.
func with(least, most int, do func(ctx context.Context, s *session) error) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		if n := c.NArg(); n < least || n > most {
			return usage(c, fmt.Sprintf("want %s", want(least, most, c.ArgsUsage)))
		}
		if o := c.String("output"); o != "simple" && o != "json" {
			return usage(c, fmt.Sprintf("--output=%s: want simple or json", o))
		}
		cl, end, err := tool.Dial(ctx, c)
		if err != nil {
			return err
		}
		defer end()
		return told(c, do(ctx, &session{tool.From(ctx), c, cl, c.String("output") == "json"}))
	}
}

func want(least, most int, args string) string {
	if most == 0 {
		return "no arguments"
	}
	if args = strings.TrimSpace(args); least == most {
		return args
	}
	return "at least " + strings.Fields(args)[0]
}

func usage(c *cli.Command, text string) error {
	return &tool.Exit{Status: exitUsage, Text: fmt.Sprintf("keelson member %s: %s\n", c.Name, text)}
}

// told puts an error of the cluster into words.
func told(c *cli.Command, err error) error {
	var cluster *client.ClusterError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, client.ErrUnknown):
		return &tool.Exit{Status: exitUnknown, Err: err, Text: fmt.Sprintf(
			"keelson member %s: outcome unknown: it may have been done, or be done soon: %s\nhint: see \"keelson member list\" before you try again\n", c.Name, strings.TrimSpace(err.Error()))}
	case errors.As(err, &cluster):
		return &tool.Exit{Status: 1, Err: err, Text: fmt.Sprintf("keelson member %s: no member answered\n%s", c.Name, cluster.Detail())}
	}
	var exit *tool.Exit
	if errors.As(err, &exit) {
		return err
	}
	return fmt.Errorf("%s: %w", c.Name, err)
}

func (s *session) printJSON(v any) error {
	e := json.NewEncoder(s.t.Out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// find gives the one member of that name or ID.
func (s *session) find(ctx context.Context, name string) (*client.Member, error) {
	members, err := s.all.Members().List(ctx)
	if err != nil {
		return nil, err
	}
	var found []client.Member
	for _, m := range members {
		if m.ID == name {
			return &m, nil
		}
		if m.Name == name && name != "" {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 1:
		return &found[0], nil
	case 0:
		return nil, fmt.Errorf("no member has the ID or name %s: see \"keelson member list\"", name)
	default:
		return nil, fmt.Errorf("%d members have the name %s: give an ID, see \"keelson member list\"", len(found), name)
	}
}
