package unit

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Parse reads a unit file, whose lines must be shorter than lineMax bytes (0 is
// DefaultLineMax). Lines may end in CR LF. Text that is not UTF-8 or holds NUL is
// refused: it could be neither sent nor stored as it is.
//
// A value goes on after a backslash at the end of its line, up to an empty line; what is
// between is kept as it is. The text before the first section is passed over.
func Parse(text string, lineMax int) (*File, error) {
	if lineMax <= 0 {
		lineMax = DefaultLineMax
	}
	p := parser{rest: text, lineMax: lineMax}
	if err := p.run(); err != nil {
		return nil, err
	}
	return &File{Options: p.options}, nil
}

// parser goes through a text line by line.
type parser struct {
	rest    string
	lineMax int
	number  int // of the line read last, from 1

	section string
	inside  bool // of a section
	options []Option
}

// next reads a line, without its end. False is the end of the text.
func (p *parser) next() (line string, ok bool, err error) {
	if p.rest == "" {
		return "", false, nil
	}
	line, p.rest, _ = strings.Cut(p.rest, "\n")
	line = strings.TrimSuffix(line, "\r")
	p.number++
	switch {
	case len(line) >= p.lineMax:
		return "", false, fmt.Errorf("line too long (max %d bytes)", p.lineMax)
	case !utf8.ValidString(line):
		return "", false, fmt.Errorf("line %d: not valid UTF-8", p.number)
	case strings.Contains(line, "\x00"):
		return "", false, fmt.Errorf("line %d: NUL in a unit file", p.number)
	}
	return line, true, nil
}

func (p *parser) run() error {
	for {
		line, ok, err := p.next()
		if !ok {
			return err
		}
		if !p.inside {
			line = preamble(line)
		}
		line = strings.TrimLeftFunc(line, unicode.IsSpace)
		switch {
		case line == "":
		case isComment(line):
			err = p.comment(line)
		case line[0] == '[':
			err = p.header(line)
		default:
			err = p.option(line)
		}
		if err != nil {
			return err
		}
	}
}

func isComment(line string) bool { return line[0] == '#' || line[0] == ';' }

// preamble gives what counts of a line before the first section: from the bracket or the
// sign of a comment on.
func preamble(line string) string {
	if i := strings.IndexAny(line, "[#;"); i >= 0 {
		return line[i:]
	}
	return ""
}

// comment passes over a comment and the lines that its backslashes join to it.
func (p *parser) comment(line string) error {
	for strings.HasSuffix(line, `\`) {
		var ok bool
		var err error
		if line, ok, err = p.next(); !ok {
			return err
		}
	}
	return nil
}

func (p *parser) header(line string) error {
	name, garbage, closed := strings.Cut(line[1:], "]")
	if !closed {
		return errors.New("unable to find end of section")
	}
	if garbage = strings.TrimSpace(garbage); garbage != "" {
		return fmt.Errorf("found garbage after section name %s: %q", name, garbage)
	}
	p.section, p.inside = name, true
	return nil
}

func (p *parser) option(line string) error {
	name, value, found := strings.Cut(line, "=")
	if !found {
		return errors.New("unexpected newline encountered while parsing option name")
	}
	value, err := p.value(value)
	if err != nil {
		return err
	}
	p.options = append(p.options, Option{p.section, strings.TrimSpace(name), value})
	return nil
}

// value reads on from the first line of a value. One that ends in a backslash is ended by
// an empty line, which is kept as a line break; and a blank is left after a backslash
// that is no continuation because blanks follow it. Otherwise the value would swallow
// what comes after it in the normal form.
func (p *parser) value(line string) (string, error) {
	var text strings.Builder
	text.WriteString(line)
	for strings.HasSuffix(line, `\`) {
		text.WriteByte('\n')
		next, ok, err := p.next()
		if err != nil {
			return "", err
		}
		if line = next; !ok || strings.TrimSpace(line) == "" {
			break
		}
		text.WriteString(line)
	}
	whole := text.String()
	value := strings.TrimSpace(whole)
	switch {
	case !strings.HasSuffix(value, `\`):
	case strings.HasSuffix(whole, "\n"):
		value += "\n"
	default:
		value += " "
	}
	return value, nil
}

// String prints the normal form: each section once, in the order of first appearance, with
// its options in their order; an empty line between sections.
func (f *File) String() string {
	var b strings.Builder
	for i, section := range f.sections() {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString("[" + section[0].Section + "]\n")
		for _, o := range section {
			b.WriteString(o.Name + "=" + o.Value + "\n")
		}
	}
	return b.String()
}

// sections gives the options of each section, in the order of first appearance.
func (f *File) sections() (list [][]Option) {
	at := make(map[string]int)
	for _, o := range f.Options {
		i, known := at[o.Section]
		if !known {
			i = len(list)
			at[o.Section], list = i, append(list, nil)
		}
		list[i] = append(list[i], o)
	}
	return list
}

// FromOptions makes a file of options that somebody sends one by one. They must mean the
// same when they are printed and read again, so a line break in a value is refused unless
// it is a continuation; blanks around values are lost.
func FromOptions(options []Option, lineMax int) (*File, error) {
	sent := &File{Options: options}
	f, err := Parse(sent.String(), lineMax)
	if err != nil {
		return nil, err
	}
	i := 0
	for _, section := range sent.sections() {
		for _, o := range section {
			if i >= len(f.Options) || !same(o, f.Options[i]) {
				return nil, fmt.Errorf("option %q of section %q cannot be written as a line of a unit file", o.Name, o.Section)
			}
			i++
		}
	}
	if i < len(f.Options) {
		return nil, fmt.Errorf("option %q of section %q was not sent by this name", f.Options[i].Name, f.Options[i].Section)
	}
	return f, nil
}

func same(a, b Option) bool {
	return a.Section == b.Section && strings.TrimSpace(a.Name) == b.Name && strings.TrimSpace(a.Value) == strings.TrimSpace(b.Value)
}

// Get gives the values of an option, in their order.
func (f *File) Get(section, name string) (values []string) {
	for _, o := range f.Options {
		if o.Section == section && o.Name == name {
			values = append(values, o.Value)
		}
	}
	return values
}

// Description is what the unit says it is, or "".
func (f *File) Description() string {
	if values := f.Get("Unit", "Description"); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Equal reports whether two files have the same normal form.
func (f *File) Equal(other *File) bool { return f.String() == other.String() }
