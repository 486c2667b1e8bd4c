package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/realnet/web"
)

// cluster is some members, each a process of its own.
type cluster struct {
	dir     string
	net     *network // nil where they share the test's loopback
	client  []string
	peer    []string
	flags   []string // of every member, besides what makes it a member
	members []*process
	doer    *web.Doer // for the test's own questions
}

// startCluster starts n members with the defaults' timing and waits until they
// are healthy. With a network each member has a namespace of its own.
func startCluster(t *testing.T, n int, net *network, flags ...string) *cluster {
	t.Helper()
	c := &cluster{dir: t.TempDir(), net: net, flags: flags, members: make([]*process, n), doer: newDoer(t)}
	if net == nil {
		for _, u := range loopbackURLs(t, 2*n) {
			if len(c.client) < n {
				c.client = append(c.client, u)
			} else {
				c.peer = append(c.peer, u)
			}
		}
	} else {
		c.flags = append(c.flags, "--insecure")
		for i := range n {
			c.client = append(c.client, "http://"+net.address(i)+":2379")
			c.peer = append(c.peer, "http://"+net.address(i)+":2380")
		}
	}
	for i := range n {
		c.start(t, i)
	}
	c.healthy(t)
	return c
}

func newDoer(t *testing.T) *web.Doer {
	t.Helper()
	d, err := web.New(web.Config{DialTimeout: 500 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(d.Close)
	return d
}

// loopbackURLs gives URLs whose ports nobody has.
func loopbackURLs(t *testing.T, n int) (all []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		all = append(all, "http://"+l.Addr().String())
	}
	return all
}

func name(i int) string { return fmt.Sprintf("n%d", i+1) }

// data is the data directory of a member.
func (c *cluster) data(i int) string { return filepath.Join(c.dir, name(i)) }

func (c *cluster) args(i int) []string {
	var list []string
	for j, u := range c.peer {
		list = append(list, name(j)+"="+u)
	}
	return append([]string{
		"serve", "--name", name(i), "--data-dir", c.data(i),
		"--listen-client-urls", c.client[i], "--advertise-client-urls", c.client[i],
		"--listen-peer-urls", c.peer[i], "--initial-advertise-peer-urls", c.peer[i],
		"--initial-cluster", strings.Join(list, ","),
	}, c.flags...)
}

// start starts member i, again where it ran before.
func (c *cluster) start(t *testing.T, i int) {
	t.Helper()
	var s *space
	if c.net != nil {
		s = c.net.spaces[i]
	}
	c.members[i] = launch(t, s, c.dir, nil, append([]string{keelson(t)}, c.args(i)...)...)
}

func (c *cluster) kill(i int) { c.members[i].kill() }

// pause stops a process as a machine that hangs, without its knowing.
func (c *cluster) pause(i int)  { c.members[i].Process.Signal(syscall.SIGSTOP) }
func (c *cluster) resume(i int) { c.members[i].Process.Signal(syscall.SIGCONT) }

// ask gets a page of a member as JSON; false is no answer.
func (c *cluster) ask(endpoint, path string, into any) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	body, status, err := get(ctx, c.doer, endpoint, path)
	return err == nil && status == 200 && json.Unmarshal(body, into) == nil
}

func get(ctx context.Context, d client.Doer, endpoint, path string) (body []byte, status int, err error) {
	path, query, _ := strings.Cut(path, "?")
	resp, err := d.Do(ctx, &client.Request{Endpoint: endpoint, Method: "GET", Path: path, Query: query})
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return body, resp.Status, err
}

// healthy waits until the given members say that they are; all if none is given.
func (c *cluster) healthy(t *testing.T, which ...int) {
	t.Helper()
	if which == nil {
		which = c.others()
	}
	for _, i := range which {
		until(t, name(i)+" is healthy", func() bool {
			var h struct{ Health any }
			return c.ask(c.client[i], "/health", &h) && fmt.Sprint(h.Health) == "true"
		})
	}
}

// leader is the member that leads.
func (c *cluster) leader(t *testing.T) (leader int) {
	t.Helper()
	until(t, "there is one leader", func() bool {
		found := 0
		for i, u := range c.client {
			var self struct{ State string }
			if c.ask(u, "/v2/stats/self", &self) && self.State == "StateLeader" {
				leader = i
				found++
			}
		}
		return found == 1
	})
	return leader
}

// others are all members but the given ones.
func (c *cluster) others(but ...int) (all []int) {
next:
	for i := range c.client {
		for _, b := range but {
			if i == b {
				continue next
			}
		}
		all = append(all, i)
	}
	return all
}

// keys gives a client of the given members; of all if none is given.
func (c *cluster) keys(t *testing.T, which ...int) *client.Keys {
	t.Helper()
	var endpoints []string
	if which == nil {
		which = c.others()
	}
	for _, i := range which {
		endpoints = append(endpoints, c.client[i])
	}
	return client.New(c.doer, client.Options{Endpoints: endpoints}).Keys()
}
