package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/realnet/authority"
)

func joinCommand() *cli.Command {
	return &cli.Command{
		Name:      "join",
		Usage:     "get this machine's certificates from the one that has the authority",
		UsageText: "keelson join https://HOST:PORT --token TOKEN [--dir DIR] [--name NAME] [--host HOST] [--renew]",
		Description: "HOST is the member on whose machine keelson ca init was run, PORT that of its clients.\n" +
			"The token, printed there by keelson ca token, says whom to trust. Keys are made here and stay here.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "token", Sources: cli.EnvVars("KEELSON_JOIN_TOKEN"), Usage: "what keelson ca token printed", Local: true},
			tlsDirFlag(), nameFlag(),
			hostFlag("a name or address of this machine, of those that the token allows (default: all of them)"),
			&cli.BoolFlag{Name: "renew", Usage: "keep the keys that are there and replace their certificates", Local: true},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			switch {
			case c.Args().Len() != 1:
				return &usageError{errors.New("join: want one https://HOST:PORT")}
			case c.String("token") == "":
				return &usageError{errors.New("join: want --token, or KEELSON_JOIN_TOKEN: what keelson ca token printed")}
			}
			name, err := machineName(c)
			if err == nil {
				err = authority.Join(ctx, authority.Joining{
					URL: c.Args().First(), Token: strings.TrimSpace(c.String("token")), Name: name,
					Hosts: c.StringSlice("host"), Dir: c.String("dir"), Renew: c.Bool("renew"),
				})
			}
			if err != nil {
				return fmt.Errorf("join: %w", err)
			}
			fmt.Fprintf(c.Root().Writer, "%s: this machine's certificates; keelson serve finds them there\n", c.String("dir"))
			return nil
		},
	}
}
