// Package fleetctl is the command line of the cluster's units, with the flags, output and exit statuses of the original.
package fleetctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

const exitFailed = 1

// Run runs one command line, args[0] being the program's name, and gives its exit
// status.
func Run(ctx context.Context, t *tool.Tool, args []string) int {
	return t.Finish("fleetctl", run(ctx, t, args))
}

func run(ctx context.Context, t *tool.Tool, args []string) error {
	l, err := parse(args[min(1, len(args)):], t.Getenv)
	if err != nil {
		return &tool.Exit{Status: exitFailed, Text: fmt.Sprintf("fleetctl: %v\nRun 'fleetctl help' for usage.\n", err), Err: err}
	}
	c := &call{Tool: t, line: l, shown: &progress{}}
	switch {
	case l.yes("version"):
		return c.printVersion()
	case l.verb == nil:
		printHelp(t.Out)
		return nil
	case l.yes("help"):
		l.verb.printHelp(t.Out)
		return nil
	}
	if o := l.text("output"); o != "" && o != "json" && l.verb.name != "journal" {
		return refuse("--output=%s: want json", o)
	}
	defer c.close()
	if err := l.verb.run(ctx, c); err != nil {
		c.flush()
		return err
	}
	return c.flush()
}

// verb is one command.
type verb struct {
	name    string
	args    string // as help shows them
	summary string
	help    string
	flags   []string // by name, besides the global ones
	// words is after how many words everything belongs to another program's command
	// line; 0 is never.
	words int
	run   func(ctx context.Context, c *call) error
}

// verbs lists the commands in the order of the help text.
func verbs() []*verb {
	return []*verb{
		catVerb(), destroyVerb(), fdForward(), helpVerb(), journalVerb(), listMachines(), listUnitFiles(), listUnits(),
		loadVerb(), restartVerb(), sshVerb(), startVerb(), statusVerb(), stopVerb(), submitVerb(), unloadVerb(),
		verifyVerb(), versionVerb(),
	}
}

// call is one run of a command.
type call struct {
	*tool.Tool
	*line
	all     *client.Client
	cluster cluster
	clock   clock
	user    string // of an endpoint, as name:password
	changes *client.Changes
	ends    []func()
	ips     map[string]string // of machines; nil until somebody asks
	said    []event           // what was done, where it is told as JSON
	shown   *progress
}

// event is one thing that was done, as -o json tells it.
type event struct {
	Unit      string `json:"unit"`
	Event     string `json:"event"`
	MachineID string `json:"machineID,omitempty"`
	IP        string `json:"primaryIP,omitempty"`
}

func (c *call) json() bool { return c.text("output") == "json" }

// changing are the commands whose JSON is a list of events.
var changing = []string{"destroy", "load", "restart", "start", "stop", "submit", "unload"}

// tell says that something was done: as a line of text, or in the list that ends the
// command.
func (c *call) tell(e event, format string, args ...any) {
	if c.json() {
		c.said = append(c.said, e)
		return
	}
	c.shown.clear(c.Err)
	fmt.Fprintf(c.Out, format+"\n", args...)
}

// warn writes a line to standard error.
func (c *call) warn(format string, args ...any) {
	c.shown.clear(c.Err)
	fmt.Fprintf(c.Err, format+"\n", args...)
}

// flush prints what tell has kept: of a command that changes something a list in any case.
func (c *call) flush() error {
	c.shown.clear(c.Err)
	if c.json() && c.said == nil && slices.Contains(changing, c.verb.name) {
		c.said = []event{}
	}
	if c.said == nil {
		return nil
	}
	return c.printJSON(c.said)
}

func (c *call) close() {
	for i := len(c.ends) - 1; i >= 0; i-- {
		c.ends[i]()
	}
}

// refuse is the end of a command that cannot go on: one line on standard error.
func refuse(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	text := err.Error() + "\n"
	if errors.Is(err, client.ErrUnknown) {
		text += hintUnknown
	}
	return &tool.Exit{Status: exitFailed, Text: text, Err: err}
}

const hintUnknown = "hint: it is not known whether the request took effect; see \"fleetctl list-unit-files\" before trying again\n"

// plain takes a client's error apart: what the one server asked has said, or what each
// of several has.
func plain(err error) error {
	var cluster *client.ClusterError
	if !errors.As(err, &cluster) || len(cluster.Errors) == 0 {
		return err
	}
	return &apart{err, cluster}
}

// apart is a client's error in fewer words.
type apart struct {
	err     error
	cluster *client.ClusterError
}

func (e *apart) Unwrap() error { return e.err }

func (e *apart) Error() string {
	var all []string
	for _, err := range e.cluster.Errors {
		all = append(all, strings.TrimSpace(err.Error()))
	}
	return strings.Join(all, "; ")
}

func versionVerb() *verb {
	return &verb{
		name: "version", summary: "Print the version and exit",
		help: "Print the version of this program.",
		run:  func(_ context.Context, c *call) error { return c.printVersion() },
	}
}

func (c *call) printVersion() error {
	if c.json() {
		return c.printJSON(map[string]string{"version": c.Version})
	}
	_, err := fmt.Fprintf(c.Out, "fleetctl version %s\n", c.Version)
	return err
}

func verifyVerb() *verb {
	return &verb{
		name: "verify", args: "UNIT", summary: "Removed: units are not signed",
		help: "Signatures of units were removed from the original. This command says so and exits with status 2.",
		run: func(context.Context, *call) error {
			return &tool.Exit{Status: 2, Text: "WARNING: The signed/verified units feature is DEPRECATED and cannot be used.\n"}
		},
	}
}

func helpVerb() *verb {
	return &verb{
		name: "help", args: "[COMMAND]", summary: "Show a list of commands or help for one command",
		help: "Show a list of commands, or the help of one.",
		run: func(_ context.Context, c *call) error {
			if len(c.args) == 0 {
				printHelp(c.Out)
				return nil
			}
			v, err := find(c.args[0])
			if err != nil {
				return refuse("fleetctl: %w", err)
			}
			v.printHelp(c.Out)
			return nil
		},
	}
}

// noUnits answers a command line without units, which is no failure.
func (c *call) noUnits() error {
	_, err := io.WriteString(c.Err, "No units given\n")
	return err
}
