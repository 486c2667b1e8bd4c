package systemd

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
)

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// line is one line of the journal.
type line struct {
	at   time.Time
	who  string
	pid  int
	text string
}

// linesMax bounds the lines that are kept of a unit.
const linesMax = 200

// say adds a line to the journal.
func (m *Manager) say(u *unit, who, text string) {
	if text == "" {
		return
	}
	pid := 1
	if who != "systemd" {
		pid = u.pid
	}
	l := line{m.h.Wall(), who, pid, text}
	all := append(m.said[u.name], l)
	if len(all) > linesMax {
		all = slices.Clone(all[len(all)-linesMax:])
	}
	m.said[u.name] = all
	for _, r := range slices.Clone(m.readers) {
		if r.q.Unit == u.name {
			r.chunk(l)
		}
	}
}

// speak has a program say what it says, again and again if it does so and somebody may
// be listening: a minute of it at most.
func (m *Manager) speak(u *unit, c command) {
	m.say(u, c.name, c.says)
	if c.says == "" || c.every == 0 {
		return
	}
	start, left := u.start, int(time.Minute/max(c.every, time.Second))
	var again func()
	again = func() {
		if u.start != start || !u.runs || left == 0 {
			return
		}
		left--
		m.say(u, c.name, c.says)
		m.After(max(c.every, time.Second), again)
	}
	m.After(max(c.every, time.Second), again)
}

// reader is one Read under way.
type reader struct {
	m    *Manager
	q    env.JournalQuery
	r    env.JournalReceiver
	over bool
}

// Read implements env.Journal.
func (m *Manager) Read(q env.JournalQuery, r env.JournalReceiver) (cancel func()) {
	x := &reader{m: m, q: q, r: r}
	m.readers = append(m.readers, x)
	m.After(m.brief(), func() {
		all := m.said[q.Unit]
		if n := len(all); q.Lines >= 0 && n > q.Lines {
			all = all[n-q.Lines:]
		}
		for _, l := range all {
			x.chunk(l)
		}
		if !q.Follow && !x.over {
			x.end()
			r.End(nil)
		}
	})
	return x.end
}

func (x *reader) end() {
	x.over = true
	x.m.readers = slices.DeleteFunc(x.m.readers, func(o *reader) bool { return o == x })
}

func (x *reader) chunk(l line) {
	if !x.over && !x.r.Chunk([]byte(x.m.format(x.q, l))) {
		x.end()
	}
}

func (m *Manager) format(q env.JournalQuery, l line) string {
	switch q.Output {
	case "cat":
		return l.text + "\n"
	case "json":
		text, err := json.Marshal(map[string]string{
			"__REALTIME_TIMESTAMP": strconv.FormatInt(l.at.UnixMicro(), 10), "_PID": strconv.Itoa(l.pid),
			"_SYSTEMD_UNIT": q.Unit, "SYSLOG_IDENTIFIER": l.who, "MESSAGE": l.text,
		})
		if err != nil {
			panic(err) // strings always encode
		}
		return string(text) + "\n"
	}
	return fmt.Sprintf("%s %s %s[%d]: %s\n", l.at.UTC().Format("Jan 02 15:04:05"), m.h.Name(), l.who, l.pid, l.text)
}

// Exit statuses of systemctl status.
const (
	statusActive  = 0
	statusStopped = 3
	statusUnknown = 4
)

// Tell implements the Status of env.Journal.
func (m *Manager) Tell(name string, done func(text []byte, code int, err error)) {
	m.send(func(err error) { done(nil, 0, err) }, func(c *call) {
		text, code := m.describe(name)
		c.answer(func() { done([]byte(text), code, nil) })
	})
}

func (m *Manager) describe(name string) (string, int) {
	u := m.units[name]
	if u == nil {
		return "Unit " + name + " could not be found.\n", statusUnknown
	}
	var b strings.Builder
	mark, code := "○", statusStopped
	switch u.active {
	case "active", "reloading":
		mark, code = "●", statusActive
	case "failed":
		mark = "×"
	case "activating", "deactivating":
		mark = "●"
	}
	title := name
	if u.def != nil && u.def.description != "" {
		title += " - " + u.def.description
	}
	fmt.Fprintf(&b, "%s %s\n", mark, title)
	s := m.status(name)
	how := ""
	if s.Load == "loaded" {
		how = " (/run/systemd/system/" + name + "; linked-runtime; preset: enabled)"
	}
	fmt.Fprintf(&b, "     Loaded: %s%s\n", s.Load, how)
	fmt.Fprintf(&b, "     Active: %s (%s)", u.active, u.sub)
	if u.active == "active" {
		fmt.Fprintf(&b, " since %s; %s ago", u.since.UTC().Format("Mon 2006-01-02 15:04:05 MST"), m.h.Wall().Sub(u.since).Round(time.Second))
	}
	b.WriteString("\n")
	if u.runs && u.pid > 0 && u.def != nil && len(u.def.start) > 0 {
		fmt.Fprintf(&b, "   Main PID: %d (%s)\n", u.pid, u.def.start[0].name)
	}
	all := m.said[name]
	if len(all) > 0 {
		b.WriteString("\n")
	}
	for _, l := range all[max(0, len(all)-10):] {
		b.WriteString(m.format(env.JournalQuery{Unit: name}, l))
	}
	return b.String(), code
}
