package fault

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Action is one thing that happens to the world.
type Action struct {
	At   time.Duration // virtual time since the world began
	Verb string
	// Groups is whom it happens to. Verbs with an arrow have two groups, from
	// and to; partition has any number; all others have one or none.
	Groups [][]string
	Args   []Arg
	For    time.Duration // 0: for good, or until the plan is ended
}

// Arg is one parameter of an action.
type Arg struct{ Name, Value string }

// Plan is what will happen, in the order of time.
type Plan []Action

// String gives the plan as text that Parse reads back.
func (p Plan) String() string {
	var b strings.Builder
	for _, a := range p {
		b.WriteString(a.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// String gives the action as one line.
func (a Action) String() string {
	return a.At.String() + " " + a.What()
}

// What is the line without the time.
func (a Action) What() string {
	s := a.Verb
	sep := " | "
	if v, ok := verbOf(a.Verb); ok && v.arrow {
		sep = " -> "
	}
	for i, g := range a.Groups {
		if i > 0 {
			s += sep
		} else {
			s += " "
		}
		s += strings.Join(g, " ")
	}
	for _, arg := range a.Args {
		s += " " + arg.Name + "=" + arg.Value
	}
	if a.For > 0 {
		s += " for " + a.For.String()
	}
	return s
}

// Arg gives the value of a parameter, or the empty string.
func (a *Action) Arg(name string) string {
	for _, arg := range a.Args {
		if arg.Name == name {
			return arg.Value
		}
	}
	return ""
}

func (a *Action) duration(name string) time.Duration {
	d, err := time.ParseDuration(a.Arg(name))
	if err != nil {
		return 0
	}
	return d
}

func (a *Action) float(name string) (float64, bool) {
	f, err := strconv.ParseFloat(a.Arg(name), 64)
	return f, err == nil
}

func (a *Action) integer(name string) (int, bool) {
	n, err := strconv.Atoi(a.Arg(name))
	return n, err == nil
}

// ParseError says which line of a plan is wrong.
type ParseError struct {
	Line int
	Err  error
}

func (e *ParseError) Error() string { return fmt.Sprintf("plan line %d: %v", e.Line, e.Err) }

// Unwrap gives the error without its place.
func (e *ParseError) Unwrap() error { return e.Err }

// Parse reads a plan. The error is a *ParseError. Actions may stand in any
// order; those at one time happen in the order of their lines.
func Parse(text string) (Plan, error) {
	var p Plan
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		a, err := parseAction(words)
		if err != nil {
			return nil, &ParseError{i + 1, err}
		}
		p = append(p, a)
	}
	p.sort()
	return p, nil
}

func parseAction(words []string) (Action, error) {
	var a Action
	at, err := parseDuration("time", words[0])
	if err != nil {
		return a, err
	}
	if len(words) == 1 {
		return a, fmt.Errorf("no verb after the time %s", words[0])
	}
	v, ok := verbOf(words[1])
	if !ok {
		return a, fmt.Errorf("unknown verb %q: want one of %s", words[1], strings.Join(verbNames(), " "))
	}
	a.At, a.Verb = at, v.name
	rest := words[2:]
	if n := len(rest); n >= 2 && rest[n-2] == "for" {
		if a.For, err = parseDuration("for", rest[n-1]); err != nil {
			return a, err
		}
		if a.For == 0 {
			return a, fmt.Errorf("for 0 never ends: leave it out or give a time")
		}
		rest = rest[:n-2]
	}
	for n := len(rest); n > 0 && strings.Contains(rest[n-1], "="); n-- {
		name, value, _ := strings.Cut(rest[n-1], "=")
		a.Args = append([]Arg{{name, value}}, a.Args...)
		rest = rest[:n-1]
	}
	if a.Groups, err = parseGroups(v, rest); err != nil {
		return a, err
	}
	return a, v.check(&a)
}

func parseDuration(what, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s %q is not a duration such as 1.5s", what, text)
	}
	if d < 0 || d > timeMax {
		return 0, fmt.Errorf("%s %s is not between 0 and %v", what, text, timeMax)
	}
	return d, nil
}

// timeMax bounds times in plans.
const timeMax = 1000 * time.Hour

func parseGroups(v *verb, words []string) ([][]string, error) {
	if len(words) == 0 {
		return nil, nil
	}
	sep := "|"
	if v.arrow {
		sep = "->"
	}
	groups := [][]string{nil}
	for _, w := range words {
		switch {
		case w == sep:
			groups = append(groups, nil)
		case strings.ContainsAny(w, "=|>") || w == "for":
			return nil, fmt.Errorf("%s: %q is no machine", v.name, w)
		default:
			groups[len(groups)-1] = append(groups[len(groups)-1], w)
		}
	}
	for _, g := range groups {
		if len(g) == 0 {
			return nil, fmt.Errorf("%s: nobody on one side of %s", v.name, sep)
		}
	}
	return groups, nil
}
