// Package discovery is the command line of discovery tokens: make one, show who has used it, release a place.
package discovery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

// Verbs are the words that Run takes; without one of them keelson discovery is a
// server.
var Verbs = []string{"new", "show", "release"}

// Run runs one command line, args[0] being "discovery", and gives its exit status.
func Run(ctx context.Context, t *tool.Tool, args []string) int {
	cmd := &cli.Command{
		Name:     "discovery",
		Usage:    "make tokens and look after them",
		Commands: []*cli.Command{newToken(), show(), release()},
	}
	t.Prepare(cmd, "keelson", func(_ context.Context, _ *cli.Command, err error, help string) error {
		return &tool.Exit{Status: exitUsage, Text: err.Error() + "\n\n" + help, Err: err}
	})
	return t.Finish("keelson discovery", t.Execute(ctx, cmd, args))
}

const (
	exitUsage   = 2
	exitUnknown = 4 // nobody knows whether it was done
)

// serverDefault is the service that is asked where none is named.
const serverDefault = "http://127.0.0.1:2379"

func flags(more ...cli.Flag) []cli.Flag {
	return append(more,
		&cli.StringFlag{Name: "cert-file", Usage: "identify to HTTPS servers with this certificate file"},
		&cli.StringFlag{Name: "key-file", Usage: "identify to HTTPS servers with this key file"},
		&cli.StringFlag{Name: "ca-file", Usage: "verify the certificates of HTTPS servers with this file"},
		&cli.DurationFlag{Name: "timeout", Value: 10 * time.Second, Usage: "how long to wait for an answer"},
	)
}

func newToken() *cli.Command {
	return &cli.Command{
		Name: "new", Usage: "make a token and print its URL", ArgsUsage: "[URL of a member or of keelson discovery]",
		Description: "Give the URL to each machine of the new cluster: keelson serve --discovery URL. The first\n" +
			"SIZE that use it become the members; later ones become proxies. One token makes one cluster.",
		Flags: flags(
			&cli.IntFlag{Name: "size", Value: 3, Usage: "members of the cluster"},
			&cli.StringFlag{Name: "ttl", Usage: "time until the token expires: seconds, or a time such as 24h; by default what the server says"},
		),
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.NArg() > 1 || c.Int("size") < 1 {
				return usage(c, "want at most one URL, and a size of 1 or more")
			}
			q := url.Values{"size": {strconv.Itoa(c.Int("size"))}}
			if ttl := c.String("ttl"); ttl != "" {
				q.Set("ttl", ttl)
			}
			server := cmp.Or(c.Args().First(), serverDefault)
			a, err := ask(ctx, c, "POST", strings.TrimSuffix(server, "/")+"/new?"+q.Encode())
			if err != nil {
				return err
			}
			if a.status != 200 {
				return fmt.Errorf("new: %s answers %d: %s", server, a.status, strings.TrimSpace(a.body))
			}
			_, err = fmt.Fprintln(tool.From(ctx).Out, a.body)
			return err
		},
	}
}

func show() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "list who has used a token", ArgsUsage: "TOKEN-URL", Flags: flags(),
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.NArg() != 1 {
				return usage(c, "want TOKEN-URL")
			}
			t, err := look(ctx, c, c.Args().First())
			if err != nil {
				return err
			}
			out := tool.From(ctx).Out
			for i, p := range t.places {
				note := ""
				if i >= t.size {
					note = " (too late)"
				}
				fmt.Fprintf(out, "%s %s%s\n", printable(p.id), printable(p.value), note)
			}
			_, err = fmt.Fprintf(out, "%d of %d\n", min(len(t.places), t.size), t.size)
			return err
		},
	}
}

func release() *cli.Command {
	return &cli.Command{
		Name: "release", Usage: "release the place of a machine that lost its disk while it waited", ArgsUsage: "TOKEN-URL NAME",
		Description: "Only while the token is not complete: after that the cluster may have begun, and a machine\n" +
			"without its disk is replaced (keelson member replace).",
		Flags: flags(),
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.NArg() != 2 {
				return usage(c, "want TOKEN-URL and NAME")
			}
			base, name := strings.TrimSuffix(c.Args().Get(0), "/"), c.Args().Get(1)
			t, err := look(ctx, c, base)
			if err != nil {
				return err
			}
			p, err := t.named(name)
			if err != nil {
				return fmt.Errorf("release: %w", err)
			}
			a, err := ask(ctx, c, "DELETE", base+"/"+p.id+"?prevIndex="+strconv.FormatUint(p.index, 10))
			if err != nil {
				return err
			}
			if a.status != 200 {
				return fmt.Errorf("release: %s: %w", name, a.refusal())
			}
			_, err = fmt.Fprintf(tool.From(ctx).Out, "released the place of %s\n", name)
			return err
		},
	}
}

// token is what a token holds.
type token struct {
	size   int
	places []place // in the order in which they were taken
}

type place struct {
	id, value string
	index     uint64
}

// named finds the one machine of that name, if its place may be released.
func (t *token) named(name string) (*place, error) {
	if len(t.places) >= t.size {
		return nil, fmt.Errorf("the token is complete: its cluster may run; have the machine replaced (keelson member replace %s)", name)
	}
	var found []*place
	for i := range t.places {
		if n, _, _ := strings.Cut(t.places[i].value, "="); n == name {
			found = append(found, &t.places[i])
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("no machine named %s has used the token: see keelson discovery show", name)
	}
	return nil, fmt.Errorf("%d machines named %s have used the token, which spoils it: make a new one", len(found), name)
}

// event is an answer of the keys API.
type event struct {
	Node struct {
		Key   string `json:"key"`
		Value string `json:"value"`
		Nodes []struct {
			Key      string `json:"key"`
			Value    string `json:"value"`
			Created  uint64 `json:"createdIndex"`
			Modified uint64 `json:"modifiedIndex"`
		} `json:"nodes"`
	} `json:"node"`
}

func look(ctx context.Context, c *cli.Command, base string) (*token, error) {
	base = strings.TrimSuffix(base, "/")
	var size, dir event
	for _, q := range []struct {
		path string
		to   *event
	}{{"/_config/size", &size}, {"", &dir}} {
		a, err := ask(ctx, c, "GET", base+q.path)
		if err != nil {
			return nil, err
		}
		if a.status != 200 {
			return nil, fmt.Errorf("%s: %s: %w", c.Name, base, a.refusal())
		}
		if err := json.Unmarshal([]byte(a.body), q.to); err != nil {
			return nil, fmt.Errorf("%s: %s is no discovery token: %w", c.Name, base, err)
		}
	}
	n, err := strconv.Atoi(size.Node.Value)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: the size of the token is %q", c.Name, base, size.Node.Value)
	}
	t := &token{size: n}
	created := make(map[string]uint64)
	for _, x := range dir.Node.Nodes {
		t.places = append(t.places, place{path.Base(x.Key), x.Value, x.Modified})
		created[path.Base(x.Key)] = x.Created
	}
	slices.SortFunc(t.places, func(x, y place) int { return cmp.Compare(created[x.id], created[y.id]) })
	return t, nil
}

// answer is a whole answer.
type answer struct {
	status int
	body   string
}

func (a *answer) refusal() error {
	var no struct {
		Code    int    `json:"errorCode"`
		Message string `json:"message"`
		Cause   string `json:"cause"`
	}
	if json.Unmarshal([]byte(a.body), &no) == nil && no.Code != 0 {
		return fmt.Errorf("%d: %s (%s)", no.Code, no.Message, no.Cause)
	}
	return fmt.Errorf("status %d: %s", a.status, strings.TrimSpace(a.body))
}

// bodyMax bounds what a server may answer.
const bodyMax = 1 << 20

// ask sends one request. It is not sent again: a token that nobody knows of is
// harmless, but two are confusing.
func ask(ctx context.Context, c *cli.Command, method, target string) (*answer, error) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usage(c, fmt.Sprintf("%q: want http://host:port/…", target))
	}
	t := tool.From(ctx)
	d, err := t.Connect(tool.Connection{
		CertFile: c.String("cert-file"), KeyFile: c.String("key-file"), CAFile: c.String("ca-file"), DialTimeout: c.Duration("timeout"),
	})
	if err != nil {
		return nil, err
	}
	if closer, ok := d.(io.Closer); ok {
		defer closer.Close()
	}
	r, err := d.Do(ctx, &client.Request{
		Endpoint: u.Scheme + "://" + u.Host, Method: method, Path: u.EscapedPath(), Query: u.RawQuery, Timeout: c.Duration("timeout"),
	})
	if errors.Is(err, client.ErrUnknown) && method != "GET" {
		return nil, &tool.Exit{Status: exitUnknown, Err: err, Text: fmt.Sprintf("keelson discovery %s: outcome unknown: %v\n", c.Name, err)}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s does not answer: %w", c.Name, u.Host, err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, bodyMax))
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", c.Name, u.Host, err)
	}
	return &answer{r.Status, string(body)}, nil
}

func usage(c *cli.Command, text string) error {
	return &tool.Exit{Status: exitUsage, Text: fmt.Sprintf("keelson discovery %s: %s\n", c.Name, text)}
}

// printable quotes what somebody registered, where a terminal could take it for more
// than text.
func printable(s string) string {
	if strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return strconv.Quote(s)
	}
	return s
}
