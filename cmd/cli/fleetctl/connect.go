package fleetctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

// cluster is what commands ask of a cluster. A unit that does not exist is nil.
type cluster interface {
	List(ctx context.Context, details bool) ([]client.Unit, error)
	Get(ctx context.Context, name string) (*client.Unit, error)
	Put(ctx context.Context, u *client.Unit) error
	Delete(ctx context.Context, name string) error
	States(ctx context.Context, f client.StateFilter) ([]client.UnitState, error)
	Machines(ctx context.Context, details bool) ([]client.Machine, error)
}

// connect reaches the cluster by the driver that was asked for.
func (c *call) connect(ctx context.Context) error {
	if c.cluster != nil {
		return nil
	}
	if err := c.dial(); err != nil {
		return &tool.Exit{Status: exitFailed, Text: fmt.Sprintf("Unable to initialize client: %v\n", err), Err: err}
	}
	return nil
}

func (c *call) dial() error {
	driver := strings.ToLower(c.text("driver"))
	if driver != "api" && driver != "etcd" {
		return fmt.Errorf("unrecognized driver %q", c.text("driver"))
	}
	eps, err := c.endpoints(driver)
	if err != nil {
		return err
	}
	how, err := c.connection(eps)
	if err != nil {
		return err
	}
	d, err := c.Connect(how)
	if err != nil {
		return err
	}
	if closer, ok := d.(io.Closer); ok {
		c.ends = append(c.ends, func() { closer.Close() })
	}
	c.clock = d
	c.all = client.New(d, c.options(eps))
	if driver == "etcd" {
		c.cluster = newStore(c.all, c.text("etcd-key-prefix"))
	} else {
		c.cluster = c.all.Units()
	}
	c.changes = c.all.Units().Changes(driver != "etcd") // keys have to be looked at again and again
	c.ends = append(c.ends, c.changes.Close)
	return nil
}

func (c *call) options(eps []string) client.Options {
	o := client.Options{Endpoints: eps, Timeout: c.duration("request-timeout"), Rounds: 1, Ordered: true}
	o.User, o.Password, _ = strings.Cut(cmp.Or(c.text("username"), c.user), ":")
	if c.yes("debug") {
		o.Trace = func(r *client.Request) {
			c.warn("DEBUG %s %s%s?%s %s", r.Method, r.Endpoint, r.Path, r.Query, r.Body)
		}
	}
	return o
}

func (c *call) endpoints(driver string) (eps []string, err error) {
	list := c.text("endpoint")
	if driver == "etcd" && !c.given("endpoint") {
		list = defaultStores
	}
	for e := range strings.SplitSeq(list, ",") {
		e, user, err := endpoint(strings.TrimSpace(e))
		if err != nil {
			return nil, err
		}
		c.user = cmp.Or(c.user, user)
		eps = append(eps, e)
	}
	return eps, nil
}

// endpoint checks one address, and takes out who asks, as name:password. A file is a socket.
func endpoint(text string) (address, user string, err error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", "", err
	}
	switch u.Scheme {
	case "":
		return "", "", errors.New("URL scheme undefined")
	case "unix", "file":
		if u.Host != "" { // a slash is missing
			return "", "", fmt.Errorf("unable to connect to host %q with scheme %q", u.Host, u.Scheme)
		}
		return "unix://" + u.Path, "", nil
	case "http", "https":
		if u.User != nil {
			password, _ := u.User.Password()
			user = u.User.Username() + ":" + password
			u.User = nil
			text = u.String()
		}
		return strings.TrimSuffix(text, "/"), user, nil
	}
	return "", "", fmt.Errorf("URL scheme %q: want unix, file, http or https", u.Scheme)
}

func (c *call) connection(eps []string) (tool.Connection, error) {
	how := tool.Connection{
		CAFile:      cmp.Or(c.text("ca-file"), c.text("etcd-cafile")),
		CertFile:    cmp.Or(c.text("cert-file"), c.text("etcd-certfile")),
		KeyFile:     cmp.Or(c.text("key-file"), c.text("etcd-keyfile")),
		DialTimeout: c.duration("request-timeout"),
	}
	if c.text("tunnel") != "" {
		s, err := c.sshOptions(false)
		if err != nil {
			return how, err
		}
		how.Tunnel = &s
	}
	if slices.ContainsFunc(eps, func(e string) bool { return strings.HasPrefix(e, "https://") }) {
		return how, c.UseTLSDir(&how)
	}
	return how, nil
}

// api is the units API with all its pages; nil where the driver is another.
func (c *call) api() *client.Units {
	u, _ := c.cluster.(*client.Units)
	return u
}

// machines gives the machines, and remembers their addresses.
func (c *call) machines(ctx context.Context) ([]client.Machine, error) {
	all, err := c.cluster.Machines(ctx, false)
	if err != nil {
		return nil, err
	}
	c.remember(all)
	return all, nil
}

func (c *call) remember(all []client.Machine) {
	c.ips = map[string]string{}
	for _, m := range all {
		c.ips[m.ID] = m.PrimaryIP
	}
}

// ip is the address of a machine, "" where nobody knows it. The list of machines is asked
// for again where it lacks this one.
func (c *call) ip(ctx context.Context, id string) string {
	if id == "" {
		return ""
	}
	if _, known := c.ips[id]; !known {
		if _, err := c.machines(ctx); err != nil {
			return ""
		}
		if _, known := c.ips[id]; !known {
			c.ips[id] = ""
		}
	}
	return c.ips[id]
}

// place is how a machine is shown: 1a1a1a1a.../10.78.0.11.
func (c *call) place(ctx context.Context, id string, full bool) string {
	if id == "" {
		return "-"
	}
	s := client.ShortID(id)
	if full {
		s = id
	}
	if ip := c.ip(ctx, id); ip != "" {
		s += "/" + ip
	}
	return s
}
