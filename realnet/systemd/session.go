package systemd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/keelson/keelson/core/env"
)

// session is one time that systemd can be reached.
type session struct {
	manager *Manager
	conn    *sd.Conn
	updates chan *sd.PropertiesUpdate
	missed  chan error
	again   chan struct{} // holds one token: look at all units
	lost    chan struct{}

	mu  sync.Mutex
	why error // once lost is closed
}

// updatesMax is how many signals may wait; if there are more, all units are looked at.
const updatesMax = 4096

// newSession connects, and makes known to systemd what lies in the directory.
func newSession(m *Manager) (*session, error) {
	s := &session{
		manager: m, updates: make(chan *sd.PropertiesUpdate, updatesMax), missed: make(chan error, 1),
		again: make(chan struct{}, 1), lost: make(chan struct{}),
	}
	var err error
	if s.conn, err = sd.NewConnection(s.dial); err != nil {
		return nil, err
	}
	s.conn.SetPropertiesSubscriber(s.updates, s.missed)
	if err = s.conn.Subscribe(); err == nil {
		err = s.adopt()
	}
	if err != nil {
		s.conn.Close()
		return nil, err
	}
	s.lookAgain()
	return s, nil
}

// dial makes one of the connections of which a session has two. The end of one is the
// end of both.
func (s *session) dial() (*dbus.Conn, error) {
	c, err := s.manager.o.Dial()
	if err != nil {
		return nil, err
	}
	conn, err := dbus.NewConn(c)
	if err != nil {
		c.Close()
		return nil, err
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		conn.Close()
		return nil, err
	}
	go func() {
		<-conn.Context().Done()
		s.end(errors.New("the connection was lost"))
	}()
	return conn, nil
}

// end gives the session up.
func (s *session) end(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return
	}
	s.why = why
	close(s.lost)
	if s.conn != nil {
		go s.conn.Close()
	}
}

// err is why the session is over, nil while it is not.
func (s *session) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// call runs one call of systemd, which must answer in time.
func (s *session) call(fn func(ctx context.Context) error) error {
	most := s.manager.o.CallMax
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	err := fn(ctx)
	if ctx.Err() != nil {
		s.end(fmt.Errorf("no answer within %v", most))
	}
	return err
}

// isReply reports whether systemd itself has answered with an error: then it has done
// nothing.
func isReply(err error) bool {
	var e dbus.Error
	if !errors.As(err, &e) {
		return false
	}
	return !slices.Contains([]string{
		"org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Timeout",
		"org.freedesktop.DBus.Error.TimedOut", "org.freedesktop.DBus.Error.Disconnected",
	}, e.Name)
}

// adopt links what an earlier life or boot left in the directory, so that systemd knows
// it.
func (s *session) adopt() error {
	hashes, err := s.manager.files.hashes()
	if err != nil || len(hashes) == 0 {
		return err
	}
	names := slices.Sorted(maps.Keys(hashes))
	changed := false
	for _, name := range names {
		ok, err := s.link(name)
		switch {
		case err != nil && !isReply(err):
			return err
		case err != nil:
			s.manager.o.Log.Log(env.Warn, "a unit file that was here cannot be linked", "unit", name, "error", err)
		}
		changed = changed || ok
	}
	if !changed {
		return nil
	}
	return s.readAgain(names)
}

// link makes a file known, and enables it for this boot if it says how. It tells
// whether that changed anything.
func (s *session) link(name string) (changed bool, err error) {
	file := s.manager.files.path(name)
	err = s.call(func(ctx context.Context) error {
		changes, err := s.conn.LinkUnitFilesContext(ctx, []string{file}, true, true)
		changed = len(changes) > 0
		return err
	})
	if err != nil {
		return false, err
	}
	text, err := os.ReadFile(file)
	if err != nil || !installs(string(text)) {
		return changed, err
	}
	err = s.call(func(ctx context.Context) error {
		_, changes, err := s.conn.EnableUnitFilesContext(ctx, []string{file}, true, true)
		changed = changed || len(changes) > 0
		return err
	})
	return changed, err
}

// change does what env.Systemd promises.
func (s *session) change(c env.UnitChange) (failed []env.UnitError, err error) {
	f := s.manager.files
	fail := func(name string, err error) { failed = append(failed, env.UnitError{Name: name, Err: err}) }
	var touched []string
	for _, name := range c.Remove {
		if err := s.remove(name); err != nil {
			fail(name, err)
			continue
		}
		touched = append(touched, name)
	}
	for _, w := range c.Write {
		err := checkName(w.Name)
		if err == nil {
			err = f.hidden(w.Name)
		}
		if err == nil {
			err = f.write(w.Name, w.Text)
		}
		if err == nil {
			_, err = s.link(w.Name)
		}
		if err != nil {
			if checkName(w.Name) == nil {
				err = errors.Join(err, s.remove(w.Name))
			}
			fail(w.Name, err)
			continue
		}
		touched = append(touched, w.Name)
	}
	if err := s.err(); err != nil {
		return nil, fmt.Errorf("systemd went away meanwhile: %w", err)
	}
	if len(touched) == 0 {
		return failed, nil
	}
	return failed, s.readAgain(touched)
}

// readAgain has systemd know the files of units as they are now. To read all files anew
// takes it a large part of a second, because it runs programs that make more of them, so
// that is done where it must be: systemd finds by itself what is new.
func (s *session) readAgain(names []string) error {
	var list []sd.UnitStatus
	err := s.call(func(ctx context.Context) (err error) {
		list, err = s.conn.ListUnitsByNamesContext(ctx, names)
		return err
	})
	if err != nil {
		return err
	}
	for _, u := range list {
		old := (u.LoadState != "not-found") != s.manager.files.there(u.Name)
		if !old && u.LoadState != "not-found" {
			if old, err = s.outdated(u.Name); err != nil {
				return err
			}
		}
		if old {
			return s.call(s.conn.ReloadContext)
		}
	}
	return nil
}

// outdated reports whether systemd knows an older file of a unit than there is.
func (s *session) outdated(name string) (old bool, err error) {
	err = s.call(func(ctx context.Context) error {
		p, err := s.conn.GetUnitPropertyContext(ctx, name, "NeedDaemonReload")
		if err == nil {
			old, _ = p.Value.Value().(bool)
		}
		return err
	})
	if isReply(err) {
		return true, nil // it is being forgotten
	}
	return old, err
}

// remove takes a unit from systemd and deletes its file.
func (s *session) remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := s.call(func(ctx context.Context) error {
		_, err := s.conn.DisableUnitFilesContext(ctx, []string{name}, true)
		return err
	})
	if err != nil && !isReply(err) {
		return err
	}
	err = s.call(func(ctx context.Context) error { return s.conn.ResetFailedUnitContext(ctx, name) })
	if err != nil && !isReply(err) {
		return err // a reply: it is not loaded, so there is nothing to forget
	}
	return s.manager.files.remove(name)
}

// job asks for a job and waits for its end elsewhere.
func (s *session) job(verb env.JobVerb, name string, done func(env.JobResult, error)) {
	ask, ok := map[env.JobVerb]func(context.Context, string, string, chan<- string) (int, error){
		env.JobStart: s.conn.StartUnitContext, env.JobStop: s.conn.StopUnitContext, env.JobRestart: s.conn.RestartUnitContext,
	}[verb]
	if !ok || checkName(name) != nil || !s.manager.files.there(name) {
		done(env.JobFailed, fmt.Errorf("%s %s: %w: no unit file of that name is here", verb, name, env.ErrRefused))
		return
	}
	ended := make(chan string, 1)
	err := s.call(func(ctx context.Context) error {
		_, err := ask(ctx, name, "replace", ended)
		return err
	})
	switch {
	case err == nil:
		go s.await(verb, name, ended, done)
	case isReply(err):
		done(env.JobFailed, fmt.Errorf("%s %s: %w: %w", verb, name, env.ErrRefused, err))
	default:
		done("", fmt.Errorf("%s %s: %w", verb, name, err))
	}
}

func (s *session) await(verb env.JobVerb, name string, ended chan string, done func(env.JobResult, error)) {
	select {
	case r := <-ended:
		done(env.JobResult(r), nil)
	case <-s.lost:
		done("", fmt.Errorf("%s %s: systemd went away meanwhile: %w", verb, name, s.err()))
	}
}

// all is the status of every unit whose file is in the directory.
func (s *session) all() ([]env.UnitStatus, error) {
	hashes, err := s.manager.files.hashes()
	if err != nil {
		return nil, err
	}
	return s.look(hashes)
}

// look asks for the status of units, whose hashes are given.
func (s *session) look(hashes map[string]string) (units []env.UnitStatus, err error) {
	if len(hashes) == 0 {
		return []env.UnitStatus{}, nil
	}
	var list []sd.UnitStatus
	err = s.call(func(ctx context.Context) (err error) {
		list, err = s.conn.ListUnitsByNamesContext(ctx, slices.Sorted(maps.Keys(hashes)))
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, u := range list {
		hash, ours := hashes[u.Name]
		if !ours {
			continue
		}
		units = append(units, env.UnitStatus{
			Name: u.Name, Load: u.LoadState, Active: u.ActiveState, Sub: u.SubState, Hash: hash, Job: u.JobId != 0,
			Result: s.result(u.Name, u.ActiveState),
		})
	}
	slices.SortFunc(units, func(a, b env.UnitStatus) int { return strings.Compare(a.Name, b.Name) })
	return units, nil
}

// types are those that have a result, with the names of their interfaces.
var types = map[string]string{
	".service": "Service", ".socket": "Socket", ".mount": "Mount", ".automount": "Automount",
	".swap": "Swap", ".timer": "Timer", ".path": "Path", ".scope": "Scope",
}

// result is how the unit fared. What runs well has not failed, which need not be asked.
func (s *session) result(name, active string) (result string) {
	kind := types[path.Ext(name)]
	if kind == "" || active == "active" {
		if kind != "" {
			return "success"
		}
		return ""
	}
	s.call(func(ctx context.Context) error {
		p, err := s.conn.GetUnitTypePropertyContext(ctx, name, kind, "Result")
		if err == nil {
			result, _ = p.Value.Value().(string)
		}
		return err
	})
	return result
}

// lookAgain has follow look at all units.
func (s *session) lookAgain() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// follow tells of changes until the session is over.
func (s *session) follow() {
	for {
		select {
		case <-s.lost:
			return
		case <-s.missed:
			s.lookAgain()
		case <-s.again:
			units, err := s.all()
			if err != nil {
				s.end(err)
				return
			}
			s.manager.tell(s, units, true)
		case u := <-s.updates:
			s.changed(u)
		}
	}
}

// changed looks at those units of ours that signals name, as many as wait.
func (s *session) changed(u *sd.PropertiesUpdate) {
	hashes := make(map[string]string)
	for more := true; more; {
		if _, seen := hashes[u.UnitName]; !seen && checkName(u.UnitName) == nil {
			if h, err := s.manager.files.hash(u.UnitName); err == nil {
				hashes[u.UnitName] = h
			}
		}
		select {
		case u = <-s.updates:
		default:
			more = false
		}
	}
	if len(hashes) == 0 {
		return
	}
	units, err := s.look(hashes)
	switch {
	case err != nil && isReply(err):
		s.lookAgain()
	case err != nil:
		s.end(err)
	default:
		s.manager.tell(s, units, false)
	}
}
