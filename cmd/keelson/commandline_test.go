package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A bad command line says which flag or variable and which value, and leaves no
// trace.
func TestBadCommandLines(t *testing.T) {
	for _, c := range []struct {
		line   string
		env    string
		status int
		text   string
	}{
		{"serve --nonsense", "", 2, "nonsense"},
		{"serve stray", "", 1, "error verifying flags, 'stray' is not a valid flag"},
		{"etcd stray", "", 1, "error verifying flags, 'stray' is not a valid flag"},
		{"etcd2 --nonsense", "", 2, "nonsense"},
		{"bogus", "", 2, `unknown command "bogus"`},
		{"dev bogus", "", 2, `unknown command "bogus"`},
		{"dev --members=2", "", 2, "--members=2: want 1, 3 or 5"},
		{"dev --client-port=60000", "", 2, "--client-port=60000"},
		{"serve --name=", "", 1, "--name=: must not be empty"},
		{"serve", "ETCD_ELECTION_TIMEOUT=-1", 1, "ETCD_ELECTION_TIMEOUT=-1: want milliseconds"},
		{"serve", "KEELSON_INSECURE=perhaps", 1, "KEELSON_INSECURE=perhaps: want true or false"},
		{"serve --listen-client-urls=http://127.0.0.1:2379", "", 1, "--advertise-client-urls: required where --listen-client-urls is given"},
		{"serve --listen-peer-urls=http://0.0.0.0:2380", "", 1, "say --insecure if that is meant"},
		{"serve --initial-cluster=a", "", 1, `"a"`},
		{"serve --initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:1", "", 1, "has duplicate url"},
		{"serve --initial-cluster=a=http://127.0.0.1:1", "", 1, `couldn't find local name "default" in the initial cluster configuration`},
		{"serve --initial-cluster=default=http://127.0.0.1:1", "", 1, "--initial-cluster must include default="},
		{"serve --listen-peer-urls=http://192.0.2.1:2380 --insecure", "", 1, "--listen-peer-urls: http://192.0.2.1:2380: listen"},
		{"serve --data-dir=/proc/none/x", "", 1, "data directory /proc/none/x: "},
		{"discovery --addr=0.0.0.0:0", "", 1, "--addr: http://0.0.0.0:0 can be reached from other machines"},
		{"discovery --host=ftp://x", "", 1, "--host=ftp://x: want the URL"},
		{"serve --discovery=http://127.0.0.1:1/t --discovery-srv=example.com", "", 1, "multiple discovery or bootstrap flags are set"},
	} {
		t.Run(c.line+" "+c.env, func(t *testing.T) {
			env := []string{c.env}
			if !strings.Contains(c.line, "listen") {
				// Not the default ports, which somebody may have.
				free := ports(t, 2)
				env = append(env, "ETCD_LISTEN_CLIENT_URLS="+loopbackURL(free[0]), "ETCD_ADVERTISE_CLIENT_URLS="+loopbackURL(free[0]), "ETCD_LISTEN_PEER_URLS="+loopbackURL(free[1]))
			}
			p := launch(t, env, strings.Fields(c.line)...)
			assert.Equal(t, c.status, p.end(t), p.output)
			assert.Contains(t, p.output.String(), c.text)
			left, err := os.ReadDir(p.Dir)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

func TestPersonalities(t *testing.T) {
	assert.NotNil(t, personality("etcdctl"))
	assert.NotNil(t, personality("locksmithctl"))
	assert.Nil(t, personality("keelson"))
	status, out := keelson(t, nil, "etcdctl", "set")
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "key required")
	for _, words := range []string{"version", "serve --version", "etcd2 -version"} {
		status, out = keelson(t, nil, strings.Fields(words)...)
		assert.Zero(t, status)
		assert.Regexp(t, `^keelson \S+\n$`, out)
	}
	status, out = keelson(t, nil, "serve", "--help")
	assert.Zero(t, status)
	assert.Contains(t, out, "--initial-cluster=NAME=URL")
}
