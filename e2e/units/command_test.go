package units

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/internal/machines"
)

// make cluster boots machines that outlive the command, and make cluster-down leaves
// nothing of them, whoever was killed before.
func TestTheCommandOfMakeCluster(t *testing.T) {
	fresh(t)
	base := t.TempDir()
	images := filepath.Dir(os.Getenv(imageVariable))
	require.NoError(t, os.Symlink(images, filepath.Join(base, "images")))
	program := filepath.Join(base, "program")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../internal/machines/cluster")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	command := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), program, args...)
		for _, line := range os.Environ() {
			if !strings.HasPrefix(line, "MACHINES_JAIL=") {
				cmd.Env = append(cmd.Env, line)
			}
		}
		cmd.Env = append(cmd.Env, "KEELSON_MACHINES_DIR="+base)
		return cmd
	}
	succeed := func(args ...string) string {
		t.Helper()
		out, err := command(args...).CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
		return string(out)
	}
	gone := func() {
		t.Helper()
		assert.Contains(t, succeed("down"), "nothing is left")
		left, err := machines.Left(filepath.Join(base, "cluster"))
		require.NoError(t, err)
		assert.Empty(t, left)
		assert.Contains(t, succeed("down"), "no cluster is here")
	}
	t.Cleanup(func() { command("down").Run() })

	assert.Contains(t, succeed("up", binary()), "make cluster-down")
	out, err = command("up", binary()).CombinedOutput()
	assert.Error(t, err)
	assert.Contains(t, string(out), "runs in")
	assert.Len(t, fields(succeed("enter", "2", "fleetctl", "list-machines", "--no-legend")), 3)
	succeed("kill", "3")
	until(t, "the machine is off", func() bool { return strings.Contains(succeed("status"), "off") })
	succeed("start")
	until(t, "the machine is on again", func() bool { return strings.Count(succeed("status"), "running") == 3 })
	gone()

	// Half-way: the command is killed while the machines boot.
	half := command("up", binary())
	require.NoError(t, half.Start())
	time.Sleep(time.Second)
	half.Process.Signal(syscall.SIGKILL)
	half.Wait()
	gone()
}
