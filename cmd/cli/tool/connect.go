package tool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

// defaultEndpoints are asked when neither flags nor environment name any.
const defaultEndpoints = "http://127.0.0.1:2379,http://127.0.0.1:4001"

// DefaultTLSDir is where keelson ca init and keelson join put a machine's certificates,
// and TLSDirVariable names another directory.
const (
	DefaultTLSDir  = "/etc/keelson/tls"
	TLSDirVariable = "KEELSON_TLS_DIR"
)

// ConnectionFlags say how keelson's own commands reach a cluster.
func ConnectionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "endpoints", DefaultText: defaultEndpoints, Usage: "a comma-delimited list of members or proxies"},
		&cli.StringFlag{Name: "cert-file", Usage: "identify to HTTPS servers with this certificate file"},
		&cli.StringFlag{Name: "key-file", Usage: "identify to HTTPS servers with this key file"},
		&cli.StringFlag{Name: "ca-file", Usage: "verify the certificates of HTTPS servers with this file"},
		&cli.StringFlag{Name: "username", Aliases: []string{"u"}, Usage: "`user:password`, where authentication is on; root only"},
		&cli.DurationFlag{Name: "timeout", Value: requestMax, Usage: "how long to wait until a server begins to answer"},
	}
}

const requestMax = 10 * time.Second

// RequestFlags are ConnectionFlags for commands whose --timeout is something else.
func RequestFlags() []cli.Flag {
	list := ConnectionFlags()
	list[len(list)-1] = &cli.DurationFlag{Name: "request-timeout", Value: requestMax, Usage: "how long to wait until a server begins to answer"}
	return list
}

// Dial makes a client of the flags; where one is not given, its environment variable
// stands in, as for etcdctl.
func Dial(ctx context.Context, c *cli.Command) (cl *client.Client, end func(), err error) {
	t := From(ctx)
	flag := func(name, variable string) string {
		if v := c.String(name); v != "" {
			return v
		}
		return t.Getenv(variable)
	}
	eps := endpoints(cmp.Or(flag("endpoints", "ETCDCTL_ENDPOINTS"), defaultEndpoints))
	timeout := cmp.Or(c.Duration("request-timeout"), c.Duration("timeout"))
	how := Connection{
		CertFile: flag("cert-file", "ETCDCTL_CERT_FILE"), KeyFile: flag("key-file", "ETCDCTL_KEY_FILE"),
		CAFile: flag("ca-file", "ETCDCTL_CA_FILE"), DialTimeout: timeout,
	}
	if slices.ContainsFunc(eps, func(e string) bool { return strings.HasPrefix(e, "https://") }) {
		if err := t.UseTLSDir(&how); err != nil {
			return nil, nil, err
		}
	}
	d, err := t.Connect(how)
	if err != nil {
		return nil, nil, err
	}
	end = func() {}
	if closer, ok := d.(io.Closer); ok {
		end = func() { closer.Close() }
	}
	user, password, _ := strings.Cut(c.String("username"), ":")
	return client.New(d, client.Options{
		Endpoints: eps, Timeout: timeout, Rounds: 1, User: user, Password: password,
	}), end, nil
}

// Endpoints are those that commands ask where no flag names others.
func Endpoints(t *Tool) string { return cmp.Or(t.Getenv("ETCDCTL_ENDPOINTS"), defaultEndpoints) }

// UseTLSDir takes the certificate that this machine shows where it is a client, if there
// is one and no file is named.
func (t *Tool) UseTLSDir(c *Connection) error {
	if c.CertFile != "" || c.KeyFile != "" || c.CAFile != "" || t.ReadFile == nil {
		return nil
	}
	dir := cmp.Or(t.Getenv(TLSDirVariable), DefaultTLSDir)
	cert := path.Join(dir, "client.crt")
	if _, err := t.ReadFile(cert); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("this machine's certificate: %w: ask as somebody who may read it, or name others with --ca-file, --cert-file and --key-file", err)
	}
	c.CertFile, c.KeyFile, c.CAFile = cert, path.Join(dir, "client.key"), path.Join(dir, "ca.crt")
	return nil
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
