// Package snapshot is the command line of backups: save, restore, inspect and verify.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
)

// Run runs one command line, args[0] being "snapshot", and gives its exit status.
func Run(ctx context.Context, t *tool.Tool, args []string) int {
	cmd := Command()
	t.Prepare(cmd, "keelson", usageError)
	return t.Finish("keelson snapshot", t.Execute(ctx, cmd, args))
}

// Command is the command tree.
func Command() *cli.Command {
	return &cli.Command{
		Name:     "snapshot",
		Usage:    "save, restore and check backups",
		Commands: []*cli.Command{save(), restore(), inspect(), verify()},
		Action: func(ctx context.Context, c *cli.Command) error {
			if word := c.Args().First(); word != "" {
				return &tool.Exit{Status: exitUsage, Text: fmt.Sprintf("keelson snapshot: unknown command %q: want save, restore, inspect or verify\n", word)}
			}
			t := tool.From(ctx)
			_, err := io.WriteString(t.Out, tool.Help(c, "keelson", t.Version))
			return err
		},
	}
}

const exitUsage = 2

func usageError(_ context.Context, _ *cli.Command, err error, help string) error {
	return &tool.Exit{Status: exitUsage, Text: err.Error() + "\n\n" + help, Err: err}
}

// file is the one argument that every verb takes.
func file(c *cli.Command) (string, error) {
	if c.NArg() != 1 {
		text := fmt.Sprintf("keelson snapshot %s: want the name of one file, have %d arguments\n", c.Name, c.NArg())
		return "", &tool.Exit{Status: exitUsage, Text: text}
	}
	return c.Args().First(), nil
}

// files are this machine's, if the command runs on one that has any.
func files(ctx context.Context) (tool.Files, error) {
	if f := tool.From(ctx).Files; f != nil {
		return f, nil
	}
	return nil, errors.New("there are no files here")
}

// about says which file an error is about.
func about(name string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s: %w", name, path.Err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// amount is a number of bytes for people.
func amount(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return "under 1 KiB"
}
