package units

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// step is a command line and what is expected of it. In a transcript:
//
//	# a comment
//	$ a command line, for the shell
//	what it prints
//	2> what it prints as an error
//	/a line that matches this expression/
//	[3]
//
// The last is the exit status if it is not 0. A command after ~ is repeated until it
// prints what is expected. The number of tabs between columns does not count: it depends
// on the machines' addresses, for which <ip1>, <ip2> and <ip3> stand.
type step struct {
	line    int
	command string
	again   bool
	want    []string
}

func readTranscript(t *testing.T, path string) (all []step) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	blank := 0 // lines since the last that says something
	for n := 1; lines.Scan(); n++ {
		text := lines.Text()
		for i, m := range cluster.Machines {
			text = strings.ReplaceAll(text, fmt.Sprintf("<ip%d>", i+1), m.Address)
		}
		kind, rest, _ := strings.Cut(text, " ")
		switch {
		case text == "":
			blank++
			continue
		case kind == "#":
		case kind == "$" || kind == "~":
			all = append(all, step{line: n, command: rest, again: kind == "~"})
		default:
			last := &all[len(all)-1]
			if last.want != nil { // they are part of the answer
				last.want = append(last.want, make([]string, blank)...)
			}
			last.want = append(last.want, text)
		}
		blank = 0
	}
	require.NoError(t, lines.Err())
	return all
}

// play carries out a transcript on the first machine, in the home of user core, which
// holds the unit files of testdata.
func play(t *testing.T, path string) {
	t.Helper()
	home := filepath.Join(cluster.Machines[0].Root(), "home/core")
	files, err := filepath.Glob("testdata/*.service")
	require.NoError(t, err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(home, filepath.Base(name)), text, 0o644))
	}
	for _, s := range readTranscript(t, path) {
		end := time.Now().Add(waitMax)
		for {
			have := s.play(t)
			if fits(s.want, have) {
				break
			}
			if !s.again || time.Now().After(end) {
				require.FailNowf(t, "another answer", "%s:%d: %s\n--- want\n%s\n--- have\n%s", path, s.line, s.command, strings.Join(s.want, "\n"), strings.Join(have, "\n"))
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// play runs the command and gives what it printed as transcripts have it.
func (s *step) play(t *testing.T) (have []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	r, err := cluster.Machines[0].Run(ctx, "env", "HOME=/home/core", "sh", "-c", "cd; "+s.command)
	require.NoErrorf(t, err, "line %d: %s", s.line, s.command)
	for line := range strings.Lines(r.Out) {
		have = append(have, strings.TrimSuffix(line, "\n"))
	}
	for line := range strings.Lines(r.Err) {
		have = append(have, "2> "+strings.TrimSuffix(line, "\n"))
	}
	if r.Status != 0 {
		have = append(have, fmt.Sprintf("[%d]", r.Status))
	}
	return have
}

var tabs = regexp.MustCompile(`\t+`)

func fits(want, have []string) bool {
	if len(want) != len(have) {
		return false
	}
	for i, w := range want {
		if len(w) > 1 && strings.HasPrefix(w, "/") && strings.HasSuffix(w, "/") {
			if !regexp.MustCompile("^(?:" + w[1:len(w)-1] + ")$").MatchString(have[i]) {
				return false
			}
			continue
		}
		if tabs.ReplaceAllString(w, "\t") != tabs.ReplaceAllString(have[i], "\t") {
			return false
		}
	}
	return true
}
