// Package script reads scenarios: console transcripts with disasters between.
//
// A scenario is text. A line that begins with a verb of the table Verbs is a
// statement; "$ " begins a command line, and what follows it, up to the next
// statement, is what the command printed. The parser knows nothing of the
// simulator; package scenarios carries the statements out.
package script

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Error is a mistake in a scenario, with the line it stands on.
type Error struct {
	File string
	Line int // from 1
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap gives the mistake without its place.
func (e *Error) Unwrap() error { return e.Err }

// Statement is one line that asks for something.
type Statement struct {
	Line   int // from 1
	Text   string
	Do     any    // one of the types of verbs.go
	Output string // what the transcript shows after it; only where Shows
	// Shows tells statements that print (commands and read) from others.
	Shows bool
}

// File is a whole scenario. Lines that are no statement (comments and empty
// lines) are kept, so that a rewritten file differs only in its outputs.
type File struct {
	Name  string
	Title string // the comment at the top, without its marks
	parts []part
}

// part is a statement with its output, or lines that mean nothing to the runner.
type part struct {
	stmt *Statement
	text string // comments and empty lines, each with its newline
}

// Statements lists what the file asks for, in order.
func (f *File) Statements() []*Statement {
	var list []*Statement
	for _, p := range f.parts {
		if p.stmt != nil {
			list = append(list, p.stmt)
		}
	}
	return list
}

// Parse reads a scenario. The error is an *Error.
func Parse(name, text string) (*File, error) {
	f := &File{Name: name}
	p := parser{file: f}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if err := p.line(i+1, strings.TrimRight(line, "\r")); err != nil {
			return nil, &Error{File: name, Line: i + 1, Err: err}
		}
	}
	p.endOutput()
	if err := f.check(); err != nil {
		return nil, err
	}
	return f, nil
}

// check holds the rules that concern more than one line.
func (f *File) check() error {
	for i, s := range f.Statements() {
		_, isCluster := s.Do.(*Cluster)
		if i == 0 && !isCluster {
			return &Error{File: f.Name, Line: s.Line, Err: fmt.Errorf("a scenario begins with: %s", usage("cluster"))}
		}
		if i > 0 && isCluster {
			return &Error{File: f.Name, Line: s.Line, Err: fmt.Errorf("cluster: there is one cluster, made by the first statement")}
		}
	}
	if len(f.Statements()) == 0 {
		return &Error{File: f.Name, Line: 1, Err: fmt.Errorf("a scenario begins with: %s", usage("cluster"))}
	}
	return f.checkMachines()
}

// checkMachines holds each name of a machine to the machines that there are by then.
func (f *File) checkMachines() error {
	known := []string{"all", "leader", "follower"}
	for _, s := range f.Statements() {
		var err error
		switch d := s.Do.(type) {
		case *Cluster:
			for i := 1; i <= d.Machines; i++ {
				known = append(known, fmt.Sprint("n", i))
			}
		case *Machine:
			if slices.Contains(known, d.Name) {
				err = fmt.Errorf("machine: there is a %s already", d.Name)
			}
			known = append(known, d.Name)
		case *Workers:
			for i := 1; i <= d.Count; i++ {
				known = append(known, fmt.Sprint("w", i))
			}
		}
		for _, name := range Machines(s.Do) {
			if !slices.Contains(known, name) {
				word, _, _ := strings.Cut(s.Text, " ")
				err = fmt.Errorf("%s: %w", word, noMachine(name))
			}
		}
		if err != nil {
			return &Error{File: f.Name, Line: s.Line, Err: err}
		}
	}
	return nil
}

type parser struct {
	file   *File
	stmt   *Statement // whose output is being read
	output []string
	titled bool
}

func (p *parser) line(n int, line string) error {
	if begins(line) {
		p.endOutput()
		do, err := parseStatement(line)
		if err != nil {
			return err
		}
		s := &Statement{Line: n, Text: line, Do: do, Shows: shows(do)}
		p.file.parts = append(p.file.parts, part{stmt: s})
		p.titled = true
		if s.Shows {
			p.stmt = s
		}
		return nil
	}
	if strings.HasPrefix(line, "#") {
		p.endOutput()
		if !p.titled {
			p.file.Title = strings.TrimSpace(p.file.Title + " " + strings.TrimSpace(strings.TrimLeft(line, "#")))
		}
		p.file.parts = append(p.file.parts, part{text: line + "\n"})
		return nil
	}
	if p.stmt != nil {
		p.output = append(p.output, line)
		return nil
	}
	if strings.TrimSpace(line) != "" {
		word, _, _ := strings.Cut(line, " ")
		return fmt.Errorf("%q is no statement; known are: %s", word, strings.Join(names(), ", "))
	}
	p.file.parts = append(p.file.parts, part{text: "\n"})
	return nil
}

// endOutput gives the lines read since the last command to it. Empty lines at
// the end belong to the file, not to the output.
func (p *parser) endOutput() {
	if p.stmt == nil {
		return
	}
	end := len(p.output)
	for end > 0 && p.output[end-1] == "" {
		end--
	}
	var b strings.Builder
	for _, line := range p.output[:end] {
		b.WriteString(strings.TrimPrefix(line, guard))
		b.WriteByte('\n')
	}
	p.stmt.Output = b.String()
	for range p.output[end:] {
		p.file.parts = append(p.file.parts, part{text: "\n"})
	}
	p.stmt, p.output = nil, nil
}

// guard comes before a line of output that would read as something else.
const guard = "| "

// String gives the scenario as text, with the outputs as they now are.
func (f *File) String() string {
	var b strings.Builder
	for _, p := range f.parts {
		if p.stmt == nil {
			b.WriteString(p.text)
			continue
		}
		b.WriteString(p.stmt.Text)
		b.WriteByte('\n')
		lines := strings.Split(strings.TrimSuffix(p.stmt.Output, "\n"), "\n")
		if p.stmt.Output == "" {
			continue
		}
		for i, line := range lines {
			last := i == len(lines)-1
			if begins(line) || strings.HasPrefix(line, "#") || strings.HasPrefix(line, guard) || last && line == "" {
				b.WriteString(guard)
			}
			b.WriteString(line)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// begins reports whether a line is a statement by its first word.
func begins(line string) bool {
	word, _, _ := strings.Cut(line, " ")
	if at, cmd := strings.CutSuffix(word, "$"); cmd {
		return at == "" || isMachine(at)
	}
	_, known := verb(word)
	return known
}

func parseStatement(line string) (any, error) {
	word, rest, _ := strings.Cut(line, " ")
	if at, ok := strings.CutSuffix(word, "$"); ok {
		return parseCommand(at, strings.TrimSpace(rest))
	}
	v, _ := verb(word)
	do, err := v.parse(strings.Fields(rest))
	if err != nil {
		return nil, fmt.Errorf("%s: %w; usage: %s", v.Name, err, v.Usage)
	}
	return do, nil
}

func shows(do any) bool {
	switch do := do.(type) {
	case *Command:
		return do.Background == ""
	case *Read:
		return true
	}
	return false
}

// parseCommand splits a command line as a shell would, as far as quotes and
// backslashes go; a scenario has no variables, pipes or redirections.
func parseCommand(at, line string) (*Command, error) {
	c := &Command{At: at}
	if i := strings.LastIndex(line, " &"); i >= 0 && !strings.ContainsAny(line[i+2:], ` "'`) {
		c.Background = strings.TrimSpace(line[i+2:])
		if c.Background == "" {
			return nil, fmt.Errorf("a command in the background needs a name: %s &NAME", line[:i])
		}
		line = line[:i]
	}
	words, err := split(line)
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		return nil, fmt.Errorf("a command is missing after $")
	}
	for _, w := range words {
		c.Args = append(c.Args, braces(w)...)
	}
	return c, nil
}

// braces expands {FIRST..LAST} as a shell does; a word without is itself.
func braces(word string) []string {
	before, rest, ok := strings.Cut(word, "{")
	inner, after, closed := strings.Cut(rest, "}")
	first, last, dots := strings.Cut(inner, "..")
	a, err := strconv.Atoi(first)
	b, err2 := strconv.Atoi(last)
	if !ok || !closed || !dots || err != nil || err2 != nil || b < a || b-a > 1000 {
		return []string{word}
	}
	var words []string
	for i := a; i <= b; i++ {
		words = append(words, before+strconv.Itoa(i)+after)
	}
	return words
}

func split(line string) ([]string, error) {
	var words []string
	var b strings.Builder
	var quote rune
	inWord, escaped := false, false
	for _, r := range line {
		switch {
		case escaped:
			b.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			b.WriteRune(r)
		case r == '"' || r == '\'':
			quote, inWord = r, true
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, b.String())
				b.Reset()
				inWord = false
			}
		default:
			b.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("unfinished quote in %q", line)
	}
	if inWord {
		words = append(words, b.String())
	}
	return words, nil
}
