// Package etcdctl is the command line of the key-value store, with the flags, output
// and exit statuses of the original's second API.
package etcdctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

// Run runs one command line, args[0] being the program's name, and gives its
// exit status. When ctx ends, a watch ends with status 0 and anything else with
// an error.
func Run(ctx context.Context, t *tool.Tool, args []string) int {
	cmd := Command(t)
	return t.Finish("etcdctl", t.Execute(ctx, cmd, args))
}

// Command makes the command tree, ready to run once on t.
func Command(t *tool.Tool) *cli.Command {
	cmd := root()
	t.Prepare(cmd, "", usageError)
	return cmd
}

func root() *cli.Command {
	verbs := []*cli.Command{
		backup(), clusterHealth(), mk(), mkdir(), rm(), rmdir(), get(), ls(), set(), setdir(),
		update(), updatedir(), watch(), execWatch(), member(), user(), role(), authVerb(),
	}
	return &cli.Command{
		Name:      "etcdctl",
		Usage:     "A simple command line client for etcd.",
		UsageText: "etcdctl [global options] command [command options] [arguments...]",
		Flags:     globalFlags(),
		Commands:  append(verbs, help()),
		Before:    version,
		Action:    noVerb,
	}
}

// defaultEndpoints are asked when neither flags nor environment name any.
const defaultEndpoints = "http://127.0.0.1:2379,http://127.0.0.1:4001"

// globalFlags stand before the verb.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "debug", Usage: "output cURL commands which can be used to reproduce the request", Local: true},
		&cli.BoolFlag{Name: "no-sync", Usage: "don't synchronize cluster information before sending request", Local: true},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "simple", Usage: "output response in the given format (`simple`, `extended` or `json`)", Local: true},
		&cli.StringFlag{Name: "discovery-srv", Aliases: []string{"D"}, Usage: "domain name to query for SRV records describing cluster endpoints", Local: true},
		&cli.BoolFlag{Name: "insecure-discovery", Usage: "accept insecure SRV records describing cluster endpoints", Local: true},
		&cli.StringFlag{Name: "peers", Aliases: []string{"C"}, Usage: `DEPRECATED - "--endpoints" should be used instead`, Local: true},
		&cli.StringFlag{Name: "endpoint", Usage: `DEPRECATED - "--endpoints" should be used instead`, Local: true},
		&cli.StringFlag{Name: "endpoints", DefaultText: defaultEndpoints, Usage: "a comma-delimited list of machine addresses in the cluster", Local: true},
		&cli.StringFlag{Name: "cert-file", Usage: "identify HTTPS client using this SSL certificate file", Local: true},
		&cli.StringFlag{Name: "key-file", Usage: "identify HTTPS client using this SSL key file", Local: true},
		&cli.StringFlag{Name: "ca-file", Usage: "verify certificates of HTTPS-enabled servers using this CA bundle", Local: true},
		&cli.StringFlag{Name: "username", Aliases: []string{"u"}, Usage: "provide username[:password] and prompt if password is not supplied.", Local: true},
		&cli.DurationFlag{Name: "timeout", Value: 2 * time.Second, Usage: "connection timeout per request", Local: true},
		&cli.DurationFlag{Name: "total-timeout", Value: 5 * time.Second, Usage: "timeout for the command execution (except watch)", Local: true},
		&cli.GenericFlag{Name: "version", Aliases: []string{"v"}, Value: new(versionAsked), Hidden: true, Local: true},
	}
}

// versionAsked is a flag that the library does not take for its own.
type versionAsked bool

func (v *versionAsked) Set(s string) error { *v = s == "true"; return nil }
func (v *versionAsked) String() string     { return "" }
func (v *versionAsked) Get() any           { return v }

// IsBoolFlag says that the flag takes no argument.
func (v *versionAsked) IsBoolFlag() bool { return true }

// version prints the version instead of anything else, where that was asked.
func version(ctx context.Context, c *cli.Command) (context.Context, error) {
	if v, ok := c.Root().Value("version").(*versionAsked); !ok || !bool(*v) {
		return ctx, nil
	}
	t := tool.From(ctx)
	fmt.Fprintf(t.Out, "etcdctl version: %s\nAPI version: 2\n", t.Version)
	return ctx, &tool.Exit{}
}

// noVerb answers a command line whose first word is no verb.
func noVerb(ctx context.Context, c *cli.Command) error {
	if c.Args().Present() {
		return noTopic(c.Args().First())
	}
	t := tool.From(ctx)
	io.WriteString(t.Out, tool.Help(c, parents(c), t.Version))
	return nil
}

func noTopic(word string) error {
	return &tool.Exit{Status: exitNoTopic, Text: fmt.Sprintf("No help topic for '%s'\n", word)}
}

// parents is the name of the commands above c.
func parents(c *cli.Command) string {
	return strings.TrimSpace(strings.TrimSuffix(c.FullName(), c.Name))
}

func help() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Aliases:   []string{"h"},
		Usage:     "Shows a list of commands or help for one command",
		ArgsUsage: "[command]",
		Action: func(ctx context.Context, c *cli.Command) error {
			about := c.Root()
			for _, word := range c.Args().Slice() {
				if about = about.Command(word); about == nil {
					return noTopic(word)
				}
			}
			t := tool.From(ctx)
			io.WriteString(t.Out, tool.Help(about, parents(about), t.Version))
			return nil
		},
	}
}

// usageError answers a command line with a wrong flag: what is wrong and the help
// on standard output, and what is wrong once more on standard error.
func usageError(_ context.Context, c *cli.Command, err error, help string) error {
	mark := ":"
	if c == c.Root() {
		mark = "."
	}
	fmt.Fprintf(c.Root().Writer, "Incorrect Usage%s %v\n\n%s", mark, err, help)
	return &tool.Exit{Status: exitBadArgs, Text: err.Error() + "\n", Err: err}
}

// endpoints gives the base URLs to begin with: flags, then the environment, then
// the default.
func endpoints(ctx context.Context, c *cli.Command) ([]string, error) {
	t, root := tool.From(ctx), c.Root()
	domain := first(root.String("discovery-srv"), t.Getenv("ETCDCTL_DISCOVERY_SRV"))
	if domain != "" {
		return discover(ctx, t, domain, root.Bool("insecure-discovery"))
	}
	list := first(
		root.String("endpoints"), root.String("endpoint"), root.String("peers"),
		t.Getenv("ETCDCTL_ENDPOINTS"), t.Getenv("ETCDCTL_ENDPOINT"), t.Getenv("ETCDCTL_PEERS"),
		defaultEndpoints,
	)
	var eps []string
	for e := range strings.SplitSeq(list, ",") {
		if e = strings.TrimSuffix(strings.TrimSpace(e), "/"); e == "" {
			continue
		}
		if !strings.Contains(e, "://") {
			e = "http://" + e
		}
		eps = append(eps, e)
	}
	return eps, nil
}

// discover keeps, unless told otherwise, only endpoints that prove who they are.
func discover(ctx context.Context, t *tool.Tool, domain string, insecure bool) ([]string, error) {
	if t.Discover == nil {
		return nil, errors.New("discovery by SRV records is not possible here")
	}
	found, err := t.Discover(ctx, domain)
	if err != nil || insecure {
		return found, err
	}
	var eps []string
	for _, e := range found {
		if strings.HasPrefix(e, "https://") {
			eps = append(eps, e)
		}
	}
	return eps, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// session is a connection to the cluster for one command.
type session struct {
	*client.Client
	t      *tool.Tool
	format string
	close  func()
}

// open connects without asking the cluster for its members.
func open(ctx context.Context, c *cli.Command) (*session, error) {
	t, root := tool.From(ctx), c.Root()
	eps, err := endpoints(ctx, c)
	if err != nil {
		return nil, plain(exitBadArgs, err)
	}
	d, err := t.Connect(tool.Connection{
		CertFile:    first(root.String("cert-file"), t.Getenv("ETCDCTL_CERT_FILE")),
		KeyFile:     first(root.String("key-file"), t.Getenv("ETCDCTL_KEY_FILE")),
		CAFile:      first(root.String("ca-file"), t.Getenv("ETCDCTL_CA_FILE")),
		DialTimeout: root.Duration("timeout"),
	})
	if err != nil {
		return nil, plain(exitBadArgs, err)
	}
	user, password, err := credentials(t, first(root.String("username"), t.Getenv("ETCDCTL_USERNAME")))
	if err != nil {
		return nil, plain(exitBadArgs, err)
	}
	s := &session{t: t, format: root.String("output"), close: func() {}}
	if closer, ok := d.(io.Closer); ok {
		s.close = func() { closer.Close() }
	}
	o := client.Options{
		Endpoints: eps, Timeout: root.Duration("timeout"), Total: root.Duration("total-timeout"),
		Rounds: 1, User: user, Password: password,
	}
	if root.Bool("debug") {
		o.Trace = s.trace
	}
	s.Client = client.New(d, o)
	return s, nil
}

// connect opens a session and, unless told not to, takes the endpoints that the
// members advertise.
func connect(ctx context.Context, c *cli.Command) (*session, error) {
	s, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	debug := c.Root().Bool("debug")
	if !c.Root().Bool("no-sync") {
		if debug {
			fmt.Fprintf(s.t.Err, "start to sync cluster using endpoints(%s)\n", strings.Join(s.Endpoints(), ","))
		}
		if err := s.sync(ctx); err != nil {
			s.close()
			return nil, err
		}
		if debug {
			fmt.Fprintf(s.t.Err, "got endpoints(%s) after sync\n", strings.Join(s.Endpoints(), ","))
		}
	}
	if debug {
		s.showEndpoints()
	}
	return s, nil
}

func (s *session) showEndpoints() {
	fmt.Fprintf(s.t.Err, "Cluster-Endpoints: %s\n", strings.Join(s.Endpoints(), ", "))
}

// sync fails the command only where nobody can be reached. A server that
// refuses to name its members may still answer about keys.
func (s *session) sync(ctx context.Context) error {
	err := s.Sync(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, client.ErrNoClientURLs):
		fmt.Fprintf(s.t.Err, "etcd cluster has no published client endpoints.\nTry '--no-sync' if you want to access non-published client endpoints(%s).\n", strings.Join(s.Endpoints(), ","))
		return failed(exitServer, err)
	}
	var refused *client.MemberError
	if errors.As(err, &refused) {
		return nil
	}
	return failed(exitConnection, err)
}

// trace shows a request as a command that repeats it.
func (s *session) trace(r *client.Request) {
	url := r.Endpoint + r.Path
	if r.Query != "" {
		url += "?" + r.Query
	}
	fmt.Fprintf(s.t.Err, "cURL Command: curl -X %s %s", r.Method, url)
	if r.ContentType != "" {
		fmt.Fprintf(s.t.Err, " -d %q", r.Body)
	}
	fmt.Fprintln(s.t.Err)
}

// credentials splits user:password, and asks for the password where it is missing.
func credentials(t *tool.Tool, flag string) (user, password string, err error) {
	user, password, given := strings.Cut(flag, ":")
	if flag == "" || given {
		return user, password, nil
	}
	password, err = askPassword(t, "Password: ")
	return user, password, err
}

// askPassword reads a line, without showing it where people type it.
func askPassword(t *tool.Tool, prompt string) (string, error) {
	fmt.Fprint(t.Out, prompt)
	read := t.ReadSecret
	if read == nil {
		read = func() (string, error) { return readLine(t.In) }
	}
	password, err := read()
	fmt.Fprintln(t.Out)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	return password, nil
}

// readLine reads up to the end of a line, and not a byte more.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := r.Read(b)
		switch {
		case n > 0 && b[0] == '\n', errors.Is(err, io.EOF):
			return strings.TrimSuffix(string(line), "\r"), nil
		case err != nil:
			return "", err
		case n > 0:
			line = append(line, b[0])
		}
	}
}
