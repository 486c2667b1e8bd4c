// Package snapshot is the command line of backups: save, restore, inspect and verify.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

// Run runs one command line, args[0] being "snapshot", and gives its exit status.
func Run(ctx context.Context, t *tool.Tool, args []string) int {
	cmd := Command()
	t.Prepare(cmd, "keelson", usageError)
	return t.Finish("keelson snapshot", t.Execute(ctx, cmd, args))
}

// Command is the command tree.
func Command() *cli.Command {
	return &cli.Command{
		Name:     "snapshot",
		Usage:    "save, restore and check backups",
		Commands: []*cli.Command{save(), restore(), inspect(), verify()},
		Action: func(ctx context.Context, c *cli.Command) error {
			if word := c.Args().First(); word != "" {
				return &tool.Exit{Status: exitUsage, Text: fmt.Sprintf("keelson snapshot: unknown command %q: want save, restore, inspect or verify\n", word)}
			}
			t := tool.From(ctx)
			_, err := io.WriteString(t.Out, tool.Help(c, "keelson", t.Version))
			return err
		},
	}
}

const exitUsage = 2

func usageError(_ context.Context, _ *cli.Command, err error, help string) error {
	return &tool.Exit{Status: exitUsage, Text: err.Error() + "\n\n" + help, Err: err}
}

// file is the one argument that every verb takes.
func file(c *cli.Command) (string, error) {
	if c.NArg() != 1 {
		text := fmt.Sprintf("keelson snapshot %s: want the name of one file, have %d arguments\n", c.Name, c.NArg())
		return "", &tool.Exit{Status: exitUsage, Text: text}
	}
	return c.Args().First(), nil
}

// files are this machine's, if the command runs on one that has any.
func files(ctx context.Context) (tool.Files, error) {
	if f := tool.From(ctx).Files; f != nil {
		return f, nil
	}
	return nil, errors.New("there are no files here")
}

// about says which file an error is about.
func about(name string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s: %w", name, path.Err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// defaultEndpoints are asked when neither flags nor environment name any.
const defaultEndpoints = "http://127.0.0.1:2379,http://127.0.0.1:4001"

// connectionFlags say how a server is reached.
func connectionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "endpoints", DefaultText: defaultEndpoints, Usage: "a comma-delimited list of members or proxies"},
		&cli.StringFlag{Name: "cert-file", Usage: "identify to HTTPS servers with this certificate file"},
		&cli.StringFlag{Name: "key-file", Usage: "identify to HTTPS servers with this key file"},
		&cli.StringFlag{Name: "ca-file", Usage: "verify the certificates of HTTPS servers with this file"},
		&cli.StringFlag{Name: "username", Aliases: []string{"u"}, Usage: "`user:password`, where authentication is on; root only"},
		&cli.DurationFlag{Name: "timeout", Value: 10 * time.Second, Usage: "how long to wait until a server begins to answer"},
	}
}

// connect makes a client of the flags; where one is not given, its environment
// variable stands in, as for etcdctl.
func connect(ctx context.Context, c *cli.Command) (*client.Client, func(), error) {
	t := tool.From(ctx)
	flag := func(name, variable string) string {
		if v := c.String(name); v != "" {
			return v
		}
		return t.Getenv(variable)
	}
	d, err := t.Connect(tool.Connection{
		CertFile: flag("cert-file", "ETCDCTL_CERT_FILE"), KeyFile: flag("key-file", "ETCDCTL_KEY_FILE"),
		CAFile: flag("ca-file", "ETCDCTL_CA_FILE"), DialTimeout: c.Duration("timeout"),
	})
	if err != nil {
		return nil, nil, err
	}
	end := func() {}
	if closer, ok := d.(io.Closer); ok {
		end = func() { closer.Close() }
	}
	user, password, _ := strings.Cut(c.String("username"), ":")
	list := flag("endpoints", "ETCDCTL_ENDPOINTS")
	if list == "" {
		list = defaultEndpoints
	}
	return client.New(d, client.Options{
		Endpoints: endpoints(list), Timeout: c.Duration("timeout"), Rounds: 1, User: user, Password: password,
	}), end, nil
}

func endpoints(list string) (eps []string) {
	for e := range strings.SplitSeq(list, ",") {
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

// amount is a number of bytes for people.
func amount(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
