// Package waldump is the command line that shows what a member's log holds.
package waldump

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/replica"
	"github.com/keelson/keelson/core/revive"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/wal"
)

// Run runs one command line, args[0] being "wal", and gives its exit status.
func Run(ctx context.Context, t *tool.Tool, args []string) int {
	cmd := Command()
	t.Prepare(cmd, "keelson", usageError)
	return t.Finish("keelson wal", t.Execute(ctx, cmd, args))
}

// Command is the command tree.
func Command() *cli.Command {
	return &cli.Command{
		Name:     "wal",
		Usage:    "look into the log of a member",
		Commands: []*cli.Command{dump()},
		Action: func(ctx context.Context, c *cli.Command) error {
			if word := c.Args().First(); word != "" {
				return &tool.Exit{Status: exitUsage, Text: fmt.Sprintf("keelson wal: unknown command %q: want dump\n", word)}
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

func dump() *cli.Command {
	return &cli.Command{
		Name:      "dump",
		Usage:     "show the records of a log, whole or damaged, whether its member runs or not",
		ArgsUsage: "DATA-DIR",
		Description: "Nothing is written. The last line says whether a member could start from the log; if\n" +
			"not, it names the place of the damage and the exit status is 1.",
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "from", Usage: "leave out entries before this index"},
			&cli.Uint64Flag{Name: "to", Value: math.MaxUint64, DefaultText: "the last", Usage: "leave out entries behind this index", HideDefault: true},
			&cli.StringFlag{Name: "wal-dir", Usage: "where the log is, if `DIR` was given to keelson serve"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "simple", Usage: "`simple` or json, a line each"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			t := tool.From(ctx)
			if c.NArg() != 1 {
				return &tool.Exit{Status: exitUsage, Text: fmt.Sprintf("keelson wal dump: want one data directory, have %d arguments\n", c.NArg())}
			}
			show, ok := map[string]func(io.Writer, *line) error{"simple": simple, "json": inJSON}[c.String("output")]
			if !ok {
				return &tool.Exit{Status: exitUsage, Text: fmt.Sprintf("keelson wal dump: --output=%s: want simple or json\n", c.String("output"))}
			}
			if from, to := c.Uint64("from"), c.Uint64("to"); from > to {
				return &tool.Exit{Status: exitUsage, Text: fmt.Sprintf("keelson wal dump: --from=%d is behind --to=%d\n", from, to)}
			}
			if t.Files == nil {
				return fmt.Errorf("there are no files here")
			}
			d := &dumper{out: t.Out, from: c.Uint64("from"), to: c.Uint64("to"), show: show}
			return d.run(tool.DataDir{Files: t.Files, Dir: c.Args().First(), Wal: c.String("wal-dir")})
		},
	}
}

type dumper struct {
	out      io.Writer
	from, to uint64
	show     func(io.Writer, *line) error
	err      error
}

// run shows all that is there, and then what it is worth.
func (d *dumper) run(dir tool.DataDir) error {
	if _, err := dir.Names(); err != nil {
		return fmt.Errorf("dump %s: %w", dir.Dir, err)
	}
	var whose wal.Identity
	id, unknown := revive.Identity(dir)
	if unknown != nil {
		d.line(&line{Kind: "damage", File: "identity", Text: unknown.Error()})
	} else {
		whose = wal.Identity{Cluster: id.Cluster, Node: id.ID}
		d.line(&line{Kind: "identity", File: "identity", Text: fmt.Sprintf("member %v of cluster %x", id.ID, id.Cluster)})
	}
	log := revive.Log(dir)
	if err := wal.Dump(log, whose, d.piece); err != nil {
		return fmt.Errorf("dump %s: %w", dir.Dir, err)
	}
	if d.err != nil {
		return d.err
	}
	if unknown != nil {
		return fmt.Errorf("dump %s: no member could start from it: %w", dir.Dir, unknown)
	}
	rec, err := wal.Peek(log, whose)
	if err != nil {
		return fmt.Errorf("dump %s: the log is not whole: %w", dir.Dir, err)
	}
	text := fmt.Sprintf("the log is whole: %d entries behind the snapshot", len(rec.Entries))
	if len(rec.Cut) > 0 {
		text += "; unfinished writes are cut: " + strings.Join(rec.Cut, ", ")
	}
	d.line(&line{Kind: "verdict", Text: text})
	return d.err
}

// line is what one line shows.
type line struct {
	File     string   `json:"file,omitempty"`
	Offset   int      `json:"offset"`
	Frame    uint64   `json:"frame,omitempty"`
	Kind     string   `json:"kind"`
	Index    uint64   `json:"index,omitempty"`
	Term     uint64   `json:"term,omitempty"`
	Bytes    int      `json:"bytes,omitempty"`
	Text     string   `json:"text,omitempty"`
	Time     string   `json:"time,omitempty"` // log time of a batch
	Commands []string `json:"commands,omitempty"`
}

func (d *dumper) line(l *line) {
	if d.err == nil {
		d.err = d.show(d.out, l)
	}
}

func (d *dumper) piece(p wal.Piece) {
	l := &line{File: p.File, Offset: p.Offset, Frame: p.Frame, Kind: p.Kind, Index: p.Index, Term: p.Term, Text: p.Text}
	switch p.Kind {
	case "entry":
		if p.Index < d.from || p.Index > d.to {
			return
		}
		l.Bytes = len(p.Data)
		entry(l, p.Data)
	case "hard state":
		term, vote, commit, err := replica.DescribeHardState(p.Data)
		l.Term, l.Text = term, fmt.Sprintf("vote %v, commit %d", vote, commit)
		note(l, err)
	case "snapshot":
		l.Bytes = p.Size
		voters, learners, removed, err := replica.DescribeMeta(p.Data)
		l.Text = fmt.Sprintf("voters %v, learners %v, removed %v", voters, learners, removed)
		note(l, err)
	case "segment":
		l.Text = fmt.Sprintf("life %d, continues frame %d", p.Incarnation, p.Before)
	case "end":
		l.Text = cmp.Or(l.Text, "the end")
	}
	d.line(l)
}

func note(l *line, err error) {
	if err != nil {
		l.Text = "cannot be read: " + err.Error()
	}
}

// entry shows what an entry does.
func entry(l *line, data []byte) {
	e, err := replica.DescribeEntry(data)
	if err != nil {
		note(l, err)
		return
	}
	l.Text = e.Change
	if len(e.Data) == 0 {
		l.Text = cmp.Or(l.Text, "empty")
		return
	}
	b, err := store.DecodeBatchUpTo(e.Data, store.NextBatch)
	if err != nil {
		note(l, err)
		return
	}
	l.Time = time.Duration(b.Time).String()
	for i := range b.Commands {
		l.Commands = append(l.Commands, command(&b.Commands[i]))
	}
}

// valueMax is how much of a value is shown.
const valueMax = 64

var ops = map[store.Op]string{
	store.OpSet: "set", store.OpCreate: "create", store.OpUpdate: "update", store.OpCompareAndSwap: "compareAndSwap",
	store.OpCreateInOrder: "createInOrder", store.OpDelete: "delete", store.OpCompareAndDelete: "compareAndDelete",
}

func command(c *store.Command) string {
	b := strings.Builder{}
	b.WriteString(cmp.Or(ops[c.Op], "operation "+strconv.Itoa(int(c.Op))) + " " + c.Key)
	value := func(name, v string) {
		if v == "" {
			return
		}
		if len(v) > valueMax {
			fmt.Fprintf(&b, " %s%q… (%d bytes)", name, v[:valueMax], len(v))
			return
		}
		fmt.Fprintf(&b, " %s%q", name, v)
	}
	value("", c.Value)
	value("prevValue=", c.PrevValue)
	if c.PrevIndex != 0 {
		fmt.Fprintf(&b, " prevIndex=%d", c.PrevIndex)
	}
	for _, f := range []struct {
		on   bool
		name string
	}{{c.Dir, "dir"}, {c.Recursive, "recursive"}, {c.Refresh, "refresh"}} {
		if f.on {
			b.WriteString(" " + f.name)
		}
	}
	if c.HasTTL {
		fmt.Fprintf(&b, " ttl=%v", c.TTL)
	}
	if c.ID.Node != env.NodeID(0) {
		fmt.Fprintf(&b, " (%v/%d/%d)", c.ID.Node, c.ID.Incarnation, c.ID.Number)
	}
	return b.String()
}

func inJSON(w io.Writer, l *line) error { return json.NewEncoder(w).Encode(l) }

// simple shows a line for people: records are indented under their segment.
func simple(w io.Writer, l *line) error {
	var text string
	switch l.Kind {
	case "identity", "verdict":
		text = l.Kind + ": " + l.Text
	case "segment", "snapshot":
		text = fmt.Sprintf("%s: %s", l.File, l.Text)
		if l.Kind == "snapshot" {
			text += fmt.Sprintf(", entry %d of term %d, %d bytes", l.Index, l.Term, l.Bytes)
		}
	case "damage":
		text = fmt.Sprintf("%s: DAMAGED at byte %d: %s", l.File, l.Offset, l.Text)
	case "end":
		text = fmt.Sprintf("  %8d  %s", l.Offset, l.Text)
	case "hard state":
		text = fmt.Sprintf("  %8d  term %d, %s", l.Offset, l.Term, l.Text)
	default:
		text = fmt.Sprintf("  %8d  %s %d of term %d", l.Offset, l.Kind, l.Index, l.Term)
		if l.Text != "" {
			text += ": " + l.Text
		}
		if l.Time != "" {
			text += " at " + l.Time
		}
		for _, c := range l.Commands {
			text += "\n              " + c
		}
	}
	_, err := io.WriteString(w, text+"\n")
	return err
}
