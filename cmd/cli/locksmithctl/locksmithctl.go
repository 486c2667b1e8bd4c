// Package locksmithctl is the command line of the reboot lock, with the flags, output
// and exit statuses of the original.
package locksmithctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/lock"
	"github.com/keelson/keelson/core/reboot"
)

// The exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
)

// requestTimeout bounds one request. It is longer than a server waits for the
// rest of its cluster, so that the server's own answer is heard.
const requestTimeout = 8 * time.Second

// Run runs one command line, args[0] being the program's name, and gives its
// exit status.
func Run(ctx context.Context, t *tool.Tool, args []string) int {
	return t.Finish("locksmithctl", run(ctx, t, args))
}

func run(ctx context.Context, t *tool.Tool, args []string) error {
	var o options
	flags := o.flagSet(t)
	if err := flags.Parse(args[min(1, len(args)):]); err != nil {
		return usage(err)
	}
	if err := fromEnvironment(flags, t.Getenv); err != nil {
		return &tool.Exit{Status: exitUsage, Text: err.Error() + "\n", Err: err}
	}
	if o.version {
		fmt.Fprintf(t.Out, "locksmithctl version %s\n", t.Version)
		return nil
	}
	if flags.NArg() == 0 {
		printHelp(t.Out, flags)
		return nil
	}
	v := find(flags.Arg(0))
	if v == nil {
		fmt.Fprintf(t.Out, "locksmithctl: unknown subcommand: %q\nRun 'locksmithctl help' for usage.\n", flags.Arg(0))
		return &tool.Exit{Status: exitUsage}
	}
	return v.start(ctx, &call{Tool: t, options: o, flags: flags}, flags.Args()[1:])
}

// usage is a wrong command line. Package flag has said what is wrong already;
// being asked for help is not wrong.
func usage(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return &tool.Exit{Status: exitUsage, Err: err}
}

// options are the flags that stand before the verb.
type options struct {
	endpoint, group           string
	caFile, certFile, keyFile string
	username, password        string
	debug, version            bool
}

const defaultEndpoints = "http://127.0.0.1:2379,http://127.0.0.1:4001"

// flagSet is the one list of flags: parsing, environment, help and the reference
// page range over it.
func (o *options) flagSet(t *tool.Tool) *flag.FlagSet {
	f := flag.NewFlagSet("locksmithctl", flag.ContinueOnError)
	f.SetOutput(t.Err)
	f.StringVar(&o.endpoint, "endpoint", defaultEndpoints, "comma-separated endpoints of the store, tried in this order")
	f.StringVar(&o.group, "group", "", "group of machines whose lock it is; empty is the default group")
	f.StringVar(&o.caFile, "etcd-cafile", "", "certificate authority file that servers are checked against")
	f.StringVar(&o.certFile, "etcd-certfile", "", "certificate file of this client")
	f.StringVar(&o.keyFile, "etcd-keyfile", "", "key file of this client")
	f.StringVar(&o.username, "etcd-username", "", "user name for the store")
	f.StringVar(&o.password, "etcd-password", "", "password for the store")
	f.BoolVar(&o.debug, "debug", false, "show requests, and who holds the lock when it is refused")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
	f.Usage = func() { printHelp(t.Err, f) }
	return f
}

// environmentName is where a flag's value comes from when it is not given.
func environmentName(flag string) string {
	return "LOCKSMITHCTL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func fromEnvironment(f *flag.FlagSet, getenv func(string) string) error {
	given := make(map[string]bool)
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var wrong error
	f.VisitAll(func(one *flag.Flag) {
		value := getenv(environmentName(one.Name))
		if value == "" || given[one.Name] || one.Name == "version" {
			return
		}
		if err := f.Set(one.Name, value); err != nil && wrong == nil {
			wrong = fmt.Errorf("invalid value %q of %s: %w", value, environmentName(one.Name), err)
		}
	})
	return wrong
}

// verb is one subcommand.
type verb struct {
	name    string
	args    string // as help shows them
	summary string
	help    string
	run     func(ctx context.Context, c *call, args []string) error
}

// verbs lists the subcommands in the order of the help text.
func verbs() []*verb {
	return []*verb{help(), lockVerb(), setMax(), status(), unlock()}
}

func find(name string) *verb {
	for _, v := range verbs() {
		if v.name == name {
			return v
		}
	}
	return nil
}

// start reads the verb's own flags, of which there are none, so that a word with
// a dash is a mistake unless it stands behind "--".
func (v *verb) start(ctx context.Context, c *call, args []string) error {
	f := flag.NewFlagSet(v.name, flag.ContinueOnError)
	f.SetOutput(c.Err)
	f.Usage = func() { v.printHelp(c.Err) }
	if err := f.Parse(args); err != nil {
		return usage(err)
	}
	return v.run(ctx, c, f.Args())
}

// call is one run of a verb.
type call struct {
	*tool.Tool
	options
	flags *flag.FlagSet
}

// withLock runs do on the group's lock.
func (c *call) withLock(do func(l *reboot.Client) error) error {
	d, err := c.dial()
	if err != nil {
		return unreachable(err)
	}
	if closer, ok := d.(io.Closer); ok {
		defer closer.Close()
	}
	o := client.Options{
		Endpoints: c.endpoints(), Timeout: requestTimeout, Rounds: 1, Ordered: true,
		User: c.username, Password: c.password,
	}
	if c.debug {
		o.Trace = func(r *client.Request) {
			fmt.Fprintf(c.Err, "%s %s%s?%s %s\n", r.Method, r.Endpoint, r.Path, r.Query, r.Body)
		}
	}
	return do(client.New(d, o).Locks(c.group))
}

func (c *call) dial() (client.Doer, error) {
	given := 0
	for _, file := range []string{c.caFile, c.certFile, c.keyFile} {
		if file != "" {
			given++
		}
	}
	if given != 0 && given != 3 {
		return nil, errors.New("etcd-cafile, etcd-certfile and etcd-keyfile must be given together")
	}
	return c.Connect(tool.Connection{CAFile: c.caFile, CertFile: c.certFile, KeyFile: c.keyFile})
}

func (c *call) endpoints() []string {
	var eps []string
	for e := range strings.SplitSeq(c.endpoint, ",") {
		if e = strings.TrimSuffix(strings.TrimSpace(e), "/"); e == "" {
			continue
		}
		if !strings.Contains(e, "://") {
			e = "http://" + e
		}
		eps = append(eps, e)
	}
	return eps
}

func unreachable(err error) error { return fail("Error initializing etcd client:", err) }

func fail(what string, err error) error {
	text := fmt.Sprintf("%s %s\n", what, strings.TrimSpace(err.Error()))
	if errors.Is(err, client.ErrUnknown) {
		text += "hint: it is not known whether this took effect; look with \"locksmithctl status\" before trying again\n"
	}
	return &tool.Exit{Status: exitFailed, Text: text, Err: err}
}

// refused is the end of a change that was not made.
func (c *call) refused(what string, err error) error {
	var cluster *client.ClusterError
	if errors.As(err, &cluster) && !cluster.Unknown {
		return unreachable(err)
	}
	var full *lock.FullError
	if c.debug && errors.As(err, &full) {
		fmt.Fprintln(c.Err, full.Detail())
	}
	return fail(what, err)
}

// holder is the id that a lock is for: the one given, or this machine's.
func (c *call) holder(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	noID := &tool.Exit{Status: exitFailed, Text: "Cannot read machine-id\n"}
	if c.ReadFile == nil {
		return "", noID
	}
	text, err := c.ReadFile("/etc/machine-id")
	id := strings.TrimSpace(string(text))
	if err != nil || id == "" {
		noID.Err = err
		return "", noID
	}
	return id, nil
}
