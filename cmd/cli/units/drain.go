package units

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

func cordonCommand() *cli.Command {
	return &cli.Command{
		Name:        "cordon",
		Usage:       "have a machine take no new units",
		ArgsUsage:   "MACHINE",
		Description: "What runs there goes on. The machine is named by its ID, what its ID begins with, its name or its address.",
		Flags:       flags(),
		Action: with(1, 1, func(ctx context.Context, s *session) error {
			m, err := s.machine(ctx, s.c.Args().First())
			if err != nil {
				return err
			}
			if _, err := s.units.Cordon(ctx, m.ID, false); err != nil {
				return err
			}
			return s.cordoned(ctx, m, "cordoned", "takes no new units")
		}),
	}
}

func uncordonCommand() *cli.Command {
	return &cli.Command{
		Name:        "uncordon",
		Usage:       "have a machine take units again",
		ArgsUsage:   "MACHINE",
		Description: "Ends cordon and drain. Nothing moves back by itself: see keelson rebalance.",
		Flags:       flags(),
		Action: with(1, 1, func(ctx context.Context, s *session) error {
			m, err := s.machine(ctx, s.c.Args().First())
			if err != nil {
				return err
			}
			if err := s.units.Uncordon(ctx, m.ID); err != nil {
				return err
			}
			return s.cordoned(ctx, m, "", "takes units again")
		}),
	}
}

func (s *session) cordoned(ctx context.Context, m *client.Machine, state, text string) error {
	if s.json {
		return s.printJSON(map[string]string{"machineID": m.ID, "cordon": state})
	}
	s.say("%s %s", s.place(ctx, m.ID), text)
	return nil
}

func drainCommand() *cli.Command {
	return &cli.Command{
		Name:      "drain",
		Usage:     "move the units of a machine elsewhere, and have it take no new ones",
		ArgsUsage: "MACHINE",
		Description: "Tells first which units move, and which cannot and why, then waits until those that can have\n" +
			"left. Global units stay. The exit status is 1 if a unit cannot move, or has not left in time;\n" +
			"the machine stays drained until keelson uncordon, and what cannot move now leaves when it can.",
		Flags: flags(
			&cli.BoolFlag{Name: "no-block", Usage: "do not wait until the units have left"},
			&cli.DurationFlag{Name: "timeout", Value: 5 * time.Minute, Usage: "how long to wait until they have"},
		),
		Action: with(1, 1, func(ctx context.Context, s *session) error {
			m, err := s.machine(ctx, s.c.Args().First())
			if err != nil {
				return err
			}
			moves, err := s.units.Cordon(ctx, m.ID, true)
			if err != nil {
				return err
			}
			left, err := s.drained(ctx, m.ID, moves)
			if err != nil {
				return err
			}
			return s.drainEnd(ctx, m, moves, left)
		}),
	}
}

// drainReport is the end of a drain.
type drainReport struct {
	MachineID string `json:"machineID"`
	client.Moves
	Left []string `json:"left,omitempty"` // units that could have left, and have not
}

// drained waits until the units that can move have left the machine, and gives those that
// have not in time.
func (s *session) drained(ctx context.Context, machine string, moves *client.Moves) (left []string, err error) {
	if !s.json {
		s.showMoves(ctx, moves)
	}
	for _, m := range moves.Moves {
		if m.From == machine {
			left = append(left, m.Unit)
		}
	}
	if s.c.Bool("no-block") || len(left) == 0 {
		return nil, nil
	}
	_, err = s.until(ctx, s.c.Duration("timeout"), func(passed time.Duration) (bool, error) {
		all, err := s.units.States(ctx, client.StateFilter{MachineID: machine})
		if err != nil {
			return false, err
		}
		left = slices.DeleteFunc(left, func(name string) bool {
			return !slices.ContainsFunc(all, func(st client.UnitState) bool { return st.Name == name })
		})
		s.progress("%d s: %s to go", int(passed/time.Second), plural(len(left), "unit"))
		return len(left) == 0, nil
	})
	s.quiet()
	return left, err
}

func (s *session) drainEnd(ctx context.Context, m *client.Machine, moves *client.Moves, left []string) error {
	if s.json {
		if err := s.printJSON(drainReport{m.ID, *moves, left}); err != nil {
			return err
		}
	}
	text := ""
	if n := len(moves.Stay); n > 0 {
		text += fmt.Sprintf("keelson drain: %s cannot leave %s\n", plural(n, "unit"), s.place(ctx, m.ID))
	}
	if len(left) > 0 {
		text += fmt.Sprintf("keelson drain: not gone after %v: %s\n", s.c.Duration("timeout"), listed(left))
	}
	if text != "" {
		return &tool.Exit{Status: exitFailed, Text: text}
	}
	if !s.json && !s.c.Bool("no-block") {
		s.say("%s is drained", s.place(ctx, m.ID))
	}
	return nil
}

// until looks, and looks again after each change, until look says it is done or the time
// is over.
func (s *session) until(ctx context.Context, limit time.Duration, look func(passed time.Duration) (done bool, err error)) (inTime bool, err error) {
	const each = 2 * time.Second // looked again, even if nobody says that something has changed
	changes := s.units.Changes(true)
	defer changes.Close()
	began := s.all.Now()
	var outage client.Outage
	for {
		passed := s.all.Now() - began
		done, err := look(passed)
		switch {
		case done && err == nil:
			return true, nil
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case !outage.Bear(s.all.Now(), err):
			return false, err
		}
		if passed >= limit {
			return false, nil
		}
		if err := changes.Wait(ctx, min(each, limit-passed)); err != nil {
			return false, err
		}
	}
}
