// Package process runs units as child processes, where no systemd is: on laptops and in containers.
//
// The units' parent is not the daemon but a host, a small process of the same binary
// that is started when it is needed and outlives the daemon: one that is killed or
// replaced finds its units again. A host that is killed is started anew and takes over
// what still runs.
//
// A host understands of a unit what docs/process-units.md lists.
package process

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/keelson/keelson/core/env"
)

// Options is what a Manager needs.
type Options struct {
	Dir     string   // of the unit files; made if need be
	Machine string   // the machine's ID, for %m
	Command []string // runs Host, with the arguments that follow
	Post    func(func()) bool
	Log     env.Log
	// Dial reaches the host, for tests. Nil is the socket in Dir.
	Dial func() (net.Conn, error)
}

// Manager is env.Systemd and env.Journal by way of a host.
type Manager struct {
	o    Options
	quit chan struct{}

	mu       sync.Mutex
	conn     net.Conn // nil while the host cannot be reached
	out      *json.Encoder
	number   uint64
	pending  map[uint64]func(*reply, error)
	closed   bool
	why      error // why there is no conn
	followed func(units []env.UnitStatus, err error)
	journals map[net.Conn]bool

	// Of the loop.
	last map[string]env.UnitStatus // as Follow was told
	told bool
}

// Waits for a host.
const (
	startMax = 5 * time.Second // until the first time it answers
	retryMin = 20 * time.Millisecond
	retryMax = 2 * time.Second
)

// Open starts a host or finds the one that is there. Where neither works at once, the
// manager is one that cannot be reached yet.
func Open(o Options) (*Manager, error) {
	if err := os.MkdirAll(filepath.Join(o.Dir, hostDir), 0o755); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	o.Dir = dir
	if o.Dial == nil {
		o.Dial = func() (net.Conn, error) { return dial(dir) }
	}
	m := &Manager{o: o, quit: make(chan struct{}), pending: make(map[uint64]func(*reply, error)), journals: make(map[net.Conn]bool), why: errors.New("not reached yet")}
	ready := make(chan struct{})
	go m.run(ready)
	select {
	case <-ready:
	case <-time.After(startMax):
	}
	return m, nil
}

// Close forgets the host, which goes on.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.closed = true
	close(m.quit)
	if m.conn != nil {
		m.conn.Close()
	}
	for c := range m.journals {
		c.Close()
	}
}

// run keeps a connection until Close.
func (m *Manager) run(ready chan struct{}) {
	wait := retryMin
	for {
		conn, err := m.reach()
		if err == nil {
			wait = retryMin
			if ready != nil {
				m.take(conn)
				close(ready)
				ready = nil
			} else {
				m.take(conn)
			}
			err = m.listen(conn)
		}
		if !m.lose(err) {
			return
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, retryMax)
		case <-m.quit:
			return
		}
	}
}

// reach finds the host, or starts one.
func (m *Manager) reach() (net.Conn, error) {
	if conn, err := m.o.Dial(); err == nil {
		return conn, nil
	}
	if err := m.start(); err != nil {
		return nil, err
	}
	begun := time.Now()
	for {
		conn, err := m.o.Dial()
		if err == nil || time.Since(begun) > time.Second {
			return conn, err
		}
		select {
		case <-time.After(retryMin / 4):
		case <-m.quit:
			return nil, net.ErrClosed
		}
	}
}

// start runs a host in a session of its own. Where there is one already, it ends.
func (m *Manager) start() error {
	said, err := os.OpenFile(filepath.Join(m.o.Dir, hostDir, "host.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer said.Close()
	args := append(append([]string(nil), m.o.Command...), m.o.Dir, m.o.Machine)
	cmd := osexec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = said, said
	cmd.Env = hostEnvironment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a host of units: %w", err)
	}
	go cmd.Wait()
	return nil
}

// hostEnvironment is what a host needs: units are given nothing of it.
func hostEnvironment() (vars []string) {
	for _, name := range []string{"HOME", "XDG_RUNTIME_DIR", "TZ", "PATH"} {
		if v := os.Getenv(name); v != "" {
			vars = append(vars, name+"="+v)
		}
	}
	return vars
}

// take uses a connection from now on.
func (m *Manager) take(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		conn.Close()
		return
	}
	m.conn, m.out, m.why = conn, json.NewEncoder(conn), nil
	if m.followed != nil {
		m.out.Encode(&request{Op: "follow"})
	}
}

// listen hands on what the host says, until it says no more.
func (m *Manager) listen(conn net.Conn) error {
	in := json.NewDecoder(bufio.NewReader(conn))
	first := true // of the events
	for {
		var r reply
		if err := in.Decode(&r); err != nil {
			return err
		}
		if r.Event {
			all := first
			first = false
			m.o.Post(func() { m.tell(r.Units, all) })
			continue
		}
		m.mu.Lock()
		done := m.pending[r.ID]
		delete(m.pending, r.ID)
		m.mu.Unlock()
		if done != nil {
			m.o.Post(func() { done(&r, nil) })
		}
	}
}

// errLost is the end of requests whose outcome nobody knows.
var errLost = errors.New("the host of units went away meanwhile")

// lose gives the connection up and says so to all who wait. False is after Close.
func (m *Manager) lose(err error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	had := m.conn != nil
	if had {
		m.conn.Close()
	}
	m.conn, m.why = nil, err
	pending := m.pending
	m.pending = make(map[uint64]func(*reply, error))
	m.o.Post(func() {
		for _, done := range pending {
			done(nil, errLost)
		}
		if had || !m.told {
			m.told = true
			m.lost(err)
		}
	})
	return true
}

// lost tells whoever follows, on the loop.
func (m *Manager) lost(err error) {
	if m.followed != nil {
		m.followed(nil, fmt.Errorf("the host of units cannot be reached: %w", err))
	}
}

// tell hands on what is new, on the loop.
func (m *Manager) tell(units []env.UnitStatus, all bool) {
	if m.followed == nil {
		return
	}
	if all {
		m.last = make(map[string]env.UnitStatus)
	}
	var changed []env.UnitStatus
	for _, u := range units {
		if m.last[u.Name] != u {
			m.last[u.Name] = u
			changed = append(changed, u)
		}
	}
	if len(changed) > 0 || all {
		m.followed(changed, nil)
	}
}

// ask sends a request, whose done runs in a later turn.
func (m *Manager) ask(q *request, done func(*reply, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn == nil {
		err := fmt.Errorf("the host of units cannot be reached: %w: %w", m.why, env.ErrUnsent)
		m.o.Post(func() { done(nil, err) })
		return
	}
	m.number++
	q.ID = m.number
	m.pending[q.ID] = done
	m.conn.SetWriteDeadline(time.Now().Add(startMax))
	if m.out.Encode(q) != nil {
		m.conn.Close() // then the request is among those that are lost
	}
}

// Units implements env.Systemd.
func (m *Manager) Units(done func([]env.UnitStatus, error)) {
	m.ask(&request{Op: "units"}, func(r *reply, err error) {
		if err != nil {
			done(nil, err)
			return
		}
		done(r.Units, nil)
	})
}

// Change implements env.Systemd.
func (m *Manager) Change(c env.UnitChange, done func([]env.UnitError, error)) {
	m.ask(&request{Op: "change", Change: &c}, func(r *reply, err error) {
		if err != nil {
			done(nil, err)
			return
		}
		for _, name := range c.Remove {
			delete(m.last, name)
		}
		var failed []env.UnitError
		for _, f := range r.Failed {
			failed = append(failed, env.UnitError{Name: f.Name, Err: errors.New(f.Text)})
		}
		done(failed, nil)
	})
}

// Job implements env.Systemd.
func (m *Manager) Job(verb env.JobVerb, name string, done func(env.JobResult, error)) {
	m.ask(&request{Op: "job", Verb: verb, Name: name}, func(r *reply, err error) {
		switch {
		case err != nil:
			done("", err)
		case r.Refused != "":
			done(env.JobFailed, fmt.Errorf("%s %s: %w: %s", verb, name, env.ErrRefused, r.Refused))
		default:
			done(r.Result, nil)
		}
	})
}

// Follow implements env.Systemd.
func (m *Manager) Follow(fn func([]env.UnitStatus, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.followed = fn
	if m.conn == nil {
		err := m.why
		m.told = true
		m.o.Post(func() { m.lost(err) })
		return
	}
	m.out.Encode(&request{Op: "follow"})
}

// Status implements env.Journal.
func (m *Manager) Status(name string, done func([]byte, int, error)) {
	m.ask(&request{Op: "status", Name: name}, func(r *reply, err error) {
		if err != nil {
			done(nil, 0, err)
			return
		}
		done(r.Text, r.Code, nil)
	})
}

// Read implements env.Journal.
func (m *Manager) Read(q env.JournalQuery, to env.JournalReceiver) (cancel func()) {
	j := &journal{manager: m, to: to, follow: q.Follow}
	go j.read(q)
	return j.cancel
}

// journal is one reading of a journal.
type journal struct {
	manager *Manager
	to      env.JournalReceiver
	follow  bool
	over    bool // of the loop

	mu        sync.Mutex
	conn      net.Conn
	cancelled bool
}

func (j *journal) cancel() {
	j.over = true
	j.mu.Lock()
	defer j.mu.Unlock()
	j.cancelled = true
	if j.conn != nil {
		j.conn.Close()
	}
}

// end is told once, unless the reader has left.
func (j *journal) end(err error) {
	j.manager.o.Post(func() {
		if !j.over {
			j.over = true
			j.to.End(err)
		}
	})
}

func (j *journal) read(q env.JournalQuery) {
	m := j.manager
	conn, err := m.o.Dial()
	if err != nil {
		j.end(fmt.Errorf("the host of units cannot be reached: %w: %w", err, env.ErrUnsent))
		return
	}
	m.mu.Lock()
	m.journals[conn] = true
	m.mu.Unlock()
	defer func() {
		conn.Close()
		m.mu.Lock()
		delete(m.journals, conn)
		m.mu.Unlock()
	}()
	j.mu.Lock()
	j.conn = conn
	cancelled := j.cancelled
	j.mu.Unlock()
	if cancelled {
		return
	}
	if err := json.NewEncoder(conn).Encode(&request{Op: "journal", Journal: &q}); err != nil {
		j.end(err)
		return
	}
	j.end(j.copy(conn))
}

// copyMax is how many bytes of a journal are handed on at once.
const copyMax = 32 << 10

// copy hands on what comes, one piece at a time, so that a loop that is behind holds
// the host back.
func (j *journal) copy(conn net.Conn) error {
	more := make(chan bool, 1)
	for {
		p := make([]byte, copyMax)
		n, err := conn.Read(p)
		if n > 0 {
			if !j.manager.o.Post(func() {
				ok := !j.over && j.to.Chunk(p[:n])
				if !ok && !j.over {
					j.over = true
					j.to.End(nil)
				}
				more <- ok
			}) {
				return nil
			}
			select {
			case ok := <-more:
				if !ok {
					return nil
				}
			case <-j.manager.quit:
				return nil
			}
		}
		switch {
		case errors.Is(err, io.EOF) && j.follow:
			return errLost
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// Shutdown has the host of a directory stop its units and end, and waits for that.
// Without one it does nothing.
func Shutdown(dir string) error {
	return errors.Join(endBoot(dir), end(dir, syscall.SIGTERM))
}

// PowerOff ends the host of a directory and all that its units run, as a loss of power
// does.
func PowerOff(dir string) error {
	if err := errors.Join(endBoot(dir), end(dir, syscall.SIGKILL)); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(dir, hostDir, "*"+stateEnd))
	for _, path := range left {
		var n note
		text, _ := os.ReadFile(path)
		if json.Unmarshal(text, &n) == nil && n.ID != "" {
			(&run{id: n.ID}).cut()
		}
		os.Remove(path)
	}
	return err
}

// cut kills the processes of a run, and returns when they are gone.
func (r *run) cut() {
	for begun := time.Now(); time.Since(begun) < startMax; time.Sleep(lookMin) {
		left := r.members()
		if len(left) == 0 {
			return
		}
		signalAll(left, syscall.SIGKILL)
	}
}

// end sends a signal to the host of a directory and waits until it is gone.
func end(dir string, s syscall.Signal) error {
	conn, err := dial(dir)
	if err != nil {
		return nil // there is none
	}
	defer conn.Close()
	pid, err := peer(conn)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, s); err != nil {
		return err
	}
	io.Copy(io.Discard, conn) // until it ends, in whatever way
	return nil
}

// peer is the process at the other end of a socket.
func peer(conn net.Conn) (pid int, err error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var c *syscall.Ucred
	if e := raw.Control(func(fd uintptr) { c, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED) }); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, err
	}
	return int(c.Pid), nil
}

var (
	_ env.Systemd = (*Manager)(nil)
	_ env.Journal = (*Manager)(nil)
)
