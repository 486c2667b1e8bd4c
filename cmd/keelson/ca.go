package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/options"
	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/realnet/authority"
)

// tlsDirFlag is the directory of certificates, as all commands take it.
func tlsDirFlag() cli.Flag {
	return &cli.StringFlag{Name: "dir", Value: options.DefaultTLSDir, Sources: cli.EnvVars(tool.TLSDirVariable), Usage: "where certificates are kept", Local: true}
}

func hostFlag(usage string) cli.Flag {
	return &cli.StringSliceFlag{Name: "host", Usage: usage + "; several times, or joined by commas", Local: true}
}

func ttlFlag(value time.Duration, usage string) cli.Flag {
	return &cli.DurationFlag{Name: "ttl", Value: value, Usage: usage, Local: true}
}

func nameFlag() cli.Flag {
	return &cli.StringFlag{Name: "name", Usage: "of this machine, in its certificates (default: its host name)", Local: true}
}

func caCommand() *cli.Command {
	return &cli.Command{
		Name:  "ca",
		Usage: "make the authority of a cluster, certificates, and tokens to join with",
		Description: "On the first machine: keelson ca init. On each other one: keelson join, with a token that\n" +
			"keelson ca token prints on the first. Then serve https:// URLs: certificates are found.",
		Commands: []*cli.Command{caInitCommand(), caIssueCommand(), caRenewCommand(), caTokenCommand()},
		Action: func(_ context.Context, c *cli.Command) error {
			if !c.Args().Present() {
				return cli.ShowSubcommandHelp(c)
			}
			return &usageError{fmt.Errorf("ca: unknown command %q: want init, issue, renew or token", c.Args().First())}
		},
	}
}

func caInitCommand() *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "make an authority, and this machine's certificates",
		UsageText: "keelson ca init [--dir DIR] [--name NAME] [--host HOST]",
		Flags: []cli.Flag{
			tlsDirFlag(), nameFlag(),
			hostFlag("a further name or address of this machine, besides those it knows of itself"),
			ttlFlag(authority.DefaultTTL, "how long this machine's certificates count"),
		},
		Action: func(_ context.Context, c *cli.Command) error {
			if err := noMore(c, "ca init"); err != nil {
				return err
			}
			name, err := machineName(c)
			if err != nil {
				return fmt.Errorf("ca init: %w", err)
			}
			hosts, err := authority.ThisMachine()
			if err != nil {
				return fmt.Errorf("ca init: %w", err)
			}
			order := authority.Order{Name: name, Hosts: append(hosts, c.StringSlice("host")...), TTL: c.Duration("ttl")}
			if _, err := authority.Init(c.String("dir"), "keelson "+name, order, time.Now()); err != nil {
				return fmt.Errorf("ca init: %w", err)
			}
			fmt.Fprintf(c.Root().Writer, "%s: an authority, and certificates for %s\nOn every other machine: keelson join https://%s:2379 --token TOKEN, with what keelson ca token prints here.\n",
				c.String("dir"), strings.Join(append(order.Hosts, authority.Loopback...), ", "), firstHost(order.Hosts))
			return nil
		},
	}
}

func firstHost(hosts []string) string {
	if len(hosts) == 0 {
		return "HOST"
	}
	return hosts[0]
}

func caIssueCommand() *cli.Command {
	return &cli.Command{
		Name:      "issue",
		Usage:     "make NAME.crt and NAME.key, for a server that may also be a client, or for a client only",
		UsageText: "keelson ca issue NAME --host HOST | --client-only [--ttl TTL] [--out DIR]",
		Flags: []cli.Flag{
			tlsDirFlag(), hostFlag("a name or address by which it is reached"),
			&cli.BoolFlag{Name: "client-only", Usage: "it is a client and never a server", Local: true},
			ttlFlag(authority.DefaultTTL, "how long the certificate counts"),
			&cli.StringFlag{Name: "out", Value: ".", Usage: "where the two files go", Local: true},
		},
		Action: func(_ context.Context, c *cli.Command) error {
			order := authority.Order{Name: c.Args().First(), Hosts: c.StringSlice("host"), Role: authority.Peer, TTL: c.Duration("ttl")}
			if c.Bool("client-only") {
				order.Role = authority.Client
			}
			switch {
			case c.Args().Len() != 1:
				return &usageError{errors.New("ca issue: want one NAME")}
			case order.Role == authority.Peer && len(order.Hosts) == 0:
				return &usageError{errors.New("ca issue: want --host, without which no server can be reached, or --client-only")}
			}
			a, err := openAuthority(c)
			if err == nil {
				err = a.IssueFiles(c.String("out"), order.Name, order, time.Now())
			}
			if err != nil {
				return fmt.Errorf("ca issue: %w", err)
			}
			path := filepath.Join(c.String("out"), order.Name)
			fmt.Fprintf(c.Root().Writer, "%s.crt and %[1]s.key, of the authority in %s\n", path, filepath.Join(c.String("dir"), authority.CertFile))
			return nil
		},
	}
}

func caRenewCommand() *cli.Command {
	return &cli.Command{
		Name:      "renew",
		Usage:     "make new certificates for this machine, with its old keys and names",
		UsageText: "keelson ca renew [--dir DIR] [--ttl TTL]",
		Flags:     []cli.Flag{tlsDirFlag(), ttlFlag(authority.DefaultTTL, "how long the certificates count")},
		Action: func(_ context.Context, c *cli.Command) error {
			if err := noMore(c, "ca renew"); err != nil {
				return err
			}
			a, err := openAuthority(c)
			if err == nil {
				err = a.Renew(c.String("dir"), c.Duration("ttl"), time.Now())
			}
			if err != nil {
				return fmt.Errorf("ca renew: %w", err)
			}
			fmt.Fprintf(c.Root().Writer, "%s: renewed; running members notice by themselves\n", c.String("dir"))
			return nil
		},
	}
}

func caTokenCommand() *cli.Command {
	return &cli.Command{
		Name:      "token",
		Usage:     "print a token with which one machine may join, once and soon",
		UsageText: "keelson ca token [--ttl TTL] [--host HOST]",
		Flags: []cli.Flag{
			tlsDirFlag(), ttlFlag(15*time.Minute, "how long the token counts, up to a day"),
			hostFlag("a name or address that the machine's certificates may have (default: the address it comes from)"),
		},
		Action: func(_ context.Context, c *cli.Command) error {
			if err := noMore(c, "ca token"); err != nil {
				return err
			}
			text, err := newToken(c)
			if err != nil {
				return fmt.Errorf("ca token: %w", err)
			}
			_, err = fmt.Fprintln(c.Root().Writer, text)
			return err
		},
	}
}

func newToken(c *cli.Command) (string, error) {
	a, err := openAuthority(c)
	if err != nil {
		return "", err
	}
	t, err := authority.NewToken(a.Pin(), c.StringSlice("host"), c.Duration("ttl"), time.Now())
	if err != nil {
		return "", err
	}
	return a.Sign(t)
}

// openAuthority opens the authority in the directory that is said.
func openAuthority(c *cli.Command) (*authority.Authority, error) {
	a, err := authority.Open(c.String("dir"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the authority is on the machine where keelson ca init was run, or make one", err)
	}
	return a, err
}

// machineName is what is said, or this machine's host name.
func machineName(c *cli.Command) (string, error) {
	name := c.String("name")
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return "", err
		}
	}
	return name, authority.CheckName(name)
}

// noMore refuses words that mean nothing.
func noMore(c *cli.Command, verb string) error {
	if c.Args().Present() {
		return &usageError{fmt.Errorf("%s: %q means nothing here", verb, c.Args().First())}
	}
	return nil
}
