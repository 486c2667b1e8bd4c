package tool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v3"
)

// asked is a flag without argument that the library does not take for its own
// help flag, so that the help is ours.
type asked bool

func (a *asked) Set(s string) error { *a = s == "true"; return nil }
func (a *asked) String() string     { return "" }
func (a *asked) Get() any           { return nil }

// IsBoolFlag says that the flag takes no argument.
func (a *asked) IsBoolFlag() bool { return true }

// errHelp ends a command that only had to show its help.
var errHelp = errors.New("help shown")

// Prepare makes cmd a command tree that runs on t: streams, help flags and the
// errors of the command line are set up on every level. parents is the name that
// help shows before the command's own.
func (t *Tool) Prepare(cmd *cli.Command, parents string, usageError func(ctx context.Context, c *cli.Command, err error, help string) error) {
	cmd.Writer, cmd.ErrWriter, cmd.Reader = t.Out, t.Err, t.In
	cmd.HideHelp, cmd.HideHelpCommand, cmd.HideVersion = true, true, true
	cmd.ExitErrHandler = func(context.Context, *cli.Command, error) {}
	help := Help(cmd, parents, t.Version)
	wanted := new(asked)
	cmd.Flags = append(cmd.Flags, &cli.GenericFlag{Name: "help", Aliases: []string{"h"}, Value: wanted, Hidden: true, Local: true})
	before := cmd.Before
	cmd.Before = func(ctx context.Context, c *cli.Command) (context.Context, error) {
		if *wanted {
			io.WriteString(t.Out, help)
			return ctx, errHelp
		}
		if before != nil {
			return before(ctx, c)
		}
		return ctx, nil
	}
	cmd.OnUsageError = func(ctx context.Context, c *cli.Command, err error, _ bool) error {
		return usageError(ctx, c, oldWords(err), help)
	}
	for _, sub := range cmd.Commands {
		t.Prepare(sub, strings.TrimSpace(parents+" "+cmd.Name), usageError)
	}
}

// Execute runs a prepared command and gives its error; help is none.
func (t *Tool) Execute(ctx context.Context, cmd *cli.Command, args []string) error {
	err := cmd.Run(With(ctx, t), args)
	if errors.Is(err, errHelp) {
		return nil
	}
	return err
}

// invalid matches the library's complaint about a flag's value, whose reason is
// in the words of package strconv or time.
var invalid = regexp.MustCompile(`(?s)^(invalid value ".*" for flag -[^:]*): .*$`)

// oldWords puts a command line error into the words of the flag package, which
// the original tools used.
func oldWords(err error) error {
	text := err.Error()
	if m := invalid.FindStringSubmatch(text); m != nil {
		reason := "parse error"
		if strings.HasSuffix(text, "value out of range") {
			reason = "value out of range"
		}
		return fmt.Errorf("%s: %s", m[1], reason)
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: "); ok {
		return fmt.Errorf("flag needs an argument: -%s", strings.TrimLeft(name, "-"))
	}
	return err
}

// Help is the help text of a command, in the layout of the original tools.
// parents is the name of the commands above it, empty for the tool itself.
func Help(cmd *cli.Command, parents, version string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 1, 8, 2, ' ', 0)
	full := strings.TrimSpace(parents + " " + cmd.Name)
	fmt.Fprintf(w, "NAME:\n   %s - %s\n\nUSAGE:\n   %s\n", full, cmd.Usage, usage(cmd, full))
	if parents == "" {
		fmt.Fprintf(w, "\nVERSION:\n   %s\n", version)
	}
	if cmd.Description != "" {
		fmt.Fprintf(w, "\nDESCRIPTION:\n%s\n", indent(cmd.Description))
	}
	if len(cmd.Commands) > 0 {
		fmt.Fprint(w, "\nCOMMANDS:\n")
		for _, sub := range cmd.Commands {
			fmt.Fprintf(w, "   %s\t%s\n", strings.Join(sub.Names(), ", "), sub.Usage)
		}
	}
	options(w, cmd, parents == "")
	w.Flush()
	return b.String()
}

func usage(cmd *cli.Command, full string) string {
	if cmd.UsageText != "" {
		return cmd.UsageText
	}
	if len(cmd.Commands) > 0 {
		return full + " command [command options] [arguments...]"
	}
	if len(Flags(cmd)) > 0 {
		full += " [command options]"
	}
	return full + " " + cmd.ArgsUsage
}

func options(w io.Writer, cmd *cli.Command, root bool) {
	flags := Flags(cmd)
	title := "\nOPTIONS:\n"
	if root {
		title = "\nGLOBAL OPTIONS:\n"
	}
	if len(flags) == 0 && len(cmd.Commands) == 0 {
		return
	}
	fmt.Fprint(w, title)
	for _, f := range flags {
		fmt.Fprintf(w, "   %s\t%s\n", f.Names, f.Usage)
	}
	if len(cmd.Commands) > 0 {
		fmt.Fprint(w, "   --help, -h\tshow help\n")
	}
	if root {
		fmt.Fprint(w, "   --version, -v\tprint the version\n")
		return
	}
	fmt.Fprint(w, "   \n")
}

// Flag is one line of a list of flags.
type Flag struct {
	Name  string // without dashes
	Names string // as shown: "--ttl value"
	Usage string // with its default
}

// Flags lists the flags of a command that people are shown.
func Flags(cmd *cli.Command) []Flag {
	var list []Flag
	for _, f := range cmd.Flags {
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		list = append(list, describe(f))
	}
	return list
}

func describe(f cli.Flag) Flag {
	doc := f.(cli.DocGenerationFlag)
	usage, placeholder := doc.GetUsage(), ""
	if doc.TakesValue() {
		usage, placeholder = unquote(usage)
	}
	var names []string
	for _, n := range f.Names() {
		dashes := "--"
		if len(n) == 1 {
			dashes = "-"
		}
		names = append(names, strings.TrimSpace(dashes+n+" "+placeholder))
	}
	return Flag{Name: f.Names()[0], Names: strings.Join(names, ", "), Usage: usage + defaultOf(f)}
}

// unquote takes the name of a flag's argument out of the first pair of
// backquotes in its usage.
func unquote(usage string) (text, placeholder string) {
	before, rest, ok := strings.Cut(usage, "`")
	if !ok {
		return usage, "value"
	}
	name, after, ok := strings.Cut(rest, "`")
	if !ok {
		return usage, "value"
	}
	return before + name + after, name
}

func defaultOf(f cli.Flag) string {
	switch f := f.(type) {
	case *cli.StringFlag:
		if f.DefaultText != "" {
			return fmt.Sprintf(" (default: %q)", f.DefaultText)
		}
		if f.Value != "" {
			return fmt.Sprintf(" (default: %q)", f.Value)
		}
	case *cli.IntFlag:
		return fmt.Sprintf(" (default: %d)", f.Value)
	case *cli.DurationFlag:
		return fmt.Sprintf(" (default: %v)", f.Value)
	}
	return ""
}

func indent(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if l != "" {
			lines[i] = "   " + l
		}
	}
	return strings.Join(lines, "\n")
}
