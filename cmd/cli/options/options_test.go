package options

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/bootstrap"
)

var rewrite = flag.Bool("rewrite", false, "write generated pages instead of comparing them")

func TestReferencePageIsCurrent(t *testing.T) {
	path := filepath.Join("..", "..", "..", "docs", "configuration.md")
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(Reference()), 0o644))
	}
	have, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, Reference(), string(have), "run go test ./cmd/cli/options -run Reference -rewrite")
}

func TestHelpShowsEveryOption(t *testing.T) {
	text := Help("keelson serve")
	for _, o := range table {
		assert.Contains(t, text, o.usage())
		assert.Contains(t, text, o.variable())
		if o.ignored == "" {
			assert.Contains(t, text, o.shown())
		}
		assert.NotEmpty(t, o.doc, o.name)
		assert.True(t, (o.set == nil) == (o.ignored != ""), o.name)
	}
	_, err := Parse(Source{Args: []string{"-h"}})
	assert.ErrorIs(t, err, ErrHelp)
}

// The table has every option of the original.
func TestNoFlagOfTheOriginalIsMissing(t *testing.T) {
	for name := range strings.FieldsSeq(`name data-dir wal-dir snapshot-count heartbeat-interval election-timeout
		listen-peer-urls listen-client-urls initial-advertise-peer-urls advertise-client-urls initial-cluster
		initial-cluster-state initial-cluster-token discovery discovery-srv discovery-proxy discovery-fallback
		strict-reconfig-check max-snapshots max-wals cors proxy proxy-failure-wait proxy-refresh-interval
		proxy-dial-timeout proxy-write-timeout proxy-read-timeout debug log-package-levels force-new-cluster
		version enable-pprof experimental-v3demo experimental-gRPC-addr experimental-auto-compaction-retention
		addr bind-addr peer-addr peer-bind-addr peers peers-file cluster-active-size cluster-remove-delay
		cluster-sync-interval config force max-result-buffer max-retry-attempts peer-heartbeat-interval
		peer-election-timeout retry-interval snapshot v vv`) {
		found := false
		for _, o := range table {
			if o.name == name {
				found = true
				assert.Equal(t, "ETCD_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_")), o.variable())
			}
		}
		assert.True(t, found, name)
	}
}

func parse(t *testing.T, line string, environ ...string) *Serve {
	t.Helper()
	s, err := Parse(Source{Args: strings.Fields(line), Environ: environ, Lenient: true})
	require.NoError(t, err)
	return s
}

func TestDefaults(t *testing.T) {
	s := parse(t, "")
	b := s.Daemon.Bootstrap
	assert.Equal(t, "default", b.Name)
	assert.Equal(t, "default.etcd", s.DataDir)
	assert.Equal(t, bootstrap.New, b.State)
	assert.Equal(t, bootstrap.Off, b.Proxy)
	assert.Equal(t, bootstrap.FallbackProxy, b.Fallback)
	assert.Equal(t, "etcd-cluster", b.Token)
	assert.Equal(t, []string{"http://localhost:2380", "http://localhost:7001"}, b.PeerURLs)
	assert.Equal(t, []string{"http://localhost:2379", "http://localhost:4001"}, s.Daemon.Node.ClientURLs)
	assert.Nil(t, s.ListenClient)
	assert.Equal(t, 10, s.Daemon.Node.ElectionTicks)
	assert.Empty(t, s.Remarks)
}

func TestEnvironmentAndRemarks(t *testing.T) {
	s := parse(t, "", "ETCD_NAME=", "ETCD_HEARTBEAT_INTERVAL=20", "ETCD_NONSENSE=x", "PATH=/bin", "ETCDCTL_PEERS=x")
	assert.Equal(t, "default", s.Daemon.Bootstrap.Name, "an empty variable is none")
	assert.EqualValues(t, 20, s.Daemon.Node.Tick.Milliseconds())
	assert.Equal(t, []string{"ETCD_NONSENSE is ignored: no option of that name"}, s.Remarks)

	s = parse(t, "-name n1 -force --max-wals=7", "ETCD_NAME=n2")
	assert.Equal(t, "n1", s.Daemon.Bootstrap.Name)
	assert.Equal(t, []string{
		"ETCD_NAME is ignored: --name is given",
		"--max-wals has no effect: files that are needed no more are removed by themselves",
		"--force has no effect: it belongs to 0.4",
	}, s.Remarks)
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ line, env, text string }{
		{"stray", "", "error verifying flags, 'stray' is not a valid flag"},
		{"-name n1 stray -name n2", "", "error verifying flags, 'stray' is not a valid flag"},
		{"--name=", "", "--name=: must not be empty"},
		{"--heartbeat-interval=fast", "", "--heartbeat-interval=fast: want milliseconds"},
		{"--heartbeat-interval=300", "", "--election-timeout=1000: want at least 5 heartbeat intervals of 300"},
		{"--election-timeout=60000", "", "--election-timeout=60000: want milliseconds from 1 to 50000"},
		{"", "ETCD_ELECTION_TIMEOUT=-1", "ETCD_ELECTION_TIMEOUT=-1: want milliseconds"},
		{"", "KEELSON_INSECURE=perhaps", "KEELSON_INSECURE=perhaps: want true or false"},
		{"--snapshot-count=many", "", "--snapshot-count=many"},
		{"--listen-peer-urls=http://example.com:2380", "", "want an IP address or localhost"},
		{"--listen-peer-urls=2380", "", `URL "2380": want http://host:port`},
		{"--listen-peer-urls=http://127.0.0.1", "", "want http://host:port"},
		{"--listen-peer-urls=http://127.0.0.1:1/x", "", "and nothing more"},
		{"--listen-peer-urls=unix:///run/x.sock", "", "want http://host:port"},
		{"--listen-peer-urls=https://127.0.0.1:2380", "", "TLS needs --peer-cert-file and --peer-key-file"},
		{"--listen-client-urls=http://127.0.0.1:2379", "", "--advertise-client-urls: required where --listen-client-urls is given"},
		{"--listen-client-urls=http://127.0.0.1:2379 --discovery=http://d/t --discovery-fallback=exit", "", "--advertise-client-urls: required"},
		{"--listen-peer-urls=http://0.0.0.0:2380", "", "say --insecure if that is meant"},
		{"--initial-cluster-state=maybe", "", "--initial-cluster-state=maybe: want new or existing"},
		{"--read-default=maybe", "", "--read-default=maybe: want linearizable or local"},
		{"--log-level=loud", "", "--log-level=loud"},
		{"--proxy=perhaps", "", "--proxy=perhaps: want off or on or readonly"},
		{"--discovery=http://d/t --initial-cluster=a=http://b:1", "", errManyWays.Error()},
		{"--discovery=http://d/t", "ETCD_DISCOVERY_SRV=example.com", errManyWays.Error()},
		{"--cors=example.com", "", `--cors=example.com: "example.com": want * or an origin`},
		{"-addr=here", "", "-addr=here: want host:port"},
		{"-addr=10.0.0.1:4001 -advertise-client-urls=http://10.0.0.1:2379", "", "--addr=10.0.0.1:4001: it stands for --advertise-client-urls, which is given too"},
		{"-bind-addr=nowhere.example:1", "", "want an IP address or localhost to listen on"},
		{"-peers=a,b", "", `"a": want host:port`},
		{"-peers-file=list", "", "no file can be read here"},
	} {
		t.Run(c.line+" "+c.env, func(t *testing.T) {
			_, err := Parse(Source{Args: strings.Fields(c.line), Environ: []string{c.env}})
			require.ErrorContains(t, err, c.text)
			var usage *UsageError
			assert.False(t, errors.As(err, &usage))
		})
	}
	var usage *UsageError
	_, err := Parse(Source{Args: []string{"--nonsense"}})
	require.ErrorAs(t, err, &usage)
	assert.ErrorContains(t, err, "nonsense")
}

func TestThatWhatMayBeAProxyNeedNotAdvertise(t *testing.T) {
	parse(t, "--listen-client-urls=http://127.0.0.1:2379 --proxy=on")
	parse(t, "--listen-client-urls=http://127.0.0.1:2379 --discovery=http://d/t")
}

// The samples of the old guides mean what they meant.
func TestOldAddresses(t *testing.T) {
	s := parse(t, "-name=core-01 -addr=172.16.8.101:4001 -peer-addr=172.16.8.101:7001 -peers=172.16.8.102:7001,172.16.8.103:7001 -data-dir=/home/core/etcd")
	assert.Equal(t, []string{"http://172.16.8.101:4001"}, s.Daemon.Node.ClientURLs)
	assert.Equal(t, []string{"http://172.16.8.101:4001", "http://127.0.0.1:4001"}, s.ListenClient)
	assert.Equal(t, []string{"http://172.16.8.101:7001"}, s.Daemon.Bootstrap.PeerURLs)
	assert.Equal(t, []string{"http://172.16.8.101:7001"}, s.ListenPeer)
	assert.Equal(t, []string{"172.16.8.102:7001", "172.16.8.103:7001"}, s.Daemon.Bootstrap.Peers)
	assert.Equal(t, "/home/core/etcd", s.DataDir)
	assert.Len(t, s.Remarks, 2)
	assert.Contains(t, s.Remarks[0], "DANGER: http://172.16.8.101:4001")

	s = parse(t, "-addr=core.example:4001 -bind-addr=0.0.0.0 -peer-addr=core.example:7001")
	assert.Equal(t, []string{"http://0.0.0.0:4001"}, s.ListenClient)
	assert.Equal(t, []string{"http://0.0.0.0:7001"}, s.ListenPeer)
	assert.Equal(t, []string{"http://core.example:7001"}, s.Daemon.Bootstrap.PeerURLs)

	s = parse(t, "", "ETCD_ADDR=[fd00::1]:4001", "ETCD_DISCOVERY=https://discovery.example/abc", "ETCD_PEER_ADDR=[fd00::1]:7001", "ETCD_PEERS=a:1")
	assert.Equal(t, []string{"http://[fd00::1]:7001"}, s.ListenPeer)
	assert.Nil(t, s.Daemon.Bootstrap.Peers)

	s, err := Parse(Source{Args: []string{"-peers-file", "list"}, ReadFile: oneFile("list", "a:1\nb:2,\nc:3\n")})
	require.NoError(t, err)
	assert.Equal(t, []string{"a:1", "b:2", "c:3"}, s.Daemon.Bootstrap.Peers)
}

func TestTheKeysOfACloudConfig(t *testing.T) {
	s := parse(t, "",
		"ETCD_NAME=core-01", "ETCD_DISCOVERY=https://discovery.example/abc", "ETCD_INITIAL_CLUSTER_TOKEN=t",
		"ETCD_ADVERTISE_CLIENT_URLS=http://10.0.0.1:2379,http://10.0.0.1:4001", "ETCD_INITIAL_ADVERTISE_PEER_URLS=http://10.0.0.1:2380",
		"ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379,http://0.0.0.0:4001", "ETCD_LISTEN_PEER_URLS=http://10.0.0.1:2380,http://10.0.0.1:7001",
		"ETCD_PROXY=on")
	assert.Len(t, s.ListenClient, 2)
	assert.Len(t, s.ListenPeer, 2)
	assert.Equal(t, bootstrap.On, s.Daemon.Bootstrap.Proxy)
	assert.Equal(t, "https://discovery.example/abc", s.Daemon.Bootstrap.Discovery)
}

func TestSocketsAreOfThisMachine(t *testing.T) {
	s, err := Parse(Source{Args: strings.Fields("--listen-client-urls=unix:///run/k.sock,http://127.0.0.1:1 --advertise-client-urls=http://127.0.0.1:1")})
	require.NoError(t, err)
	path, ok := SocketPath(s.ListenClient[0])
	assert.True(t, ok)
	assert.Equal(t, "/run/k.sock", path)
}

func FuzzParse(f *testing.F) {
	f.Add("-addr=1.2.3.4:1 -peers=a:1,b:2")
	f.Add("--listen-client-urls=unix://x,http://[::1]:1 --proxy on")
	f.Fuzz(func(t *testing.T, line string) {
		s, err := Parse(Source{Args: strings.Fields(line)})
		if err == nil {
			assert.NotEmpty(t, s.DataDir)
			assert.NotEmpty(t, s.Daemon.Bootstrap.PeerURLs)
		}
	})
}
