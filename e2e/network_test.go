package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// space is a network namespace without a name: it lives as long as it is open or
// a process is in it.
type space struct{ file *os.File }

var (
	homeSpace *space // the test's own
	noSpace   error  // why namespaces cannot be had here
)

// do runs fn in the namespace, on the thread that starts processes. A process or
// socket made by fn stays in the namespace. A nil space is the test's own.
func (s *space) do(fn func() error) error {
	done := make(chan error)
	starter <- func() {
		if s == nil || s == homeSpace {
			done <- fn()
			return
		}
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter a network namespace: %w", err)
			return
		}
		err := fn()
		if back := unix.Setns(int(homeSpace.file.Fd()), unix.CLONE_NEWNET); back != nil {
			panic(fmt.Sprintf("leave a network namespace: %v", back)) // nothing would be where it seems
		}
		done <- err
	}
	return <-done
}

// newSpace makes a namespace in which only loopback works.
func newSpace(t *testing.T) *space {
	t.Helper()
	if noSpace != nil {
		absent(t, noSpace.Error())
	}
	s := &space{}
	done := make(chan error)
	starter <- func() {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			s.file, err = os.Open("/proc/thread-self/ns/net")
			if back := unix.Setns(int(homeSpace.file.Fd()), unix.CLONE_NEWNET); back != nil {
				panic(fmt.Sprintf("leave a network namespace: %v", back))
			}
		}
		done <- err
	}
	require.NoError(t, <-done)
	t.Cleanup(func() { s.file.Close() })
	require.NoError(t, ip(s, "link", "set", "lo", "up"))
	return s
}

// ip runs the program of that name in a namespace.
func ip(s *space, args ...string) error {
	return s.do(func() error {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
		return nil
	})
}

// network is a bridge with a namespace behind each of its ports. The test itself
// is on the bridge and reaches them all.
type network struct {
	number int
	spaces []*space
}

var networks atomic.Int64

func newNetwork(t *testing.T, members int) *network {
	t.Helper()
	if noSpace != nil {
		absent(t, noSpace.Error())
	}
	n := &network{number: int(networks.Add(1))}
	run := func(s *space, line string, args ...any) {
		t.Helper()
		require.NoError(t, ip(s, strings.Fields(fmt.Sprintf(line, args...))...))
	}
	run(nil, "link add %s type bridge", n.bridge())
	t.Cleanup(func() { assert.NoError(t, ip(nil, "link", "del", n.bridge())) })
	run(nil, "addr add 10.231.%d.254/24 dev %s", n.number, n.bridge())
	run(nil, "link set %s up", n.bridge())
	for i := range members {
		s := newSpace(t)
		n.spaces = append(n.spaces, s)
		// The path of an open namespace stands where ip wants a name.
		run(nil, "link add %s type veth peer name eth0 netns /proc/%d/fd/%d", n.port(i), os.Getpid(), s.file.Fd())
		t.Cleanup(func() { assert.NoError(t, ip(nil, "link", "del", n.port(i))) })
		run(nil, "link set %s master %s up", n.port(i), n.bridge())
		run(s, "addr add %s/24 dev eth0", n.address(i))
		run(s, "link set eth0 up")
	}
	return n
}

func (n *network) bridge() string       { return fmt.Sprintf("br%d", n.number) }
func (n *network) port(i int) string    { return fmt.Sprintf("p%d-%d", n.number, i+1) }
func (n *network) address(i int) string { return fmt.Sprintf("10.231.%d.%d", n.number, i+1) }

// unplug pulls the cable of member i: neither members nor clients reach it.
func (n *network) unplug(t *testing.T, i int) {
	t.Helper()
	require.NoError(t, ip(nil, "link", "set", n.port(i), "down"))
}

func (n *network) plug(t *testing.T, i int) {
	t.Helper()
	require.NoError(t, ip(nil, "link", "set", n.port(i), "up"))
}

// nobody is an address of the link layer at which nobody is.
const nobody = "02:00:00:00:00:ff"

// silence has everything that member from sends to member to vanish, without an
// error at either; what goes the other way arrives.
func (n *network) silence(t *testing.T, from, to int) {
	t.Helper()
	require.NoError(t, ip(n.spaces[from], "neigh", "replace", n.address(to), "lladdr", nobody, "nud", "permanent", "dev", "eth0"))
}

func (n *network) unsilence(t *testing.T, from, to int) {
	t.Helper()
	require.NoError(t, ip(n.spaces[from], "neigh", "del", n.address(to), "dev", "eth0"))
}
