package tool

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/client"
)

// defaultEndpoints are asked when neither flags nor environment name any.
const defaultEndpoints = "http://127.0.0.1:2379,http://127.0.0.1:4001"

// ConnectionFlags say how keelson's own commands reach a cluster.
func ConnectionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "endpoints", DefaultText: defaultEndpoints, Usage: "a comma-delimited list of members or proxies"},
		&cli.StringFlag{Name: "cert-file", Usage: "identify to HTTPS servers with this certificate file"},
		&cli.StringFlag{Name: "key-file", Usage: "identify to HTTPS servers with this key file"},
		&cli.StringFlag{Name: "ca-file", Usage: "verify the certificates of HTTPS servers with this file"},
		&cli.StringFlag{Name: "username", Aliases: []string{"u"}, Usage: "`user:password`, where authentication is on; root only"},
		&cli.DurationFlag{Name: "timeout", Value: 10 * time.Second, Usage: "how long to wait until a server begins to answer"},
	}
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
	d, err := t.Connect(Connection{
		CertFile: flag("cert-file", "ETCDCTL_CERT_FILE"), KeyFile: flag("key-file", "ETCDCTL_KEY_FILE"),
		CAFile: flag("ca-file", "ETCDCTL_CA_FILE"), DialTimeout: c.Duration("timeout"),
	})
	if err != nil {
		return nil, nil, err
	}
	end = func() {}
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
