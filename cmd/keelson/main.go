// Command keelson is the one binary: it picks the tool by its own name or by its first word.
//
// Called as etcdctl, fleetctl or locksmithctl, through a link of that name, it is that
// tool; as etcd or fleetd it serves.
// Otherwise the first word says what to do.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v3"

	unithost "github.com/keelson/keelson/realnet/process"
)

// Exit statuses of keelson's own commands.
const (
	exitFailed = 1 // what was asked for could not be done
	exitUsage  = 2 // the command line was not understood
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command line and gives its exit status.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	name := filepath.Base(args[0])
	if isEtcd(name) {
		return finish(runServe(ctx, name, args[1:], true, out, errOut), errOut)
	}
	if isFleetd(name) {
		return finish(runFleetd(ctx, args[1:], out, errOut), errOut)
	}
	if tool := personality(name); tool != nil {
		return tool(ctx, args)
	}
	if len(args) > 1 {
		if isFleetd(args[1]) {
			return finish(runFleetd(ctx, args[2:], out, errOut), errOut)
		}
		if args[1] == unithost.Word {
			return finish(unithost.Host(args[2:]), errOut)
		}
		if isEtcd(args[1]) {
			return finish(runServe(ctx, args[1], args[2:], true, out, errOut), errOut)
		}
		if tool := personality(args[1]); tool != nil {
			return tool(ctx, args[1:])
		}
		if tool := wordNamed(args[1]); tool != nil {
			return tool(ctx, args[1:])
		}
	}
	return finish(root(in, out, errOut).Run(ctx, args), errOut)
}

// root is the tree of keelson's own commands.
func root(in io.Reader, out, errOut io.Writer) *cli.Command {
	cmd := &cli.Command{
		Name:        "keelson",
		Usage:       "cluster services for Linux machines, in one binary",
		Description: "The original tools are part of it: keelson etcdctl …, keelson fleetctl …, keelson locksmithctl …, or links of those names.",
		Commands:    append([]*cli.Command{serveCommand(), devCommand(), installCommand(), versionCommand()}, moreCommands()...),
		Action: func(_ context.Context, c *cli.Command) error {
			if word := c.Args().First(); word != "" {
				return &usageError{fmt.Errorf("unknown command %q: see keelson --help", word)}
			}
			return cli.ShowRootCommandHelp(c)
		},
		Reader: in, Writer: out, ErrWriter: errOut,
		HideVersion: true,
	}
	prepare(cmd)
	return cmd
}

// prepare has errors of the command line come back instead of being printed.
func prepare(cmd *cli.Command) {
	cmd.OnUsageError = func(_ context.Context, _ *cli.Command, err error, _ bool) error { return &usageError{err} }
	cmd.ExitErrHandler = func(context.Context, *cli.Command, error) {}
	for _, sub := range cmd.Commands {
		prepare(sub)
	}
}

// usageError is a command line that was not understood.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// statusError ends with a status and prints nothing more.
type statusError struct{ status int }

func (e *statusError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// finish is the one place where an error becomes text and a status.
func finish(err error, errOut io.Writer) int {
	var status *statusError
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return status.status
	case errors.As(err, &usage):
		fmt.Fprintf(errOut, "keelson: %v\n", err)
		return exitUsage
	default:
		fmt.Fprintf(errOut, "keelson: %v\n", err)
		return exitFailed
	}
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version of this program",
		Action: func(_ context.Context, c *cli.Command) error {
			_, err := fmt.Fprintf(c.Root().Writer, "keelson %s\n", version())
			return err
		},
	}
}

// version is the module's version as the build recorded it, or the commit it was
// built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return strings.TrimPrefix(v, "v")
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "devel"
}
