package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reader is somebody who follows the old guides on a machine of their own, with a
// fresh cluster at the default ports.
type reader struct {
	*testing.T
	space *space
	ctl   string // what is typed for etcdctl
	// execWatch is the guides' line. Debian's build takes the last word for the
	// key unless an option stands before the first.
	execWatch string
	env       []string
	dev       *process
}

// devPorts are those of the members for clients.
var devPorts = []int{2379, 22379, 32379}

func newReader(t *testing.T, ctl, execWatch string, env ...string) *reader {
	t.Helper()
	program(t, "curl", "curl")
	r := &reader{T: t, space: newSpace(t), ctl: ctl, execWatch: execWatch, env: env}
	r.dev = launch(t, r.space, t.TempDir(), nil, keelson(t), "dev")
	until(t, "keelson dev is ready", func() bool { return strings.Contains(r.dev.out.String(), "3 members are healthy") })
	return r
}

// shell makes a command for sh out of a line as typed.
func (r *reader) shell(line string) []string {
	if rest, ok := strings.CutPrefix(line, "etcdctl "); ok {
		line = r.ctl + " " + rest
	}
	return []string{"sh", "-c", "exec " + line}
}

func (r *reader) types(line string) result {
	r.Helper()
	return run(r.T, r.space, r.env, r.shell(line)...)
}

// reads types a line and expects all that it prints.
func (r *reader) reads(line, out string) {
	r.Helper()
	got := r.types(line)
	assert.Equal(r, result{0, out, ""}, got, line)
}

// begins types a line that waits for changes, and waits until a member has the watch.
func (r *reader) begins(line string) *process {
	r.Helper()
	before := r.watchers()
	p := launch(r.T, r.space, r.TempDir(), r.env, r.shell(line)...)
	until(r.T, line+" is waiting", func() bool { return r.watchers() > before })
	return p
}

var watchers = regexp.MustCompile(`(?m)^keelson_watchers (\d+)`)

// watchers counts the open watches of all members.
func (r *reader) watchers() (n int) {
	r.Helper()
	for _, port := range devPorts {
		page := run(r.T, r.space, nil, "curl", "-s", fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
		m := watchers.FindStringSubmatch(page.out)
		require.NotNil(r, m, "no watchers among the metrics:\n%v", page)
		k, _ := strconv.Atoi(m[1])
		n += k
	}
	return n
}

func (r *reader) shows(p *process, out string) {
	r.Helper()
	until(r.T, fmt.Sprintf("%v prints %q", p.Args, out), func() bool { return strings.Contains(p.out.String(), out) })
}

func TestLinesOfTheGuides(t *testing.T) {
	t.Parallel()
	const asTyped = `etcdctl exec-watch /foo/bar -- sh -c "env | grep ETCD"`
	for _, way := range []struct {
		name      string
		ctl       func(t *testing.T) string
		execWatch string
		env       []string
	}{
		{"keelson etcdctl", func(t *testing.T) string { return keelson(t) + " etcdctl" }, asTyped, nil},
		{"etcdctl as a link", func(t *testing.T) string { return link(t, "etcdctl") }, asTyped, nil},
		{"etcdctl of Debian", func(t *testing.T) string { return program(t, "etcdctl", "etcd-client") }, `etcdctl exec-watch --recursive /foo/bar -- sh -c "env | grep ETCD"`, []string{"ETCDCTL_API=2"}},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			r := newReader(t, way.ctl(t), way.execWatch, way.env...)
			r.keys()
			r.watches()
			r.cluster()
			require.NoError(t, r.dev.Process.Signal(os.Interrupt))
			assert.Zero(t, r.dev.end(t))
		})
	}
}

func (r *reader) keys() {
	r.reads(`etcdctl set /message Hello`, "Hello\n")
	r.reads(`etcdctl get /message`, "Hello\n")
	r.reads(`etcdctl mkdir /foo-service`, "")
	r.reads(`etcdctl set /foo-service/container1 localhost:1111`, "localhost:1111\n")
	r.reads(`etcdctl ls --recursive -p`, "/foo-service/\n/foo-service/container1\n/message\n")
	r.reads(`etcdctl ls /foo-service`, "/foo-service/container1\n")
	r.reads(`etcdctl set /foo "Expiring Soon" --ttl 20`, "Expiring Soon\n")
	foo := r.curl(`curl -L http://127.0.0.1:4001/v2/keys/foo`)
	assert.Equal(r, "Expiring Soon", foo.Node.Value)
	assert.Positive(r, foo.Node.TTL)
	assert.LessOrEqual(r, foo.Node.TTL, 20)
	r.reads(`etcdctl set /message Hello --ttl 1`, "Hello\n")
	until(r.T, "a key expires", func() bool { return r.types(`etcdctl get /message`).status == 4 })
	r.reads(`etcdctl rm /foo`, "PrevNode.Value: Expiring Soon\n")

	r.reads(`etcdctl mk /path/to/dir/key first`, "first\n")
	r.reads(`etcdctl update /path/to/dir/key second`, "second\n")
	r.reads(`etcdctl set /path/to/dir/key third --swap-with-value second`, "third\n")
	r.reads(`etcdctl rm /path/to/dir --recursive`, "")
	gone := r.types(`etcdctl get /path/to/dir`)
	assert.Equal(r, 4, gone.status)
	assert.Regexp(r, `^Error:  100: Key not found \(/path/to/dir\) \[\d+\]\n$`, gone.err)

	set := r.curl(`curl -L http://127.0.0.1:4001/v2/keys/mykey -XPUT -d value="this is awesome"`)
	assert.Equal(r, "set", set.Action)
	assert.Equal(r, "this is awesome", set.Node.Value)
	r.reads(`etcdctl get mykey`, "this is awesome\n")
}

type event struct {
	Action string
	Node   struct {
		Key, Value string
		TTL        int
	}
}

func (r *reader) curl(line string) (e event) {
	r.Helper()
	got := r.types(line + " -sS")
	require.Zero(r, got.status, got)
	require.NoError(r, json.Unmarshal([]byte(got.out), &e), got)
	return e
}

func (r *reader) watches() {
	once := r.begins(`etcdctl watch /foo-service --recursive`)
	r.reads(`etcdctl set /foo-service/container2 localhost:2222`, "localhost:2222\n")
	assert.Zero(r, once.end(r.T))
	assert.Equal(r, "[set] /foo-service/container2\nlocalhost:2222\n", once.out.String())

	forever := r.begins(`etcdctl watch /foo/bar --forever`)
	for _, v := range []string{"one", "two", "three"} {
		r.reads(`etcdctl set /foo/bar `+v, v+"\n")
	}
	r.shows(forever, "one\ntwo\nthree\n")
	forever.Process.Signal(os.Interrupt)
	assert.Zero(r, forever.end(r.T))
	assert.Equal(r, "one\ntwo\nthree\n", forever.out.String())

	each := r.begins(r.execWatch)
	r.reads(`etcdctl set /foo/bar four`, "four\n")
	for _, line := range []string{"ETCD_WATCH_ACTION=set\n", "ETCD_WATCH_KEY=/foo/bar\n", "ETCD_WATCH_VALUE=four\n", "ETCD_WATCH_MODIFIED_INDEX="} {
		r.shows(each, line)
	}
	each.Process.Signal(os.Interrupt)
	assert.Zero(r, each.end(r.T))
}

func (r *reader) cluster() {
	health := r.types(`etcdctl cluster-health`)
	assert.Zero(r, health.status, health)
	lines := strings.Split(strings.TrimSpace(health.out), "\n")
	require.Len(r, lines, 4, health)
	for _, line := range lines[:3] {
		assert.Regexp(r, `^member [0-9a-f]+ is healthy: got healthy result from http://127\.0\.0\.1:\d+$`, line)
	}
	assert.Equal(r, "cluster is healthy", lines[3])

	members := r.types(`etcdctl member list`)
	assert.Zero(r, members.status, members)
	assert.Equal(r, 3, strings.Count(members.out, "clientURLs=http://127.0.0.1:"), members)
	assert.Equal(r, 1, strings.Count(members.out, "isLeader=true"), members)
}

// Ctrl-C ends exec-watch and lets the command under way end in its own way.
func TestExecWatchIsInterrupted(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	dir := t.TempDir()
	p := launch(t, nil, dir, nil, link(t, "etcdctl"), "--endpoints", c.client[0], "exec-watch", "--after-index", "0", "/k", "--",
		"sh", "-c", `trap "echo cleaned; exit 0" INT; echo begun; while :; do sleep 0.05; done`)
	until(t, "the watch is open", func() bool {
		body, _, err := get(t.Context(), c.doer, c.client[0], "/metrics")
		return err == nil && strings.Contains(string(body), "keelson_watchers 1\n")
	})
	_, err := c.keys(t).Set(t.Context(), "/k", "v", setOptions)
	require.NoError(t, err)
	until(t, "the command runs", func() bool { return p.out.String() == "begun\n" })
	p.Process.Signal(os.Interrupt)
	assert.Zero(t, p.end(t))
	assert.Equal(t, "begun\ncleaned\n", p.out.String())
}
