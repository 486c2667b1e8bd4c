package machines

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// jailVariable tells a process that it is in a jail.
const jailVariable = "NSPAWN_JAIL"

// Jailed reports whether this process was started by Jail.
func Jailed() bool { return os.Getenv(jailVariable) != "" }

// Jail is the command that runs this program again, with args, as process 1 of
// namespaces of its own for processes and mounts, and with net for the network, too.
// When that process ends, all those started by it end, and what it mounted is gone.
func Jail(net bool, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), jailVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if net {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	}
	return cmd
}

// RunJailed runs a jail to its end, passes on to it what signals this process gets, and
// gives its exit status. The jail ends with this process.
func RunJailed(cmd *exec.Cmd) int {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "no namespaces of its own for a cluster of machines:", err)
		return 1
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			cmd.Process.Signal(s)
		}
	}()
	err := cmd.Wait()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() > 0 {
		return ended.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Furnish mounts what a jail needs and the host need not have: its own list of
// processes, an empty /run, and the unified control groups alone, as systemd
// likes them.
func Furnish() error {
	if !Jailed() {
		return errors.New("not in a jail: these mounts would be the host's")
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	const still = unix.MS_NOSUID | unix.MS_NODEV
	for _, m := range []struct {
		kind, at string
		flags    uintptr
		data     string
	}{
		{"proc", "/proc", still | unix.MS_NOEXEC, ""},
		{"tmpfs", "/run", still, "mode=755"},
		{"cgroup2", groupRoot, still | unix.MS_NOEXEC, ""},
	} {
		if m.kind == "cgroup2" {
			unix.Unmount(m.at, unix.MNT_DETACH) // whatever the host has there
		}
		if err := unix.Mount(m.kind, m.at, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.at, err)
		}
	}
	return nil
}
