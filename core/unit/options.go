package unit

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Section is the section of a unit file that says where the unit may run.
const Section = "X-Fleet"

// OptionInfo describes an option of [X-Fleet] to people and to shells.
type OptionInfo struct {
	Name   string
	Legacy []string // older spellings that are still read
	Value  string   // what is written after the "="
	Many   string   // what several values mean
	Doc    string   // one sentence
	Ours   bool     // an addition: the original does not know it
}

// option is one line that an [X-Fleet] section may hold. Values are those of all its
// names, split and with specifiers replaced; empty ones are left out.
type option struct {
	OptionInfo
	newFirst bool // values of the new name come before those of the legacy ones
	set      func(p *Placement, values []string) error
	doubt    func(value, unit string) string // see Doubts; nil has none
}

// options is the one table of them: reading, checking, help, completion and the reference
// page range over it.
var options = []option{{
	OptionInfo: OptionInfo{
		Name: "MachineID", Legacy: []string{"X-ConditionMachineID", "X-ConditionMachineBootID"}, Value: "ID", Many: "the first counts",
		Doc: "Only the machine with this ID, whole or its first 8 characters.",
	},
	newFirst: true,
	set:      func(p *Placement, v []string) error { p.MachineID = v[0]; return nil },
}, {
	OptionInfo: OptionInfo{
		Name: "MachineOf", Legacy: []string{"X-ConditionMachineOf"}, Value: "UNIT", Many: "all of them",
		Doc: "Only a machine that the unit of exactly this name is on.",
	},
	set:   func(p *Placement, v []string) error { p.Peers = v; return nil },
	doubt: doubtPeer,
}, {
	OptionInfo: OptionInfo{
		Name: "MachineMetadata", Legacy: []string{"X-ConditionMachineMetadata"}, Value: "CONDITION",
		Many: "of one key with `=`: any of them; otherwise all",
		Doc:  "Only a machine whose metadata meet the condition.",
	},
	set:   func(p *Placement, v []string) (err error) { p.Metadata, err = parseConditions(v, false); return err },
	doubt: doubtCondition,
}, {
	OptionInfo: OptionInfo{
		Name: "Conflicts", Legacy: []string{"X-Conflicts"}, Value: "GLOB…", Many: "any of them",
		Doc: "Only a machine without another unit whose name fits the pattern; holds in both directions.",
	},
	set:   func(p *Placement, v []string) error { p.Conflicts = fields(v); return nil },
	doubt: doubtPatterns,
}, {
	OptionInfo: OptionInfo{
		Name: "Global", Value: "BOOL", Many: "the last counts",
		Doc: "On every machine that the other options allow.",
	},
	set: func(p *Placement, v []string) error { p.Global = truthy(v[len(v)-1]); return nil },
}, {
	OptionInfo: OptionInfo{
		Name: "Replaces", Value: "GLOB…", Many: "any of them",
		Doc: "Units that fit the pattern give way to this one: they move to another machine.",
	},
	set:   func(p *Placement, v []string) error { p.Replaces = fields(v); return nil },
	doubt: doubtPatterns,
}, {
	OptionInfo: OptionInfo{
		Name: "Singleton", Value: "BOOL", Many: "the last counts", Ours: true,
		Doc: "Never on two machines at once, even while the network is cut: a machine that is alone stops it in time.",
	},
	set: func(p *Placement, v []string) error { p.Singleton = truthy(v[len(v)-1]); return nil },
}, {
	OptionInfo: OptionInfo{
		Name: "Resources", Value: "NAME=AMOUNT…", Many: "of one name the last counts", Ours: true,
		Doc: "Only a machine with this much left of what it announces.",
	},
	set: func(p *Placement, v []string) (err error) {
		p.Resources, err = ParseQuantities(strings.Join(v, " "))
		return err
	},
}, {
	OptionInfo: OptionInfo{
		Name: "Weight", Value: "NUMBER", Many: "the last counts", Ours: true,
		Doc: "How many units it counts for where machines are compared by their load.",
	},
	set: func(p *Placement, v []string) (err error) { p.Weight, err = parseCount(v); return err },
}, {
	OptionInfo: OptionInfo{
		Name: "MostFree", Value: "BOOL", Many: "the last counts", Ours: true,
		Doc: "Prefer the machine with the most room left for its Resources to that with the fewest units.",
	},
	set: func(p *Placement, v []string) error { p.MostFree = truthy(v[len(v)-1]); return nil },
}, {
	OptionInfo: OptionInfo{
		Name: "Spread", Value: "KEY", Many: "the last counts", Ours: true,
		Doc: "Spread the instances of the template evenly over the values of this metadata key.",
	},
	set: func(p *Placement, v []string) error { p.Spread = v[len(v)-1]; return nil },
}, {
	OptionInfo: OptionInfo{
		Name: "Prefer", Value: "CONDITION", Many: "the more hold, the better", Ours: true,
		Doc: "Prefer machines whose metadata meet the condition; others will do.",
	},
	set: func(p *Placement, v []string) (err error) { p.Prefer, err = parseConditions(v, true); return err },
}, {
	OptionInfo: OptionInfo{
		Name: "MaxPerMachine", Value: "NUMBER", Many: "the last counts", Ours: true,
		Doc: "At most this many instances of the template on one machine.",
	},
	set: func(p *Placement, v []string) (err error) { p.MaxPerMachine, err = parseCount(v); return err },
}}

// Options gives the table of the options of [X-Fleet], in the order of the reference.
func Options() []OptionInfo {
	var list []OptionInfo
	for _, o := range options {
		list = append(list, o.OptionInfo)
	}
	return list
}

// truthy reads a switch: everything else is off.
func truthy(s string) bool {
	return slices.Contains([]string{"true", "yes", "1", "on", "t"}, strings.ToLower(s))
}

func fields(values []string) (words []string) {
	for _, v := range values {
		words = append(words, strings.Fields(v)...)
	}
	return words
}

// countMax bounds numbers that are added up.
const countMax = 1_000_000

func parseCount(values []string) (int, error) {
	last := values[len(values)-1]
	n, err := strconv.Atoi(last)
	if err != nil || n < 1 || n > countMax {
		return 0, fmt.Errorf("%q: want a number from 1 to %d", last, countMax)
	}
	return n, nil
}

func parseConditions(values []string, strict bool) (list []Condition, err error) {
	for _, v := range values {
		c, ok, err := ParseCondition(v)
		if err != nil {
			return nil, err
		}
		if !ok && strict {
			return nil, fmt.Errorf("%q: want KEY=VALUE or another condition on metadata", v)
		}
		if ok {
			list = append(list, c)
		}
	}
	return list, nil
}

// values gives what is written under a name in [X-Fleet]: split where it is a list of
// quoted words, specifiers replaced, empty values left out.
func (f *File) values(option string, n Name) (list []string) {
	for _, line := range f.Get(Section, option) {
		for _, v := range splitQuoted(line) {
			if v = n.expand(v); v != "" {
				list = append(list, v)
			}
		}
	}
	return list
}

// splitQuoted takes a list of quoted words apart. Anything that does not begin and end
// with a quote is one value.
func splitQuoted(s string) []string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return []string{s}
	}
	var words []string
	var word strings.Builder
	quoted := false
	for _, c := range []byte(s) {
		switch {
		case c == '"':
			quoted = !quoted
		case c == ' ' && !quoted:
			words = append(words, word.String())
			word.Reset()
		default:
			word.WriteByte(c)
		}
	}
	return append(words, word.String())
}

// Placement reads what the [X-Fleet] section asks for in a unit of the given name. The
// error is a combination that cannot be, in the words that clients know, or a mistake in
// one of our additions.
func (f *File) Placement(name string) (*Placement, error) {
	n := Split(name)
	p := &Placement{Weight: 1}
	for _, o := range options {
		var values []string
		if o.newFirst {
			values = f.values(o.Name, n)
		}
		for _, legacy := range o.Legacy {
			values = append(values, f.values(legacy, n)...)
		}
		if !o.newFirst {
			values = append(values, f.values(o.Name, n)...)
		}
		if len(values) == 0 {
			continue
		}
		if err := o.set(p, values); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Name, err)
		}
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, nil
}

// check refuses what cannot be together, in the order that clients know; our own last.
func (p *Placement) check() error {
	for _, peer := range p.Peers {
		for _, c := range p.Conflicts {
			if Match(c, peer) {
				return fmt.Errorf("unresolvable requirements: peer %q matches conflict %q", peer, c)
			}
		}
		for _, r := range p.Replaces {
			if Match(r, peer) {
				return fmt.Errorf("unresolvable requirements: peer %q matches replace %q", peer, r)
			}
		}
	}
	for _, r := range refused {
		if r.a.given(p) && r.b.given(p) {
			return fmt.Errorf("%s cannot be used with %s", r.a.name, r.b.name)
		}
	}
	return nil
}

// demand is an option as far as combinations go.
type demand struct {
	name  string // in messages
	given func(p *Placement) bool
}

var (
	wantsID        = demand{"MachineID", func(p *Placement) bool { return p.MachineID != "" }}
	wantsPeers     = demand{"Peers", func(p *Placement) bool { return len(p.Peers) > 0 }}
	wantsConflicts = demand{"Conflicts", func(p *Placement) bool { return len(p.Conflicts) > 0 }}
	wantsGlobal    = demand{"Global", func(p *Placement) bool { return p.Global }}
	wantsReplaces  = demand{"Replaces", func(p *Placement) bool { return len(p.Replaces) > 0 }}
	wantsSingleton = demand{"Singleton", func(p *Placement) bool { return p.Singleton }}
)

// refused are the combinations that cannot be, in the order in which they are looked for.
var refused = []struct{ a, b demand }{
	{wantsID, wantsPeers},
	{wantsID, wantsConflicts},
	{wantsID, wantsGlobal},
	{wantsID, wantsReplaces},
	{wantsGlobal, wantsPeers},
	{wantsGlobal, wantsReplaces},
	{wantsConflicts, wantsReplaces},
	{wantsGlobal, wantsSingleton},
}

// Refused gives the combinations that are refused besides MachineOf with one's own
// Conflicts or Replaces, as messages name them.
func Refused() (pairs [][2]string) {
	for _, r := range refused {
		pairs = append(pairs, [2]string{r.a.name, r.b.name})
	}
	return pairs
}

// Unknown gives the options of [X-Fleet] that nobody knows, each once, in their order.
// They are accepted and do nothing.
func (f *File) Unknown() (names []string) {
	for _, o := range f.Options {
		if o.Section == Section && !known(o.Name) && !slices.Contains(names, o.Name) {
			names = append(names, o.Name)
		}
	}
	return names
}

// Doubts says of what is accepted, for the sake of old units, that it does not do what
// was meant: one line each, in the order of the options.
func (f *File) Doubts(name string) (lines []string) {
	n := Split(name)
	for _, o := range options {
		if o.doubt == nil {
			continue
		}
		for _, written := range append(slices.Clone(o.Legacy), o.Name) {
			for _, v := range f.values(written, n) {
				if why := o.doubt(v, name); why != "" {
					lines = append(lines, fmt.Sprintf("%s=%s %s", written, v, why))
				}
			}
		}
	}
	return lines
}

func doubtCondition(v, _ string) string {
	if _, ok, err := ParseCondition(v); ok || err != nil {
		return ""
	}
	return "is ignored: want one KEY=VALUE, or a list of them in quotes"
}

func doubtPatterns(v, _ string) string {
	for _, pattern := range strings.Fields(v) {
		if _, err := path.Match(pattern, ""); err != nil {
			return "is ignored: " + pattern + " is no pattern"
		}
	}
	return ""
}

func doubtPeer(v, name string) string {
	if v == name {
		return "is the unit itself, which so can run nowhere"
	}
	if CheckName(v) != nil {
		return "is no name of a unit, so this one can run nowhere"
	}
	return ""
}

func known(name string) bool {
	return slices.ContainsFunc(options, func(o option) bool { return o.Name == name || slices.Contains(o.Legacy, name) })
}

// MaxSize is the most bytes that a unit's normal form may have: it is kept in memory by
// every member and sent to the machine that runs it as one value.
const MaxSize = 1 << 20

// Validate says whether a unit of this name and contents can be: a name, a size, and a
// placement.
func Validate(name string, f *File) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if n := len(f.String()); n > MaxSize {
		return fmt.Errorf("unit file too large: %d bytes (max %d)", n, MaxSize)
	}
	_, err := f.Placement(name)
	return err
}
