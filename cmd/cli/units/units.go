// Package units is the command line of what the cluster does with units beyond fleetctl: why, plan, rebalance, rollout, drain, cordon and uncordon.
package units

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

// The exit statuses. Two is for changes, so a wrong command line is a failure like others.
const (
	exitFailed  = 1
	exitChanges = 2 // plan: something would change
	exitUnknown = 4 // nobody knows whether it was done
)

// Commands lists the words that may follow keelson.
func Commands() []*cli.Command {
	return []*cli.Command{whyCommand(), planCommand(), rebalanceCommand(), rolloutCommand(), drainCommand(), cordonCommand(), uncordonCommand()}
}

// Run runs one command line, args[0] being one of the words of Commands, and gives its
// exit status.
func Run(ctx context.Context, t *tool.Tool, args []string) int {
	for _, cmd := range Commands() {
		if cmd.Name == args[0] {
			t.Prepare(cmd, "keelson", usageError)
			return t.Finish("keelson "+cmd.Name, t.Execute(ctx, cmd, args))
		}
	}
	fmt.Fprintf(t.Err, "keelson: unknown command %q\n", args[0])
	return exitFailed
}

func usageError(_ context.Context, _ *cli.Command, err error, help string) error {
	return &tool.Exit{Status: exitFailed, Text: err.Error() + "\n\n" + help, Err: err}
}

// flags are those of every command, and more.
func flags(more ...cli.Flag) []cli.Flag {
	return append(append(tool.RequestFlags(), &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "simple", Usage: "`simple` or json"}), more...)
}

// session is one command on its cluster.
type session struct {
	t     *tool.Tool
	c     *cli.Command
	all   *client.Client
	units *client.Units
	json  bool
	ips   map[string]string // of machines
}

// with runs do on a client made of the flags, with so many arguments at least, and at
// most so many unless that is below 0.
func with(least, most int, do func(ctx context.Context, s *session) error) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		if n := c.NArg(); n < least || most >= 0 && n > most {
			return usage(c, "want "+strings.TrimSpace(c.ArgsUsage+" ")+": see --help")
		}
		if o := c.String("output"); o != "simple" && o != "json" {
			return usage(c, fmt.Sprintf("--output=%s: want simple or json", o))
		}
		cl, end, err := tool.Dial(ctx, c)
		if err != nil {
			return err
		}
		defer end()
		s := &session{t: tool.From(ctx), c: c, all: cl, units: cl.Units(), json: c.String("output") == "json"}
		return told(c, do(ctx, s))
	}
}

func usage(c *cli.Command, text string) error {
	return &tool.Exit{Status: exitFailed, Text: fmt.Sprintf("keelson %s: %s\n", c.FullName(), text)}
}

// told puts an error of the cluster into words.
func told(c *cli.Command, err error) error {
	var exit *tool.Exit
	var cluster *client.ClusterError
	var refused *client.UnitError
	switch {
	case err == nil, errors.As(err, &exit):
		return err
	case errors.Is(err, client.ErrUnknown):
		return &tool.Exit{Status: exitUnknown, Err: err, Text: fmt.Sprintf(
			"keelson %s: outcome unknown: it may have been done, or be done soon: %s\nhint: see \"fleetctl list-unit-files\" before you try again\n", c.FullName(), strings.TrimSpace(err.Error()))}
	case errors.Is(err, client.ErrNoPage):
		return usage(c, "the server does not know how: it is the original, or an older keelson")
	case errors.As(err, &cluster):
		return &tool.Exit{Status: exitFailed, Err: err, Text: fmt.Sprintf("keelson %s: no server answered\n%s", c.FullName(), cluster.Detail())}
	case errors.As(err, &refused):
		return &tool.Exit{Status: exitFailed, Err: err, Text: fmt.Sprintf("keelson %s: %s\n", c.FullName(), inWords(err))}
	}
	return &tool.Exit{Status: exitFailed, Err: err, Text: fmt.Sprintf("keelson %s: %v\n", c.FullName(), err)}
}

func (s *session) printJSON(v any) error {
	e := json.NewEncoder(s.t.Out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func (s *session) say(format string, args ...any) { fmt.Fprintf(s.t.Out, format+"\n", args...) }

// machines gives the machines and remembers their addresses.
func (s *session) machines(ctx context.Context) ([]client.Machine, error) {
	all, err := s.units.Machines(ctx, true)
	if err != nil {
		return nil, err
	}
	s.ips = map[string]string{}
	for _, m := range all {
		s.ips[m.ID] = m.PrimaryIP
	}
	return all, nil
}

// place is how a machine is shown; "" is none.
func (s *session) place(ctx context.Context, id string) string {
	if id == "" {
		return "no machine"
	}
	if s.ips == nil {
		if _, err := s.machines(ctx); err != nil {
			s.ips = map[string]string{}
		}
	}
	if ip := s.ips[id]; ip != "" {
		return client.ShortID(id) + "/" + ip
	}
	return client.ShortID(id)
}

// machine finds the one machine that is meant: by its ID, what its ID begins with, its
// name or its address.
func (s *session) machine(ctx context.Context, what string) (*client.Machine, error) {
	all, err := s.machines(ctx)
	if err != nil {
		return nil, err
	}
	var found []client.Machine
	for _, m := range all {
		if m.ID == what {
			return &m, nil
		}
		if strings.HasPrefix(m.ID, strings.TrimSuffix(what, "...")) || m.Host == what || m.PrimaryIP == what {
			found = append(found, m)
		}
	}
	switch {
	case len(found) == 1 && what != "":
		return &found[0], nil
	case len(found) == 0 || what == "":
		return nil, fmt.Errorf("no machine is called %q: see \"fleetctl list-machines\"", what)
	}
	return nil, fmt.Errorf("%d machines are called %s: give more of the ID, see \"fleetctl list-machines --full\"", len(found), what)
}

// showMoves prints where units go, and which can go nowhere.
func (s *session) showMoves(ctx context.Context, m *client.Moves) {
	for _, one := range m.Moves {
		switch {
		case one.From == "":
			s.say("%s: to %s: %s", one.Unit, s.place(ctx, one.To), one.Why)
		case one.To == "":
			s.say("%s: off %s: %s", one.Unit, s.place(ctx, one.From), one.Why)
		default:
			s.say("%s: from %s to %s: %s", one.Unit, s.place(ctx, one.From), s.place(ctx, one.To), one.Why)
		}
	}
	for _, e := range m.Stay {
		if e.MachineID == "" {
			s.say("%s: nowhere: %s", e.Name, e.Why)
		} else {
			s.say("%s: stays on %s: %s", e.Name, s.place(ctx, e.MachineID), e.Why)
		}
		s.showRefusals(&e)
	}
}

// showRefusals prints why machines are ruled out.
func (s *session) showRefusals(e *client.Explanation) {
	for _, r := range e.Refusals {
		s.say("    %s: %s", plural(r.Machines, "machine"), r.Reason)
	}
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// progress writes a line that the next one replaces, if somebody watches.
func (s *session) progress(format string, args ...any) {
	if s.t.Terminal {
		io.WriteString(s.t.Err, "\r\x1b[K"+fmt.Sprintf(format, args...))
	}
}

// quiet ends what progress began.
func (s *session) quiet() {
	if s.t.Terminal {
		io.WriteString(s.t.Err, "\r\x1b[K")
	}
}
