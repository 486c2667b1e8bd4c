package machines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Machine is one container.
//
//	off ──PowerOn──▶ on ──PowerOff, systemctl poweroff, a crash──▶ off
//	                 │ ▲
//	                 └─┘ systemctl reboot: it is started again
type Machine struct {
	Host     string
	ID       string // 32 hex digits, as in /etc/machine-id
	Address  string
	Metadata string // k=v,k=v

	name   string // to systemd-nspawn, and so of its link
	dir    string
	bridge string
	group  group

	mu    sync.Mutex
	ended chan struct{} // closed when nspawn has ended for good; nil if it never ran
	boots int
}

// URL is where the daemon's clients go.
func (m *Machine) URL() string { return "http://" + m.Address + ":2379" }

// Root is the machine's root directory, as those see it who share the mounts of the
// process that booted it.
func (m *Machine) Root() string { return filepath.Join(m.dir, "root") }

// Console is the file of what the machine has said on its console.
func (m *Machine) Console() string { return filepath.Join(m.dir, "console") }

// link is the host's side of the machine's cable.
func (m *Machine) link() string { return "vb-" + m.name }

// Boots counts how often the machine was booted.
func (m *Machine) Boots() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boots
}

// On reports whether the machine runs.
func (m *Machine) On() bool { return m.leader() != 0 }

func (m *Machine) leader() int { return m.group.child("payload").first() }

// rebootStatus is how nspawn ends when the machine asked for a reboot.
const rebootStatus = 133

// PowerOn boots the machine if it is off, and returns as WaitBooted does.
func (m *Machine) PowerOn(ctx context.Context) error {
	m.mu.Lock()
	if m.running() {
		m.mu.Unlock()
		return nil
	}
	cmd, err := m.start()
	if err == nil {
		m.ended = make(chan struct{})
		go m.keep(cmd, m.ended)
	}
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", m.Host, err)
	}
	return m.WaitBooted(ctx)
}

// running needs mu.
func (m *Machine) running() bool {
	if m.ended == nil {
		return false
	}
	select {
	case <-m.ended:
		return false
	default:
		return true
	}
}

// start starts nspawn in a fresh control group. It needs mu.
func (m *Machine) start() (*exec.Cmd, error) {
	if err := m.group.make(); err != nil {
		return nil, err
	}
	if err := removeLink(m.link()); err != nil { // of an earlier life
		return nil, err
	}
	console, err := os.OpenFile(m.Console(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer console.Close()
	place, err := os.Open(m.group.path)
	if err != nil {
		return nil, err
	}
	defer place.Close()
	cmd := exec.Command("systemd-nspawn", "--quiet", "--directory="+m.Root(), "--machine="+m.name, "--hostname="+m.Host,
		"--uuid="+dashed(m.ID), "--register=no", "--keep-unit", "--network-bridge="+m.bridge,
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--boot")
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(place.Fd())}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	m.boots++
	return cmd, nil
}

// keep waits for the end of nspawn and starts it again when the machine asked for that.
func (m *Machine) keep(cmd *exec.Cmd, ended chan struct{}) {
	defer close(ended)
	for {
		cmd.Wait()
		m.group.kill() // a machine may outlive its nspawn
		if cmd.ProcessState.ExitCode() != rebootStatus {
			return
		}
		m.mu.Lock()
		next, err := m.start()
		m.mu.Unlock()
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", m.Host, err)
			return
		}
		cmd = next
	}
}

// PowerOff takes the machine's power away: nothing in it has the time to do anything.
func (m *Machine) PowerOff() error {
	err := m.group.kill()
	m.mu.Lock()
	ended := m.ended
	m.mu.Unlock()
	if ended == nil || err != nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-time.After(goneMax):
		return fmt.Errorf("%s: does not end", m.Host)
	}
}

// Pause has the machine stand still, without its knowing.
func (m *Machine) Pause() error { return m.group.write("cgroup.freeze", "1") }

// Resume ends a pause.
func (m *Machine) Resume() error { return m.group.write("cgroup.freeze", "0") }

// Cut pulls the machine's cable.
func (m *Machine) Cut() error {
	_, err := ip("link", "set", m.link(), "down")
	return err
}

// Heal puts the cable back.
func (m *Machine) Heal() error {
	_, err := ip("link", "set", m.link(), "up")
	return err
}

// Environ is what programs find in their environment on the machine.
var Environ = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8", "TERM=dumb",
}

// Command is a program on the machine, as root, in /root.
func (m *Machine) Command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	pid := m.leader()
	if pid == 0 {
		return nil, fmt.Errorf("%s is off", m.Host)
	}
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(pid), "--all", "--wdns=/root", "--"}, args...)...)
	cmd.Env = Environ
	// The program is a child of nsenter: where one is ended, so must be the other.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd, nil
}

// Result is how a program ended.
type Result struct {
	Status   int
	Out, Err string
}

func (r Result) String() string { return fmt.Sprintf("status %d\n%s%s", r.Status, r.Out, r.Err) }

// Run runs a program on the machine to its end. That it failed is no error.
func (m *Machine) Run(ctx context.Context, args ...string) (Result, error) {
	cmd, err := m.Command(ctx, args...)
	if err != nil {
		return Result{}, err
	}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.Exited() {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", m.Host, strings.Join(args, " "), err, errOut.String())
	}
	return Result{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}, err
}

// WaitBooted returns when the machine's systemd has come to starting services, and its
// network is up.
func (m *Machine) WaitBooted(ctx context.Context) error {
	for {
		r, err := m.Run(ctx, "systemctl", "is-active", networkUnit)
		if err == nil && r.Status == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not booted: %w: see %s", m.Host, ctx.Err(), m.Console())
		case <-time.After(50 * time.Millisecond):
		}
		m.mu.Lock()
		running := m.running()
		m.mu.Unlock()
		if !running {
			return fmt.Errorf("%s: ended while it booted: see %s", m.Host, m.Console())
		}
	}
}

// dashed is a machine ID as a UUID is written.
func dashed(id string) string {
	return strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
}
