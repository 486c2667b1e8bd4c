package transport

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/realnet/authority"
	"github.com/keelson/keelson/realnet/secure"
)

// startSecured starts a node that is reached by TLS as well as in the clear, with
// certificates of dir. Its URL is the one of TLS.
func startSecured(t *testing.T, id env.NodeID, dir, ca string) *node {
	t.Helper()
	return startShowing(t, id, filepath.Join(dir, "peer"), ca)
}

// startShowing is startSecured with the certificate of a path without .crt.
func startShowing(t *testing.T, id env.NodeID, path, ca string) *node {
	t.Helper()
	k, err := secure.Open(secure.Files{Cert: path + ".crt", Key: path + ".key", CA: ca, ClientAuth: true}, secure.Options{Log: &node{}})
	require.NoError(t, err)
	t.Cleanup(k.Close)
	n := start(t, id, "127.0.0.1:0", func(o *Options) {
		o.Admit = secure.CheckName
		o.Dial = func(ctx context.Context, u *url.URL) (net.Conn, error) {
			conn, err := DialTCP(ctx, u.Host)
			if err != nil {
				return nil, err
			}
			return k.Dial(ctx, conn, u.Host)
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n.url = "https://" + l.Addr().String()
	n.Serve(k.Listen(l, nil))
	return n
}

func authorityIn(t *testing.T, name string) (dir, ca string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), name)
	_, err := authority.Init(dir, name, authority.Order{Name: name + "-machine"}, time.Now())
	require.NoError(t, err)
	return dir, filepath.Join(dir, authority.CertFile)
}

func TestFramesOverTLS(t *testing.T) {
	dir, ca := authorityIn(t, "ours")
	a, b := startSecured(t, 1, dir, ca), startSecured(t, 2, dir, ca)
	a.know(map[env.NodeID][]string{2: {b.url}})
	b.know(map[env.NodeID][]string{1: {a.url}})
	for i := range 2000 {
		frame := fmt.Appendf(nil, "%d%s", i, strings.Repeat(".", i*i%50000))
		for !a.Send(2, frame) {
			time.Sleep(time.Millisecond)
		}
	}
	last := -1
	for last < 1999 {
		select {
		case f := <-b.frames:
			var i int
			_, err := fmt.Sscanf(f, "1:%d", &i)
			require.NoError(t, err)
			require.Equal(t, last+1, i, "in order, whole")
			last = i
		case <-time.After(20 * time.Second):
			t.Fatal("frames are missing: ", last, a.logged(), b.logged())
		}
	}
}

func TestForeignCallersAreNamed(t *testing.T) {
	dir, ca := authorityIn(t, "ours")
	foreign, _ := authorityIn(t, "foreign")
	a, b := startSecured(t, 1, dir, ca), startSecured(t, 2, foreign, ca)
	b.know(map[env.NodeID][]string{1: {a.url}})
	require.Eventually(t, func() bool {
		return strings.Contains(a.logged(), `the certificate of "CN=foreign-machine", issued by "CN=foreign", is refused`)
	}, 10*time.Second, time.Millisecond)
	a.know(map[env.NodeID][]string{2: {b.url}})
	require.Eventually(t, func() bool {
		return strings.Contains(a.logged(), `peer unreachable`)
	}, 10*time.Second, time.Millisecond)
	assert.Empty(t, b.frames)
}

// A certificate is good for the node at whose URLs it was issued, and for no other.
func TestNobodyPassesForAnotherNode(t *testing.T) {
	dir, ca := authorityIn(t, "ours")
	a, err := authority.Open(dir)
	require.NoError(t, err)
	require.NoError(t, a.IssueFiles(dir, "third", authority.Order{Name: "third", Hosts: []string{"third.invalid"}, Role: authority.Peer}, time.Now()))
	one := startSecured(t, 1, dir, ca)
	impostor := startShowing(t, 2, filepath.Join(dir, "third"), ca)
	one.know(map[env.NodeID][]string{2: {"https://127.0.0.1:1"}})
	impostor.know(map[env.NodeID][]string{1: {one.url}})
	require.Eventually(t, func() bool {
		return strings.Contains(one.logged(), `the certificate of "CN=third" names none of 127.0.0.1`)
	}, 20*time.Second, time.Millisecond)
	assert.Empty(t, one.frames)

	// Where it is known to be, it is let in.
	one.know(map[env.NodeID][]string{2: {"https://third.invalid:1"}})
	require.Eventually(t, func() bool {
		impostor.Send(1, []byte("hello"))
		return len(one.frames) > 0
	}, 20*time.Second, 10*time.Millisecond)
}
