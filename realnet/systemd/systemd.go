// Package systemd runs units by the machine's systemd, over D-Bus.
//
// It speaks with systemd itself, over its private socket, so that a restart of the
// message bus is nothing to it. Unit files lie in a directory of the node's own and are
// linked into systemd's runtime directory, as `systemctl link --runtime` does. What
// happens to units arrives as signals; nothing is polled.
package systemd

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/keelson/keelson/core/env"
)

// Options is what a Manager needs.
type Options struct {
	Dir  string // of the unit files; made if need be
	User bool   // the systemd of this user instead of the machine's
	Post func(func()) bool
	Log  env.Log
	// CallMax bounds one call: whoever does not answer by then is gone. 0 is 30 seconds.
	CallMax time.Duration
	// Dial reaches systemd, for tests. Nil is its private socket.
	Dial func() (net.Conn, error)
}

// Manager is env.Systemd by way of systemd.
type Manager struct {
	o     Options
	files files
	quit  chan struct{}
	done  chan struct{} // the worker has ended

	mu       sync.Mutex
	wake     sync.Cond
	queue    []func(s *session) // what is asked for, in order
	session  *session           // nil while systemd cannot be reached
	why      error              // why not
	closed   bool
	followed func([]env.UnitStatus, error)

	// Of the loop.
	last  map[string]env.UnitStatus // as Follow was told
	known bool                      // Follow was told of all
	gone  map[string]bool           // removed units, of which a look under way may still tell
}

// Waits for systemd.
const (
	startMax = 5 * time.Second // until the first time it answers
	retryMin = 100 * time.Millisecond
	retryMax = 10 * time.Second
	callMax  = 30 * time.Second
)

// Open reaches systemd. Where that does not work at once, the manager is one that cannot
// be reached yet.
func Open(o Options) (*Manager, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if o.Dial == nil {
		path, err := socketOf(o.User)
		if err != nil {
			return nil, err
		}
		o.Dial = func() (net.Conn, error) { return net.Dial("unix", path) }
	}
	o.Dir, o.CallMax = dir, cmp.Or(o.CallMax, callMax)
	m := &Manager{
		o: o, files: files{dir: dir}, quit: make(chan struct{}), done: make(chan struct{}),
		last: make(map[string]env.UnitStatus), gone: make(map[string]bool), why: errors.New("not reached yet"),
	}
	if !o.User {
		m.files.own = preferred
	}
	m.wake.L = &m.mu
	if err := m.files.sweep(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	go m.work()
	go m.keep(ready)
	select {
	case <-ready:
	case <-time.After(startMax):
		o.Log.Log(env.Warn, "systemd does not answer yet")
	}
	return m, nil
}

// socketOf is systemd's private socket.
func socketOf(user bool) (string, error) {
	if !user {
		return "/run/systemd/private", nil
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		return "", errors.New("XDG_RUNTIME_DIR is not set: no systemd of this user")
	}
	return filepath.Join(dir, "systemd", "private"), nil
}

// Close lets go of systemd. Units go on.
func (m *Manager) Close() {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	m.closed = true
	close(m.quit)
	if m.session != nil {
		m.session.end(net.ErrClosed)
	}
	m.wake.Signal()
	m.mu.Unlock()
	<-m.done
}

// keep holds a session until Close.
func (m *Manager) keep(ready chan struct{}) {
	wait := retryMin
	for {
		s, err := newSession(m)
		if err == nil {
			wait = retryMin
			if !m.use(s) {
				return
			}
			if ready != nil {
				close(ready)
				ready = nil
			}
			s.follow()
			err = s.err()
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

// use takes a session for what is asked from now on. False is after Close.
func (m *Manager) use(s *session) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		s.end(net.ErrClosed)
		return false
	}
	if m.why != nil && m.session == nil && m.followed != nil {
		m.o.Log.Log(env.Info, "systemd answers again")
	}
	m.session, m.why = s, nil
	return true
}

// lose notes that systemd cannot be reached. False is after Close.
func (m *Manager) lose(err error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	had := m.session != nil
	m.session, m.why = nil, err
	if had {
		m.o.Log.Log(env.Warn, "systemd cannot be reached; units go on", "error", err)
	}
	if fn := m.followed; fn != nil && had {
		m.o.Post(func() {
			m.known = false
			fn(nil, unreachable(err))
		})
	}
	return true
}

func unreachable(err error) error { return fmt.Errorf("systemd cannot be reached: %w", err) }

// ask has fn run with the session, after all that was asked before. Without one, unsent
// is told on the loop.
func (m *Manager) ask(fn func(s *session), unsent func(error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue = append(m.queue, func(s *session) {
		if s != nil {
			fn(s)
			return
		}
		m.mu.Lock()
		err := fmt.Errorf("systemd cannot be reached: %w: %w", m.why, env.ErrUnsent)
		m.mu.Unlock()
		m.o.Post(func() { unsent(err) })
	})
	m.wake.Signal()
}

// work runs what is asked for, one after the other.
func (m *Manager) work() {
	defer close(m.done)
	for {
		m.mu.Lock()
		for len(m.queue) == 0 && !m.closed {
			m.wake.Wait()
		}
		if m.closed {
			m.mu.Unlock()
			return
		}
		fn, s := m.queue[0], m.session
		m.queue = m.queue[1:]
		if s != nil && s.err() != nil {
			s = nil
		}
		if s == nil && m.why == nil {
			m.why = errors.New("the connection was lost")
		}
		m.mu.Unlock()
		fn(s)
	}
}

// Units implements env.Systemd.
func (m *Manager) Units(done func([]env.UnitStatus, error)) {
	m.ask(func(s *session) {
		units, err := s.all()
		m.o.Post(func() { done(units, err) })
	}, func(err error) { done(nil, err) })
}

// Change implements env.Systemd.
func (m *Manager) Change(c env.UnitChange, done func([]env.UnitError, error)) {
	m.ask(func(s *session) {
		failed, err := s.change(c)
		m.o.Post(func() {
			m.note(c, failed)
			done(failed, err)
		})
		s.lookAgain()
	}, func(err error) { done(nil, err) })
}

// note keeps in mind which units there are no more, on the loop.
func (m *Manager) note(c env.UnitChange, failed []env.UnitError) {
	for _, name := range c.Remove {
		m.gone[name] = true
		delete(m.last, name)
	}
	for _, f := range failed {
		delete(m.gone, f.Name)
	}
	for _, w := range c.Write {
		delete(m.gone, w.Name)
	}
}

// forget takes for gone for good what a look at all units does not tell of: looks follow
// one another.
func (m *Manager) forget(all []env.UnitStatus) {
	for name := range m.gone {
		if !slices.ContainsFunc(all, func(u env.UnitStatus) bool { return u.Name == name }) {
			delete(m.gone, name)
		}
	}
}

// Job implements env.Systemd.
func (m *Manager) Job(verb env.JobVerb, name string, done func(env.JobResult, error)) {
	told := func(r env.JobResult, err error) { m.o.Post(func() { done(r, err) }) }
	m.ask(func(s *session) { s.job(verb, name, told) }, func(err error) { done("", err) })
}

// Follow implements env.Systemd.
func (m *Manager) Follow(fn func([]env.UnitStatus, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.followed = fn
	if s := m.session; s != nil {
		s.lookAgain()
		return
	}
	err := m.why
	m.o.Post(func() { fn(nil, unreachable(err)) })
}

// tell hands on what is new. All is whether the units are all that there are.
func (m *Manager) tell(s *session, units []env.UnitStatus, all bool) {
	m.o.Post(func() {
		m.mu.Lock()
		fn, current := m.followed, m.session == s
		m.mu.Unlock()
		if fn == nil || !current || !all && !m.known {
			return
		}
		first := !m.known
		if first {
			m.known, m.last = true, make(map[string]env.UnitStatus)
		}
		if all {
			m.forget(units)
		}
		var changed []env.UnitStatus
		for _, u := range units {
			if m.last[u.Name] != u && !m.gone[u.Name] {
				m.last[u.Name] = u
				changed = append(changed, u)
			}
		}
		if len(changed) > 0 || first {
			fn(changed, nil)
		}
	})
}

var _ env.Systemd = (*Manager)(nil)
