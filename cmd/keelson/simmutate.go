package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/scenarios/mutation"
)

func simMutate() *cli.Command {
	return &cli.Command{
		Name:  "mutate",
		Usage: "plant each known bug and show that its oracle finds it (builds with -tags planted)",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "class", Usage: "classes to try: A is found within a minute of one processor, B within ten, C within an hour", Value: "A"},
			&cli.StringFlag{Name: "bug", Usage: "comma list of numbers instead of classes"},
			&cli.IntFlag{Name: "trials", Usage: "searches for each bug, from seeds apart; the median is shown", Value: 1},
			&cli.IntFlag{Name: "jobs", Usage: "worlds at once (default: one for each processor)"},
		},
		Action: func(_ context.Context, c *cli.Command) error {
			list := chosen(c)
			if len(list) == 0 {
				return &usageError{fmt.Errorf("no bug is of class %q or number %q", c.String("class"), c.String("bug"))}
			}
			jobs := c.Int("jobs")
			if jobs < 1 {
				jobs = runtime.GOMAXPROCS(0)
			}
			return mutate(c, list, max(1, c.Int("trials")), jobs)
		},
	}
}

func chosen(c *cli.Command) []mutation.Mutant {
	numbers := strings.Split(c.String("bug"), ",")
	var list []mutation.Mutant
	for _, m := range mutation.Mutants() {
		if c.String("bug") != "" {
			if slices.Contains(numbers, fmt.Sprint(int(m.Bug))) {
				list = append(list, m)
			}
		} else if strings.ContainsRune(c.String("class"), rune(m.Class)) {
			list = append(list, m)
		}
	}
	return list
}

func mutate(c *cli.Command, list []mutation.Mutant, trials, jobs int) error {
	out := c.Root().Writer
	missed := 0
	fmt.Fprintf(out, "| # | bug | class | found by | runs | CPU seconds | last seed |\n|---|---|---|---|---|---|---|\n")
	for _, m := range list {
		var all []*mutation.Trial
		for i := range trials {
			t, err := mutation.Search(m, 1+uint64(i)*1_000_000, jobs)
			if err != nil {
				return err
			}
			all = append(all, t)
		}
		slices.SortFunc(all, func(a, b *mutation.Trial) int { return int(a.CPU - b.CPU) })
		t := all[len(all)/2]
		by := t.Oracle
		if !t.Found {
			missed++
			by = "NOT FOUND within " + m.Class.Budget().String()
			if t.Oracle != "" {
				by += " (but " + t.Oracle + ": " + t.Message + ")"
			}
		}
		fmt.Fprintf(out, "| %d | %s | %c | %s | %d | %.1f | %d |\n", m.Bug, m.Name, m.Class, by, t.Runs, t.CPU.Round(100*time.Millisecond).Seconds(), t.Seed)
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d planted bugs were not found", missed, len(list))
	}
	return nil
}
