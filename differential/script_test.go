package differential

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A script is lines that are sent to both servers:
//
//	PUT /a value=1             a request for the key /a below the script's own directory
//	watch W /d?recursive=true  a long poll, called W; W /d?stream=true is a stream
//	await /a                   wait until /a is gone, for its time is over
//	compare W                  wait for the next event of W
//	hush W                     W may stay silent from here on, so wait for a second only
//
// {+2} stands for the index that is two above the last one heard of.
//
// At the end each watch is woken by a write to the very key it watches, so that
// what it was not told shows without waiting for it.
type script []string

// outcome is what a server did.
type outcome struct {
	answers []string            // by line
	events  map[string][]string // by watch
	late    bool                // keys may have expired between the lines, not while they were awaited
}

// shortest is the shortest time to live in scripts. Requests that follow a write
// with a time to live must be over well before.
const shortest = time.Second

// play sends a script to both servers and compares what they did. Where a machine
// was too slow for the times to live in it, it is played again.
func play(t *testing.T, ours, theirs *server, root string, s script) (a, b outcome) {
	t.Helper()
	for try := range 10 {
		results := make(chan error, 2)
		at := fmt.Sprintf("%s-%d", root, try)
		ours.rebase(t)
		theirs.rebase(t)
		go func() { results <- ours.play(at, s, &a) }()
		go func() { results <- theirs.play(at, s, &b) }()
		require.NoError(t, <-results, strings.Join(s, "\n"))
		require.NoError(t, <-results, strings.Join(s, "\n"))
		if !a.late && !b.late {
			return a, b
		}
	}
	t.Fatal("the machine is too slow for times to live of a second")
	return a, b
}

// playEqual plays a script that both must answer alike.
func playEqual(t *testing.T, ours, theirs *server, root string, s script) {
	t.Helper()
	a, b := play(t, ours, theirs, root, s)
	for i := range s {
		require.Equal(t, b.answers[i], a.answers[i], "the answer to the last of\n%s", strings.Join(s[:i+1], "\n"))
	}
	require.Len(t, a.events, len(b.events))
	for _, w := range slices.Sorted(maps.Keys(b.events)) {
		require.Equal(t, once(b.events[w]), a.events[w], "the events of watch %s in\n%s", w, strings.Join(s, "\n"))
	}
}

// once drops events that come twice in a row: see differences.
func once(events []string) []string { return slices.Compact(slices.Clone(events)) }

// watching is a watch under way.
type watching struct {
	key      string
	from     int64
	patience time.Duration // for the next event
	lines    chan string   // closed at the end of the body
	heard    []string
	ended    bool
	cancel   func()
}

// player is one server at a script.
type player struct {
	*server
	root    string
	out     *outcome
	watches map[string]*watching
	ttlAt   time.Time // when the first key with a short time to live was written
}

func (s *server) play(root string, lines script, out *outcome) error {
	p := &player{server: s, root: root, out: out, watches: map[string]*watching{}}
	*out = outcome{events: map[string][]string{}}
	defer func() {
		for _, w := range p.watches {
			w.cancel()
		}
	}()
	for _, line := range lines {
		answer, err := p.line(line)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", s.name, line, err)
		}
		out.answers = append(out.answers, strings.ReplaceAll(answer, root, ""))
	}
	p.checkTime()
	if err := p.finish(); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	for name, w := range p.watches {
		for _, e := range w.heard {
			out.events[name] = append(out.events[name], strings.ReplaceAll(e, root, ""))
		}
	}
	return nil
}

var (
	indexMark = regexp.MustCompile(`\{([+-]\d+)\}`)
	shortTTL  = regexp.MustCompile(`ttl=\d(&|$)`)
)

func (p *player) line(line string) (string, error) {
	line = indexMark.ReplaceAllStringFunc(line, func(m string) string {
		n, _ := strconv.ParseInt(m[1:len(m)-1], 10, 64)
		return strconv.FormatInt(p.now+n, 10)
	})
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "watch":
		name, path, _ := strings.Cut(rest, " ")
		return p.watch(name, path)
	case "await":
		p.checkTime()
		return p.await(rest)
	case "hush":
		p.watches[rest].patience = time.Second
		return "", nil
	case "compare":
		return p.next(p.watches[rest])
	}
	return p.ask(verb, rest)
}

// ask sends METHOD PATH FORM; without a body for methods that have none.
func (p *player) ask(method, rest string) (string, error) {
	path, body, _ := strings.Cut(rest, " ")
	r := request{method: method, path: "/v2/keys" + p.root + path}
	if method == "PUT" || method == "POST" {
		r.body, r.contentType = body, formType
	}
	if shortTTL.MatchString(body) && p.ttlAt.IsZero() {
		p.ttlAt = time.Now()
	}
	return p.send(r)
}

// checkTime tells whether everything so far happened before a key could expire.
func (p *player) checkTime() {
	if !p.ttlAt.IsZero() && time.Since(p.ttlAt) > shortest*3/4 {
		p.out.late = true
	}
	p.ttlAt = time.Time{}
}

// await polls until the key is gone. What is asked after it must not depend on
// another key with a short time to live.
func (p *player) await(key string) (string, error) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		answer, err := p.ask("GET", key+"?quorum=true")
		switch {
		case err != nil:
			return "", err
		case strings.HasPrefix(answer, "404"):
			return "", nil // without the rest: its index tells of others that may have expired by now or not
		case !strings.HasPrefix(answer, "200"):
			return "", errors.New(answer)
		}
	}
	return "", fmt.Errorf("%s did not expire", key)
}

// watch begins a watch and gives the head of the answer, or the whole error.
func (p *player) watch(name, path string) (string, error) {
	key, query, _ := strings.Cut(path, "?")
	ctx, cancel := context.WithCancel(context.Background())
	resp, err := p.open(ctx, request{method: "GET", path: "/v2/keys" + p.root + key + "?wait=true&" + query})
	if err != nil {
		cancel()
		return "", err
	}
	w := &watching{key: p.root + key, patience: patience, lines: make(chan string, 10000), cancel: cancel}
	if _, from, found := strings.Cut(query, "waitIndex="); found {
		from, _, _ = strings.Cut(from, "&")
		w.from, _ = strconv.ParseInt(from, 10, 64)
	}
	go w.read(resp)
	head := p.head(resp)
	if resp.StatusCode == http.StatusOK {
		p.watches[name] = w
		return head, nil
	}
	body, err := p.next(w)
	cancel()
	return head + body, err
}

func (w *watching) read(resp *http.Response) {
	defer close(w.lines)
	defer resp.Body.Close()
	body := bufio.NewScanner(resp.Body)
	for body.Scan() {
		w.lines <- body.Text()
	}
}

// next waits for an event of w.
func (p *player) next(w *watching) (string, error) {
	select {
	case line, ok := <-w.lines:
		if !ok {
			w.ended = true
			return "", nil
		}
		line = p.normal(line)
		w.heard = append(w.heard, line)
		return line, nil
	case <-time.After(w.patience):
		if w.patience < patience {
			w.ended = true
			return "", nil
		}
		return "", fmt.Errorf("no event on %s; so far\n%s", w.key, strings.Join(w.heard, "\n"))
	}
}

// finish wakes every watch and hears it to the end. Streams end with the event
// that was meant for them.
func (p *player) finish() error {
	furthest := p.now
	for _, w := range p.watches {
		furthest = max(furthest, w.from)
	}
	names := slices.Sorted(maps.Keys(p.watches))
	for p.now < furthest {
		if _, err := p.ask("PUT", "/filler value=x"); err != nil {
			return err
		}
	}
	for _, name := range names {
		w := p.watches[name]
		last := "last of " + name
		if _, err := p.ask("DELETE", "?recursive=true"); err != nil { // room for a file at the key
			return err
		}
		if _, err := p.ask("PUT", strings.TrimPrefix(w.key, p.root)+" value="+strings.ReplaceAll(last, " ", "+")); err != nil {
			return err
		}
		for !w.ended && (len(w.heard) == 0 || !strings.Contains(w.heard[len(w.heard)-1], last)) {
			if _, err := p.next(w); err != nil {
				return err
			}
		}
	}
	return nil
}
