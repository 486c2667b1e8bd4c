package etcdctl_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/etcdctl"
	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

// script answers requests without any server.
type script struct {
	answer func(r *client.Request) (int, string, error)
	asked  []string
	now    time.Duration
}

func (s *script) Do(_ context.Context, r *client.Request) (*client.Response, error) {
	s.asked = append(s.asked, r.Method+" "+r.Endpoint+r.Path)
	status, body, err := s.answer(r)
	if err != nil {
		return nil, err
	}
	return &client.Response{Status: status, Header: map[string]string{"X-Etcd-Index": "5"}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func (s *script) Sleep(ctx context.Context, d time.Duration) error {
	s.now += d
	return ctx.Err()
}
func (s *script) Now() time.Duration { return s.now }
func (s *script) Float64() float64   { return 0.999 } // leaves every order as it is

func (s *script) run(env map[string]string, args string) outcome {
	var out, errs bytes.Buffer
	t := newTool(strings.NewReader(""), &out, &errs, env)
	t.Connect = s.connect
	t.Run = nil
	status := etcdctl.Run(context.Background(), t, append([]string{"etcdctl"}, line{args: args}.words("")...))
	return outcome{out.String(), errs.String(), status}
}

const nodeBody = `{"action":"get","node":{"key":"/a","value":"1","modifiedIndex":4,"createdIndex":4}}`

func always(status int, body string) func(*client.Request) (int, string, error) {
	return func(*client.Request) (int, string, error) { return status, body, nil }
}

func TestWhichEndpoint(t *testing.T) {
	for _, c := range []struct {
		args string
		env  map[string]string
		want string
	}{
		{"--no-sync get /a", nil, "http://127.0.0.1:2379"},
		{"--no-sync --endpoints 10.0.0.1:2379 get /a", nil, "http://10.0.0.1:2379"},
		{"--no-sync --endpoints localhost:2379/ get /a", nil, "http://localhost:2379"},
		{"--no-sync -C http://c --endpoint http://b --endpoints http://a get /a", nil, "http://a"},
		{"--no-sync -C http://c --endpoint http://b get /a", nil, "http://b"},
		{"--no-sync -C http://c get /a", map[string]string{"ETCDCTL_ENDPOINTS": "http://a"}, "http://c"},
		{"--no-sync get /a", map[string]string{"ETCDCTL_ENDPOINTS": "https://a,http://b", "ETCDCTL_PEERS": "http://c"}, "https://a"},
		{"--no-sync get /a", map[string]string{"ETCDCTL_ENDPOINT": "http://b", "ETCDCTL_PEERS": "http://c"}, "http://b"},
		{"--no-sync get /a", map[string]string{"ETCDCTL_PEERS": "http://c"}, "http://c"},
	} {
		s := &script{answer: always(200, nodeBody)}
		assert.Equal(t, outcome{"1\n", "", 0}, s.run(c.env, c.args))
		assert.Equal(t, []string{"GET " + c.want + "/v2/keys/a"}, s.asked, c.args)
	}
	s := &script{answer: always(200, nodeBody)}
	assert.Equal(t, outcome{"", "Error:  client: no endpoints available\n", 4}, s.run(nil, "--no-sync --endpoints , get /a"))
	assert.Equal(t, outcome{"", "discovery by SRV records is not possible here\n", 1}, s.run(nil, "-D example.com get /a"))
}

// A write that got no answer is not sent again, and the user is told why.
func TestUnknownOutcomeIsSaid(t *testing.T) {
	s := &script{answer: func(*client.Request) (int, string, error) { return 0, "", client.ErrTimeout }}
	o := s.run(nil, "--no-sync set /a 1")
	assert.Equal(t, 4, o.Status)
	assert.Len(t, s.asked, 1)
	assert.Equal(t, "Error:  client: etcd cluster is unavailable or misconfigured; error #0: client: endpoint http://127.0.0.1:2379 exceeded header timeout\n"+
		"\nerror #0: client: endpoint http://127.0.0.1:2379 exceeded header timeout\n"+
		"\nhint: it is not known whether the request took effect; look before trying again\n", o.Stderr)

	s.asked = nil
	o = s.run(nil, "--no-sync get /a")
	assert.Len(t, s.asked, 2, "a read is asked of the next endpoint")
	assert.NotContains(t, o.Stderr, "hint")
}

func TestPlainReadsLeaveItToTheServer(t *testing.T) {
	var query string
	s := &script{answer: func(r *client.Request) (int, string, error) {
		query = r.Query
		return 200, nodeBody, nil
	}}
	s.run(nil, "--no-sync get /a")
	assert.NotContains(t, query, "quorum")
	s.run(nil, "--no-sync ls /a --quorum")
	assert.Contains(t, query, "quorum=true")
}

func TestHealthOfEveryKind(t *testing.T) {
	members := `{"members":[{"id":"1","name":"a","clientURLs":["http://a:1","http://a:2"]},{"id":"2","name":"b","clientURLs":["http://b:1"]},` +
		`{"id":"3","name":"c","clientURLs":["http://c:1"]},{"id":"4","name":"","clientURLs":[]}]}`
	healthOfC := `{"health":"true"}`
	s := &script{answer: func(r *client.Request) (int, string, error) {
		switch {
		case r.Path == "/v2/members":
			return 200, members, nil
		case strings.HasPrefix(r.Endpoint, "http://a"):
			return 0, "", errors.New("refused")
		case r.Endpoint == "http://b:1":
			return 503, `{"health": "false"}`, nil
		}
		return 200, healthOfC, nil
	}}
	want := `failed to check the health of member 1 on http://a:1: Get "http://a:1/health": refused
failed to check the health of member 1 on http://a:2: Get "http://a:2/health": refused
member 1 is unreachable: [http://a:1 http://a:2] are all unreachable
member 2 is unhealthy: got unhealthy result from http://b:1
member 3 is healthy: got healthy result from http://c:1
member 4 is unreachable: no available published client urls
cluster is healthy
`
	assert.Equal(t, outcome{want, "", 0}, s.run(nil, "cluster-health"))
	healthOfC = `{"health":false}`
	o := s.run(nil, "cluster-health")
	assert.Equal(t, 5, o.Status)
	assert.True(t, strings.HasSuffix(o.Stdout, "cluster is unhealthy\n"), o.Stdout)
}

func TestMemberCommands(t *testing.T) {
	members := `{"members":[{"id":"24e2ba8d9dc7b432","name":"r2","peerURLs":["http://p:1","http://p:2"],"clientURLs":["http://c:1"]},` +
		`{"id":"6676938cdbdb9e9d","name":"","peerURLs":["http://q:1"],"clientURLs":[]}]}`
	s := &script{answer: func(r *client.Request) (int, string, error) {
		switch {
		case r.Method == "POST":
			return 201, `{"id":"6676938cdbdb9e9d","name":"","peerURLs":["http://q:1"],"clientURLs":[]}`, nil
		case r.Method == "PUT":
			return 409, `{"message":"etcdserver: peerURL exists"}`, nil
		case r.Method == "DELETE":
			return 501, `{"message":"not offered"}`, nil
		case r.Path == "/v2/members/leader":
			return 200, `{"id":"24e2ba8d9dc7b432"}`, nil
		}
		return 200, members, nil
	}}
	assert.Equal(t, outcome{"24e2ba8d9dc7b432: name=r2 peerURLs=http://p:1,http://p:2 clientURLs=http://c:1 isLeader=true\n" +
		"6676938cdbdb9e9d[unstarted]: peerURLs=http://q:1\n", "", 0}, s.run(nil, "member list"))
	assert.Equal(t, outcome{"Added member named n4 with ID 6676938cdbdb9e9d to cluster\n\nETCD_NAME=\"n4\"\n" +
		"ETCD_INITIAL_CLUSTER=\"r2=http://p:1,r2=http://p:2,n4=http://q:1\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n", "", 0},
		s.run(nil, "member add n4 http://q:1"))
	assert.Equal(t, outcome{"", "etcdserver: peerURL exists\n", 1}, s.run(nil, "member update 6676938cdbdb9e9d http://p:1"))
	assert.Equal(t, outcome{"", "Received an error trying to remove member 6676938cdbdb9e9d: not offered\n", 1},
		s.run(nil, "member remove 6676938cdbdb9e9d"))
}

func TestNothingIsDroppedInSilence(t *testing.T) {
	s := &script{answer: always(200, nodeBody)}
	assert.Equal(t, outcome{"", "Error:  --ttl stands behind the value: put flags before the key\n", 1}, s.run(nil, "set /a -5 --ttl 3"))
	assert.Equal(t, outcome{"", "running commands is not possible here\n", 1}, s.run(nil, "exec-watch /a -- true"))
	assert.Empty(t, s.asked)
}

func TestServersWithoutAddresses(t *testing.T) {
	s := &script{answer: always(200, `{"members":[{"id":"1","name":"a","clientURLs":[]}]}`)}
	o := s.run(map[string]string{"ETCDCTL_ENDPOINTS": "http://a"}, "get /a")
	assert.Equal(t, outcome{"", "etcd cluster has no published client endpoints.\nTry '--no-sync' if you want to access non-published client endpoints(http://a).\n" +
		"Error:  client: no endpoints available\n", 4}, o)
}

// each calls fn for every command with the words that reach it.
func each(cmd *cli.Command, above string, fn func(words string, c *cli.Command)) {
	for _, sub := range cmd.Commands {
		words := strings.TrimSpace(above + " " + sub.Name)
		fn(words, sub)
		each(sub, words, fn)
	}
}

// The reference page has every verb with its usage, and every flag with its help.
func TestReferencePage(t *testing.T) {
	text, err := os.ReadFile("../../../docs/etcdctl.md")
	require.NoError(t, err)
	page := string(text)
	root := etcdctl.Command(newTool(nil, io.Discard, io.Discard, nil))
	row := func(f tool.Flag) string { return fmt.Sprintf("| `%s` | %s |", f.Names, f.Usage) }
	for _, f := range tool.Flags(root) {
		assert.Contains(t, page, row(f))
	}
	each(root, "", func(words string, c *cli.Command) {
		if len(c.Commands) > 0 {
			return
		}
		title := strings.TrimSpace("### " + words + " " + strings.TrimSpace(c.ArgsUsage))
		_, section, found := strings.Cut(page, title+"\n")
		if !assert.Truef(t, found, "%q is missing", title) {
			return
		}
		section, _, _ = strings.Cut(section, "\n### ")
		for _, f := range tool.Flags(c) {
			assert.Containsf(t, section, row(f), "section %s", words)
		}
	})
	for _, l := range strings.Split(page, "\n") {
		if !strings.HasPrefix(l, "### ") {
			continue
		}
		words := strings.Fields(strings.NewReplacer("<", "#", "[", "#").Replace(l[4:]))
		words = words[:max(0, slices.IndexFunc(append(words, "#"), func(w string) bool { return w[0] == '#' }))]
		c := root
		for _, w := range words {
			if c = c.Command(w); c == nil {
				break
			}
		}
		assert.NotNilf(t, c, "no such command: %s", l)
	}
}

func TestInterrupts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	in, typing := io.Pipe()
	defer typing.Close()
	var out, errs bytes.Buffer
	done := make(chan int, 1)
	go func() { done <- etcdctl.Run(ctx, newTool(in, &out, &errs, nil), []string{"etcdctl", "set", "/a"}) }()
	cancel()
	assert.Equal(t, 1, <-done, "nobody types")

	s := &script{answer: func(*client.Request) (int, string, error) { return 0, "", context.Canceled }}
	for _, args := range []string{"watch /a", "--no-sync watch /a", "--no-sync exec-watch /a -- true"} {
		tool := newTool(in, &out, &errs, nil)
		tool.Connect = s.connect
		assert.Equal(t, 0, etcdctl.Run(ctx, tool, append([]string{"etcdctl"}, strings.Fields(args)...)), args)
	}
}

func (s *script) connect(tool.Connection) (client.Doer, error) { return s, nil }
