package process

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// word is one word of a command line in a unit file.
type word struct {
	text string
	bare bool // no part of it was quoted or escaped
}

// blanks separate words.
const blanks = " \t\n\r"

// split takes a line apart as systemd does: words are separated by blanks, quotes of
// either kind keep blanks together anywhere in a word, and backslashes begin the escapes
// of C. An unknown escape stays as it is.
func split(line string) (words []word, err error) {
	for {
		line = strings.TrimLeft(line, blanks)
		if line == "" {
			return words, nil
		}
		var w word
		if w, line, err = cutWord(line); err != nil {
			return nil, err
		}
		words = append(words, w)
	}
}

// cutWord takes the first word off a line that begins with one.
func cutWord(line string) (w word, rest string, err error) {
	var b strings.Builder
	var quote byte
	w.bare = true
	for i := 0; i < len(line); {
		c := line[i]
		switch {
		case c == '\\':
			text, n := unescape(line[i:])
			b.WriteString(text)
			i, w.bare = i+n, false
			continue
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, w.bare = c, false
		case quote == 0 && strings.IndexByte(blanks, c) >= 0:
			w.text = b.String()
			return w, line[i:], nil
		default:
			b.WriteByte(c)
		}
		i++
	}
	if quote != 0 {
		return w, "", fmt.Errorf("%s: unbalanced quoting", line)
	}
	w.text = b.String()
	return w, "", nil
}

// simple are the escapes of one letter.
var simple = map[byte]string{
	'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
	'\\': "\\", '"': `"`, '\'': "'", 's': " ",
}

// unescape gives what the escape at the start of s stands for, and its length.
func unescape(s string) (text string, n int) {
	if len(s) < 2 {
		return s, len(s)
	}
	if t, ok := simple[s[1]]; ok {
		return t, 2
	}
	for _, e := range []struct {
		letter       byte
		from, digits int
		base         int
	}{{'x', 2, 2, 16}, {'u', 2, 4, 16}, {'U', 2, 8, 16}} {
		if s[1] == e.letter {
			return number(s, e.from, e.digits, e.base)
		}
	}
	if '0' <= s[1] && s[1] <= '7' {
		return number(s, 1, 3, 8)
	}
	return s[:2], 2
}

// number reads the digits of an escape; what is none stays as it is.
func number(s string, from, digits, base int) (text string, n int) {
	if len(s) < from+digits {
		return s[:2], 2
	}
	v, err := strconv.ParseUint(s[from:from+digits], base, 32)
	switch {
	case err != nil || v == 0:
		return s[:2], 2
	case digits > 3 && utf8.ValidRune(rune(v)):
		return string(rune(v)), from + digits
	case v > 255:
		return s[:2], 2
	default:
		return string([]byte{byte(v)}), from + digits
	}
}

// command is one program of a unit.
type command struct {
	path   string
	argv   []string // argv[0] included
	ignore bool     // -: its failure does not matter
	raw    bool     // :, no variables are replaced
	full   bool     // + and !: with the manager's own rights
}

// commands reads the value of an Exec…= line, which may hold several.
func commands(value string, s specifiers) (all []command, err error) {
	words, err := split(value)
	if err != nil {
		return nil, err
	}
	for len(words) > 0 {
		end := 0
		for end < len(words) && !(words[end].bare && words[end].text == ";") {
			end++
		}
		c, err := oneCommand(words[:end], s)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
		words = words[min(end+1, len(words)):]
	}
	return all, nil
}

func oneCommand(words []word, s specifiers) (c command, err error) {
	if len(words) == 0 {
		return c, errors.New("no program between the semicolons")
	}
	first, named := words[0].text, false
prefixes:
	for first != "" {
		switch first[0] {
		case '-':
			c.ignore = true
		case '@':
			named = true
		case ':':
			c.raw = true
		case '+', '!':
			c.full = true
		default:
			break prefixes
		}
		first = first[1:]
	}
	c.path = s.expand(first)
	if c.path == "" || strings.Contains(c.path, "/") && c.path[0] != '/' {
		return c, fmt.Errorf("neither a path from the root nor a plain name: %q", c.path)
	}
	c.argv = []string{c.path}
	for _, w := range words[1:] {
		c.argv = append(c.argv, s.expand(w.text))
	}
	if named {
		if len(c.argv) < 2 {
			return c, fmt.Errorf("@%s: the name that follows @ is missing", c.path)
		}
		c.argv = c.argv[1:]
	}
	return c, nil
}

// withVariables is argv as the program is given it: $NAME as a word of its own becomes
// any number of words, ${NAME} within a word its value, $$ a dollar.
func (c *command) withVariables(lookup func(string) string) (argv []string) {
	if c.raw {
		return c.argv
	}
	for _, arg := range c.argv {
		if name, ok := strings.CutPrefix(arg, "$"); ok && isVariable(name) {
			words, err := split(lookup(name))
			if err != nil {
				words = []word{{text: lookup(name)}}
			}
			for _, w := range words {
				argv = append(argv, w.text)
			}
			continue
		}
		argv = append(argv, replaceVariables(arg, lookup))
	}
	return argv
}

func replaceVariables(arg string, lookup func(string) string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(arg, "$")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		switch name, rest, ok := strings.Cut(strings.TrimPrefix(after, "{"), "}"); {
		case strings.HasPrefix(after, "$"):
			b.WriteByte('$')
			arg = after[1:]
		case strings.HasPrefix(after, "{") && ok && isVariable(name):
			b.WriteString(lookup(name))
			arg = rest
		default:
			b.WriteByte('$')
			arg = after
		}
	}
}

func isVariable(name string) bool {
	for i, c := range name {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// specifiers are what % and a letter stand for in a unit's file.
type specifiers map[byte]string

// expand replaces them. An unknown one stays as it is.
func (s specifiers) expand(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+1 < len(text) {
			if v, ok := s[text[i+1]]; ok {
				b.WriteString(v)
				i++
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// parts takes a unit's name apart.
func parts(name string) (prefix, instance, suffix string) {
	base, suffix := name, ""
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		base, suffix = name[:i], name[i:]
	}
	prefix, instance, _ = strings.Cut(base, "@")
	return prefix, instance, suffix
}

// plain undoes the escaping of a part of a unit's name.
func plain(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '-':
			b.WriteByte('/')
		case s[i] == '\\' && i+1 < len(s):
			text, n := unescape(s[i:])
			b.WriteString(text)
			i += n - 1
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}
