package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "write generated pages instead of comparing them")

func TestReferencePageIsCurrent(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "configuration.md")
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(reference()), 0o644))
	}
	have, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, reference(), string(have), "run go test ./cmd/keelson -run Reference -rewrite")
}

func TestHelpShowsEveryOption(t *testing.T) {
	status, out := keelson(t, nil, "serve", "--help")
	assert.Zero(t, status)
	for _, o := range options {
		assert.Contains(t, out, "--"+o.name)
		assert.Contains(t, out, o.env)
		assert.Contains(t, out, o.shownDefault())
	}
}

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
		{"serve stray", "", 1, `"stray" is not a valid flag`},
		{"bogus", "", 2, `unknown command "bogus"`},
		{"dev bogus", "", 2, `unknown command "bogus"`},
		{"dev --members=2", "", 2, "--members=2: want 1, 3 or 5"},
		{"dev --client-port=60000", "", 2, "--client-port=60000"},
		{"serve --name=", "", 1, "--name=: must not be empty"},
		{"serve --heartbeat-interval=fast", "", 1, "--heartbeat-interval=fast: want milliseconds"},
		{"serve --heartbeat-interval=300", "", 1, "--election-timeout=1000: want at least 5 heartbeat intervals of 300"},
		{"serve --election-timeout=60000", "", 1, "--election-timeout=60000: want milliseconds from 1 to 50000"},
		{"serve", "ETCD_ELECTION_TIMEOUT=-1", 1, "ETCD_ELECTION_TIMEOUT=-1: want milliseconds"},
		{"serve", "KEELSON_INSECURE=perhaps", 1, "KEELSON_INSECURE=perhaps: want true or false"},
		{"serve --snapshot-count=many", "", 1, "--snapshot-count=many"},
		{"serve --listen-peer-urls=http://example.com:2380", "", 1, "want an IP address or localhost"},
		{"serve --listen-peer-urls=2380", "", 1, `URL "2380": want http://host:port`},
		{"serve --listen-peer-urls=http://127.0.0.1", "", 1, "want http://host:port"},
		{"serve --listen-peer-urls=http://127.0.0.1:1/x", "", 1, "and nothing more"},
		{"serve --listen-peer-urls=https://127.0.0.1:2380", "", 1, "TLS is not supported yet"},
		{"serve --listen-client-urls=http://127.0.0.1:2379", "", 1, "--advertise-client-urls: required where --listen-client-urls is given"},
		{"serve --listen-peer-urls=http://0.0.0.0:2380", "", 1, "say --insecure if that is meant"},
		{"serve --initial-cluster=a", "", 1, `"a": want NAME=URL`},
		{"serve --initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:1", "", 1, "http://127.0.0.1:1 stands there twice"},
		{"serve --initial-cluster=a=http://127.0.0.1:1", "", 1, `does not name this member, "default"`},
		{"serve --initial-cluster=default=http://127.0.0.1:1", "", 1, "but --initial-advertise-peer-urls is"},
		{"serve --initial-cluster-state=existing", "", 1, "--initial-cluster-state=existing: want new"},
		{"serve --read-default=maybe", "", 1, "--read-default=maybe: want linearizable or local"},
		{"serve --log-level=loud", "", 1, "--log-level=loud"},
		{"serve --listen-peer-urls=http://192.0.2.1:2380 --insecure", "", 1, "--listen-peer-urls: http://192.0.2.1:2380: listen"},
	} {
		t.Run(c.line+" "+c.env, func(t *testing.T) {
			env := []string{c.env}
			if strings.HasPrefix(c.line, "serve") && !strings.Contains(c.line, "listen") {
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

func TestEnvironmentAndRemarks(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	o, remarks, err := readOptions(none, []string{"ETCD_NAME=", "ETCD_HEARTBEAT_INTERVAL=20", "ETCD_CERT_FILE=x", "PATH=/bin"})
	require.NoError(t, err)
	assert.Equal(t, "default", o.name, "an empty variable is none")
	assert.Equal(t, "default.etcd", o.dataDir)
	assert.EqualValues(t, 20, o.heartbeat.Milliseconds())
	assert.Equal(t, []string{"ETCD_CERT_FILE is ignored: no option of that name"}, remarks)

	_, remarks, err = readOptions(func(name string) (string, bool) { return "n1", name == "name" }, []string{"ETCD_NAME=n2"})
	require.NoError(t, err)
	assert.Equal(t, []string{"ETCD_NAME is ignored: --name is given"}, remarks)
}

// The IDs are those that the original gives to the same list and token.
func TestIdentityIsAFunctionOfTheList(t *testing.T) {
	o, _, err := readOptions(func(string) (string, bool) { return "", false }, nil)
	require.NoError(t, err)
	id, err := o.found()
	require.NoError(t, err)
	assert.Equal(t, "ce2a822cea30bfca", id.ID.String())
	assert.Equal(t, uint64(0x7e27652122e8b2ae), id.Cluster)

	a, err := parseCluster("a=http://127.0.0.1:1,b=http://127.0.0.1:2,a=http://127.0.0.1:3", "t")
	require.NoError(t, err)
	b, err := parseCluster("b=http://127.0.0.1:2,a=http://127.0.0.1:3,a=http://127.0.0.1:1", "t")
	require.NoError(t, err)
	assert.Equal(t, a, b)
}

func TestPersonalities(t *testing.T) {
	assert.NotNil(t, personality("etcdctl"))
	assert.NotNil(t, personality("locksmithctl"))
	assert.Nil(t, personality("keelson"))
	status, out := keelson(t, nil, "etcdctl", "set")
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "key required")
	status, out = keelson(t, nil, "version")
	assert.Zero(t, status)
	assert.Regexp(t, `^keelson \S+\n$`, out)
}
