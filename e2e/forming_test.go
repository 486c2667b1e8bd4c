package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// curl asks from within a namespace and gives what was answered.
func curl(t *testing.T, s *space, words ...string) string {
	t.Helper()
	program(t, "curl", "curl")
	return run(t, s, nil, append([]string{"curl", "-sS", "-L", "--max-time", "10"}, words...)...).out
}

// answers waits until a URL gives what is wanted.
func answers(t *testing.T, s *space, want string, words ...string) {
	t.Helper()
	var last string
	until(t, fmt.Sprintf("%v gives %s", words, want), func() bool {
		last = curl(t, s, words...)
		return strings.Contains(last, want)
	})
}

// guideNetwork gives three machines the addresses of the oldest guides.
func guideNetwork(t *testing.T) *network {
	t.Helper()
	n := newNetwork(t, 3)
	require.NoError(t, ip(nil, "addr", "add", "172.16.8.254/24", "dev", n.bridge()))
	for i := range 3 {
		require.NoError(t, ip(n.spaces[i], "addr", "add", fmt.Sprintf("172.16.8.%d/24", 101+i), "dev", "eth0"))
	}
	return n
}

// The line of the oldest guides starts as it is written, on each machine with its
// own address, and the three are one cluster.
func TestTheLineOf04(t *testing.T) {
	t.Parallel()
	n := guideNetwork(t)
	etcd := link(t, "etcd")
	dir := t.TempDir()
	peers := []string{`172.16.8.101:7001`, `172.16.8.102:7001`, `172.16.8.103:7001`}
	var all []*process
	for i := range 3 {
		var others []string
		for j, p := range peers {
			if j != i {
				others = append(others, p)
			}
		}
		line := fmt.Sprintf(`%s -name="core-0%d" -addr="172.16.8.%d:4001" -peer-addr="%s" -peers="%s" -data-dir="%s"`,
			etcd, i+1, 101+i, peers[i], strings.Join(others, ","), filepath.Join(dir, fmt.Sprint(i)))
		all = append(all, launch(t, n.spaces[i], dir, nil, "sh", "-c", "exec "+line))
	}
	answers(t, nil, `"health":"true"`, "http://172.16.8.103:4001/health")
	assert.Contains(t, curl(t, nil, "http://172.16.8.101:4001/v2/keys/message", "-XPUT", "-d", "value=Hello"), `"value":"Hello"`)
	answers(t, n.spaces[1], `"value":"Hello"`, "http://127.0.0.1:4001/v2/keys/message")
	for i := range 3 {
		answers(t, nil, fmt.Sprintf(`"name":"core-0%d"`, i+1), "http://172.16.8.102:4001/v2/members")
		assert.Contains(t, all[i].err.String(), fmt.Sprintf("DANGER: http://172.16.8.%d:4001", 101+i))
	}
}

// cloudConfig is the drop-in that coreos.etcd2 of a cloud-config became.
func cloudConfig(address, discovery string, more ...string) []string {
	return append([]string{
		"ETCD_DISCOVERY=" + discovery,
		"ETCD_ADVERTISE_CLIENT_URLS=http://" + address + ":2379,http://" + address + ":4001",
		"ETCD_INITIAL_ADVERTISE_PEER_URLS=http://" + address + ":2380",
		"ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379,http://0.0.0.0:4001",
		"ETCD_LISTEN_PEER_URLS=http://" + address + ":2380,http://" + address + ":7001",
	}, more...)
}

// Machines that know nothing but a token become one cluster; those for which there
// is no place, and those told so, pass requests on.
func TestCloudConfigWithDiscovery(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 5)
	etcd := link(t, "etcd2")
	dir := t.TempDir()
	at := loopbackURLs(t, 2)
	launch(t, nil, dir, nil, keelson(t), "serve", "--name", "registry", "--data-dir", filepath.Join(dir, "registry"),
		"--listen-client-urls", "http://10.231."+fmt.Sprint(n.number)+".254:8087", "--advertise-client-urls", "http://10.231."+fmt.Sprint(n.number)+".254:8087", "--insecure",
		"--listen-peer-urls", at[0], "--initial-advertise-peer-urls", at[0])
	registry := fmt.Sprintf("http://10.231.%d.254:8087", n.number)
	answers(t, nil, `"health":"true"`, registry+"/health")
	token := strings.TrimSpace(curl(t, nil, registry+"/new?size=3"))
	require.Contains(t, token, registry)

	start := func(i int, env ...string) *process {
		m := fmt.Sprintf("core-0%d", i+1)
		return launch(t, n.spaces[i], dir, cloudConfig(n.address(i), token, append(env, "ETCD_NAME="+m, "ETCD_DATA_DIR="+filepath.Join(dir, m))...), etcd)
	}
	url := func(i int, port int, path string) string {
		return fmt.Sprintf("http://%s:%d%s", n.address(i), port, path)
	}
	for i := range 3 {
		start(i)
	}
	answers(t, nil, `"health":"true"`, url(0, 2379, "/health"))
	assert.Contains(t, curl(t, nil, url(2, 4001, "/v2/keys/message"), "-XPUT", "-d", "value=Hello"), `"value":"Hello"`)

	fallback, told := start(3), start(4, "ETCD_PROXY=on")
	for _, i := range []int{3, 4} {
		answers(t, nil, `"value":"Hello"`, url(i, 2379, "/v2/keys/message"))
		answers(t, n.spaces[i], `"value":"Hello"`, "http://127.0.0.1:4001/v2/keys/message")
		answers(t, nil, n.address(0), url(i, 2379, "/v2/config/local/proxy"))
	}
	assert.Contains(t, curl(t, nil, url(3, 2379, "/v2/keys/through"), "-XPUT", "-d", "value=proxy"), `"value":"proxy"`)
	assert.Contains(t, curl(t, nil, url(0, 2379, "/v2/keys/through")), `"value":"proxy"`)
	watch := launch(t, nil, dir, nil, "curl", "-sS", "-N", url(4, 2379, "/v2/keys/seen?wait=true&stream=true"))
	until(t, "a watch goes through the proxy", func() bool {
		curl(t, nil, url(1, 2379, "/v2/keys/seen"), "-XPUT", "-d", "value=x")
		return strings.Contains(watch.out.String(), `"value":"x"`)
	})

	// The data directory decides, whatever is said at the next start.
	for i, p := range map[int]*process{3: fallback, 4: told} {
		p.kill()
		start(i, "ETCD_PROXY=off")
		answers(t, nil, n.address(0), url(i, 2379, "/v2/config/local/proxy"))
	}
	for i := range 3 {
		answers(t, nil, fmt.Sprintf(`"name":"core-0%d"`, i+1), url(3, 4001, "/v2/members"))
	}
}

func TestSockets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := filepath.Join(dir, "keelson.sock")
	peer := loopbackURLs(t, 1)[0]
	start := func(more ...string) *process {
		return launch(t, nil, dir, nil, append([]string{
			keelson(t), "serve", "--listen-client-urls", "unix://" + socket, "--advertise-client-urls", "unix://" + socket,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		}, more...)...)
	}
	p := start()
	ask := []string{"--unix-socket", socket, "http://keelson/v2/keys/a"}
	answers(t, nil, `"health":"true"`, "--unix-socket", socket, "http://keelson/health")
	assert.Contains(t, curl(t, nil, append(ask, "-XPUT", "-d", "value=1")...), `"value":"1"`)
	got := run(t, nil, nil, keelson(t), "etcdctl", "--endpoints", "unix://"+socket, "get", "/a")
	assert.Equal(t, result{0, "1\n", ""}, got)
	info, err := os.Stat(socket)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o660), info.Mode().Perm())

	second := start("--data-dir", filepath.Join(dir, "second"), "--listen-peer-urls", loopbackURLs(t, 1)[0])
	assert.Equal(t, 1, second.end(t))
	assert.Contains(t, second.err.String(), "another process serves "+socket)

	p.kill() // leaves the socket behind
	require.FileExists(t, socket)
	start()
	answers(t, nil, `"value":"1"`, ask...)

	relative := launch(t, nil, dir, nil, keelson(t), "serve", "--name", "other", "--listen-client-urls", "unix://here.sock", "--proxy", "on",
		"--listen-peer-urls", loopbackURLs(t, 1)[0], "--initial-cluster", "default="+peer)
	until(t, "a socket by a relative name", func() bool {
		_, err := os.Stat(filepath.Join(dir, "here.sock"))
		return err == nil
	})
	relative.kill()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	file := launch(t, nil, dir, nil, keelson(t), "serve", "--listen-client-urls", "unix://file", "--advertise-client-urls", "http://127.0.0.1:1", "--name", "third")
	assert.Equal(t, 1, file.end(t))
	assert.Contains(t, file.err.String(), "is no socket")
}
