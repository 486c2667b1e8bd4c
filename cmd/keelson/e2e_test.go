package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	unithost "github.com/keelson/keelson/realnet/process"
)

// The tests run this very binary as keelson, in processes of its own.
const asKeelson = "KEELSON_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asKeelson) != "" {
		os.Unsetenv(asKeelson)
		if len(os.Args) > 1 && os.Args[1] == "dev" {
			os.Setenv(asKeelson, "1") // for the members
		}
		main()
	}
	if len(os.Args) > 1 && os.Args[1] == unithost.Word {
		main() // it is started without the environment
	}
	os.Exit(m.Run())
}

// process is a keelson that runs.
type process struct {
	*exec.Cmd
	exited chan error
	output *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func launch(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := &process{Cmd: exec.Command(self, args...), exited: make(chan error, 1), output: &lockedBuffer{}}
	p.Env = append(append(os.Environ(), asKeelson+"=1", "KEELSON_UNITS=off"), env...) // this machine's systemd is nothing to tests
	p.Dir = t.TempDir()
	p.Stdout, p.Stderr = p.output, p.output
	require.NoError(t, p.Start())
	go func() { p.exited <- p.Wait(); close(p.exited) }()
	t.Cleanup(func() {
		p.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(args, " "), p.output)
		}
	})
	return p
}

// end waits for the process and gives its exit status.
func (p *process) end(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.ProcessState.ExitCode()
	case <-time.After(20 * time.Second):
		t.Fatalf("does not end: %s", p.output)
		return 0
	}
}

// keelson runs a command line to its end.
func keelson(t *testing.T, env []string, args ...string) (status int, output string) {
	t.Helper()
	p := launch(t, env, args...)
	status = p.end(t)
	return status, p.output.String()
}

// ports gives n ports that nobody has.
func ports(t *testing.T, n int) (all []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		all = append(all, l.Addr().(*net.TCPAddr).Port)
	}
	return all
}

// cluster is some members on this machine.
type cluster struct {
	dir     string
	client  []string
	peer    []string
	members []*process
}

func startCluster(t *testing.T, n int) *cluster {
	t.Helper()
	c := &cluster{dir: t.TempDir(), members: make([]*process, n)}
	for i, port := range ports(t, 2*n) {
		if i < n {
			c.client = append(c.client, loopbackURL(port))
		} else {
			c.peer = append(c.peer, loopbackURL(port))
		}
	}
	for i := range n {
		c.start(t, i)
	}
	for i := range n {
		c.healthy(t, i)
	}
	return c
}

func (c *cluster) args(i int) []string {
	var list []string
	for j, u := range c.peer {
		list = append(list, fmt.Sprintf("n%d=%s", j+1, u))
	}
	return []string{
		"serve", "-name", fmt.Sprintf("n%d", i+1), "--data-dir", filepath.Join(c.dir, fmt.Sprintf("n%d", i+1)),
		"--listen-client-urls=" + c.client[i], "--advertise-client-urls=" + c.client[i],
		"--listen-peer-urls=" + c.peer[i], "--initial-advertise-peer-urls=" + c.peer[i],
		"--initial-cluster=" + strings.Join(list, ","), "--heartbeat-interval=50", "--election-timeout=500",
	}
}

func (c *cluster) start(t *testing.T, i int) { c.members[i] = launch(t, nil, c.args(i)...) }

func (c *cluster) healthy(t *testing.T, i int) {
	t.Helper()
	require.Eventually(t, func() bool { return isHealthy(t.Context(), c.client[i]) }, 15*time.Second, 5*time.Millisecond)
}

// leader is the number of the member that leads.
func (c *cluster) leader(t *testing.T) (leader int) {
	t.Helper()
	require.Eventually(t, func() bool {
		for i, u := range c.client {
			if roleOf(t.Context(), u) == "leader" {
				leader = i
				return true
			}
		}
		return false
	}, 15*time.Second, 10*time.Millisecond)
	return leader
}

type answer struct {
	status int
	body   string
	index  uint64
}

func do(ctx context.Context, client *http.Client, method, target, value string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(url.Values{"value": {value}}.Encode()))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	index, _ := strconv.ParseUint(resp.Header.Get("X-Etcd-Index"), 10, 64)
	return answer{resp.StatusCode, string(p), index}, err
}

func must(t *testing.T, method, target, value string) answer {
	t.Helper()
	a, err := do(t.Context(), http.DefaultClient, method, target, value)
	require.NoError(t, err)
	return a
}

func valueOf(t *testing.T, base, key string) string {
	t.Helper()
	var got struct{ Node struct{ Value string } }
	a := must(t, "GET", base+"/v2/keys"+key, "")
	require.Equal(t, 200, a.status, a.body)
	require.NoError(t, json.Unmarshal([]byte(a.body), &got))
	return got.Node.Value
}

func TestThreeMembersAreOneStore(t *testing.T) {
	c := startCluster(t, 3)
	for i, u := range c.client {
		a := must(t, "PUT", u+"/v2/keys/message", fmt.Sprintf("Hello %d", i))
		require.Contains(t, []int{200, 201}, a.status, a.body)
		for _, other := range c.client {
			require.Equal(t, fmt.Sprintf("Hello %d", i), valueOf(t, other, "/message"), "a plain GET is linearizable on every member")
		}
	}

	seen := make(chan answer, 1)
	before := must(t, "GET", c.client[0]+"/v2/keys/message", "")
	go func() {
		a, _ := do(context.Background(), http.DefaultClient, "GET", fmt.Sprintf("%s/v2/keys/watched?wait=true&waitIndex=%d", c.client[0], before.index+1), "")
		seen <- a
	}()
	must(t, "PUT", c.client[1]+"/v2/keys/watched", "now")
	assert.Contains(t, (<-seen).body, `"value":"now"`)

	text := must(t, "GET", c.client[2]+"/metrics", "").body
	for _, name := range []string{"keelson_raft_applied_index", `keelson_peer_up{peer="n1"} 1`, "keelson_disk_sync_seconds_count", "go_goroutines"} {
		assert.Contains(t, text, name)
	}
	status, out := keelson(t, nil, "etcdctl", "--endpoints", c.client[1], "cluster-health")
	assert.Zero(t, status, out)
	assert.Contains(t, out, "cluster is healthy")
	status, out = keelson(t, nil, "locksmithctl", "-endpoint", c.client[1], "status")
	assert.Zero(t, status, out)
	assert.Contains(t, out, "Max: 1")

	again := launch(t, nil, c.args(0)...)
	assert.Equal(t, 1, again.end(t))
	assert.Contains(t, again.output.String(), "address already in use")
	moved := c.args(0)
	free := ports(t, 2)
	moved = append(moved, "--listen-client-urls="+loopbackURL(free[0]), "--listen-peer-urls="+loopbackURL(free[1]))
	again = launch(t, nil, moved...)
	assert.Equal(t, 1, again.end(t))
	assert.Contains(t, again.output.String(), "in use by another process")
}

// writer writes numbered keys until it is told to stop, and remembers what was
// acknowledged.
type writer struct {
	acked    []string
	failures []error
}

func (w *writer) run(ctx context.Context, name string, endpoints []string, bad func(error) bool) {
	client := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	at := 0
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("/load/%s-%d", name, n)
		a, err := do(context.Background(), client, "PUT", endpoints[at]+"/v2/keys"+key, key)
		if err == nil && a.status != 201 && a.status != 200 {
			err = fmt.Errorf("%s: status %d: %s", key, a.status, a.body)
		}
		if err == nil {
			w.acked = append(w.acked, key)
			continue
		}
		if bad(err) {
			w.failures = append(w.failures, err)
		}
		at = (at + 1) % len(endpoints)
	}
}

// load runs writers on every member while fn does its worst.
func (c *cluster) load(t *testing.T, bad func(error) bool, fn func()) (acked []string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	writers := make([]writer, 9)
	var all sync.WaitGroup
	for i := range writers {
		first := i % len(c.client)
		endpoints := append(append([]string(nil), c.client[first:]...), c.client[:first]...)
		all.Go(func() { writers[i].run(ctx, fmt.Sprint(i), endpoints, bad) })
	}
	time.Sleep(200 * time.Millisecond)
	fn()
	time.Sleep(200 * time.Millisecond)
	stop()
	all.Wait()
	for _, w := range writers {
		for _, err := range w.failures {
			t.Error(err)
		}
		acked = append(acked, w.acked...)
	}
	require.NotEmpty(t, acked)
	return acked
}

func (c *cluster) holds(t *testing.T, endpoint string, keys []string) {
	t.Helper()
	a := must(t, "GET", endpoint+"/v2/keys/load?recursive=true", "")
	require.Equal(t, 200, a.status, a.body)
	for _, key := range keys {
		assert.Contains(t, a.body, `"key":"`+key+`","value":"`+key+`"`)
	}
}

func TestKilledLeaderLosesNothingAcknowledged(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader(t)
	acked := c.load(t, func(error) bool { return false }, func() {
		c.members[leader].Process.Kill()
		<-c.members[leader].exited
		time.Sleep(time.Second)
	})
	t.Logf("%d writes acknowledged", len(acked))
	c.holds(t, c.client[(leader+1)%3], acked)

	c.start(t, leader)
	c.healthy(t, leader)
	c.holds(t, c.client[leader], acked)

	for _, m := range c.members {
		m.Process.Kill()
		<-m.exited
	}
	for i := range c.members {
		c.start(t, i)
	}
	c.healthy(t, 1)
	c.holds(t, c.client[1], acked)
}

func TestOrderlyStopOfTheLeaderFailsNoRequest(t *testing.T) {
	c := startCluster(t, 3)
	leader := c.leader(t)
	var moved atomic.Int64
	acked := c.load(t, func(err error) bool {
		moved.Add(1)
		return !errors.Is(err, syscall.ECONNREFUSED) // nobody listens: the request was not made
	}, func() {
		c.members[leader].Process.Signal(syscall.SIGTERM)
		assert.Zero(t, c.members[leader].end(t))
		time.Sleep(100 * time.Millisecond)
	})
	t.Logf("%d writes acknowledged, %d clients moved", len(acked), moved.Load())
	c.holds(t, c.client[(leader+1)%3], acked)
	assert.Contains(t, c.members[leader].output.String(), "hand leadership over")
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	c := startCluster(t, 1)
	// A request whose body never comes keeps the orderly stop waiting.
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.client[0], "http://"))
	require.NoError(t, err)
	defer conn.Close()
	io.WriteString(conn, "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nval")
	time.Sleep(50 * time.Millisecond)
	m := c.members[0]
	m.Process.Signal(os.Interrupt)
	require.Eventually(t, func() bool { return strings.Contains(m.output.String(), "stopping") }, 5*time.Second, time.Millisecond)
	m.Process.Signal(os.Interrupt) // at once: taken for the same signal
	time.Sleep(echo)
	m.Process.Signal(os.Interrupt)
	begin := time.Now()
	assert.Equal(t, 1, m.end(t))
	assert.Less(t, time.Since(begin), 5*time.Second)
	assert.Contains(t, m.output.String(), "second signal")
}

func TestDataDecidesWhoAMemberIs(t *testing.T) {
	c := startCluster(t, 1)
	must(t, "PUT", c.client[0]+"/v2/keys/kept", "yes")
	c.members[0].Process.Signal(syscall.SIGTERM)
	require.Zero(t, c.members[0].end(t))
	c.members[0] = launch(t, nil, append(c.args(0), "--initial-cluster=other=http://127.0.0.1:1", "--initial-cluster-token=another")...)
	c.healthy(t, 0)
	assert.Equal(t, "yes", valueOf(t, c.client[0], "/kept"))

	c.members[0].Process.Kill()
	<-c.members[0].exited
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, "n1", identityFile), []byte("{"), 0o600))
	broken := launch(t, nil, c.args(0)...)
	assert.Equal(t, 1, broken.end(t))
	assert.Contains(t, broken.output.String(), identityFile)
}

// A member must not begin empty beside the keys that its machine had in etcd.
func TestTheDataOfEtcdAreNotPassedOver(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "member", "wal"), 0o700))
	free := ports(t, 2)
	p := launch(t, nil, "serve", "--data-dir", dir, "--listen-client-urls", loopbackURL(free[0]), "--advertise-client-urls", loopbackURL(free[0]), "--listen-peer-urls", loopbackURL(free[1]))
	assert.Equal(t, 1, p.end(t))
	assert.Contains(t, p.output.String(), "data directory "+dir+": member/wal is of etcd")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 1)
}

// With an empty log under its old name a member could vote against what it has
// acknowledged, so it must not start.
func TestMemberThatLostItsLogIsRefused(t *testing.T) {
	c := startCluster(t, 1)
	must(t, "PUT", c.client[0]+"/v2/keys/kept", "yes")
	c.members[0].Process.Kill()
	<-c.members[0].exited
	logs := filepath.Join(c.dir, "n1", "member")
	require.NoError(t, os.Rename(logs, logs+".away"))
	broken := launch(t, nil, c.args(0)...)
	assert.Equal(t, 1, broken.end(t))
	assert.Contains(t, broken.output.String(), "there is no log")

	require.NoError(t, os.RemoveAll(logs))
	require.NoError(t, os.Rename(logs+".away", logs))
	c.members[0] = launch(t, nil, c.args(0)...)
	c.healthy(t, 0)
	assert.Equal(t, "yes", valueOf(t, c.client[0], "/kept"))
}

// Members have no business with a proxy: it may stand beside a member whose peer
// ports are the ones it would listen on.
func TestAProxyLeavesPeerPortsAlone(t *testing.T) {
	registry := startCluster(t, 1)
	token := strings.TrimSpace(must(t, "GET", registry.client[0]+"/new?size=1", "").body)
	start := func(dir string, peer int, more ...string) (p *process, client string) {
		free := ports(t, 1)
		client = loopbackURL(free[0])
		p = launch(t, nil, append([]string{
			"serve", "--name", filepath.Base(dir), "--data-dir", dir, "--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", loopbackURL(peer), "--initial-advertise-peer-urls", loopbackURL(peer),
		}, more...)...)
		return p, client
	}
	proxies := func(client string) func() bool {
		return func() bool {
			r, err := http.Get(client + "/v2/config/local/proxy")
			if err != nil {
				return false
			}
			r.Body.Close()
			return r.StatusCode == http.StatusOK
		}
	}
	dir, free := t.TempDir(), ports(t, 2)
	start(filepath.Join(dir, "a"), free[0], "--discovery", token)
	told, client := start(filepath.Join(dir, "p"), free[0], "--proxy=on", "--discovery", token)
	require.Eventually(t, proxies(client), 20*time.Second, 50*time.Millisecond, "told to be one")
	told.Process.Kill()
	<-told.exited
	_, client = start(filepath.Join(dir, "p"), free[0])
	require.Eventually(t, proxies(client), 20*time.Second, 50*time.Millisecond, "its data say so")

	_, client = start(filepath.Join(dir, "late"), free[1], "--discovery", token)
	require.Eventually(t, proxies(client), 20*time.Second, 50*time.Millisecond, "no place was left")
	require.Eventually(t, func() bool {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", free[1]))
		if err == nil {
			l.Close()
		}
		return err == nil
	}, 10*time.Second, 50*time.Millisecond, "the port is given back")
}

func TestDev(t *testing.T) {
	base := devPorts(t)
	dir := filepath.Join(t.TempDir(), strings.Repeat("a-long-name-", 9), "data")
	require.NoError(t, os.MkdirAll(filepath.Dir(dir), 0o700))
	args := []string{"dev", "--data-dir", dir, "--client-port", strconv.Itoa(base), "--peer-port", strconv.Itoa(base + 1), "--restart-after", "100ms"}
	d := launch(t, []string{"ETCD_NAME=stray"}, args...)
	says := func(p *process, text string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(p.output.String(), text) }, 20*time.Second, 10*time.Millisecond, text)
	}
	says(d, "3 members are healthy")
	assert.NotContains(t, d.output.String(), "\x1b[", "colours are for terminals")
	first := loopbackURL(base)
	must(t, "PUT", first+"/v2/keys/message", "Hello")

	order := func(want int, words ...string) string {
		t.Helper()
		status, out := keelson(t, nil, append([]string{"dev", "--data-dir", dir}, words...)...)
		assert.Equal(t, want, status, out)
		return out
	}
	assert.Contains(t, order(0, "kill", "1"), "n1: down, killed")
	assert.Contains(t, order(0, "status"), "down, killed")
	second := loopbackURL(devPort(base, 2))
	assert.Equal(t, "Hello", valueOf(t, second, "/message"))
	assert.Contains(t, order(0, "restart", "1"), "n1: running")
	assert.Contains(t, order(0, "pause", "3"), "n3: paused")
	assert.Contains(t, order(0, "resume", "3"), "n3: running")
	assert.Contains(t, order(1, "kill", "4"), "no member 4: there are 3")
	assert.Contains(t, order(2, "kill"), "want 1 argument(s), got 0")
	assert.Contains(t, order(2, "kill", "me"), "want the number of a member")

	var pid int
	for line := range strings.Lines(order(0, "status")) {
		if strings.HasPrefix(line, "n2") {
			fmt.Sscanf(line[strings.Index(line, "pid"):], "pid %d", &pid)
		}
	}
	require.NotZero(t, pid)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	says(d, "n2 died by itself (signal: killed); it is started again in 100ms")

	status, out := keelson(t, nil, args...)
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "another keelson dev is running there")

	d.Process.Signal(os.Interrupt)
	assert.Zero(t, d.end(t))
	order(1, "status")

	d = launch(t, nil, args...)
	says(d, "3 members are healthy")
	assert.Equal(t, "Hello", valueOf(t, first, "/message"), "data is kept")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	status, out = keelson(t, nil, "dev", "--data-dir", t.TempDir(), "--members=1", "--client-port", strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	assert.Equal(t, 1, status)
	assert.Contains(t, out, "address already in use: choose other ports")
	d.Process.Signal(os.Interrupt)
	assert.Zero(t, d.end(t))
}

// devPorts gives a first port such that nobody has any that dev would use.
func devPorts(t *testing.T) int {
	t.Helper()
	for base := 3100 + os.Getpid()%2000; base < 9000; base += 2 {
		free := true
		for n := 1; n <= 3; n++ {
			free = free && isFree(devPort(base, n)) && isFree(devPort(base+1, n))
		}
		if free {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}
