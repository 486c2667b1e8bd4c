package systemd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/internal/machines"
)

// TestOnAMachine boots a Debian machine with systemd as process 1, whose changes are kept
// in memory alone, and runs the tests of this package there that ask for one.
func TestOnAMachine(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	if err := machines.Check(); err != nil {
		absent(t, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	defer cancel()
	image, err := machines.Image(ctx, machines.Base(), io.Discard)
	if err != nil {
		absent(t, err) // no Debian mirror is within reach
	}
	self, err := os.Executable()
	require.NoError(t, err)
	leader := boot(t, image, self)
	args := []string{"--target", fmt.Sprint(leader), "--all", "--", "/suite", "-test.v", "-test.timeout=8m"}
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Env = []string{insideVariable + "=1", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	said, err := cmd.CombinedOutput()
	if err != nil || testing.Verbose() {
		t.Logf("%s", said)
	}
	require.NoError(t, err)
	require.Contains(t, string(said), "--- PASS: TestPromises ")
}

// absent ends a test that lacks something of the host: elsewhere it is skipped, but never
// where everything must be tested.
func absent(t *testing.T, reason error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// bootMax bounds how long a machine may take to boot.
const bootMax = time.Minute

// boot starts a machine that has this test as /suite, and gives its first process. The
// machine ends with the test.
func boot(t *testing.T, image, self string) (leader int) {
	if os.Getenv(insideVariable) != "" {
		t.Skip("this is the machine")
	}
	var console bytes.Buffer
	cmd := exec.Command("systemd-nspawn", "--quiet", "--directory="+image, "--volatile=overlay", "--read-only",
		fmt.Sprintf("--machine=keelson-suite-%d", os.Getpid()), "--register=no", "--keep-unit", "--private-network",
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--bind-ro="+self+":/suite",
		"--tmpfs=/usr/lib/systemd/system-generators", // whose work at every reading of files would take most of the time
		"--boot")
	cmd.Stdout, cmd.Stderr = &console, &console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the machine ends with the thread that started it
	require.NoError(t, os.MkdirAll("/run/systemd/nspawn", 0o755))
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if leader != 0 {
			syscall.Kill(leader, syscall.SIGKILL)
		} else {
			cmd.Process.Kill()
		}
		<-ended
		runtime.UnlockOSThread()
	})
	for begun := time.Now(); time.Since(begun) < bootMax; time.Sleep(50 * time.Millisecond) {
		leader = child(cmd.Process.Pid)
		if leader != 0 && booted(leader) {
			return leader
		}
	}
	require.Fail(t, "the machine does not boot", "%s", console.String())
	return 0
}

// child is the first child of a process, 0 if it has none.
func child(pid int) (first int) {
	text, _ := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "task", fmt.Sprint(pid), "children"))
	fmt.Sscan(string(text), &first)
	return first
}

func booted(leader int) bool {
	said, _ := exec.Command("nsenter", "--target", fmt.Sprint(leader), "--all", "--", "systemctl", "is-system-running").Output()
	state := strings.TrimSpace(string(said))
	return state == "running" || state == "degraded"
}
