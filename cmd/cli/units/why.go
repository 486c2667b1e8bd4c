package units

import (
	"context"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/unit"
)

func whyCommand() *cli.Command {
	return &cli.Command{
		Name:      "why",
		Usage:     "say why units are where they are, or nowhere",
		ArgsUsage: "UNIT…",
		Description: "For each unit: the machine it is on, why it is there, how many machines could run it, and\n" +
			"how many cannot for which reason. A machine counts once, under the first reason that rules it out.",
		Flags: flags(),
		Action: with(1, -1, func(ctx context.Context, s *session) error {
			list := []client.Explanation{}
			for _, arg := range s.c.Args().Slice() {
				e, err := s.units.Why(ctx, unit.Mangle(arg))
				if err != nil {
					return named(unit.Mangle(arg), err)
				}
				list = append(list, *e)
			}
			if s.json {
				return s.printJSON(list)
			}
			for i := range list {
				s.showWhy(ctx, &list[i])
			}
			return nil
		}),
	}
}

func (s *session) showWhy(ctx context.Context, e *client.Explanation) {
	s.say("%s: on %s: %s", e.Name, s.place(ctx, e.MachineID), e.Why)
	if e.Able > 0 || len(e.Refusals) > 0 { // else none was asked
		s.say("    %s could run it", plural(e.Able, "machine"))
	}
	s.showRefusals(e)
}
