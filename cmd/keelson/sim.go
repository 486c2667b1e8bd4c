package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/linearizability"
	"github.com/keelson/keelson/scenarios"
	"github.com/keelson/keelson/scenarios/chaos"
	"github.com/keelson/keelson/scenarios/script"
	"github.com/keelson/keelson/sim"
)

// simCommand holds the verbs of the simulator. Each of them begins by making the
// process deterministic, which no other command may ever do: it swaps the
// reader that keys and nonces come from for a constant.
func simCommand() *cli.Command {
	return &cli.Command{
		Name:  "sim",
		Usage: "run clusters in the simulator",
		Description: "Everything here happens in virtual time inside this process. A seed decides all: the cluster,\n" +
			"the clients, the faults and every delay. The same seed gives the same run, to the byte.",
		Flags: []cli.Flag{&cli.IntFlag{Name: "plant", Usage: "switch the planted bug of this number on (builds with -tags planted; see docs/mutation.md)"}},
		Before: func(ctx context.Context, c *cli.Command) (context.Context, error) {
			sim.Deterministic()
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(simGarbage)
			}
			if b := planted.Bug(c.Int("plant")); b != planted.None && !planted.Plant(b) {
				return ctx, &usageError{fmt.Errorf("--plant %d: this build carries no planted bugs: build with -tags planted", b)}
			}
			return ctx, nil
		},
		Commands: []*cli.Command{simRun(), simReplay(), simSwarm(), simShrink(), simBench(), simMutate()},
		Action: func(_ context.Context, c *cli.Command) error {
			if word := c.Args().First(); word != "" {
				return &usageError{fmt.Errorf("unknown command %q: see keelson sim --help", word)}
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

// simGarbage is the collector's setting, in percent, for the verbs of the
// simulator. Worlds are small and die young: a third less processor time than
// with Go's own setting, for some tens of megabytes.
const simGarbage = 400

// drawnFlags choose what a seed would otherwise draw.
func drawnFlags() []cli.Flag {
	return []cli.Flag{
		&cli.DurationFlag{Name: "duration", Usage: "virtual time of trouble; the calm after it adds about half as much", Value: 40 * time.Second},
		&cli.IntFlag{Name: "machines", Usage: "machines of the cluster, 1 to 9 (default: drawn)"},
		&cli.FloatFlag{Name: "rate", Usage: "operations in a virtual second, of all clients together", Value: 20},
		&cli.StringFlag{Name: "families", Usage: "comma list of fault families, or none (default: drawn): " + strings.Join(chaos.FamilyNames(), ",")},
		&cli.StringFlag{Name: "workloads", Usage: "comma list of workloads (default: drawn): " + strings.Join(chaos.WorkloadNames(), ",")},
	}
}

func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "text or json", Value: "text"}
}

func htmlFlag() cli.Flag {
	return &cli.StringFlag{Name: "html", Usage: "if a key's history has no legal order, write porcupine's picture of it to this `FILE`"}
}

func seedFlag() cli.Flag {
	return &cli.Uint64Flag{Name: "seed", Usage: "the seed", Value: 1}
}

// drawn reads the flags of drawnFlags.
func drawn(c *cli.Command) (chaos.Config, error) {
	f := chaos.Config{Duration: c.Duration("duration"), Machines: c.Int("machines"), Rate: c.Float("rate")}
	if s := c.String("families"); s != "" {
		f.Families = strings.Split(s, ",")
	}
	if s := c.String("workloads"); s != "" {
		f.Workloads = strings.Split(s, ",")
	}
	switch {
	case f.Duration <= 0 || f.Duration > 1000*time.Hour:
		return f, &usageError{fmt.Errorf("--duration %v: want more than 0 and at most 1000h", f.Duration)}
	case !(f.Rate > 0 && f.Rate <= 100_000):
		return f, &usageError{fmt.Errorf("--rate %v: want more than 0 and at most 100000", f.Rate)}
	case c.IsSet("machines") && (f.Machines < 1 || f.Machines > 9):
		return f, &usageError{fmt.Errorf("--machines %d: want 1 to 9", f.Machines)}
	}
	if o := c.String("output"); o != "" && o != "text" && o != "json" {
		return f, &usageError{fmt.Errorf("--output %s: want text or json", o)}
	}
	return f, nil
}

func simRun() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "run one seed, or the scenario of a file",
		ArgsUsage: "[FILE]",
		Flags: append([]cli.Flag{
			seedFlag(), outputFlag(), htmlFlag(),
			&cli.StringFlag{Name: "trace", Usage: "write every event to this `FILE`"},
			&cli.BoolFlag{Name: "log", Usage: "show the log of the simulated machines on standard error"},
			&cli.BoolFlag{Name: "plan", Usage: "print the plan of faults before the verdict"},
			&cli.BoolFlag{Name: "rewrite", Usage: "write the outputs of a scenario back to its file"},
		}, drawnFlags()...),
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return runScenario(c, c.Args().First())
			}
			f, err := drawn(c)
			if err != nil {
				return err
			}
			f.Seed = c.Uint64("seed")
			return runCase(c, f)
		},
	}
}

func runScenario(c *cli.Command, name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	f, err := script.Parse(name, string(text))
	if err != nil {
		return err
	}
	before, start := f.String(), time.Now()
	res := scenarios.Run(f)
	out := c.Root().Writer
	if after := res.File.String(); after != before {
		if c.Bool("rewrite") {
			if err := os.WriteFile(name, []byte(after), 0o644); err != nil {
				return err
			}
		} else if res.Err == nil {
			res.Err = fmt.Errorf("%s shows other outputs than the run; keelson sim run --rewrite %s writes those of the run:\n%s", name, name, firstDifference(before, after))
		}
	}
	verdict := "passed"
	if res.Err != nil {
		verdict = "FAILED"
	}
	fmt.Fprintf(out, "%s\n%s: %v virtual in %v\ntrace hash %016x\n", f.Title, verdict, res.Virtual.Round(time.Millisecond), time.Since(start).Round(time.Millisecond), res.Hash)
	return res.Err
}

func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			return fmt.Sprintf("line %d: file ends, run shows %q", i+1, b[i])
		case i >= len(b):
			return fmt.Sprintf("line %d: file shows %q, run ends", i+1, a[i])
		case a[i] != b[i]:
			return fmt.Sprintf("line %d: file shows %q, run shows %q", i+1, a[i], b[i])
		}
	}
	return ""
}

// runCase runs one configuration and shows its verdict.
func runCase(c *cli.Command, f chaos.Config) error {
	if c.Bool("log") {
		f.Log = c.Root().ErrWriter
	}
	if name := c.String("trace"); name != "" {
		file, err := os.Create(name)
		if err != nil {
			return err
		}
		defer file.Close()
		f.Trace = file
	}
	v, err := chaos.Run(f)
	if err != nil {
		return &usageError{err}
	}
	return showVerdict(c, v)
}

// showVerdict prints how a run ended; the seed comes first, and after a failure
// the command that repeats it comes last.
func showVerdict(c *cli.Command, v *chaos.Verdict) error {
	out := c.Root().Writer
	if err := draw(c, v); err != nil {
		return err
	}
	if c.String("output") == "json" {
		if err := json.NewEncoder(out).Encode(verdictJSON(c, v)); err != nil {
			return err
		}
	} else {
		if c.Bool("plan") {
			fmt.Fprint(out, v.Config.Plan)
		}
		fmt.Fprint(out, v)
		if !v.OK() {
			fmt.Fprintf(out, "%s\n", repeat(c, v))
		}
	}
	if !v.OK() {
		return &statusError{exitFailed}
	}
	return nil
}

// draw writes the picture that --html asks for.
func draw(c *cli.Command, v *chaos.Verdict) error {
	name := c.String("html")
	if name == "" || v.OK() {
		return nil
	}
	key, found := linearizability.Illegal(v.History)
	if !found {
		fmt.Fprintf(c.Root().ErrWriter, "%s is not written: the history of each key on its own is legal\n", name)
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(linearizability.Visualize(f, v.History, key), f.Close())
}

// repeat is the command that runs a seed again.
func repeat(c *cli.Command, v *chaos.Verdict) string {
	plant := ""
	if n := c.Int("plant"); n != 0 {
		plant = fmt.Sprintf("--plant %d ", n)
	}
	if v.Replay != "" {
		return "keelson sim " + plant + "replay " + v.Replay
	}
	return fmt.Sprintf("keelson sim "+plant+"run --seed %d --duration %v --machines %d --rate %g --families %s --workloads %s",
		v.Seed, v.Config.Duration, v.Config.Machines, v.Config.Rate, orNone(v.Config.Families), strings.Join(v.Config.Workloads, ","))
}

func orNone(families []string) string {
	if len(families) == 0 {
		return "none"
	}
	return strings.Join(families, ",")
}

type verdictDoc struct {
	Seed      uint64   `json:"seed"`
	Passed    bool     `json:"passed"`
	Hash      string   `json:"traceHash"`
	VirtualMS int64    `json:"virtualMs"`
	RealMS    int64    `json:"realMs"`
	Machines  int      `json:"machines"`
	Families  []string `json:"families"`
	Workloads []string `json:"workloads"`
	Faults    int      `json:"faults"`
	Events    uint64   `json:"events"`
	Oracle    string   `json:"oracle,omitempty"`
	Message   string   `json:"message,omitempty"`
	Repeat    string   `json:"repeat"`
}

func verdictJSON(c *cli.Command, v *chaos.Verdict) verdictDoc {
	d := verdictDoc{
		Seed: v.Seed, Passed: v.OK(), Hash: fmt.Sprintf("%016x", v.Hash),
		VirtualMS: v.Virtual.Milliseconds(), RealMS: v.Real.Milliseconds(),
		Machines: v.Config.Machines, Families: v.Config.Families, Workloads: v.Config.Workloads,
		Faults: v.Struck, Events: v.Steps, Repeat: repeat(c, v),
	}
	if v.Failure != nil {
		d.Oracle, d.Message = v.Failure.Oracle, v.Failure.Message
	}
	return d
}

func simReplay() *cli.Command {
	return &cli.Command{
		Name:      "replay",
		Usage:     "run a recorded case again, from its plan and not from the generator",
		ArgsUsage: "FILE",
		Flags:     []cli.Flag{outputFlag(), htmlFlag(), &cli.StringFlag{Name: "expect", Usage: "fail unless the trace hash is this"}},
		Action: func(_ context.Context, c *cli.Command) error {
			f, err := readCase(c)
			if err != nil {
				return err
			}
			v, err := chaos.Run(f)
			if err != nil {
				return err
			}
			v.Replay = c.Args().First()
			if want := c.String("expect"); want != "" && want != fmt.Sprintf("%016x", v.Hash) {
				return fmt.Errorf("%s: trace hash is %016x, not %s: the code or the case has changed since it was recorded", c.Args().First(), v.Hash, want)
			}
			return showVerdict(c, v)
		},
	}
}

func readCase(c *cli.Command) (chaos.Config, error) {
	name := c.Args().First()
	if name == "" {
		return chaos.Config{}, &usageError{fmt.Errorf("the file of a case is missing: keelson sim shrink writes one")}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return chaos.Config{}, err
	}
	k, err := chaos.ParseCase(string(text))
	if err != nil {
		return chaos.Config{}, fmt.Errorf("%s: %w", name, err)
	}
	return k.Config, nil
}

func simSwarm() *cli.Command {
	return &cli.Command{
		Name:  "swarm",
		Usage: "run many seeds",
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "seeds", Usage: "how many", Value: 100},
			&cli.Uint64Flag{Name: "first", Usage: "the first seed", Value: 1},
			&cli.IntFlag{Name: "jobs", Usage: "worlds at once (default: one for each processor)"},
			&cli.DurationFlag{Name: "time", Usage: "begin no run after this much real time"},
			&cli.BoolFlag{Name: "twice", Usage: "run each seed twice and compare the trace hashes"},
			&cli.IntFlag{Name: "failures", Usage: "stop after so many different failures", Value: 5},
			&cli.BoolFlag{Name: "rare", Usage: "list the rare paths that were taken and those that never were"},
			&cli.BoolFlag{Name: "must", Usage: "fail if a rare path was missed that so many seeds must take; it takes 500 to say anything"},
			outputFlag(),
		}, drawnFlags()...),
		Action: func(_ context.Context, c *cli.Command) error {
			f, err := drawn(c)
			if err != nil {
				return err
			}
			f.Seed = c.Uint64("first")
			s := &chaos.Swarm{Config: f, Seeds: c.Int("seeds"), Time: c.Duration("time"), Jobs: c.Int("jobs"), Twice: c.Bool("twice"), FailuresMax: c.Int("failures")}
			if s.Seeds < 1 {
				return &usageError{fmt.Errorf("--seeds %d: want at least 1", s.Seeds)}
			}
			if s.Jobs < 1 {
				s.Jobs = runtime.GOMAXPROCS(0)
			}
			p := newProgress(c.Root().ErrWriter, s.Seeds)
			s.Progress = p.show
			t, err := s.Run()
			p.end()
			if err != nil {
				return &usageError{err}
			}
			return showTally(c, t)
		},
	}
}

func showTally(c *cli.Command, t *chaos.Tally) error {
	out := c.Root().Writer
	if c.String("output") == "json" {
		doc := struct {
			Runs, Failed, Ops, Changes int
			VirtualSeconds, RealMS     int64
			Failures                   []verdictDoc
		}{t.Runs, t.Failed, t.Ops, t.Changes, int64(t.Virtual.Seconds()), t.Elapsed.Milliseconds(), []verdictDoc{}}
		for _, sig := range t.Signatures() {
			doc.Failures = append(doc.Failures, verdictJSON(c, t.First[sig]))
		}
		if err := json.NewEncoder(out).Encode(doc); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(out, "%d seeds, %d failed; %v virtual in %v, %.0f virtual seconds per second and world\n",
			t.Runs, t.Failed, t.Virtual.Round(time.Second), t.Elapsed.Round(10*time.Millisecond), t.Virtual.Seconds()/max(t.Busy.Seconds(), 1e-9))
		fmt.Fprintf(out, "%d operations (%d of unknown outcome), %d changes, %d watches, %d leaders, %d faults, %d events; %d of %d keys undecided by porcupine\n",
			t.Ops, t.Unknown, t.Changes, t.Watches, t.Leaders, t.Struck, t.Steps, t.Undecided, t.Keys)
		if c.Bool("rare") {
			showRare(out, t)
		}
		for _, sig := range t.Signatures() {
			v := t.First[sig]
			fmt.Fprintf(out, "\n%d × %s, first:\n%v%s\n", t.Count[sig], sig, v, repeat(c, v))
		}
	}
	if t.Failed > 0 {
		return &statusError{exitFailed}
	}
	if must, _ := chaos.Missed(t.Rare); c.Bool("must") && len(must) > 0 {
		return fmt.Errorf("%d runs never reached: %s", t.Runs, strings.Join(must, "; "))
	}
	return nil
}

func showRare(out io.Writer, t *chaos.Tally) {
	var names []string
	for name := range t.Rare.Marks {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(out, "reached %8d × %s\n", t.Rare.Marks[name], name)
	}
	must, may := chaos.Missed(t.Rare)
	for _, name := range may {
		fmt.Fprintf(out, "never reached      %s\n", name)
	}
	for _, name := range must {
		fmt.Fprintf(out, "MUST, not reached  %s\n", name)
	}
	for _, name := range t.Rare.Never() {
		fmt.Fprintf(out, "never forced       %s\n", name)
	}
}

func simShrink() *cli.Command {
	return &cli.Command{
		Name:      "shrink",
		Usage:     "look for a small case that fails like a seed or a case does",
		ArgsUsage: "[FILE]",
		Flags: append([]cli.Flag{
			seedFlag(),
			&cli.DurationFlag{Name: "limit", Usage: "real time to spend", Value: 5 * time.Minute},
			&cli.StringFlag{Name: "out", Usage: "write the case to this `FILE` instead of standard output"},
		}, drawnFlags()...),
		Action: func(_ context.Context, c *cli.Command) error {
			f, err := drawn(c)
			if err == nil && c.Args().Present() {
				f, err = readCase(c)
			} else {
				f.Seed = c.Uint64("seed")
			}
			if err != nil {
				return err
			}
			v, err := chaos.Run(f)
			if err != nil {
				return &usageError{err}
			}
			if v.OK() {
				return fmt.Errorf("seed %d passes: there is nothing to shrink", v.Seed)
			}
			small, err := chaos.Shrink(v, c.Duration("limit"), func(s chaos.Shrinking) {
				fmt.Fprintf(c.Root().ErrWriter, "%d tries: %d faults, %d workloads\n", s.Tries, s.Actions, s.Workloads)
			})
			if err != nil {
				return err
			}
			text := fmt.Sprintf("# %s\n# trace hash %016x\n%s", strings.ReplaceAll(small.Failure.Error(), "\n", "\n# "), small.Hash, small.Case())
			if name := c.String("out"); name != "" {
				return os.WriteFile(name, []byte(text), 0o644)
			}
			_, err = io.WriteString(c.Root().Writer, text)
			return err
		},
	}
}
