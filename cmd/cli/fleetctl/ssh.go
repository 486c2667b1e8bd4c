package fleetctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/unit"
)

func sshVerb() *verb {
	return &verb{
		name: "ssh", args: "{MACHINE|UNIT} [COMMAND…]", summary: "Open a shell, or run a command, on a machine",
		help:  "Open a shell on a machine, or run a command there and end with its exit status. The machine is\nnamed by its ID, by what its ID begins with, or by a unit that it runs. Needs an SSH agent.",
		flags: []string{"machine", "unit", "forward-agent", "ssh-port"},
		words: 1,
		run: func(ctx context.Context, c *call) error {
			if c.given("machine") && c.given("unit") {
				return refuse("Both machine and unit flags provided, please specify only one.")
			}
			if len(c.args) == 0 && !c.given("machine") && !c.given("unit") {
				return refuse("Unable to proceed: one machine or unit must be provided")
			}
			if err := c.connect(ctx); err != nil {
				return err
			}
			id, command, err := c.which(ctx)
			if err != nil {
				return refuse("Unable to proceed: %w", plain(err))
			}
			if id == "" {
				return refuse("Unable to proceed: could not find matching unit or machine")
			}
			return c.shell(ctx, id, strings.Join(command, " "))
		},
	}
}

// which finds the machine that is meant; "" if there is none.
func (c *call) which(ctx context.Context) (id string, command []string, err error) {
	switch {
	case c.given("machine"):
		id, err = c.machineLike(ctx, c.text("machine"))
		return id, c.args, err
	case c.given("unit"):
		id, err = c.machineOf(ctx, c.text("unit"))
		return id, c.args, err
	}
	id, err = c.machineLike(ctx, c.args[0])
	if err != nil {
		return "", nil, err
	}
	other, err := c.machineOf(ctx, c.args[0])
	switch {
	case err != nil:
		return "", nil, err
	case id != "" && other != "":
		return "", nil, fmt.Errorf("ambiguous argument, both machine and unit found for `%s`.\nPlease use flag `-m` or `-u` to refine the search", c.args[0])
	case id == "":
		id = other
	}
	return id, c.args[1:], nil
}

// machineLike finds the one machine whose ID begins so.
func (c *call) machineLike(ctx context.Context, prefix string) (found string, err error) {
	machines, err := c.machines(ctx)
	if err != nil {
		return "", err
	}
	for _, m := range machines {
		switch {
		case m.ID == prefix:
			return m.ID, nil
		case !strings.HasPrefix(m.ID, prefix):
		case found != "":
			return "", fmt.Errorf("found more than one machine whose ID begins with %s: give more of it", prefix)
		default:
			found = m.ID
		}
	}
	return found, nil
}

func (c *call) machineOf(ctx context.Context, name string) (string, error) {
	u, err := c.cluster.Get(ctx, unit.Mangle(name))
	var refused *client.UnitError
	if errors.As(err, &refused) && refused.Status == 400 {
		return "", nil // it cannot be the name of a unit
	}
	if err != nil || u == nil || u.Global() {
		return "", err
	}
	return u.MachineID, nil
}

func (c *call) shell(ctx context.Context, id, command string) error {
	s, err := c.sshOptions(c.yes("forward-agent"))
	if err != nil {
		return refuse("Unable to proceed: %w", err)
	}
	ip := c.ip(ctx, id)
	if ip == "" {
		return refuse("Unable to proceed: the address of machine %s is not known", client.ShortID(id))
	}
	status, err := c.SSH(ctx, s, c.address(ip), &tool.Process{Args: []string{command}, In: c.In, Out: c.Out, Err: c.Err})
	if err != nil {
		return refuse("Failed building SSH client: %w", err)
	}
	return ended(status)
}

func (c *call) address(ip string) string {
	return net.JoinHostPort(ip, strconv.Itoa(c.number("ssh-port")))
}

// sshOptions say how machines are reached.
func (c *call) sshOptions(forward bool) (tool.SSH, error) {
	if c.SSH == nil {
		return tool.SSH{}, errors.New("SSH is not possible here")
	}
	return tool.SSH{
		User: c.text("ssh-username"), Timeout: c.duration("ssh-timeout"), Strict: c.yes("strict-host-key-checking"),
		KnownHosts: c.text("known-hosts-file"), ForwardAgent: forward, Tunnel: c.text("tunnel"),
	}, nil
}

// onMachine runs a command of the shell on a machine: this one, or another by SSH. It
// gives the exit status.
func (c *call) onMachine(ctx context.Context, id, command string) (int, error) {
	return c.onMachineTo(ctx, id, command, c.Out)
}

func (c *call) onMachineTo(ctx context.Context, id, command string, out io.Writer) (int, error) {
	if c.here(id) {
		return c.locally(ctx, command, out)
	}
	s, err := c.sshOptions(false)
	if err != nil {
		return 0, err
	}
	ip := c.ip(ctx, id)
	if ip == "" {
		return 0, fmt.Errorf("the address of machine %s is not known", client.ShortID(id))
	}
	return c.SSH(ctx, s, c.address(ip), &tool.Process{Args: []string{command}, Out: out, Err: c.Err})
}

// here tells whether a machine is this one.
func (c *call) here(id string) bool {
	if c.ReadFile == nil {
		return false
	}
	text, err := c.ReadFile("/etc/machine-id")
	return err == nil && strings.TrimSpace(string(text)) == id
}

func (c *call) locally(ctx context.Context, command string, out io.Writer) (int, error) {
	if c.Run == nil {
		return 0, errors.New("programs cannot be run here")
	}
	p := &tool.Process{Args: []string{"sh", "-c", command}, Out: out, Err: c.Err}
	if c.Environ != nil {
		p.Env = c.Environ()
	}
	err := c.Run(ctx, p)
	return p.Status, err
}

// quoted makes a word of the shell.
func quoted(s string) string {
	plain := strings.IndexFunc(s, func(r rune) bool {
		return !strings.ContainsRune("@%+=:,./_-", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0
	if plain && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
