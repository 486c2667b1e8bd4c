package locksmithctl

import (
	"context"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/keelson/keelson/cmd/cli/tool"
)

func help() *verb {
	return &verb{
		name:    "help",
		args:    "[COMMAND]",
		summary: "Show a list of commands or help for one command",
		help:    "Show a list of commands, or the help of one.",
		run: func(_ context.Context, c *call, args []string) error {
			if len(args) == 0 {
				printHelp(c.Out, c.flags)
				return nil
			}
			v := find(args[0])
			if v == nil {
				fmt.Fprintf(c.Out, "Unrecognized command: %s\n", args[0])
				return &tool.Exit{Status: exitFailed}
			}
			v.printHelp(c.Out)
			return nil
		},
	}
}

func (v *verb) printHelp(w io.Writer) {
	fmt.Fprintf(w, "NAME:\n\t%s - %s\n\nUSAGE:\n\tlocksmithctl %s %s\n\nDESCRIPTION:\n\t%s\n", v.name, v.summary, v.name, v.args, v.help)
}

func printHelp(out io.Writer, flags *flag.FlagSet) {
	w := tabwriter.NewWriter(out, 1, 8, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprint(w, "NAME:\n    locksmithctl - manage the reboot lock of a group of machines\n\n")
	fmt.Fprint(w, "USAGE:\n    locksmithctl [global options] <command> [arguments]\n\nCOMMANDS:\n")
	for _, v := range verbs() {
		fmt.Fprintf(w, "    %s\t%s\n", v.name, v.summary)
	}
	fmt.Fprint(w, "\nGLOBAL OPTIONS:\n")
	flags.VisitAll(func(f *flag.Flag) {
		fmt.Fprintf(w, "    -%s=%s\t%s\n", f.Name, f.DefValue, f.Usage)
	})
	fmt.Fprint(w, "\nEach option may also be given in the environment: -etcd-cafile as LOCKSMITHCTL_ETCD_CAFILE.\n")
	fmt.Fprint(w, "Run \"locksmithctl help <command>\" for more about one command.\n")
}
