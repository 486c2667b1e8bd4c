// Package options is the one table of what keelson serve can be told: names, variables, defaults, checks, help and the reference page.
//
// It touches nothing outside its memory: command line, environment and the reading
// of files are handed in, so a simulated machine is started by the same words as a
// real one.
package options

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/daemon"
)

// Serve is what the options say.
type Serve struct {
	// Daemon lacks what only the driver knows: Fatal and the version.
	Daemon daemon.Config

	DataDir string
	WALDir  string // "" is within DataDir

	// Where to listen. Nil was not said: the defaults, of which the second may be
	// taken by somebody else.
	ListenPeer   []string
	ListenClient []string

	ClientTLS TLS
	PeerTLS   TLS
	TLSDir    string // where the authority is, on the machine that has it

	Units Units

	CORS     []string // origins that may ask from a browser; * is all
	Insecure bool
	LogLevel string
	Pprof    bool

	Version bool     // print it and end
	Remarks []string // lines for the log: what was ignored, and what is dangerous
}

// Source is where the options come from.
type Source struct {
	Args    []string // after the word serve
	Environ []string // NAME=value
	// ReadFile reads a file that an option names. Nil refuses.
	ReadFile func(name string) ([]byte, error)
	// Lenient starts what the guides of the original say as it is written there:
	// addresses beyond this machine need no --insecure, they are only remarked on.
	Lenient bool
}

// ErrHelp says that help was asked for.
var ErrHelp = flag.ErrHelp

// UsageError is a command line that was not understood.
type UsageError struct{ Err error }

// Error implements error.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *UsageError) Unwrap() error { return e.Err }

// reading is a Serve under construction.
type reading struct {
	Serve
	source Source
	// given has the flag or variable by which each option was given.
	given map[string]string
	// fromFile has, for each variable whose value is from a file, where it is there.
	fromFile map[string]string
	// The addresses of the oldest flags, host:port.
	addr, bindAddr, peerAddr, peerBindAddr string
	advertiseClient, advertisePeer         []string
	clientTLS, peerTLS                     tlsReading
	// What other packages have a place for: see apply.
	force bool
	proxy struct{ failureWait, refresh, dial, write, read time.Duration }
}

// Parse reads the options. An error names the flag or variable and its value.
func Parse(s Source) (*Serve, error) {
	r := &reading{source: s, given: make(map[string]string), fromFile: make(map[string]string)}
	flags, err := commandLine(s.Args)
	if err != nil {
		return nil, err
	}
	env := environment(s.Environ)
	if err := r.readFleetConfig(flags, env); err != nil {
		return nil, err
	}
	for i := range table {
		if err := r.take(&table[i], flags, env); err != nil {
			return nil, err
		}
	}
	r.Remarks = append(r.Remarks, unknown(env)...)
	if err := r.finish(); err != nil {
		return nil, err
	}
	return &r.Serve, nil
}

// commandLine gives the text of each flag that is there.
func commandLine(args []string) (map[string]string, error) {
	flags := make(map[string]string)
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	for _, o := range table {
		keep := func(v string) error { flags[o.name] = v; return nil }
		if o.kind == "" {
			fs.BoolFunc(o.name, "", keep)
		} else {
			fs.Func(o.name, "", keep)
		}
	}
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil, err
	case err != nil:
		return nil, &UsageError{err}
	case fs.NArg() > 0:
		return nil, fmt.Errorf("error verifying flags, '%s' is not a valid flag", fs.Arg(0))
	}
	return flags, nil
}

func environment(lines []string) map[string]string {
	env := make(map[string]string)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
	}
	return env
}

// take sets one option: from its flag, else from its variable, else its default.
func (r *reading) take(o *option, flags, env map[string]string) error {
	value, given := flags[o.name]
	source := "--" + o.name
	variable := o.variable()
	switch {
	case given && r.fromFile[variable] != "":
	case given && env[variable] != "":
		r.remark("%s is ignored: --%s is given", variable, o.name)
	case !given && env[variable] != "":
		value, given, source = env[variable], true, variable
		if at := r.fromFile[variable]; at != "" {
			source = at
		}
	}
	if !given {
		if value = o.def; value == "" {
			return nil
		}
	} else {
		r.given[o.name] = source
	}
	if o.ignored != "" {
		if given {
			r.remark("%s has no effect: %s", source, o.ignored)
		}
		return nil
	}
	if err := o.set(r, value); err != nil {
		return fmt.Errorf("%s=%s: %w", source, value, err)
	}
	return nil
}

func (r *reading) remark(format string, args ...any) {
	r.Remarks = append(r.Remarks, fmt.Sprintf(format, args...))
}

// unknown remarks on variables that look like options and are none.
func unknown(env map[string]string) (remarks []string) {
	for name := range env {
		known := slices.ContainsFunc(table, func(o option) bool { return o.variable() == name })
		if !known && (strings.HasPrefix(name, "ETCD_") || strings.HasPrefix(name, "KEELSON_") || strings.HasPrefix(name, "FLEET_")) {
			remarks = append(remarks, name+" is ignored: no option of that name")
		}
	}
	slices.Sort(remarks)
	return remarks
}
