package units

import (
	"context"

	"github.com/urfave/cli/v3"
)

func rebalanceCommand() *cli.Command {
	return &cli.Command{
		Name:  "rebalance",
		Usage: "move units to machines that have fewer",
		Description: "Units stay where they are when machines join or come back. This moves as few of them as it\n" +
			"takes to even out, each to a machine that may run it. A unit that moves is stopped, then started.",
		Flags: flags(
			&cli.BoolFlag{Name: "dry-run", Usage: "only tell what would move"},
			&cli.IntFlag{Name: "budget", Usage: "how many units may move, `N`; 0 is as many as it takes"},
		),
		Action: with(0, 0, func(ctx context.Context, s *session) error {
			if s.c.Int("budget") < 0 {
				return usage(s.c, "--budget: want 0 or more")
			}
			moves, err := s.units.Rebalance(ctx, s.c.Int("budget"), s.c.Bool("dry-run"))
			if err != nil {
				return err
			}
			if s.json {
				return s.printJSON(moves)
			}
			s.showMoves(ctx, moves)
			if len(moves.Moves) == 0 {
				s.say("nothing to move")
			}
			return nil
		}),
	}
}
