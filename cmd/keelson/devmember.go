package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// verb is what somebody wants of a member.
type verb string

const (
	devKill    verb = "kill"
	devPause   verb = "pause"
	devResume  verb = "resume"
	devRestart verb = "restart"
	devStop    verb = "stop" // dev itself ends
)

// request is a verb on its way to a member's goroutine.
type request struct {
	verb  verb
	reply chan string
}

// devMember is one process and what is wanted of it.
//
//	down ──start──▶ running ──pause──▶ paused
//	 ▲                │ ▲                │
//	 │ kill, or died  │ └────resume──────┤
//	 └────────────────┴──────────────────┘
type devMember struct {
	dev     *dev
	number  int
	name    string
	self    string
	client  []string
	peer    string
	cluster string
	socket  string // of fleetctl, "none" for those that have none
	asked   chan request

	// Of the goroutine that runs it.
	cmd    *exec.Cmd
	exited chan error       // one value when the process has ended
	again  <-chan time.Time // when to start what died by itself
	paused bool

	state atomic.Pointer[string] // for status
}

// run keeps the process as it is wanted until dev stops. Its thread is its own,
// because the kernel ends a child whose parent's thread is gone.
func (m *devMember) run() {
	runtime.LockOSThread()
	m.start()
	for {
		select {
		case r := <-m.asked:
			r.reply <- m.do(r.verb)
			if r.verb == devStop {
				return
			}
		case err := <-m.exited:
			m.died(err)
		case <-m.again:
			m.start()
		}
	}
}

// ask has the member's goroutine do v and gives what it says.
func (m *devMember) ask(v verb) string {
	r := request{v, make(chan string, 1)}
	m.asked <- r
	return <-r.reply
}

func (m *devMember) do(v verb) string {
	switch v {
	case devKill:
		return m.kill()
	case devPause, devResume:
		return m.pause(v == devPause)
	case devRestart:
		m.end()
		return m.start()
	default:
		m.end()
		return ""
	}
}

func (m *devMember) set(state string) string {
	m.state.Store(&state)
	return state
}

// start runs the process, with its lines on dev's own output.
func (m *devMember) start() string {
	m.again, m.paused = nil, false
	cmd := exec.Command(m.self, "serve",
		"--name", m.name, "--data-dir", filepath.Join(m.dev.opts.dataDir, m.name),
		"--listen-client-urls", strings.Join(m.client, ","), "--advertise-client-urls", m.client[0],
		"--listen-peer-urls", m.peer, "--initial-advertise-peer-urls", m.peer,
		"--initial-cluster", m.cluster, "--initial-cluster-token", "keelson-dev",
		"--units", m.dev.opts.units, "--machine-id-file", m.idFile(), "--units-directory", m.unitsDir(),
		"--fleet-socket", m.socket, "--public-ip", "127.0.0.1", "--metadata", "name="+m.name,
		"--fleet-config", os.DevNull)
	cmd.Env = withoutOptions()
	lines := m.dev.printer.lines(m.number, m.name)
	cmd.Stdout, cmd.Stderr = lines, lines
	// A group of its own, so that Ctrl-C reaches dev alone; killed with dev, so
	// that no member is left behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		m.again = time.After(m.dev.opts.restartAfter)
		return m.set(fmt.Sprintf("not started: %v", err))
	}
	m.cmd, m.exited = cmd, make(chan error, 1)
	go func(exited chan<- error) { exited <- cmd.Wait() }(m.exited)
	return m.set(fmt.Sprintf("running, pid %d", cmd.Process.Pid))
}

// died follows an end that nobody asked for.
func (m *devMember) died(err error) {
	m.cmd, m.exited = nil, nil
	why := "status 0"
	if err != nil {
		why = err.Error()
	}
	after := m.dev.opts.restartAfter
	m.again = time.After(after)
	m.set("died: " + why)
	m.dev.printer.say("%s died by itself (%s); it is started again in %v", m.name, why, after)
}

func (m *devMember) kill() string {
	m.again = nil
	if m.cmd == nil {
		return m.set("down")
	}
	m.cmd.Process.Kill()
	<-m.exited
	m.cmd, m.exited = nil, nil
	m.cutUnits()
	m.dev.printer.say("%s was killed; dev restart %d starts it again", m.name, m.number)
	return m.set("down, killed")
}

func (m *devMember) pause(on bool) string {
	if m.cmd == nil {
		return "down: nothing to pause or resume"
	}
	sig, state := syscall.SIGCONT, "running"
	if on {
		sig, state = syscall.SIGSTOP, "paused"
	}
	m.cmd.Process.Signal(sig)
	m.paused = on
	m.dev.printer.say("%s is %s", m.name, state)
	return m.set(fmt.Sprintf("%s, pid %d", state, m.cmd.Process.Pid))
}

// endMax bounds how long an orderly end may take.
const endMax = 15 * time.Second

// end stops the process in order, or not if that takes too long.
func (m *devMember) end() {
	m.again = nil
	if m.cmd == nil {
		return
	}
	m.cmd.Process.Signal(syscall.SIGTERM)
	m.cmd.Process.Signal(syscall.SIGCONT)
	select {
	case <-m.exited:
	case <-time.After(endMax):
		m.dev.printer.say("%s does not stop: killed", m.name)
		m.cmd.Process.Kill()
		<-m.exited
	}
	m.cmd, m.exited = nil, nil
	m.set("down")
}

// status is one line about the member.
func (m *devMember) status(ctx context.Context) string {
	state := "starting"
	if s := m.state.Load(); s != nil {
		state = *s
	}
	role := ""
	if strings.HasPrefix(state, "running") {
		role = roleOf(ctx, m.client[0])
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s", m.name, state, role, strings.Join(m.client, ","))
}

func roleOf(ctx context.Context, url string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var self struct{ State string }
	if err := getJSON(ctx, url+"/v2/stats/self", &self); err != nil {
		return "no answer"
	}
	role := strings.ToLower(strings.TrimPrefix(self.State, "State"))
	if !isHealthy(ctx, url) {
		role += ", unhealthy"
	}
	return role
}

func isHealthy(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var h struct{ Health any }
	return getJSON(ctx, url+"/health", &h) == nil && fmt.Sprint(h.Health) == "true"
}

func getJSON(ctx context.Context, url string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	return json.Unmarshal(p, v)
}
