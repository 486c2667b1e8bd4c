package process

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson/keelson/core/unit"
)

// settings is what a unit's file says, as far as it is understood here.
type settings struct {
	name, description string
	bad               error // why the file cannot be used
	unsupported       error // why the unit cannot be started here, though its file is fine

	kind                                  string // Type=
	pre, start, startPost, stop, stopPost []command
	remain                                bool
	restart                               string
	restartWait                           time.Duration
	limitInterval                         time.Duration
	limitBurst                            int
	prevent, success                      []string      // exit statuses and signals
	startMax, stopMax                     time.Duration // 0 is no bound
	killMode                              string
	killSignal                            syscall.Signal
	noKill                                bool // SendSIGKILL=no
	environment                           []string
	files                                 []optional // EnvironmentFile=
	dir                                   optional
	user, group                           string
	ident                                 string
	silent                                bool // StandardOutput=null

	after, needs, wants, binds, partOf []string
}

// optional is a path, and whether it may be missing.
type optional struct {
	path string
	may  bool
}

// Defaults of systemd.
const (
	timeoutDefault  = 90 * time.Second
	restartDefault  = 100 * time.Millisecond
	intervalDefault = 10 * time.Second
	burstDefault    = 5
)

// lineMax is systemd's bound for a line of a unit file.
const lineMax = 1 << 20

// read makes settings of a unit's file. A file that cannot be used gives settings that
// say why.
func read(name, text string, s specifiers) *settings {
	u := &settings{
		name: name, kind: "", killMode: "control-group", killSignal: syscall.SIGTERM, restart: "no",
		restartWait: restartDefault, limitInterval: intervalDefault, limitBurst: burstDefault,
		startMax: -1, stopMax: timeoutDefault,
	}
	f, err := unit.Parse(text, lineMax)
	if err != nil {
		u.bad = err
		return u
	}
	for _, o := range f.Options {
		r, ok := table[o.Section+"."+o.Name]
		if !ok {
			continue
		}
		value := strings.TrimSpace(strings.ReplaceAll(o.Value, "\\\n", " "))
		if err := r(u, value, s); err != nil {
			u.fail(fmt.Errorf("%s=%s: %w", o.Name, value, err))
		}
	}
	u.finish()
	return u
}

// fail keeps the first reason.
func (u *settings) fail(err error) {
	if u.bad == nil {
		u.bad = err
	}
}

// finish judges what no line can judge alone.
func (u *settings) finish() {
	if u.description == "" {
		u.description = u.name
	}
	_, _, suffix := parts(u.name)
	switch suffix {
	case ".target":
		return
	case ".service":
	default:
		u.unsupported = fmt.Errorf("%s units need systemd", strings.TrimPrefix(suffix, "."))
		return
	}
	if u.kind == "" {
		u.kind = "simple"
		if len(u.start) == 0 {
			u.kind = "oneshot"
		}
	}
	switch u.kind {
	case "simple", "exec", "idle":
		if len(u.start) != 1 {
			u.fail(errors.New("want one ExecStart= line"))
		}
	case "oneshot":
		if len(u.start) == 0 && (len(u.stop) == 0 || !u.remain) {
			u.fail(errors.New("no ExecStart= line, and no ExecStop= line with RemainAfterExit=yes"))
		}
	case "forking", "notify", "notify-reload", "dbus":
		u.unsupported = fmt.Errorf("Type=%s needs systemd", u.kind)
	default:
		u.fail(fmt.Errorf("Type=%s: unknown", u.kind))
	}
	if u.startMax < 0 {
		u.startMax = timeoutDefault
		if u.kind == "oneshot" {
			u.startMax = 0
		}
	}
}

// reader takes one line of a file.
type reader func(u *settings, value string, s specifiers) error

// table is every option that is understood. All others are passed over, as systemd
// passes over what it does not know.
var table = map[string]reader{
	"Unit.Description": text(func(u *settings) *string { return &u.description }),
	"Unit.After":       names(func(u *settings) *[]string { return &u.after }),
	"Unit.Requires":    names(func(u *settings) *[]string { return &u.needs }),
	"Unit.Requisite":   names(func(u *settings) *[]string { return &u.needs }),
	"Unit.Wants":       names(func(u *settings) *[]string { return &u.wants }),
	"Unit.BindsTo":     names(func(u *settings) *[]string { return &u.binds }),
	"Unit.BindTo":      names(func(u *settings) *[]string { return &u.binds }),
	"Unit.PartOf":      names(func(u *settings) *[]string { return &u.partOf }),

	"Unit.StartLimitIntervalSec":    span(func(u *settings) *time.Duration { return &u.limitInterval }),
	"Unit.StartLimitInterval":       span(func(u *settings) *time.Duration { return &u.limitInterval }),
	"Unit.StartLimitBurst":          count(func(u *settings) *int { return &u.limitBurst }),
	"Service.StartLimitIntervalSec": span(func(u *settings) *time.Duration { return &u.limitInterval }),
	"Service.StartLimitInterval":    span(func(u *settings) *time.Duration { return &u.limitInterval }),
	"Service.StartLimitBurst":       count(func(u *settings) *int { return &u.limitBurst }),

	"Service.Type":          word1(func(u *settings) *string { return &u.kind }),
	"Service.ExecStartPre":  exec(func(u *settings) *[]command { return &u.pre }),
	"Service.ExecStart":     exec(func(u *settings) *[]command { return &u.start }),
	"Service.ExecStartPost": exec(func(u *settings) *[]command { return &u.startPost }),
	"Service.ExecStop":      exec(func(u *settings) *[]command { return &u.stop }),
	"Service.ExecStopPost":  exec(func(u *settings) *[]command { return &u.stopPost }),

	"Service.RemainAfterExit": boolean(func(u *settings) *bool { return &u.remain }),
	"Service.Restart": oneOf(func(u *settings) *string { return &u.restart },
		"no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog"),
	"Service.RestartSec":               span(func(u *settings) *time.Duration { return &u.restartWait }),
	"Service.RestartPreventExitStatus": list(func(u *settings) *[]string { return &u.prevent }),
	"Service.SuccessExitStatus":        list(func(u *settings) *[]string { return &u.success }),
	"Service.TimeoutStartSec":          bound(func(u *settings) *time.Duration { return &u.startMax }),
	"Service.TimeoutStopSec":           bound(func(u *settings) *time.Duration { return &u.stopMax }),
	"Service.TimeoutSec": func(u *settings, v string, s specifiers) error {
		err := bound(func(u *settings) *time.Duration { return &u.startMax })(u, v, s)
		u.stopMax = u.startMax
		return err
	},
	"Service.KillMode":    oneOf(func(u *settings) *string { return &u.killMode }, "control-group", "mixed", "process", "none"),
	"Service.KillSignal":  signal1,
	"Service.SendSIGKILL": func(u *settings, v string, _ specifiers) error { on, err := truth(v); u.noKill = !on; return err },

	"Service.Environment":      assignments,
	"Service.EnvironmentFile":  environmentFile,
	"Service.WorkingDirectory": workingDirectory,
	"Service.User":             word1(func(u *settings) *string { return &u.user }),
	"Service.Group":            word1(func(u *settings) *string { return &u.group }),
	"Service.SyslogIdentifier": word1(func(u *settings) *string { return &u.ident }),
	"Service.StandardOutput": func(u *settings, v string, _ specifiers) error {
		u.silent = v == "null"
		return nil
	},
}

func text(at func(*settings) *string) reader {
	return func(u *settings, v string, s specifiers) error { *at(u) = s.expand(v); return nil }
}

func word1(at func(*settings) *string) reader { return text(at) }

func oneOf(at func(*settings) *string, allowed ...string) reader {
	return func(u *settings, v string, _ specifiers) error {
		if !slices.Contains(allowed, v) {
			return fmt.Errorf("want one of %s", strings.Join(allowed, ", "))
		}
		*at(u) = v
		return nil
	}
}

// list is words that add up; an empty value begins anew.
func list(at func(*settings) *[]string) reader {
	return func(u *settings, v string, s specifiers) error {
		if v == "" {
			*at(u) = nil
		}
		words, err := split(v)
		for _, w := range words {
			*at(u) = append(*at(u), s.expand(w.text))
		}
		return err
	}
}

func names(at func(*settings) *[]string) reader { return list(at) }

func exec(at func(*settings) *[]command) reader {
	return func(u *settings, v string, s specifiers) error {
		if v == "" {
			*at(u) = nil
			return nil
		}
		all, err := commands(v, s)
		*at(u) = append(*at(u), all...)
		return err
	}
}

func boolean(at func(*settings) *bool) reader {
	return func(u *settings, v string, _ specifiers) (err error) { *at(u), err = truth(v); return err }
}

func truth(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, errors.New("want yes or no")
}

func count(at func(*settings) *int) reader {
	return func(u *settings, v string, _ specifiers) (err error) {
		n, err := strconv.ParseUint(v, 10, 31)
		*at(u) = int(n)
		return err
	}
}

func span(at func(*settings) *time.Duration) reader {
	return func(u *settings, v string, _ specifiers) error {
		d, err := parseSpan(v)
		if err == nil {
			*at(u) = max(d, 0)
		}
		return err
	}
}

// bound is a span of which 0 and infinity are none.
func bound(at func(*settings) *time.Duration) reader { return span(at) }

// units of time, longest spelling first where one begins another.
var timeUnits = []struct {
	names string
	d     time.Duration
}{
	{"usec us µs", time.Microsecond},
	{"msec ms", time.Millisecond},
	{"seconds second sec s", time.Second},
	{"minutes minute min m", time.Minute},
	{"hours hour hr h", time.Hour},
	{"days day d", 24 * time.Hour},
	{"weeks week w", 7 * 24 * time.Hour},
}

// parseSpan reads a time span of systemd: 500ms, 1min 30s, 5, infinity. No bound is 0.
func parseSpan(v string) (total time.Duration, err error) {
	if v == "infinity" {
		return 0, nil
	}
	rest := strings.TrimSpace(v)
	if rest == "" {
		return 0, errors.New("want a time span")
	}
	for rest != "" {
		end := strings.IndexFunc(rest, func(c rune) bool { return (c < '0' || c > '9') && c != '.' })
		if end < 0 {
			end = len(rest)
		}
		n, err := strconv.ParseFloat(rest[:end], 64)
		if err != nil {
			return 0, errors.New("want a time span such as 1min 30s")
		}
		rest = strings.TrimLeft(rest[end:], " ")
		end = strings.IndexAny(rest, " 0123456789")
		if end < 0 {
			end = len(rest)
		}
		one, err := timeUnit(rest[:end])
		if err != nil {
			return 0, err
		}
		total += time.Duration(n * float64(one))
		rest = strings.TrimLeft(rest[end:], " ")
	}
	return total, nil
}

func timeUnit(name string) (time.Duration, error) {
	if name == "" {
		return time.Second, nil
	}
	for _, t := range timeUnits {
		if slices.Contains(strings.Fields(t.names), name) {
			return t.d, nil
		}
	}
	return 0, fmt.Errorf("unknown unit of time %q", name)
}

func signal1(u *settings, v string, _ specifiers) error {
	n, ok := signalNumber(v)
	if !ok {
		return errors.New("unknown signal")
	}
	u.killSignal = n
	return nil
}

func signalNumber(name string) (syscall.Signal, bool) {
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n), true
	}
	n := unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG"))
	return n, n != 0
}

func assignments(u *settings, v string, s specifiers) error {
	if v == "" {
		u.environment = nil
		return nil
	}
	words, err := split(v)
	for _, w := range words {
		if name, _, ok := strings.Cut(w.text, "="); !ok || !isVariable(name) {
			return fmt.Errorf("want NAME=VALUE, not %q", w.text)
		}
		u.environment = append(u.environment, s.expand(w.text))
	}
	return err
}

func environmentFile(u *settings, v string, s specifiers) error {
	if v == "" {
		u.files = nil
		return nil
	}
	f := optionalPath(s.expand(v))
	if !strings.HasPrefix(f.path, "/") {
		return errors.New("want a path from the root")
	}
	u.files = append(u.files, f)
	return nil
}

func workingDirectory(u *settings, v string, s specifiers) error {
	u.dir = optionalPath(s.expand(v))
	if p := u.dir.path; p != "" && p != "~" && p[0] != '/' {
		return errors.New("want a path from the root, or ~")
	}
	return nil
}

func optionalPath(v string) optional {
	path, may := strings.CutPrefix(v, "-")
	return optional{path, may}
}

// parseEnvironment reads a file of NAME=VALUE lines.
func parseEnvironment(text string) (all []string) {
	text = strings.ReplaceAll(text, "\\\n", "")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || line[0] == '#' || line[0] == ';' || !isVariable(name) {
			continue
		}
		all = append(all, name+"="+unquote(strings.TrimSpace(value)))
	}
	return all
}

// unquote takes the quotes off a value of an environment file.
func unquote(v string) string {
	if len(v) < 2 || v[0] != '"' && v[0] != '\'' {
		return v
	}
	if end := strings.IndexByte(v[1:], v[0]); end == len(v)-2 && !strings.Contains(v, `\`) {
		return v[1 : len(v)-1]
	}
	words, err := split(v)
	if err != nil || len(words) != 1 {
		return v
	}
	return words[0].text
}

// specifiersOf are those of a unit on this machine.
func specifiersOf(name, machine string) specifiers {
	prefix, instance, suffix := parts(name)
	host, _ := os.Hostname()
	s := specifiers{
		'%': "%", 'n': name, 'N': strings.TrimSuffix(name, suffix), 'p': prefix, 'P': plain(prefix), 'i': instance, 'I': plain(instance),
		'H': host, 'l': firstPart(host), 'm': machine, 'b': strings.ReplaceAll(bootID(), "-", ""), 't': "/run", 'T': "/tmp", 'V': "/var/tmp",
		'S': "/var/lib", 'C': "/var/cache", 'L': "/var/log", 'E': "/etc", 'U': strconv.Itoa(os.Getuid()), 'u': "root", 'h': "/root", 's': "/bin/sh",
	}
	if os.Getuid() != 0 {
		own := os.Getenv("HOME")
		s['t'], s['h'], s['S'], s['E'] = os.Getenv("XDG_RUNTIME_DIR"), own, own+"/.local/state", own+"/.config"
		s['C'], s['L'] = own+"/.cache", own+"/.local/state/log"
		if u, err := user.Current(); err == nil {
			s['u'] = u.Username
		}
		if s['t'] == "" {
			s['t'] = "/tmp"
		}
	}
	return s
}

func firstPart(host string) string {
	first, _, _ := strings.Cut(host, ".")
	return first
}

// bootID names this boot of the machine.
func bootID() string {
	p, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(p))
}
