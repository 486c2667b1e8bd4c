package units

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/unit"
)

func rolloutCommand() *cli.Command {
	return &cli.Command{
		Name:  "rollout",
		Usage: "restart, replace or scale the instances of a template, few at a time",
		Description: "Goes on to the next instances only once systemd has had the last ones running for a while, and\n" +
			"stops at the first that is not well, saying what was done. It may be run again: what has the\n" +
			"wanted contents already is not replaced once more.",
		Commands: []*cli.Command{rolloutRestart(), rolloutReplace(), rolloutScale()},
		Action: func(ctx context.Context, c *cli.Command) error {
			if word := c.Args().First(); word != "" {
				return usage(c, fmt.Sprintf("unknown command %q: want restart, replace or scale", word))
			}
			t := tool.From(ctx)
			_, err := fmt.Fprint(t.Out, tool.Help(c, "keelson", t.Version))
			return err
		},
	}
}

func rolloutFlags() []cli.Flag {
	return flags(
		&cli.IntFlag{Name: "max-unavailable", Value: 1, Usage: "how many instances may be down at once, `N`"},
		&cli.DurationFlag{Name: "healthy-for", Value: 5 * time.Second, Usage: "how long instances have to run before the next ones"},
		&cli.DurationFlag{Name: "timeout", Value: 5 * time.Minute, Usage: "how long they may take until they have"},
	)
}

func rolloutRestart() *cli.Command {
	return &cli.Command{
		Name:        "restart",
		Usage:       "restart the instances that are launched",
		ArgsUsage:   "TEMPLATE",
		Description: "Each is restarted by systemd where it is.",
		Flags:       rolloutFlags(),
		Action: with(1, 1, func(ctx context.Context, s *session) error {
			list, err := s.instances(ctx, s.c.Args().First())
			if err != nil {
				return err
			}
			var steps []step
			for _, u := range list {
				switch {
				case u.DesiredState != string(unit.Launched):
				case u.MachineID == "":
					fmt.Fprintf(s.t.Err, "keelson rollout: %s is on no machine: left out\n", u.Name)
				default:
					steps = append(steps, step{unit: u.Name, verb: "restarted", hash: u.File().Hash().String(), do: s.restart(u.Name)})
				}
			}
			return s.roll(ctx, steps)
		}),
	}
}

// restart has systemd restart a unit.
func (s *session) restart(name string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		result, err := s.units.Restart(ctx, name, "", s.c.Duration("timeout"))
		if err != nil {
			return err
		}
		if !client.GoodResult(result) {
			return fmt.Errorf("systemd says %s", result)
		}
		return nil
	}
}

func rolloutReplace() *cli.Command {
	return &cli.Command{
		Name:      "replace",
		Usage:     "give a template and its instances the contents of a file",
		ArgsUsage: "FILE",
		Description: "The file is named like the template, such as web@.service. The template comes first, so that new\n" +
			"instances have the new contents, then the instances, each where it is. Those that are not\n" +
			"launched, or on no machine, are replaced without waiting.",
		Flags: rolloutFlags(),
		Action: with(1, 1, func(ctx context.Context, s *session) error {
			files, err := s.readFiles(s.c.Args().Slice())
			if err != nil {
				return err
			}
			template := files[0]
			list, err := s.instances(ctx, template.Unit)
			if err != nil {
				return err
			}
			if err := s.replaceTemplate(ctx, template); err != nil {
				return err
			}
			var steps []step
			for _, u := range list {
				if u.File().Equal(template.file) {
					continue
				}
				steps = append(steps, s.replacement(&u, template.file))
			}
			return s.roll(ctx, steps)
		}),
	}
}

func (s *session) replaceTemplate(ctx context.Context, t file) error {
	known, err := s.units.Get(ctx, t.Unit)
	if err != nil || known != nil && known.File().Equal(t.file) {
		return err
	}
	if err := s.units.Put(ctx, &client.Unit{Name: t.Unit, DesiredState: string(unit.Inactive), Options: client.UnitOptions(t.file)}); err != nil {
		return named(t.Unit, err)
	}
	if !s.json {
		s.say("%s replaced", t.Unit)
	}
	return nil
}

func (s *session) replacement(u *client.Unit, f *unit.File) step {
	next := &client.Unit{Name: u.Name, DesiredState: u.DesiredState, Options: client.UnitOptions(f)}
	one := step{unit: u.Name, verb: "replaced", do: func(ctx context.Context) error { return s.units.Put(ctx, next) }}
	one.hash, one.free = f.Hash().String(), u.DesiredState != string(unit.Launched) || u.MachineID == ""
	return one
}

func rolloutScale() *cli.Command {
	return &cli.Command{
		Name:      "scale",
		Usage:     "have the instances 1 to N of a template run, and no higher ones",
		ArgsUsage: "TEMPLATE N",
		Description: "Missing ones are made of the template and started, those that are not launched are started, and\n" +
			"higher ones are destroyed. Instances that are not named by a number are left alone.",
		Flags: rolloutFlags(),
		Action: with(2, 2, func(ctx context.Context, s *session) error {
			n, err := strconv.Atoi(s.c.Args().Get(1))
			if err != nil || n < 0 || n > instancesMax {
				return usage(s.c, fmt.Sprintf("%s: want the number of instances", s.c.Args().Get(1)))
			}
			template := unit.Mangle(s.c.Args().First())
			known, err := s.units.Get(ctx, template)
			if err != nil {
				return err
			}
			if known == nil {
				return fmt.Errorf("the cluster knows no template %s: see \"fleetctl submit\"", template)
			}
			list, err := s.instances(ctx, template)
			if err != nil {
				return err
			}
			return s.roll(ctx, s.scaling(known, list, n))
		}),
	}
}

// instancesMax bounds what a slip of the finger can do.
const instancesMax = 100_000

// scaling lists the steps from the instances that there are to those that are wanted:
// first those to start, then those to destroy, from the highest down.
func (s *session) scaling(template *client.Unit, have []client.Unit, n int) (steps []step) {
	byNumber := map[int]*client.Unit{}
	for i := range have {
		if number, ok := numberOf(have[i].Name); ok {
			byNumber[number] = &have[i]
		}
	}
	for number := 1; number <= n; number++ {
		u := byNumber[number]
		if u != nil && u.DesiredState == string(unit.Launched) {
			continue
		}
		next := &client.Unit{DesiredState: string(unit.Launched)}
		file := template.File()
		if u != nil {
			next.Name, file = u.Name, u.File()
		} else {
			next.Name, next.Options = instance(template.Name, number), template.Options
		}
		steps = append(steps, step{
			unit: next.Name, verb: "started", hash: file.Hash().String(),
			do: func(ctx context.Context) error { return s.units.Put(ctx, next) },
		})
	}
	for i := len(have) - 1; i >= 0; i-- {
		name := have[i].Name
		if number, ok := numberOf(name); ok && number > n {
			steps = append(steps, step{
				unit: name, verb: "destroyed", free: true,
				do: func(ctx context.Context) error { return s.units.Delete(ctx, name) },
			})
		}
	}
	return steps
}

// numberOf gives the number that an instance is named by.
func numberOf(name string) (int, bool) {
	text := unit.Split(name).Instance
	n, err := strconv.Atoi(text)
	return n, err == nil && n > 0 && strconv.Itoa(n) == text
}

func instance(template string, number int) string {
	return strings.Replace(template, "@", "@"+strconv.Itoa(number), 1)
}

// instances gives the instances of a template, numbers in their order.
func (s *session) instances(ctx context.Context, arg string) (list []client.Unit, err error) {
	template := unit.Mangle(path.Base(arg))
	if !unit.Split(template).IsTemplate() {
		return nil, fmt.Errorf("%s is no template: want a name such as web@", template)
	}
	all, err := s.units.List(ctx, false)
	if err != nil {
		return nil, err
	}
	for _, u := range all {
		if unit.Split(u.Name).Template() == template {
			list = append(list, u)
		}
	}
	slices.SortStableFunc(list, func(a, b client.Unit) int {
		x, isX := numberOf(a.Name)
		y, isY := numberOf(b.Name)
		if isX && isY {
			return cmp.Compare(x, y)
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return list, nil
}

// step is what is done to one instance.
type step struct {
	unit string
	verb string // as what was done is told
	hash string // of the file that must run afterwards
	free bool   // nobody waits for its health
	do   func(ctx context.Context) error
}

// rollReport is how far a rollout came.
type rollReport struct {
	Done     []string `json:"done"`
	Failed   string   `json:"failed,omitempty"`
	Why      string   `json:"why,omitempty"`
	Begun    []string `json:"begun,omitempty"` // and not known to be well
	NotBegun []string `json:"notBegun,omitempty"`
}

// roll does the steps, some at a time, and stops at the first instance that is not well.
func (s *session) roll(ctx context.Context, steps []step) error {
	size := s.c.Int("max-unavailable")
	if size < 1 {
		return usage(s.c, "--max-unavailable: want 1 or more")
	}
	r := &rollReport{Done: []string{}}
	var err error
	for len(steps) > 0 && err == nil {
		batch := steps[:min(size, len(steps))]
		steps = steps[len(batch):]
		err = s.batch(ctx, batch, r)
	}
	for _, st := range steps {
		r.NotBegun = append(r.NotBegun, st.unit)
	}
	return s.rolled(r, err)
}

// batch does some steps and waits until all of them are well.
func (s *session) batch(ctx context.Context, batch []step, r *rollReport) error {
	var gated []step
	for i, st := range batch {
		if err := st.do(ctx); err != nil {
			for _, before := range gated {
				r.Begun = append(r.Begun, before.unit)
			}
			for _, later := range batch[i+1:] {
				r.NotBegun = append(r.NotBegun, later.unit)
			}
			return &unwell{st.unit, err}
		}
		if st.free {
			s.stepDone(ctx, st, "", r)
		} else {
			gated = append(gated, st)
		}
	}
	return s.healthy(ctx, gated, r)
}

// unwell is the instance that ends a rollout.
type unwell struct {
	unit string
	err  error
}

func (e *unwell) Error() string { return e.unit + ": " + e.err.Error() }
func (e *unwell) Unwrap() error { return e.err }

// healthy waits until systemd has had all instances running for long enough.
func (s *session) healthy(ctx context.Context, batch []step, r *rollReport) error {
	since := map[string]time.Duration{} // when each was seen to run
	index := map[string]uint64{}        // of what was seen then: one that crashed and was restarted has another
	enough, limit := s.c.Duration("healthy-for"), s.c.Duration("timeout")
	inTime, err := s.until(ctx, limit, func(passed time.Duration) (bool, error) {
		var open []step
		for _, st := range batch {
			on, at, err := s.runs(ctx, st)
			if err != nil {
				return false, err
			}
			first, seen := since[st.unit]
			switch {
			case on == "":
				delete(since, st.unit)
			case !seen || index[st.unit] != at:
				since[st.unit], index[st.unit], first = passed, at, passed
			}
			if on == "" || passed-first < enough {
				open = append(open, st)
				continue
			}
			s.stepDone(ctx, st, on, r)
		}
		if batch = open; len(batch) > 0 {
			s.progress("%d s: %s is not yet known to be well, %d done", int(passed/time.Second), batch[0].unit, len(r.Done))
		}
		return len(batch) == 0, nil
	})
	s.quiet()
	if err == nil && !inTime {
		err = &unwell{batch[0].unit, fmt.Errorf("it has not been running for %v within %v", enough, limit)}
	}
	var bad *unwell
	for _, st := range batch {
		if errors.As(err, &bad) && st.unit != bad.unit && !slices.Contains(r.Done, st.unit) {
			r.Begun = append(r.Begun, st.unit)
		}
	}
	return err
}

// runs tells on which machine an instance runs with the wanted contents, "" is on none yet,
// and the index of what that machine says. An instance that cannot come to it is an error.
func (s *session) runs(ctx context.Context, st step) (machine string, index uint64, err error) {
	u, err := s.units.Get(ctx, st.unit)
	if err != nil {
		return "", 0, err
	}
	if u == nil {
		return "", 0, &unwell{st.unit, errors.New("it was destroyed meanwhile")}
	}
	states, err := s.units.States(ctx, client.StateFilter{Name: st.unit, MachineID: u.MachineID, Details: true})
	if err != nil || u.MachineID == "" || len(states) == 0 || states[0].Hash != st.hash {
		return "", 0, err
	}
	done, err := states[0].Started()
	var failed *client.StartError
	switch {
	case errors.As(err, &failed):
		return "", 0, &unwell{st.unit, errors.New(failed.Why)}
	case !done || states[0].ActiveState != "active" || u.CurrentState != string(unit.Launched):
		return "", 0, err
	}
	return u.MachineID, states[0].Modified, nil
}

func (s *session) stepDone(ctx context.Context, st step, machine string, r *rollReport) {
	r.Done = append(r.Done, st.unit)
	if s.json {
		return
	}
	s.quiet()
	if machine == "" {
		s.say("%s %s", st.unit, st.verb)
		return
	}
	s.say("%s %s, runs on %s", st.unit, st.verb, s.place(ctx, machine))
}

// rolled tells how far it came.
func (s *session) rolled(r *rollReport, err error) error {
	var bad *unwell
	if errors.As(err, &bad) {
		r.Failed, r.Why = bad.unit, inWords(bad.err)
	}
	if s.json {
		if err := s.printJSON(r); err != nil {
			return err
		}
	}
	if bad == nil {
		if err == nil && !s.json {
			s.say("%d done", len(r.Done))
		}
		return err
	}
	text := fmt.Sprintf("keelson rollout: stopped at %s: %s\n%d done%s\n", r.Failed, r.Why, len(r.Done), after(r.Done))
	if len(r.Begun) > 0 {
		text += fmt.Sprintf("%d begun, and not known to be well%s\n", len(r.Begun), after(r.Begun))
	}
	if len(r.NotBegun) > 0 {
		text += fmt.Sprintf("%d not begun%s\n", len(r.NotBegun), after(r.NotBegun))
	}
	return &tool.Exit{Status: exitFailed, Text: text, Err: err}
}

// inWords gives a server's refusal without the original's mark.
func inWords(err error) string {
	var refused *client.UnitError
	if errors.As(err, &refused) && refused.Message != "" {
		return refused.Message
	}
	return strings.TrimSpace(err.Error())
}

func after(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ": " + listed(names)
}

// listed shows names, the first of many.
func listed(names []string) string {
	const shown = 10
	if len(names) > shown {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], " "), len(names)-shown)
	}
	return strings.Join(names, " ")
}
