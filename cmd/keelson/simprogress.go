package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/keelson/keelson/scenarios/chaos"
)

// progress shows how far a swarm is: on a terminal a line that is overwritten,
// elsewhere nothing until a run fails.
type progress struct {
	w        io.Writer
	terminal bool
	seeds    int
	last     time.Time
}

func newProgress(w io.Writer, seeds int) *progress {
	p := &progress{w: w, seeds: seeds}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

func (p *progress) show(v *chaos.Verdict, t *chaos.Tally) {
	if !v.OK() {
		p.end()
		fmt.Fprintf(p.w, "seed %d: %v\n", v.Seed, v.Failure)
	}
	if !p.terminal || time.Since(p.last) < 100*time.Millisecond {
		return
	}
	p.last = time.Now()
	perSecond := float64(t.Runs) / max(t.Elapsed.Seconds(), 1e-9)
	left := time.Duration(float64(p.seeds-t.Runs) / perSecond * float64(time.Second))
	fmt.Fprintf(p.w, "\r%d of %d seeds, %d failed, %.1f seeds/s, %v virtual, %v left  ",
		t.Runs, p.seeds, t.Failed, perSecond, t.Virtual.Round(time.Second), left.Round(time.Second))
}

// end removes the line.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\033[K")
	}
}
