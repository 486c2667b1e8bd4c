package fleetctl

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is what may follow the name of a flag.
type kind int

const (
	switched kind = iota // nothing, or =true, =false
	text
	number
	seconds // 3.0, or 3s
)

// flag is one flag.
type flag struct {
	name   string
	short  string // one letter, also with one or two dashes
	kind   kind
	value  string // where nobody gives one
	arg    string // what the value is, as help shows it
	global bool   // for all commands, and from FLEETCTL_NAME
	old    bool   // accepted for old command lines; does nothing
	doc    string
}

// Defaults of where the cluster is.
const (
	defaultEndpoint = "unix:///var/run/fleet.sock"
	defaultStores   = "http://127.0.0.1:2379,http://127.0.0.1:4001"
	defaultPrefix   = "/_coreos.com/fleet/"
)

// flags is the one list of them: parsing, environment, help, completion and the
// reference page range over it.
var flags = []flag{
	{name: "endpoint", kind: text, value: defaultEndpoint, arg: "URL", global: true, doc: "where the units API is: `unix://` or `file://` and an absolute path, or http(s); of several, comma-separated, the first that answers"},
	{name: "driver", kind: text, value: "API", arg: "NAME", global: true, doc: "`API`, or `etcd` to read and write the store's keys directly; the endpoint is the store's then"},
	{name: "etcd-key-prefix", kind: text, value: defaultPrefix, arg: "KEY", global: true, doc: "where the units lie in the store, with the etcd driver"},
	{name: "tunnel", kind: text, arg: "HOST[:PORT]", global: true, doc: "reach the API and the machines through this machine by SSH"},
	{name: "ssh-username", kind: text, value: "core", arg: "NAME", global: true, doc: "user on the machines that are reached by SSH"},
	{name: "ssh-timeout", kind: seconds, value: "10.0", arg: "SECONDS", global: true, doc: "how long to wait for a connection by SSH"},
	{name: "strict-host-key-checking", value: "true", global: true, doc: "refuse machines whose SSH host key is another than the known one"},
	{name: "known-hosts-file", kind: text, value: "~/.fleetctl/known_hosts", arg: "FILE", global: true, doc: "where SSH host keys are kept"},
	{name: "request-timeout", kind: seconds, value: "3.0", arg: "SECONDS", global: true, doc: "how long to wait for one answer of the API"},
	{name: "ca-file", kind: text, arg: "FILE", global: true, doc: "certificate authority file that HTTPS servers are checked against"},
	{name: "cert-file", kind: text, arg: "FILE", global: true, doc: "certificate file of this client"},
	{name: "key-file", kind: text, arg: "FILE", global: true, doc: "key file of this client"},
	{name: "username", kind: text, arg: "USER:PASSWORD", global: true, doc: "who asks, where authentication is on"},
	{name: "debug", global: true, doc: "show requests on standard error"},
	{name: "output", short: "o", kind: text, arg: "json", doc: "print JSON"},
	{name: "version", short: "v", global: true, doc: "print the version and exit"},
	{name: "help", short: "h", global: true, doc: "show help and exit"},
	{name: "experimental-api", value: "true", global: true, old: true, doc: "accepted for old command lines"},
	{name: "etcd-cafile", kind: text, arg: "FILE", global: true, old: true, doc: "old name of --ca-file"},
	{name: "etcd-certfile", kind: text, arg: "FILE", global: true, old: true, doc: "old name of --cert-file"},
	{name: "etcd-keyfile", kind: text, arg: "FILE", global: true, old: true, doc: "old name of --key-file"},

	{name: "full", short: "l", doc: "do not shorten machine IDs and hashes"},
	{name: "no-legend", doc: "leave out the line of column names"},
	{name: "fields", kind: text, arg: "NAME,…", doc: "columns, in this order"},
	{name: "no-block", doc: "do not wait until it is so"},
	{name: "block-attempts", kind: number, value: "0", arg: "N", doc: "wait N times 2 s at most; 0 waits for ever"},
	{name: "replace", doc: "replace the contents of units that the cluster knows by those of local files"},
	{name: "sign", old: true, doc: "accepted for old command lines"},
	{name: "ssh-port", kind: number, value: "22", arg: "PORT", doc: "where machines answer SSH"},
	{name: "lines", kind: number, value: "10", arg: "N", doc: "how many lines of the past to show"},
	{name: "follow", short: "f", doc: "go on with lines to come"},
	{name: "sudo", doc: "run journalctl by sudo, where it is reached by SSH"},
	{name: "machine", kind: text, arg: "ID", doc: "the machine with this ID, or an ID that begins so"},
	{name: "unit", kind: text, arg: "UNIT", doc: "the machine that this unit is on"},
	{name: "forward-agent", short: "A", doc: "let the machine use this machine's SSH agent"},
}

func flagNamed(name string) *flag {
	for i := range flags {
		if f := &flags[i]; f.name == name || f.short != "" && f.short == name {
			return f
		}
	}
	return nil
}

// environment is where a global flag's value comes from when it is not given.
func (f *flag) environment() string {
	return "FLEETCTL_" + strings.ToUpper(strings.ReplaceAll(f.name, "-", "_"))
}

func (f *flag) check(value string) error {
	var err error
	switch f.kind {
	case switched:
		_, err = strconv.ParseBool(value)
	case number:
		_, err = strconv.Atoi(value)
	case seconds:
		_, err = duration(value)
	}
	if err != nil {
		return fmt.Errorf("invalid value %q", value)
	}
	return nil
}

// duration reads seconds, with or without a unit.
func duration(s string) (time.Duration, error) {
	if n, err := strconv.ParseFloat(s, 64); err == nil && n >= 0 && n < 1e9 {
		return time.Duration(n * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = errors.New("below 0")
	}
	return d, err
}

// line is a command line in its parts.
type line struct {
	verb   *verb // nil where there is none
	args   []string
	values map[string]string // of the flags that were given, by name
}

func (l *line) text(name string) string {
	if v, ok := l.values[name]; ok {
		return v
	}
	return flagNamed(name).value
}

func (l *line) given(name string) bool {
	_, ok := l.values[name]
	return ok
}

func (l *line) yes(name string) bool {
	v, err := strconv.ParseBool(l.text(name))
	return err == nil && v
}

func (l *line) number(name string) int {
	n, _ := strconv.Atoi(l.text(name))
	return n
}

func (l *line) duration(name string) time.Duration {
	d, _ := duration(l.text(name))
	return d
}

// parse reads a command line and then the environment. Flags may stand anywhere, with one
// dash or two; those of a command also before it.
func parse(args []string, getenv func(string) string) (*line, error) {
	l := &line{values: map[string]string{}}
	for len(args) > 0 {
		if l.verb != nil && l.verb.words > 0 && len(l.args) >= l.own() && !isFlag(args[0]) {
			l.args = append(l.args, args...) // another program's, dashes and all
			break
		}
		word := args[0]
		args = args[1:]
		var err error
		switch {
		case word == "--":
			err = l.rest(args)
			args = nil
		case isFlag(word):
			args, err = l.flag(word, args)
		default:
			err = l.word(word)
		}
		if err != nil {
			return nil, err
		}
	}
	return l, l.fromEnvironment(getenv)
}

// own is how many words stand before another program's command line.
func (l *line) own() int {
	if l.given("machine") || l.given("unit") {
		return l.verb.words - 1
	}
	return l.verb.words
}

func isFlag(word string) bool { return len(word) > 1 && word[0] == '-' }

func (l *line) rest(words []string) error {
	for i, w := range words {
		if l.verb != nil {
			l.args = append(l.args, words[i:]...)
			return nil
		}
		if err := l.word(w); err != nil {
			return err
		}
	}
	return nil
}

func (l *line) word(word string) (err error) {
	if l.verb != nil {
		l.args = append(l.args, word)
		return nil
	}
	if l.verb, err = find(word); err != nil {
		return err
	}
	return nil
}

// flag takes a flag, with its value from the next word where it has to be there.
func (l *line) flag(word string, next []string) ([]string, error) {
	name, value, given := strings.Cut(strings.TrimPrefix(word[1:], "-"), "=")
	f := flagNamed(name)
	if f == nil || l.verb != nil && !f.global && !slices.Contains(l.verb.flags, f.name) {
		return nil, fmt.Errorf("unknown flag: %s", strings.SplitN(word, "=", 2)[0])
	}
	switch {
	case given:
	case f.kind == switched:
		value = "true"
	case len(next) == 0:
		return nil, fmt.Errorf("flag needs an argument: --%s", f.name)
	default:
		value, next = next[0], next[1:]
	}
	if err := f.check(value); err != nil {
		return nil, fmt.Errorf("%w for flag --%s", err, f.name)
	}
	l.values[f.name] = value
	return next, nil
}

func (l *line) fromEnvironment(getenv func(string) string) error {
	for i := range flags {
		f := &flags[i]
		value := getenv(f.environment())
		if !f.global || value == "" || l.given(f.name) || f.name == "version" || f.name == "help" {
			continue
		}
		if err := f.check(value); err != nil {
			return fmt.Errorf("%w of %s", err, f.environment())
		}
		l.values[f.name] = value
	}
	return nil
}

// find gives the command of a name, or of the beginning of one. An underscore stands for
// a dash.
func find(word string) (*verb, error) {
	word = strings.ReplaceAll(word, "_", "-")
	var found []*verb
	var names []string
	for _, v := range verbs() {
		if v.name == word {
			return v, nil
		}
		if strings.HasPrefix(v.name, word) && word != "" {
			found = append(found, v)
			names = append(names, v.name)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("unknown command: %q", word)
	default:
		return nil, errors.New("ambiguous command: " + strconv.Quote(word) + " may be " + strings.Join(names, ", "))
	}
}
