// Package e2e looks at real processes from outside: clusters of the built binary that are killed, paused and cut off under load.
//
// Everything happens in network namespaces of the test's own, which are made
// without names and end with the processes in them: whatever way a test ends,
// nothing is left behind, and the old default ports are free in each.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The test runs itself once more inside a network namespace, and these tell the
// inner run what the outer one prepared.
const (
	binaryVariable    = "E2E_KEELSON"
	namespaceVariable = "E2E_NAMESPACE" // "ok", or why there is none
)

func TestMain(m *testing.M) {
	if os.Getenv(binaryVariable) == "" {
		os.Exit(outside())
	}
	if err := inside(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// outside builds the binary, runs the tests in a namespace and takes everything
// away again.
func outside() int {
	dir, err := os.MkdirTemp("", "keelson-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "keelson")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", binary, "../cmd/keelson")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: build keelson: %v\n%s", err, out)
		return 1
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	// The kernel ends a child together with the thread that started it.
	runtime.LockOSThread()
	inner, err := startInner(self, binary)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			inner.Process.Signal(s)
		}
	}()
	if err := inner.Wait(); err != nil {
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.ExitCode() < 1 {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
		return ended.ExitCode()
	}
	return 0
}

func startInner(self, binary string) (*exec.Cmd, error) {
	command := func(namespace string, attr *syscall.SysProcAttr) *exec.Cmd {
		c := exec.Command(self, os.Args[1:]...)
		c.Env = append(os.Environ(), binaryVariable+"="+binary, namespaceVariable+"="+namespace)
		c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
		attr.Pdeathsig = syscall.SIGKILL
		c.SysProcAttr = attr
		return c
	}
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		// As root of a user namespace, where the system allows that.
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	c := command("ok", attr)
	err := c.Start()
	if err == nil {
		return c, nil
	}
	c = command("no network namespace: "+err.Error()+": run as root", &syscall.SysProcAttr{})
	return c, c.Start()
}

// starter is the thread from which every process and namespace is made: only one
// that never ends may start processes that are to die with the test.
var starter = make(chan func())

func inside() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		homeSpace = &space{home}
		started <- err
		for fn := range starter {
			fn()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	if reason := os.Getenv(namespaceVariable); reason != "ok" {
		noSpace = errors.New(reason)
	} else if _, err := exec.LookPath("ip"); err != nil {
		noSpace = errors.New("no program ip: install the Debian package iproute2")
	} else {
		noSpace = ip(nil, "link", "set", "lo", "up")
	}
	return nil
}

// keelson is the binary under test.
func keelson(t *testing.T) string {
	t.Helper()
	watchSources()
	return os.Getenv(binaryVariable)
}

// watchSources looks at every directory of the module, so that go test does not
// take a kept result for one of changed sources: nothing here imports them.
var watchSources = sync.OnceFunc(func() {
	filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); name == "data" || name == "bin" || name == "testdata" || strings.HasPrefix(name, ".") && name != ".." {
			return filepath.SkipDir
		}
		return nil
	})
})

// absent ends a test that lacks something of the machine: elsewhere it is
// skipped, but never where everything must be tested.
func absent(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// program finds a program of a Debian package.
func program(t *testing.T, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		absent(t, fmt.Sprintf("no program %s: install the Debian package %s", name, debian))
	}
	return path
}

// within gives a context that ends soon enough to fail a test before its deadline.
func within(t *testing.T, d int) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), seconds(d))
	t.Cleanup(cancel)
	return ctx
}

// link makes a symbolic link to the binary under another name and gives its path.
func link(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.Symlink(keelson(t), path))
	return path
}
