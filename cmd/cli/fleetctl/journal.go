package fleetctl

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/unit"
)

func journalVerb() *verb {
	return &verb{
		name: "journal", args: "UNIT", summary: "Print what a unit has said",
		help:  "Print the journal of a unit from its machine: through the API where the server knows how, by SSH\notherwise. --output takes what journalctl does: short, cat, json, …",
		flags: []string{"lines", "follow", "output", "sudo", "ssh-port"},
		run: func(ctx context.Context, c *call) error {
			if c.number("lines") < 0 {
				return refuse("--lines=%s: want 0 or more", c.text("lines"))
			}
			u, name, err := c.one(ctx, "One unit file must be provided.")
			switch {
			case err != nil:
				return err
			case u == nil:
				return refuse("Unit %s does not exist.", name)
			case u.Global():
				return refuse("Unable to retrieve journal of global unit %s.", name)
			case u.MachineID == "" || unit.State(u.CurrentState) == unit.Inactive:
				return refuse("Unit %s does not appear to be running.", name)
			}
			return c.journal(ctx, name, u.MachineID)
		},
	}
}

func (c *call) journal(ctx context.Context, name, machine string) error {
	format := c.text("output")
	if format == "" {
		format = "short"
	}
	if api := c.api(); api != nil {
		o := client.JournalOptions{MachineID: machine, Lines: c.number("lines"), Follow: c.yes("follow"), Output: format}
		lines, err := api.Journal(ctx, name, o)
		if err == nil {
			return c.copyOut(ctx, lines)
		}
		if !errors.Is(err, client.ErrNoPage) {
			return refuse("Unable to retrieve journal of unit %s: %w", name, plain(err))
		}
	}
	command := fmt.Sprintf("journalctl --unit %s --no-pager -n %d --output %s", quoted(name), c.number("lines"), quoted(format))
	if c.yes("follow") {
		command += " -f"
	}
	if c.yes("sudo") {
		command = "sudo " + command
	}
	status, err := c.onMachine(ctx, machine, command)
	if err != nil {
		return refuse("Unable to retrieve journal of unit %s: %w", name, err)
	}
	return ended(status)
}

// copyOut prints a stream to its end, or until the user has enough.
func (c *call) copyOut(ctx context.Context, lines io.ReadCloser) error {
	defer lines.Close()
	_, err := io.Copy(c.Out, lines)
	if err != nil && ctx.Err() == nil {
		return refuse("The journal was cut off: %w", err)
	}
	return nil
}

// ended gives the exit status of another program as this one's.
func ended(status int) error {
	if status == 0 {
		return nil
	}
	return &tool.Exit{Status: status}
}
