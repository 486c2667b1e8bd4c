package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/agent"
	unithost "github.com/keelson/keelson/realnet/process"
)

const sleeper = "[Unit]\nDescription=Sleeper\n\n[Service]\nExecStart=/bin/sleep 1000\n"

// unitMachine is a cluster of one that runs units as child processes.
type unitMachine struct {
	*testing.T
	*cluster
	units, id, conf string
}

func newUnitMachine(t *testing.T) *unitMachine {
	dir := t.TempDir()
	m := &unitMachine{
		T: t, cluster: &cluster{dir: dir, members: make([]*process, 1)},
		units: filepath.Join(dir, "units"), id: filepath.Join(dir, "machine-id"), conf: filepath.Join(dir, "fleet.conf"),
	}
	free := ports(t, 2)
	m.client, m.peer = []string{loopbackURL(free[0])}, []string{loopbackURL(free[1])}
	require.NoError(t, os.WriteFile(m.id, []byte("1A1A1A1A00000000000000000000AAAA\n"), 0o644))
	require.NoError(t, os.WriteFile(m.conf, []byte("metadata=disk=ssd\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hello.service"), []byte(sleeper), 0o644))
	t.Cleanup(func() {
		m.members[0].Process.Kill()
		require.NoError(t, unithost.Shutdown(m.units))
	})
	m.begin()
	return m
}

func (m *unitMachine) begin() {
	m.Helper()
	args := append(m.args(0), "--units=process", "--units-directory="+m.units, "--machine-id-file="+m.id, "--fleet-config="+m.conf,
		"--fleet-socket="+filepath.Join(m.dir, "fleet.sock"), "--public-ip=10.0.0.1")
	m.members[0] = launch(m.T, nil, args...)
	m.healthy(m.T, 0)
}

// fleetctl runs one command line that must succeed, over the socket.
func (m *unitMachine) fleetctl(line string) string {
	m.Helper()
	words := append([]string{"fleetctl", "--endpoint", "unix://" + filepath.Join(m.dir, "fleet.sock")}, strings.Fields(line)...)
	status, out := keelson(m.T, nil, words...)
	require.Zero(m, status, "%s: %s", line, out)
	return out
}

func (m *unitMachine) eventually(line, want string) {
	m.Helper()
	require.Eventually(m, func() bool { return strings.Contains(m.fleetctl(line), want) }, 20*time.Second, 50*time.Millisecond, "%s: %s", line, want)
}

// mainPID is that of hello.service, as its status shows it.
func (m *unitMachine) mainPID() int {
	m.Helper()
	_, rest, found := strings.Cut(m.fleetctl("status hello"), "Main PID: ")
	require.True(m, found)
	word, _, _ := strings.Cut(rest, " ")
	pid, err := strconv.Atoi(word)
	require.NoError(m, err)
	return pid
}

func TestUnitsOutliveTheDaemon(t *testing.T) {
	m := newUnitMachine(t)
	m.eventually("list-machines", "1a1a1a1a...\t10.0.0.1\tdisk=ssd")
	out := m.fleetctl("start " + filepath.Join(m.dir, "hello.service"))
	assert.Contains(t, out, "Unit hello.service launched on 1a1a1a1a.../10.0.0.1")
	m.eventually("list-units", "active\trunning")
	pid := m.mainPID()

	m.members[0].Process.Kill()
	m.members[0].end(t)
	m.begin()
	m.eventually("list-units", "active\trunning")
	assert.Equal(t, pid, m.mainPID())

	m.members[0].Process.Signal(syscall.SIGTERM)
	assert.Zero(t, m.members[0].end(t))
	m.begin()
	m.eventually("list-units", "active\trunning")
	assert.Equal(t, pid, m.mainPID())

	m.fleetctl("destroy hello.service")
	m.eventually("list-unit-files --no-legend", "")
	require.Eventually(t, func() bool { return syscall.Kill(pid, 0) != nil }, 10*time.Second, 20*time.Millisecond)
}

// The root of the socket is that of the original's server; that of a port is the store's.
func TestRootOfTheSocket(t *testing.T) {
	m := newUnitMachine(t)
	socket := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", filepath.Join(m.dir, "fleet.sock"))
	}}}
	defer socket.CloseIdleConnections()
	resp, err := socket.Get("http://fleet/")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, 405, resp.StatusCode)
	assert.Equal(t, `{"error":{"code":405,"message":""}}`, string(body))
	port, err := http.Get(m.client[0] + "/")
	require.NoError(t, err)
	defer port.Body.Close()
	assert.Equal(t, 404, port.StatusCode)
}

func TestSignalsOfUnits(t *testing.T) {
	m := newUnitMachine(t)
	m.fleetctl("start " + filepath.Join(m.dir, "hello.service"))
	m.eventually("list-units", "active\trunning")

	p := m.members[0]
	require.NoError(t, p.Process.Signal(syscall.SIGUSR1))
	var d agent.Dump
	require.Eventually(t, func() bool {
		for line := range strings.Lines(p.output.String()) {
			if json.Unmarshal([]byte(line), &d) == nil && d.Machine != "" {
				return true
			}
		}
		return false
	}, 10*time.Second, 10*time.Millisecond)
	assert.Equal(t, "yes", d.Ready)
	require.Len(t, d.Units, 1)
	assert.Equal(t, "running", d.Units[0].Sub)

	require.NoError(t, os.WriteFile(m.conf, []byte("metadata=disk=hdd,az=b\n"), 0o644))
	require.NoError(t, p.Process.Signal(syscall.SIGHUP))
	m.eventually("list-machines", "az=b,disk=hdd")
	require.NoError(t, os.WriteFile(m.conf, []byte("metadata=broken\n"), 0o644))
	require.NoError(t, p.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return strings.Contains(p.output.String(), "nothing is changed") }, 10*time.Second, 10*time.Millisecond)
	m.eventually("list-machines", "az=b,disk=hdd")
}

func TestMachinesWithoutAnID(t *testing.T) {
	for _, c := range []struct{ text, want string }{{"uninitialized\n", "want 32 hex digits"}, {"", "want 32 hex digits"}} {
		file := filepath.Join(t.TempDir(), "machine-id")
		require.NoError(t, os.WriteFile(file, []byte(c.text), 0o644))
		free := ports(t, 2)
		status, out := keelson(t, nil, "serve", "--units=process", "--machine-id-file="+file,
			"--listen-client-urls", loopbackURL(free[0]), "--advertise-client-urls", loopbackURL(free[0]), "--listen-peer-urls", loopbackURL(free[1]))
		assert.Equal(t, 1, status)
		assert.Contains(t, out, c.want)
	}
}

func TestFleetd(t *testing.T) {
	status, out := keelson(t, nil, "fleetd", "--version")
	assert.Zero(t, status)
	assert.Equal(t, "fleetd version 1.0.0\n", out)
	conf := filepath.Join(t.TempDir(), "fleet.conf")
	require.NoError(t, os.WriteFile(conf, []byte("agent_ttl=never\n"), 0o644))
	status, out = keelson(t, nil, "fleetd", "-config", conf)
	assert.Equal(t, 1, status)
	assert.Contains(t, out, conf+": line 1: agent_ttl=never: want a time")
}

func TestInstall(t *testing.T) {
	root := t.TempDir()
	status, out := keelson(t, nil, "install", "--links", "--root", root)
	require.Zero(t, status, out)
	status, out = keelson(t, nil, "install", "--links", "--root", root) // again, as an update
	require.Zero(t, status, out)
	self, err := os.Executable()
	require.NoError(t, err)
	want, err := os.ReadFile(self)
	require.NoError(t, err)
	have, err := os.ReadFile(filepath.Join(root, "usr/bin/fleetctl"))
	require.NoError(t, err)
	assert.Equal(t, len(want), len(have))
	for _, link := range []string{"multi-user.target.wants/keelson.service", "sockets.target.wants/fleet.socket"} {
		_, err := os.Stat(filepath.Join(root, "etc/systemd/system", link))
		assert.NoError(t, err, link)
	}
	_, printed := keelson(t, nil, "install", "--print")
	assert.Contains(t, printed, "ExecStart=/usr/bin/keelson serve")
	if analyze, err := exec.LookPath("systemd-analyze"); err == nil {
		said, _ := exec.Command(analyze, "verify", "--root="+root, filepath.Join(root, "etc/systemd/system/keelson.service")).CombinedOutput()
		assert.NotRegexp(t, "(?i)unknown|invalid|failed to parse", string(said), "systemd understands every line")
	}
}

func TestDevRunsUnits(t *testing.T) {
	base := devPorts(t)
	dir := filepath.Join(t.TempDir(), "data")
	t.Cleanup(func() {
		for _, n := range []string{"n1", "n2", "n3"} { // a dev that is killed leaves them running
			assert.NoError(t, unithost.Shutdown(filepath.Join(dir, n+".units")))
		}
	})
	args := []string{"dev", "--data-dir", dir, "--client-port", strconv.Itoa(base), "--peer-port", strconv.Itoa(base + 1)}
	d := launch(t, nil, args...)
	require.Eventually(t, func() bool { return strings.Contains(d.output.String(), "fleetctl") }, 30*time.Second, 20*time.Millisecond)
	file := filepath.Join(t.TempDir(), "web@.service")
	require.NoError(t, os.WriteFile(file, []byte(sleeper+"\n[X-Fleet]\nConflicts=web@*.service\n"), 0o644))
	run := func(words ...string) string {
		t.Helper()
		status, out := keelson(t, nil, append([]string{"fleetctl", "--endpoint", loopbackURL(base)}, words...)...)
		require.Zero(t, status, out)
		return out
	}
	require.Eventually(t, func() bool { return strings.Count(run("list-machines", "--no-legend"), "name=n") == 3 }, 20*time.Second, 50*time.Millisecond)
	at := filepath.Dir(file)
	run("start", filepath.Join(at, "web@1"), filepath.Join(at, "web@2"), filepath.Join(at, "web@3"))
	require.Eventually(t, func() bool { return strings.Count(run("list-units"), "running") == 3 }, 20*time.Second, 50*time.Millisecond)
	ids := func() string { return run("list-units", "--fields=unit,machine", "--full", "--no-legend") }
	before := ids()
	d.Process.Signal(os.Interrupt)
	assert.Zero(t, d.end(t))
	for _, n := range []string{"n1", "n2", "n3"} {
		left, err := filepath.Glob(filepath.Join(dir, n+".units", ".host", "*.state"))
		require.NoError(t, err)
		assert.Empty(t, left, "nothing of %s runs", n)
	}
	d = launch(t, nil, args...) // power is back
	all := func() bool {
		status, out := keelson(t, nil, "fleetctl", "--endpoint", loopbackURL(base), "list-units")
		return status == 0 && strings.Count(out, "running") == 3
	}
	require.Eventually(t, all, 30*time.Second, 50*time.Millisecond, "what ran before runs again")
	assert.Equal(t, before, ids(), "where it was")
	for _, words := range []string{"kill", "restart"} {
		status, out := keelson(t, nil, "dev", "--data-dir", dir, words, "2")
		require.Zero(t, status, out)
	}
	require.Eventually(t, all, 30*time.Second, 50*time.Millisecond, "a machine that lost power starts what is assigned to it")
	d.Process.Signal(os.Interrupt)
	assert.Zero(t, d.end(t))
}

func TestReachable(t *testing.T) {
	assert.Equal(t, "http://10.0.0.1:2379", reachable("http://0.0.0.0:2379", "10.0.0.1"))
	assert.Equal(t, "http://10.0.0.1:2379", reachable("http://[::]:2379", "10.0.0.1"))
	assert.Equal(t, "http://10.0.0.2:2379", reachable("http://10.0.0.2:2379", "10.0.0.1"))
	assert.Equal(t, "http://localhost:2379", reachable("http://localhost:2379", "10.0.0.1"))
	assert.Empty(t, reachable("", "10.0.0.1"))
}

// A machine that is no member runs units too, and one that only schedules runs none.
func TestAWorkerRunsUnits(t *testing.T) {
	m := &unitMachine{T: t, cluster: &cluster{dir: t.TempDir(), members: make([]*process, 2)}}
	m.units = filepath.Join(m.dir, "units")
	t.Cleanup(func() { require.NoError(t, unithost.Shutdown(m.units)) })
	free := ports(t, 3)
	m.client = []string{loopbackURL(free[0]), loopbackURL(free[2])}
	m.peer = []string{loopbackURL(free[1])}
	id := func(text string) string {
		file := filepath.Join(m.dir, text[:2])
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		return "--machine-id-file=" + file
	}
	m.members[0] = launch(t, nil, append(m.args(0), "--units=api", id("1a1a1a1a00000000000000000000aaaa"), "--fleet-socket=none")...)
	m.healthy(t, 0)
	m.members[1] = launch(t, nil, "serve", "--name=w", "--proxy=on", "--data-dir="+filepath.Join(m.dir, "w"), "--listen-client-urls="+m.client[1],
		"--initial-cluster=n1="+m.peer[0], "--units=process", "--units-directory="+m.units, id("2b2b2b2b00000000000000000000bbbb"),
		"--fleet-socket="+filepath.Join(m.dir, "fleet.sock"))
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, "hello.service"), []byte(sleeper), 0o644))
	require.Eventually(t, func() bool {
		status, out := keelson(t, nil, "fleetctl", "--endpoint", "unix://"+filepath.Join(m.dir, "fleet.sock"), "list-machines", "--no-legend")
		return status == 0 && strings.HasPrefix(out, "2b2b2b2b") && strings.Count(out, "\n") == 1
	}, 30*time.Second, 100*time.Millisecond)
	m.fleetctl("start " + filepath.Join(m.dir, "hello.service"))
	m.eventually("list-units", "active\trunning")
	for _, u := range m.client { // through the member, and from the machine itself
		status, out := keelson(t, nil, "fleetctl", "--endpoint", u, "journal", "hello")
		assert.Zero(t, status, out)
		assert.Contains(t, out, "Started hello.service - Sleeper.")
	}
}
