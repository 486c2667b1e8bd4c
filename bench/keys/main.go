// Command keys measures the key-value store against etcd, side by side on this machine.
//
// Reference and candidate run alternately; the figure of a workload is the median
// of the ratios of the rounds. Ratios above 1 are better for throughput and worse
// for all else. It prints a table in Markdown and exits with 1 if a run failed.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Set once in main.
var (
	binary   string // of the candidate
	profiles string // directory for profiles of the candidate; empty for none
)

func main() {
	flag.StringVar(&binary, "binary", "bin/keelson", "the program to measure")
	only := flag.String("only", "", "comma list of workloads, such as K1,K4; empty for all")
	rounds := flag.Int("rounds", 5, "rounds of each workload")
	seconds := flag.Float64("seconds", 2, "length of one run")
	against := flag.String("against", "", "another keelson to measure against, in the place of etcd")
	alone := flag.Bool("alone", false, "leave etcd out: the figures of the candidate stand in for its own")
	flag.StringVar(&profiles, "profiles", "", "directory to put CPU profiles of the candidate's members into")
	full := flag.Bool("full", false, "also the workloads with 1,000,000 keys")
	flag.Parse()
	if *against != "" {
		reference = kind{"reference", func(m *member, initial string) []string {
			return append([]string{*against, "serve"}, flags(m, initial)...)
		}}
	}

	fmt.Printf("| # | workload | figure | keelson | %s | ratio | must | aim | |\n", reference.name)
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	failed := false
	for _, w := range workloads(*full) {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), w.id) {
			continue
		}
		if err := measure(w, *rounds, time.Duration(*seconds*float64(time.Second)), *alone); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", w.id, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

// measure runs one workload in alternating order and prints its lines.
func measure(w workload, rounds int, d time.Duration, alone bool) error {
	if w.fresh {
		rounds = min(rounds, 3)
	}
	runs := map[string][]sample{}
	kinds := []kind{candidate, reference}
	if alone {
		kinds = kinds[:1]
	}
	clusters := map[string]*cluster{}
	defer func() {
		for _, c := range clusters {
			c.stop()
		}
	}()
	for round := range rounds {
		for i := range kinds {
			k := kinds[(i+round)%len(kinds)]
			s, err := once(w, k, clusters, d)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			runs[k.name] = append(runs[k.name], s)
		}
	}
	if alone {
		runs[reference.name] = runs[candidate.name]
	}
	for _, g := range w.goals {
		report(w, g, runs[candidate.name], runs[reference.name])
	}
	return nil
}

func once(w workload, k kind, clusters map[string]*cluster, d time.Duration) (sample, error) {
	c := clusters[k.name]
	if c == nil {
		var err error
		if c, err = startCluster(k, w.members, w.slow); err != nil {
			return sample{}, err
		}
		clusters[k.name] = c
		if w.setup != nil {
			if err := w.setup(c); err != nil {
				return sample{}, err
			}
		}
		if !w.fresh {
			if _, err := w.run(c, d/2); err != nil { // warm-up
				return sample{}, err
			}
		}
	}
	if profiles != "" && k.name == candidate.name {
		defer profile(c, w.id, d)()
	}
	s, err := w.run(c, d)
	if w.fresh {
		c.stop()
		delete(clusters, k.name)
	}
	return s, err
}

// profile has each member record where its time goes for about as long as a run
// lasts, and gives the function that waits for it.
func profile(c *cluster, id string, d time.Duration) (wait func()) {
	var wg sync.WaitGroup
	for _, m := range c.members {
		wg.Go(func() {
			cn := &conn{addr: m.client}
			defer cn.close()
			path := fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(d.Seconds())))
			status, body, err := cn.do(request("GET", path, ""), true, d+30*time.Second)
			if err == nil && status == 200 {
				err = os.WriteFile(filepath.Join(profiles, id+"-"+m.name+".pprof"), body, 0o644)
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s: profile of %s: status %d, %v\n", id, m.name, status, err)
			}
		})
	}
	return wg.Wait
}

func report(w workload, g goal, ours, theirs []sample) {
	var ratios, a, b []float64
	for i := range ours {
		x, y := ours[i].value(g.what), theirs[i].value(g.what)
		a, b, ratios = append(a, x), append(b, y), append(ratios, x/y)
	}
	got := median(ratios)
	shown := fmt.Sprintf("%.2f (%.2f–%.2f)", got, slices.Min(ratios), slices.Max(ratios))
	if g.absolute {
		got = median(a)
	}
	met := func(bound float64) bool {
		if g.what == "throughput" {
			return got >= bound
		}
		return got <= bound
	}
	verdict := "missed"
	if met(g.aim) {
		verdict = "aim"
	} else if met(g.must) {
		verdict = "must"
	}
	unit := ""
	if g.absolute {
		unit = map[string]string{"bytes": " B"}[g.what]
		if unit == "" {
			unit = " ms"
		}
	}
	fmt.Printf("| %s | %s | %s | %s | %s | %s | %g%s | %g%s | %s |\n", w.id, w.text, g.what,
		show(g.what, median(a)), show(g.what, median(b)), shown, g.must, unit, g.aim, unit, verdict)
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func show(what string, v float64) string {
	switch what {
	case "throughput":
		return fmt.Sprintf("%.0f/s", v)
	case "cpu":
		return fmt.Sprintf("%.1f µs/op", v/1e3)
	case "bytes":
		return fmt.Sprintf("%.0f B/op", v)
	case "memory":
		return fmt.Sprintf("%.0f MiB", v/(1<<20))
	}
	return fmt.Sprintf("%.2f ms", v)
}
