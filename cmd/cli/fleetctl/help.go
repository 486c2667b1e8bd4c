package fleetctl

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

func printHelp(out io.Writer) {
	w := tabwriter.NewWriter(out, 1, 8, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprint(w, "NAME:\n    fleetctl - run units on a cluster of machines with systemd\n\n")
	fmt.Fprint(w, "USAGE:\n    fleetctl [global flags] COMMAND [flags] [arguments]\n\nCOMMANDS:\n")
	for _, v := range verbs() {
		fmt.Fprintf(w, "    %s\t%s\n", v.name, v.summary)
	}
	fmt.Fprint(w, "\nGLOBAL FLAGS:\n")
	for i := range flags {
		if f := &flags[i]; f.global && !f.old {
			fmt.Fprintf(w, "    %s\t%s\n", f.names(), f.usage())
		}
	}
	fmt.Fprint(w, "\nEach global flag may also be given in the environment: --ssh-username as FLEETCTL_SSH_USERNAME.\n")
	fmt.Fprint(w, "Flags take one dash or two and may stand anywhere. A command may be shortened: list-m.\n")
	fmt.Fprint(w, "Run \"fleetctl help COMMAND\" for more about one command.\n")
}

func (v *verb) printHelp(out io.Writer) {
	w := tabwriter.NewWriter(out, 1, 8, 2, ' ', 0)
	defer w.Flush()
	usage := "fleetctl " + v.name
	if len(v.flags) > 0 {
		usage += " [flags]"
	}
	fmt.Fprintf(w, "NAME:\n    %s - %s\n\nUSAGE:\n    %s\n\nDESCRIPTION:\n", v.name, v.summary, strings.TrimSpace(usage+" "+v.args))
	for l := range strings.SplitSeq(v.help, "\n") {
		fmt.Fprintf(w, "    %s\n", l)
	}
	if len(v.flags) == 0 {
		return
	}
	fmt.Fprint(w, "\nFLAGS:\n")
	for i := range flags {
		if f := &flags[i]; slices.Contains(v.flags, f.name) {
			fmt.Fprintf(w, "    %s\t%s\n", f.names(), f.usage())
		}
	}
}

// names is how help and the reference page show a flag.
func (f *flag) names() string {
	s := "--" + f.name
	if f.short != "" {
		s += ", -" + f.short
	}
	if f.arg != "" {
		s += " " + f.arg
	}
	return s
}

func (f *flag) usage() string {
	doc := strings.ReplaceAll(f.doc, "`", "")
	if f.value == "" {
		return doc
	}
	return doc + " (default " + f.value + ")"
}
