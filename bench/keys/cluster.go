package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// kind is a server program under measurement.
type kind struct {
	name string
	args func(m *member, initial string) []string
}

var (
	candidate = kind{"keelson", func(m *member, initial string) []string {
		args := append([]string{binary, "serve"}, flags(m, initial)...)
		if profiles != "" {
			args = append(args, "--enable-pprof")
		}
		return args
	}}
	reference = kind{"etcd", func(m *member, initial string) []string {
		return append([]string{"etcd", "--enable-v2=true", "--logger=zap", "--log-level=error"}, flags(m, initial)...)
	}}
)

func flags(m *member, initial string) []string {
	return []string{
		"--name", m.name, "--data-dir", m.dir,
		"--listen-client-urls", "http://" + m.client, "--advertise-client-urls", "http://" + m.client,
		"--listen-peer-urls", "http://" + m.peer, "--initial-advertise-peer-urls", "http://" + m.peer,
		"--initial-cluster", initial, "--initial-cluster-state", "new",
	}
}

// member is one server process.
type member struct {
	name, dir, client, peer string

	argv []string
	cmd  *exec.Cmd
	pid  int // of the server itself, also where a tracer stands between
	log  *os.File
}

// cluster is some members of one kind.
type cluster struct {
	kind    kind
	members []*member
	slow    time.Duration // added to each sync; 0 for the disk as it is
	dir     string
	posted  map[string]int // children made in each directory by earlier runs
}

func startCluster(k kind, n int, slow time.Duration) (*cluster, error) {
	base := ""
	if slow > 0 {
		base = "/dev/shm" // data in memory, so that the added delay is all there is
	}
	dir, err := os.MkdirTemp(base, "bench-"+k.name+"-")
	if err != nil {
		return nil, err
	}
	c := &cluster{kind: k, slow: slow, dir: dir}
	var initial []string
	for i := range n {
		m := &member{name: fmt.Sprintf("m%d", i), dir: filepath.Join(dir, fmt.Sprintf("m%d", i)), client: freeAddr(), peer: freeAddr()}
		c.members = append(c.members, m)
		initial = append(initial, m.name+"=http://"+m.peer)
	}
	for _, m := range c.members {
		m.argv = k.args(m, strings.Join(initial, ","))
		if slow > 0 {
			m.argv = append([]string{
				"strace", "-f", "--seccomp-bpf", "-qqq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync",
				"-e", fmt.Sprintf("inject=fsync,fdatasync:delay_exit=%d", slow.Microseconds()),
			}, m.argv...)
		}
		if err := c.start(m); err != nil {
			c.stop()
			return nil, err
		}
	}
	for _, m := range c.members {
		if err := m.ready(30 * time.Second); err != nil {
			out, _ := os.ReadFile(filepath.Join(dir, m.name+".log"))
			c.stop()
			return nil, fmt.Errorf("%s %s: %w\n%s", k.name, m.name, err, tail(out, 2000))
		}
	}
	return c, nil
}

func tail(p []byte, n int) []byte { return p[max(0, len(p)-n):] }

func (c *cluster) start(m *member) error {
	log, err := os.OpenFile(filepath.Join(c.dir, m.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	m.log = log
	m.cmd = exec.Command(m.argv[0], m.argv[1:]...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	m.cmd.Env = append(os.Environ(), "KEELSON_UNITS=off")
	if err := m.cmd.Start(); err != nil {
		return err
	}
	m.pid = m.cmd.Process.Pid
	if c.slow > 0 {
		time.Sleep(300 * time.Millisecond)
		m.pid = childOf(m.pid)
	}
	return nil
}

func childOf(pid int) int {
	out, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for f := range strings.FieldsSeq(string(out)) {
		if child, err := strconv.Atoi(f); err == nil {
			return child
		}
	}
	return pid
}

// ready waits for a linearizable read.
func (m *member) ready(limit time.Duration) error {
	c := &conn{addr: m.client}
	defer c.close()
	req := request("GET", "/v2/keys/?quorum=true", "")
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if status, _, err := c.do(req, false, time.Second); err == nil && status == 200 {
			return nil
		}
	}
	return fmt.Errorf("not ready after %v", limit)
}

func (m *member) signal(s syscall.Signal) { syscall.Kill(m.pid, s) }

func (m *member) wait() {
	m.cmd.Wait()
	m.log.Close()
}

func (c *cluster) stop() {
	for _, m := range c.members {
		if m.cmd != nil && m.cmd.Process != nil {
			m.signal(syscall.SIGKILL)
			m.cmd.Process.Kill()
			m.wait()
		}
	}
	os.RemoveAll(c.dir)
}

// leader finds the member that leads.
func (c *cluster) leader() (*member, error) {
	for _, m := range c.members {
		cn := &conn{addr: m.client}
		_, body, err := cn.do(request("GET", "/v2/stats/self", ""), true, time.Second)
		cn.close()
		var self struct{ State string }
		if err == nil && json.Unmarshal(body, &self) == nil && self.State == "StateLeader" {
			return m, nil
		}
	}
	return nil, fmt.Errorf("no leader among %d members", len(c.members))
}

// usage is what the servers of a cluster used up to now.
type usage struct {
	cpu     time.Duration
	written int64 // bytes handed to the disk
}

func (c *cluster) usage() usage {
	var u usage
	for _, m := range c.members {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.pid))
		if i := bytes.LastIndexByte(stat, ')'); i > 0 {
			f := strings.Fields(string(stat[i+1:]))
			ut, _ := strconv.ParseInt(f[11], 10, 64)
			st, _ := strconv.ParseInt(f[12], 10, 64)
			u.cpu += time.Duration(ut+st) * 10 * time.Millisecond // USER_HZ is 100 on Linux
		}
		u.written += procValue(m.pid, "io", "write_bytes:")
	}
	return u
}

// syncs counts the log's syncs of each member since it was started.
func (c *cluster) syncs() (counts []int64) {
	for _, m := range c.members {
		cn := &conn{addr: m.client}
		_, body, err := cn.do(request("GET", "/metrics", ""), true, 5*time.Second)
		cn.close()
		n := int64(0)
		for line := range strings.Lines(string(body)) {
			f := strings.Fields(line)
			if err == nil && len(f) == 2 && (f[0] == "keelson_disk_sync_seconds_count" || f[0] == "etcd_disk_wal_fsync_duration_seconds_count") {
				v, _ := strconv.ParseFloat(f[1], 64)
				n = int64(v)
			}
		}
		counts = append(counts, n)
	}
	return counts
}

// resident is the memory of all members in bytes.
func (c *cluster) resident() int64 {
	var sum int64
	for _, m := range c.members {
		sum += procValue(m.pid, "status", "VmRSS:") * 1024
	}
	return sum
}

func procValue(pid int, file, field string) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			v, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return v
		}
	}
	return 0
}

func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err) // a machine without loopback ports measures nothing
	}
	defer l.Close()
	return l.Addr().String()
}
