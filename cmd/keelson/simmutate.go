package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/planted"
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
			&cli.IntFlag{Name: "slack", Usage: "times its class's budget that a search may take: the budgets are those of a processor that does nothing else", Value: 1},
			&cli.IntFlag{Name: "control", Usage: "seeds that must pass without a bug first", Value: 200},
			&cli.IntFlag{Name: "jobs", Usage: "worlds at once (default: one for each processor)"},
		},
		Action: func(_ context.Context, c *cli.Command) error {
			list := chosen(c)
			if len(list) == 0 {
				return &usageError{fmt.Errorf("no bug is of class %q or number %q", c.String("class"), c.String("bug"))}
			}
			if !planted.Built {
				return errors.New("this build carries no planted bugs: build with -tags planted")
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
	control := c.Int("control")
	if err := mutation.Sound(1, control, jobs); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d seeds pass without a planted bug.\n\n", control)
	fmt.Fprintln(out, "| # | bug | class | found | by | runs | CPU seconds | fastest and slowest | a seed |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|---|")
	missed := 0
	for _, m := range list {
		var all []*mutation.Trial
		budget := m.Class.Budget() * time.Duration(max(1, c.Int("slack")))
		for i := range trials {
			t, err := mutation.Search(m, 1+uint64(i)*1_000_000, jobs, budget)
			if err != nil {
				return err
			}
			all = append(all, t)
		}
		if !mutation.Median(all).Found {
			missed++
		}
		fmt.Fprintln(out, mutantRow(m, all, budget))
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d planted bugs were not found", missed, len(list))
	}
	return nil
}

// mutantRow sums the trials of one bug up: the median's figures, and by which
// oracles all were found.
func mutantRow(m mutation.Mutant, all []*mutation.Trial, budget time.Duration) string {
	found := 0
	by := map[string]int{}
	least, most := all[0].CPU, all[0].CPU
	for _, t := range all {
		least, most = min(least, t.CPU), max(most, t.CPU)
		if t.Found {
			found++
			by[t.Oracle]++
		}
	}
	t := mutation.Median(all)
	var oracles []string
	for _, o := range slices.Sorted(maps.Keys(by)) {
		oracles = append(oracles, fmt.Sprintf("%s ×%d", o, by[o]))
	}
	how := strings.Join(oracles, ", ")
	if !t.Found {
		how = fmt.Sprintf("NOT FOUND within %v %s, others: %v", budget, how, t.Others)
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()) }
	return fmt.Sprintf("| %d | %s | %c | %d of %d | %s | %d | %s | %s, %s | %d |",
		m.Bug, m.Name, m.Class, found, len(all), how, t.Runs, seconds(t.CPU), seconds(least), seconds(most), t.Seed)
}
