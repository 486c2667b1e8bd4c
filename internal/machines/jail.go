package machines

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// jailVariable tells a process of a jail which it is: process 1, or the one for whose sake
// the jail is.
const jailVariable = "MACHINES_JAIL"

const (
	first  = "first"
	inmate = "inmate"
)

// Jailed reports whether this process was started by Jail. A program that may be must ask
// this first of all: in process 1 of a jail it does not return.
func Jailed() bool {
	switch os.Getenv(jailVariable) {
	case first:
		os.Exit(adopt())
	case inmate:
		return true
	}
	return false
}

// Jail is the command that runs this program again, with args, in namespaces of its own for
// processes and mounts, and with net for the network, too. When it ends, all processes
// started by it end, and what it mounted is gone.
func Jail(net bool, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), jailVariable+"="+first)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if net {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	}
	return cmd
}

// adopt is process 1 of a jail: it runs the program once more, passes on its signals, and
// takes note of the deaths of all orphans. Otherwise machines could not end: one is there
// as long as the least of its dead.
func adopt() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	os.Setenv(jailVariable, inmate)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if _, err := unix.FcntlInt(3, unix.F_GETFD, 0); err == nil {
		inherited := os.NewFile(3, "inherited")
		defer inherited.Close()
		cmd.ExtraFiles = []*os.File{inherited}
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGQUIT, syscall.SIGHUP)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "process 1 of a jail:", err)
		return 1
	}
	go func() {
		for s := range signals {
			cmd.Process.Signal(s)
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1
		case pid == cmd.Process.Pid && status.Exited():
			return status.ExitStatus()
		case pid == cmd.Process.Pid:
			return 128 + int(status.Signal())
		}
	}
}

// RunJailed runs a jail to its end, passes on to it what signals this process gets, and
// gives its exit status. The jail ends with this process.
func RunJailed(cmd *exec.Cmd) int {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	runtime.LockOSThread() // the kernel ends a child together with the thread that started it
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
