package unit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// operators are those of conditions besides "=" and "in", longer ones first.
var operators = []string{"!=", ">=", "<=", ">", "<"}

// ParseCondition reads a condition on metadata:
//
//	disk=ssd  disk!=hdd  cores>=4  kernel<6.1  disk in ssd,nvme
//
// Ok is false, without an error, for what the original silently ignores: no or more than
// one "=", or an empty side. An error is a mistake in what the original does not know.
func ParseCondition(s string) (c Condition, ok bool, err error) {
	at := strings.IndexAny(s, "!=<>")
	if at < 0 {
		return parseList(s)
	}
	if s[at] == '=' {
		key, value := s[:at], s[at+1:]
		if key == "" || value == "" || strings.Contains(value, "=") {
			return Condition{}, false, nil
		}
		return Condition{key, "=", []string{value}}, true, nil
	}
	for _, op := range operators {
		rest, found := strings.CutPrefix(s[at:], op)
		if !found {
			continue
		}
		c = Condition{strings.TrimSpace(s[:at]), op, []string{strings.TrimSpace(rest)}}
		err = c.check(s)
		return c, err == nil, err
	}
	return Condition{}, false, nil // a "!" alone
}

func parseList(s string) (c Condition, ok bool, err error) {
	key, list, found := strings.Cut(s, " in ")
	if !found {
		return Condition{}, false, nil
	}
	c = Condition{Key: strings.TrimSpace(key), Op: "in"}
	for _, v := range strings.Split(list, ",") {
		c.Values = append(c.Values, strings.TrimSpace(v))
	}
	err = c.check(s)
	return c, err == nil, err
}

func (c Condition) check(s string) error {
	if c.Key == "" || strings.ContainsAny(c.Key, " \t") {
		return fmt.Errorf("%q: want a metadata key before %s", s, c.Op)
	}
	if slices.Contains(c.Values, "") {
		return fmt.Errorf("%q: want a value after %s", s, c.Op)
	}
	if c.Op[0] == '<' || c.Op[0] == '>' {
		if _, ok := parseNumber(c.Values[0]); !ok {
			return fmt.Errorf("%q: want a number after %s, such as 4 or 6.1", s, c.Op)
		}
	}
	return nil
}

// String gives the condition as it is written.
func (c Condition) String() string {
	if c.Op == "in" {
		return c.Key + " in " + strings.Join(c.Values, ",")
	}
	return c.Key + c.Op + c.Values[0]
}

// Holds reports whether the metadata of a machine meet the condition. A key that is not
// there meets != and nothing else; what is no number is neither more nor less than one.
func (c Condition) Holds(metadata map[string]string) bool {
	have, there := metadata[c.Key]
	switch c.Op {
	case "=", "in":
		return there && slices.Contains(c.Values, have)
	case "!=":
		return !there || have != c.Values[0]
	}
	a, numeric := parseNumber(have)
	b, _ := parseNumber(c.Values[0])
	if !there || !numeric {
		return false
	}
	order := slices.Compare(a, b)
	switch c.Op {
	case ">":
		return order > 0
	case ">=":
		return order >= 0
	case "<":
		return order < 0
	default:
		return order <= 0
	}
}

// parseNumber reads whole numbers joined by dots, as in versions: 6.1 is less than 6.10.
func parseNumber(s string) (parts []uint64, ok bool) {
	for _, p := range strings.Split(s, ".") {
		n, err := strconv.ParseUint(p, 10, 64)
		if err != nil {
			return nil, false
		}
		parts = append(parts, n)
	}
	for len(parts) > 1 && parts[len(parts)-1] == 0 {
		parts = parts[:len(parts)-1] // 6 and 6.0 are the same
	}
	return parts, true
}

// Unmet gives the first demand of the conditions that metadata do not meet, as it is
// written, or "". Those of one key with "=" are alternatives, shown joined by "|".
func Unmet(conditions []Condition, metadata map[string]string) string {
	for i, c := range conditions {
		if c.Op != "=" {
			if !c.Holds(metadata) {
				return c.String()
			}
			continue
		}
		same := func(o Condition) bool { return o.Op == "=" && o.Key == c.Key }
		if slices.ContainsFunc(conditions[:i], same) {
			continue // looked at with the first of its key
		}
		var values []string
		met := false
		for _, o := range conditions[i:] {
			if same(o) {
				met = met || o.Holds(metadata)
				values = append(values, o.Values[0])
			}
		}
		if !met {
			return c.Key + "=" + strings.Join(values, "|")
		}
	}
	return ""
}
