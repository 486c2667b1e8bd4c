package unit

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// types are the suffixes that a unit's name may have, sorted.
var types = []string{
	"automount", "busname", "device", "mount", "path", "scope", "service", "slice", "snapshot", "socket", "swap", "target", "timer",
}

// templateTypes are those of them that may have templates and instances.
var templateTypes = []string{"path", "service", "socket", "target", "timer"}

// Types gives the suffixes that a unit's name may have, sorted.
func Types() []string { return slices.Clone(types) }

// nameMax is the length of the longest name, in bytes.
const nameMax = 256

// nameChars is what a name is made of before its last dot.
const nameChars = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" + `:-_.\@`

// CheckName says what is wrong with the name of a unit: nil, or the first of the rules
// that it breaks, in the words that clients know.
func CheckName(name string) error {
	if name == "" {
		return errors.New("unit name cannot be empty")
	}
	if len(name) > nameMax {
		return fmt.Errorf("unit name exceeds maximum length (%d)", nameMax)
	}
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return errors.New(`unit name must contain "."`)
	}
	stem, suffix := name[:dot], name[dot+1:]
	switch {
	case suffix == "":
		return errors.New(`unit name cannot end in "."`)
	case !slices.Contains(types, suffix):
		return fmt.Errorf("invalid unit type: %q", suffix)
	case strings.Contains(name, "@") && !slices.Contains(templateTypes, suffix):
		return fmt.Errorf("invalid unit type for template: %q", suffix)
	}
	for _, c := range stem {
		if !strings.ContainsRune(nameChars, c) {
			return fmt.Errorf("invalid character %q in unit name", c)
		}
	}
	if name[0] == '@' {
		return errors.New(`unit name cannot start in "@"`)
	}
	return nil
}

// Mangle makes a unit's name of what a person typed: the last element of a path, with
// .service added where it does not end in a type of unit.
func Mangle(arg string) string {
	name := path.Base(arg)
	if suffix := path.Ext(name); suffix != "" && slices.Contains(types, suffix[1:]) {
		return name
	}
	return name + ".service"
}

// Name is the name of a unit in its parts: a@b@c.service has the stem a@b@c, the prefix
// a, the instance b@c and the suffix service.
type Name struct {
	Full     string
	Stem     string // without the suffix
	Prefix   string // before the first @; the stem where there is none
	Instance string // between the first @ and the last dot
	Suffix   string // without its dot
	At       bool   // there is an @
}

// Split takes a name apart. It takes any text.
func Split(full string) Name {
	n := Name{Full: full, Stem: full}
	if dot := strings.LastIndexByte(full, '.'); dot >= 0 {
		n.Stem, n.Suffix = full[:dot], full[dot+1:]
	}
	n.Prefix, n.Instance, n.At = strings.Cut(n.Stem, "@")
	return n
}

// IsTemplate reports whether the name is that of a template, such as foo@.service.
func (n Name) IsTemplate() bool { return n.At && n.Instance == "" }

// IsInstance reports whether the name is that of an instance of a template.
func (n Name) IsInstance() bool { return n.At && n.Instance != "" }

// Template is the name of the template that an instance comes from, "" for anything else.
func (n Name) Template() string {
	if !n.IsInstance() {
		return ""
	}
	return n.Prefix + "@." + n.Suffix
}

// expand replaces the specifiers of the name in s: %n, %N, %p and %i, in this order.
func (n Name) expand(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	for _, r := range [...][2]string{{"n", n.Full}, {"N", n.Stem}, {"p", n.Prefix}, {"i", n.Instance}} {
		s = strings.ReplaceAll(s, "%"+r[0], r[1])
	}
	return s
}

// Match reports whether the shell pattern (* ? [a-z] [^a] \) fits the whole of name. A bad
// pattern fits nothing.
func Match(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}
