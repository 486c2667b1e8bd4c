package fleetctl

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/unit"
)

func statusVerb() *verb {
	return &verb{
		name: "status", args: "UNIT…", summary: "Show what systemctl status says of units",
		help:  "Show what systemctl status says of units on their machines: through the API where the server\nknows how, by SSH otherwise. The exit status is that of systemctl: 3 where the last unit that is not\nwell is not active.",
		flags: []string{"ssh-port", "output"},
		run: func(ctx context.Context, c *call) error {
			if len(c.args) == 0 {
				return c.noUnits()
			}
			if err := c.connect(ctx); err != nil {
				return err
			}
			targets, err := c.targets(ctx, placed)
			if err != nil {
				return err
			}
			s := &statuses{c: c}
			for _, t := range targets {
				if err := s.unit(ctx, t); err != nil {
					return err
				}
			}
			return s.end()
		},
	}
}

// statuses prints one status after the other.
type statuses struct {
	c     *call
	count int
	last  int // the last exit status that is not 0
	said  []statusJSON
}

type statusJSON struct {
	Unit      string `json:"unit"`
	MachineID string `json:"machineID"`
	Status    int    `json:"status"`
	Text      string `json:"text"`
}

func (s *statuses) end() error {
	if s.c.json() {
		if err := s.c.printJSON(append([]statusJSON{}, s.said...)); err != nil {
			return err
		}
	}
	if s.last != 0 {
		return &tool.Exit{Status: s.last}
	}
	return nil
}

func (s *statuses) unit(ctx context.Context, t target) error {
	name := t.name
	u, err := s.c.get(ctx, t)
	switch {
	case err != nil:
		return refuse("Error retrieving Unit %s: %w", name, plain(err))
	case u == nil:
		return refuse("Unit %s does not exist.", name)
	case u.Global():
		return s.global(ctx, name)
	case u.MachineID == "" || unit.State(u.CurrentState) == unit.Inactive:
		return refuse("Unit %s does not appear to be loaded.", name)
	}
	return s.on(ctx, name, u.MachineID)
}

func (s *statuses) global(ctx context.Context, name string) error {
	states, err := s.c.cluster.States(ctx, client.StateFilter{Name: name})
	if err != nil {
		return refuse("Error retrieving Unit %s: %w", name, plain(err))
	}
	if len(states) == 0 {
		return refuse("Unit %s does not appear to be loaded.", name)
	}
	for _, one := range states {
		if err := s.on(ctx, name, one.MachineID); err != nil {
			return err
		}
	}
	return nil
}

func (s *statuses) on(ctx context.Context, name, machine string) error {
	if s.count++; s.count > 1 && !s.c.json() {
		fmt.Fprintln(s.c.Out)
	}
	text, code, err := s.c.status(ctx, name, machine)
	if err != nil {
		return refuse("Unable to get the status of unit %s: %w", name, plain(err))
	}
	if s.c.json() {
		s.said = append(s.said, statusJSON{name, machine, code, string(text)})
	} else if _, err := s.c.Out.Write(text); err != nil {
		return err
	}
	if code != 0 {
		s.last = code
	}
	return nil
}

// status asks a machine's systemd about a unit.
func (c *call) status(ctx context.Context, name, machine string) ([]byte, int, error) {
	if api := c.api(); api != nil {
		text, code, err := api.Status(ctx, name, machine)
		if !errors.Is(err, client.ErrNoPage) {
			return text, code, err
		}
	}
	var out strings.Builder
	code, err := c.onMachineTo(ctx, machine, "systemctl status -l "+quoted(name), &out)
	return []byte(out.String()), code, err
}
