package snapshot

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/archive"
)

func inspect() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "show what a backup holds",
		ArgsUsage: "FILE",
		Flags:     []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "simple", Usage: "`simple` or json"}},
		Action: func(ctx context.Context, c *cli.Command) error {
			return look(ctx, c, archive.Check, func(t *tool.Tool, name string, s *archive.Summary) error {
				switch c.String("output") {
				case "json":
					return showJSON(t.Out, name, s)
				case "simple":
					return show(t.Out, name, s)
				}
				return fmt.Errorf("--output=%s: want simple or json", c.String("output"))
			})
		},
	}
}

func verify() *cli.Command {
	return &cli.Command{
		Name:        "verify",
		Usage:       "prove that a backup can be restored",
		ArgsUsage:   "FILE",
		Description: "Every byte is read, the whole state is built from it, and its hash compared.",
		Action: func(ctx context.Context, c *cli.Command) error {
			built := func(r io.Reader) (*archive.Summary, error) {
				s, _, err := archive.Read(r)
				return s, err
			}
			return look(ctx, c, built, func(t *tool.Tool, name string, s *archive.Summary) error {
				_, err := fmt.Fprintf(t.Out, "%s is whole: %d keys at index %d, hash %016x\n", name, s.Keys, s.Index, s.Content)
				return err
			})
		},
	}
}

// look reads the file that a command names and hands its summary on.
func look(ctx context.Context, c *cli.Command, read func(io.Reader) (*archive.Summary, error), then func(*tool.Tool, string, *archive.Summary) error) error {
	name, err := file(c)
	if err != nil {
		return err
	}
	f, err := files(ctx)
	if err != nil {
		return err
	}
	in, err := f.Open(name)
	if err != nil {
		return about(name, err)
	}
	defer in.Close()
	s, err := read(bufio.NewReaderSize(in, 1<<20))
	if err != nil {
		return about(name, err)
	}
	return then(tool.From(ctx), name, s)
}

// description is a summary as JSON. Hashes are hex, so that no reader rounds them.
type description struct {
	archive.Meta
	File   string `json:"file"`
	Format int    `json:"format"`
	Bytes  int64  `json:"bytes"`
	State  int64  `json:"stateBytes"`
	Hash   string `json:"hash"`
	Whole  string `json:"stateHash"`
	Sum    string `json:"sha256"`
}

func showJSON(w io.Writer, name string, s *archive.Summary) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(description{
		s.Meta, name, s.Version, s.Size, s.Raw,
		fmt.Sprintf("%016x", s.Content), fmt.Sprintf("%016x", s.State), s.SumText(),
	})
}

func show(w io.Writer, name string, s *archive.Summary) error {
	for _, line := range [...]struct {
		what string
		is   any
	}{
		{"file", name},
		{"format", s.Version},
		{"cluster", s.Cluster},
		{"member", s.Member + " " + s.Name},
		{"taken", when(s.Taken)},
		{"index", s.Index},
		{"keys", s.Keys},
		{"size", amount(s.Size) + ", " + amount(s.Raw) + " uncompressed"},
		{"hash", fmt.Sprintf("%016x", s.Content)},
		{"sha256", s.SumText()},
	} {
		if _, err := fmt.Fprintf(w, "%-8s %v\n", line.what+":", line.is); err != nil {
			return err
		}
	}
	return nil
}
