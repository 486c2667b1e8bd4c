package systemd

import (
	"path"
	"strconv"
	"strings"
	"time"
)

// definition is what the manager has read of a unit file.
type definition struct {
	kind        string // the suffix of the name
	description string
	bad         bool // it cannot be started
	install     bool // there is an [Install] section
	pre, stop   []command
	start       []command
	oneshot     bool
	remain      bool // RemainAfterExit
	notify      bool
	restart     string
	restartWait time.Duration
	startMax    time.Duration // 0: no bound
	stopMax     time.Duration
	limit       int // starts in limitIn
	limitIn     time.Duration
}

// Defaults of systemd.
const (
	timeoutDefault = 90 * time.Second
	restartDefault = 100 * time.Millisecond
	limitDefault   = 5
	limitInDefault = 10 * time.Second
)

// read gives what a file says. Names of options are those of systemd; what has no part
// in the model is passed over.
func read(name, text string) *definition {
	d := &definition{
		kind: kindOf(name), restartWait: restartDefault, startMax: timeoutDefault, stopMax: timeoutDefault,
		limit: limitDefault, limitIn: limitInDefault,
	}
	bounded := false
	each(text, func(section, key, value string) {
		value = expand(name, value)
		switch section + "/" + key {
		case "Unit/Description":
			d.description = value
		case "Unit/StartLimitBurst", "Service/StartLimitBurst":
			d.limit, _ = strconv.Atoi(value)
		case "Unit/StartLimitIntervalSec", "Service/StartLimitInterval":
			d.limitIn = span(value)
		case "Service/ExecStartPre":
			d.pre = adds(d.pre, value)
		case "Service/ExecStart":
			d.start = adds(d.start, value)
		case "Service/ExecStop":
			d.stop = adds(d.stop, value)
		case "Service/Type":
			d.oneshot, d.notify = value == "oneshot", value == "notify"
		case "Service/RemainAfterExit":
			d.remain = value == "yes" || value == "true"
		case "Service/Restart":
			d.restart = value
		case "Service/RestartSec":
			d.restartWait = span(value)
		case "Service/TimeoutStartSec":
			d.startMax, bounded = span(value), true
		case "Service/TimeoutStopSec":
			d.stopMax = span(value)
		case "Service/TimeoutSec":
			d.startMax, d.stopMax, bounded = span(value), span(value), true
		}
		d.install = d.install || section == "Install"
	})
	if d.oneshot && !bounded {
		d.startMax = 0
	}
	d.bad = d.kind == "service" && (len(d.start) == 0 || len(d.start) > 1 && !d.oneshot)
	return d
}

func kindOf(name string) string { return strings.TrimPrefix(path.Ext(name), ".") }

// each calls fn with every option of a file.
func each(text string, fn func(section, key, value string)) {
	section := ""
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = line[1 : len(line)-1]
			fn(section, "", "")
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok {
			fn(section, strings.TrimSpace(key), strings.TrimSpace(value))
		}
	}
}

// expand replaces the specifiers that the model knows.
func expand(name, value string) string {
	if !strings.Contains(value, "%") {
		return value
	}
	stem := strings.TrimSuffix(name, path.Ext(name))
	prefix, instance, _ := strings.Cut(stem, "@")
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] != '%' || i+1 == len(value) {
			b.WriteByte(value[i])
			continue
		}
		i++
		switch value[i] {
		case '%':
			b.WriteByte('%')
		case 'n':
			b.WriteString(name)
		case 'N':
			b.WriteString(stem)
		case 'p':
			b.WriteString(prefix)
		case 'i', 'I':
			b.WriteString(instance)
		}
	}
	return b.String()
}

// span reads a time as systemd writes it: seconds, or a number with a unit. What never
// ends is 0.
func span(value string) time.Duration {
	if n, err := strconv.ParseFloat(value, 64); err == nil && n >= 0 && n < 1e9 {
		return time.Duration(n * float64(time.Second))
	}
	value = strings.NewReplacer("min", "m", "sec", "s", " ", "").Replace(value)
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		return 0
	}
	return d
}

// command is one line of Exec…=.
type command struct {
	name    string        // of the program, without its directory
	lasts   time.Duration // until it ends by itself
	endless bool
	code    int  // its exit status
	excused bool // a failure does not count
	deaf    bool // it does not end when it is told to
	says    string
	every   time.Duration // says it again and again; 0: once
}

// adds appends a command; an empty value forgets those before.
func adds(list []command, value string) []command {
	if value == "" {
		return nil
	}
	return append(list, program(value))
}

// noSuchProgram is the exit status of what cannot be executed.
const noSuchProgram = 203

// program says how a command line behaves.
func program(line string) command {
	trimmed := strings.TrimLeft(line, "-@+!:")
	c := command{excused: strings.Contains(line[:len(line)-len(trimmed)], "-"), lasts: 2 * time.Millisecond}
	words := strings.Fields(trimmed)
	if len(words) == 0 {
		return c
	}
	c.name = path.Base(words[0])
	rest := strings.TrimSpace(strings.TrimPrefix(trimmed, words[0]))
	switch {
	case strings.HasPrefix(words[0], "/missing") || strings.HasPrefix(words[0], "/nonexistent") || strings.Contains(c.name, "no-such"):
		c.code = noSuchProgram
	case c.name == "true":
	case c.name == "false":
		c.code = 1
	case c.name == "echo":
		c.says = unquote(rest)
	case c.name == "sleep":
		c.lasts = span(rest)
		c.endless = c.lasts == 0 && rest != "0"
	case c.name == "sh" || c.name == "bash":
		shell(&c, unquote(strings.TrimPrefix(strings.TrimPrefix(rest, "-c"), " ")))
	default:
		c.endless = !strings.Contains(rest, "pull") && !strings.Contains(rest, "kill") && !strings.Contains(rest, "rm ")
	}
	return c
}

// shell reads a script of echo, sleep, exit, trap and endless loops.
func shell(c *command, script string) {
	c.deaf = strings.Contains(script, "trap")
	c.endless = strings.Contains(script, "while ")
	var slept time.Duration
	for _, part := range strings.FieldsFunc(script, func(r rune) bool { return r == ';' || r == '&' || r == '\n' }) {
		part = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(part), "do "))
		word, rest, _ := strings.Cut(part, " ")
		rest = strings.TrimSpace(rest)
		switch word {
		case "exec":
			inner := program(rest)
			c.endless, slept, c.code = c.endless || inner.endless, slept+inner.lasts, inner.code
		case "sleep":
			d := span(rest)
			c.endless = c.endless || d == 0 && rest != "0"
			slept += d
		case "echo":
			c.says = unquote(rest)
		case "exit":
			c.code, _ = strconv.Atoi(rest)
		case "false":
			c.code = 1
		}
	}
	c.lasts += slept
	if c.endless {
		c.every = slept
	}
}

func unquote(s string) string {
	s = strings.TrimSpace(s)
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		s = s[1 : len(s)-1]
	}
	return strings.ReplaceAll(s, `\"`, `"`)
}
