package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/archive"
	"github.com/keelson/keelson/core/client"
)

func save() *cli.Command {
	return &cli.Command{
		Name:      "save",
		Usage:     "write a backup of all keys to a file, while the cluster runs",
		ArgsUsage: "FILE",
		Description: "The backup holds every write that was acknowledged before the command began. It is\n" +
			"checked as it arrives, written beside FILE and given its name when it is whole.",
		Flags: append(tool.ConnectionFlags(),
			&cli.BoolFlag{Name: "local", Usage: "take what one member has, even if no majority is left"}),
		Action: func(ctx context.Context, c *cli.Command) error {
			name, err := file(c)
			if err != nil {
				return err
			}
			f, err := files(ctx)
			if err != nil {
				return err
			}
			cl, end, err := tool.Dial(ctx, c)
			if err != nil {
				return err
			}
			defer end()
			d, err := download(ctx, c, cl, c.Bool("local"))
			if err != nil {
				return refused(err, c.Bool("local"))
			}
			defer d.Body.Close()
			in := &arrival{t: tool.From(ctx), from: d}
			if err := f.Create(name, in); err != nil {
				return in.failed(name, err)
			}
			_, err = fmt.Fprintf(in.t.Out, "saved %s: %d keys at index %d, %s, hash %016x\n",
				name, in.sum.Keys, in.sum.Index, amount(in.sum.Size), in.sum.Content)
			return err
		},
	}
}

// download begins a backup. Where the endpoints are proxies the members themselves are
// asked first: what comes through a proxy is cut if it is taken too slowly.
func download(ctx context.Context, c *cli.Command, cl *client.Client, local bool) (*client.Download, error) {
	if local || amongMembers(ctx, cl) || cl.Sync(ctx) != nil {
		return cl.Snapshot(ctx, local)
	}
	d, err := cl.Snapshot(ctx, false)
	if err == nil {
		return d, nil
	}
	given, _, err := tool.Dial(ctx, c)
	if err != nil {
		return nil, err
	}
	return given.Snapshot(ctx, false)
}

// amongMembers says whether an endpoint is a member, as far as anybody tells.
func amongMembers(ctx context.Context, cl *client.Client) bool {
	list, err := cl.Members().List(ctx)
	if err != nil {
		return true
	}
	for _, m := range list {
		for _, u := range m.ClientURLs {
			if slices.Contains(cl.Endpoints(), strings.TrimSuffix(u, "/")) {
				return true
			}
		}
	}
	return false
}

// refused is a backup that did not begin, with what may help.
func refused(err error, local bool) error {
	text := "keelson snapshot: save: " + err.Error() + "\n"
	var cluster *client.ClusterError
	if errors.As(err, &cluster) {
		text = "keelson snapshot: save: no member answered\n" + cluster.Detail()
		if !local {
			text += "hint: if the majority is lost for good, --local takes what one member has\n"
		}
	}
	return &tool.Exit{Status: 1, Text: text, Err: err}
}

// arrival is a backup as content for a file: it is checked while it is written.
type arrival struct {
	t    *tool.Tool
	from *client.Download
	sum  *archive.Summary
	bad  error // what came was no whole backup
}

// WriteTo copies what arrives. It may be called once.
func (a *arrival) WriteTo(w io.Writer) (int64, error) {
	p := &progress{w: w, t: a.t}
	a.sum, a.bad = archive.Check(io.TeeReader(a.from.Body, p))
	p.end()
	return p.n, a.bad
}

func (a *arrival) failed(name string, err error) error {
	if a.bad != nil {
		return fmt.Errorf("save %s: the backup did not arrive whole (%w); nothing was written: try again", name, a.bad)
	}
	return fmt.Errorf("save %w", about(name, err))
}

// progress counts what passes, and shows it to people from time to time.
type progress struct {
	w     io.Writer
	t     *tool.Tool
	n     int64
	shown int64
}

// progressStep is how much arrives between two lines.
const progressStep = 4 << 20

// Write implements io.Writer.
func (p *progress) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.n += int64(n)
	if p.t.Terminal && p.n-p.shown >= progressStep {
		p.shown = p.n
		fmt.Fprintf(p.t.Err, "\r%s received ", amount(p.n))
	}
	return n, err
}

func (p *progress) end() {
	if p.shown > 0 {
		fmt.Fprint(p.t.Err, "\r                              \r")
	}
}

// when is a time for people.
func when(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
