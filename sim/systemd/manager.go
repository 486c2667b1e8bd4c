package systemd

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
)

// Host is the machine that a manager runs on.
type Host interface {
	Now() time.Duration               // of the world
	Wall() time.Time                  // of this machine
	After(d time.Duration, fn func()) // in the world's time
	Rand() *rand.Rand
	Name() string
	// Asked is told of each job as it reaches the manager: what the unit was, and
	// whether the node asked or somebody at the machine.
	Asked(a Asked)
	// Ran is told when a unit has begun to run or ended.
	Ran(r Ran)
}

// Asked is a job as it reaches the manager.
type Asked struct {
	Unit    string
	Verb    env.JobVerb
	Was     env.UnitStatus
	Running bool   // it runs, and a stop ends it
	Foreign bool   // an operator at the machine asked
	Hash    string // of the file as the manager has read it
}

// Ran is the begin or the end of a unit's main process, or of its activity where it
// has none.
type Ran struct {
	Unit  string
	On    bool
	Start uint64 // counts the starts of all units of this machine, over all boots
	Why   string // of the end: exit, stop, power
	Hash  string // of the file that it was started from
}

// Options is how a manager keeps files.
type Options struct {
	// Persistent says that the node's directory is not gone after a reboot, and that
	// units in it with an [Install] section start by themselves then.
	Persistent bool
}

// Manager is a service manager. Its methods are those of env.Systemd, with done called
// in an event of the world, and what a test may do to it.
type Manager struct {
	h Host
	o Options

	files  map[string]file
	units  map[string]*unit // what the manager knows of
	on     bool
	era    uint64 // counts boots, so that what an earlier one began is ignored
	starts uint64
	pids   int

	away      bool
	waiting   []*call       // calls under way
	busy      *change       // the change of files under way
	line      []func()      // changes, and jobs that were asked for behind one, in order
	arrives   time.Duration // when the last request does
	reloading time.Duration // until then
	slow      time.Duration // added to every job, read and write
	failing   bool          // half of all writes and removals of files fail
	broken    map[string]bool
	follow    func([]env.UnitStatus, error)
	told      map[string]env.UnitStatus
	telling   bool
	tells     time.Duration // until when it is being told that nobody can be reached
	said      map[string][]line
	readers   []*reader
}

// ErrAway is the error of what was not sent because the manager could not be reached.
var ErrAway = fmt.Errorf("dial unix /run/systemd/private: connection refused: %w", env.ErrUnsent)

// errCut is the error of a call that was under way when the connection broke.
var errCut = errors.New("the connection to systemd was closed before its answer")

// errReadOnly is the error of a change of files that failed.
var errReadOnly = errors.New("read-only file system")

// New gives the manager of a machine that is switched off.
func New(h Host, o Options) *Manager {
	return &Manager{h: h, o: o, files: map[string]file{}, units: map[string]*unit{}, said: map[string][]line{}}
}

// SetOptions changes how files are kept, from the next boot on.
func (m *Manager) SetOptions(o Options) { m.o = o }

// On boots the machine.
func (m *Manager) On() {
	m.on = true
	m.era++
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		u := m.know(name)
		if u.def != nil && u.def.install {
			m.After(m.brief(), func() { m.begin(u) })
		}
	}
}

// Off takes the power away: nothing runs any more, and what lay in /run is gone.
func (m *Manager) Off() {
	if !m.on {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(m.units)) {
		if u := m.units[name]; u.runs {
			m.ran(u, false, "power")
		}
	}
	m.on, m.away, m.telling, m.reloading = false, false, false, 0
	m.follow, m.told, m.waiting, m.busy, m.line = nil, nil, nil, nil, nil
	m.era++
	m.units, m.readers = map[string]*unit{}, nil
	if !m.o.Persistent {
		m.files = map[string]file{}
	}
}

// Left is the end of the node's process: nobody is told anything any more.
func (m *Manager) Left() {
	m.follow, m.told, m.readers = nil, nil, nil
	for _, c := range m.waiting {
		c.over = true
	}
	m.waiting, m.line = nil, nil
}

// After runs fn in this boot.
func (m *Manager) After(d time.Duration, fn func()) {
	era := m.era
	m.h.After(d, func() {
		if m.era == era && m.on {
			fn()
		}
	})
}

// brief is how long a small thing takes.
func (m *Manager) brief() time.Duration {
	return 200*time.Microsecond + time.Duration(m.h.Rand().Int64N(int64(2*time.Millisecond))) + m.slow
}

// call is a request of the node under way.
type call struct {
	m    *Manager
	over bool // the answer was given, or the connection broke, or the node is gone
	fail func(error)
}

// answer runs fn, which gives the answer, unless nobody waits for it any more.
func (c *call) answer(fn func()) {
	if c.over {
		return
	}
	c.over = true
	c.m.waiting = slices.DeleteFunc(c.m.waiting, func(o *call) bool { return o == c })
	fn()
}

// send has fn run at the manager, unless it is away or the connection breaks first. The
// call stays open until its answer.
func (m *Manager) send(fail func(error), fn func(c *call)) {
	if !m.on {
		return
	}
	if m.away {
		m.After(m.brief(), func() { fail(ErrAway) })
		return
	}
	c := &call{m: m, fail: fail}
	m.waiting = append(m.waiting, c)
	m.arrives = max(m.arrives, m.h.Now()+m.brief()) // one connection keeps the order
	m.After(m.arrives-m.h.Now(), func() {
		// A request that was on its way when the connection broke arrives, or not.
		if !c.over || m.h.Rand().IntN(2) == 0 {
			fn(c)
		}
	})
}

// Away has the manager out of reach of the node from now on: calls under way fail with
// their outcome unknown, but what they began goes on.
func (m *Manager) Away() {
	if m.away || !m.on {
		return
	}
	m.away = true
	calls := m.waiting
	m.waiting = nil
	for _, c := range calls {
		c.over = true
		m.After(m.brief(), func() { c.fail(errCut) })
	}
	m.told = nil
	if fn := m.follow; fn != nil {
		m.tellsAway(fn, errCut)
	}
}

// tellsAway tells the node that the manager cannot be reached, before anything else that
// it is told.
func (m *Manager) tellsAway(fn func([]env.UnitStatus, error), err error) {
	d := m.brief()
	m.tells = m.h.Now() + d
	m.After(d, func() { fn(nil, err) })
}

// Back ends Away.
func (m *Manager) Back() {
	if !m.away {
		return
	}
	m.away = false
	m.tell()
}

// IsAway says that the node cannot reach the manager.
func (m *Manager) IsAway() bool { return m.away }

// SetSlow makes everything take that much longer.
func (m *Manager) SetSlow(by time.Duration) { m.slow = max(by, 0) }

// SetFailing has half of all writes and removals of files fail.
func (m *Manager) SetFailing(on bool) { m.failing = on }

// Break has the writes and removals of one file fail.
func (m *Manager) Break(name string, on bool) {
	if m.broken == nil {
		m.broken = map[string]bool{}
	}
	m.broken[name] = on
}

// Units implements env.Systemd.
func (m *Manager) Units(done func([]env.UnitStatus, error)) {
	m.send(func(err error) { done(nil, err) }, func(c *call) {
		list := m.Status()
		c.answer(func() { done(list, nil) })
	})
}

// Status is what Units tells.
func (m *Manager) Status() []env.UnitStatus {
	list := make([]env.UnitStatus, 0, len(m.files))
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		list = append(list, m.status(name))
	}
	return list
}

func (m *Manager) status(name string) env.UnitStatus {
	s := env.UnitStatus{Name: name, Load: "not-found", Active: "inactive", Sub: "dead", Hash: m.files[name].hash}
	u := m.units[name]
	if u == nil {
		return s
	}
	switch {
	case u.def == nil:
	case u.def.bad:
		s.Load = "bad-setting"
	default:
		s.Load = "loaded"
	}
	s.Active, s.Sub, s.Job = u.active, u.sub, u.job != nil
	if u.kind == "service" {
		s.Result = u.result
	}
	return s
}

// file is a unit file of the node's directory.
type file struct{ text, hash string }

func fileOf(text string) file {
	sum := sha1.Sum([]byte(text))
	return file{text, hex.EncodeToString(sum[:])}
}

// Files is the names of the unit files that lie in the node's directory, sorted.
func (m *Manager) Files() []string { return slices.Sorted(maps.Keys(m.files)) }

// Text is the unit file as it lies there, or "".
func (m *Manager) Text(name string) string { return m.files[name].text }

// Hampered says that the node cannot do with its units what it should, or not in time.
func (m *Manager) Hampered() bool { return m.away || m.failing || m.slow > 0 }

// Put lays a unit file into the directory behind everybody's back, without the manager
// reading it.
func (m *Manager) Put(name, text string) { m.files[name] = fileOf(text) }

// change is one Change under way. It is made of steps by the node's own process: where
// that ends, or the connection breaks, the rest does not happen.
type change struct {
	*call
	todo   []func() error
	names  []string
	failed []env.UnitError
	done   func([]env.UnitError, error)
}

// Change implements env.Systemd.
func (m *Manager) Change(c env.UnitChange, done func([]env.UnitError, error)) {
	m.send(func(err error) { done(nil, err) }, func(at *call) {
		x := &change{call: at, done: done}
		for _, name := range c.Remove {
			x.add(name, func() error { return m.remove(name) })
		}
		for _, u := range c.Write {
			x.add(u.Name, func() error { return m.write(u) })
		}
		m.inLine(func() {
			m.busy = x
			x.step()
		})
	})
}

// inLine runs fn behind the changes of files that were asked for before.
func (m *Manager) inLine(fn func()) {
	if m.busy != nil || len(m.line) > 0 {
		m.line = append(m.line, fn)
		return
	}
	fn()
}

// free lets what waits behind a change go on.
func (m *Manager) free() {
	m.busy = nil
	for m.busy == nil && len(m.line) > 0 {
		fn := m.line[0]
		m.line = m.line[1:]
		fn()
	}
}

func (x *change) add(name string, fn func() error) {
	x.names, x.todo = append(x.names, name), append(x.todo, fn)
}

// stepsAtOnce is how many files are changed in one event.
const stepsAtOnce = 8

func (x *change) step() {
	if x.over {
		x.m.free()
		return
	}
	for range min(stepsAtOnce, len(x.todo)) {
		if err := x.todo[0](); err != nil {
			x.failed = append(x.failed, env.UnitError{Name: x.names[0], Err: err})
		}
		x.todo, x.names = x.todo[1:], x.names[1:]
	}
	if len(x.todo) > 0 {
		x.m.After(x.m.brief(), x.step)
		return
	}
	x.m.reload(func() {
		x.answer(func() { x.done(x.failed, nil) })
		x.m.free()
	})
}

func (m *Manager) remove(name string) error {
	if !sound(name) {
		return fmt.Errorf("%q is no name of a unit", name)
	}
	if m.failing && m.h.Rand().IntN(2) == 0 || m.broken[name] {
		return fmt.Errorf("remove %s: %w", name, errReadOnly)
	}
	delete(m.files, name)
	delete(m.told, name)
	if u := m.units[name]; u != nil {
		u.starts = nil
		if u.active == "failed" {
			m.set(u, "inactive", "dead", "success")
		}
	}
	return nil
}

func (m *Manager) write(u env.UnitText) error {
	if !sound(u.Name) {
		return fmt.Errorf("%q is no name of a unit", u.Name)
	}
	if m.failing && m.h.Rand().IntN(2) == 0 || m.broken[u.Name] {
		delete(m.files, u.Name)
		return fmt.Errorf("write %s: %w", u.Name, errReadOnly)
	}
	m.files[u.Name] = fileOf(u.Text)
	return nil
}

// sound says that a name is one of a unit, as far as the manager's own rules go.
func sound(name string) bool {
	stem := strings.TrimSuffix(name, "."+kindOf(name))
	if stem == "" || len(name) > nameMax || strings.HasPrefix(name, "@") || !slices.Contains(kinds, kindOf(name)) {
		return false
	}
	return !strings.ContainsFunc(stem, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(":-_.\\@", r)
	})
}

// nameMax bounds the name of a unit.
const nameMax = 256

var kinds = []string{"automount", "busname", "device", "mount", "path", "scope", "service", "slice", "snapshot", "socket", "swap", "target", "timer"}

// reload has the manager read all files again, which takes a while: jobs that arrive
// meanwhile wait.
func (m *Manager) reload(then func()) {
	at := m.h.Now() + 2*m.brief() + time.Duration(m.h.Rand().Int64N(int64(20*time.Millisecond)))
	m.reloading = max(m.reloading, at)
	m.After(at-m.h.Now(), func() {
		m.Reload()
		then()
	})
}

// Reload is what daemon-reload does: the manager knows all files as they lie there.
func (m *Manager) Reload() {
	for _, name := range m.Files() {
		m.know(name)
	}
	for _, name := range slices.Sorted(maps.Keys(m.units)) {
		u := m.units[name]
		if _, there := m.files[name]; there {
			continue
		}
		u.def, u.hash = nil, ""
		m.forget(u)
	}
	m.tell()
}

// know reads a unit's file.
func (m *Manager) know(name string) *unit {
	u := m.units[name]
	if u == nil {
		u = &unit{name: name, kind: kindOf(name), active: "inactive", sub: "dead", result: "success"}
		m.units[name] = u
	}
	if f := m.files[name]; u.def == nil || u.hash != f.hash {
		u.def, u.hash = read(name, f.text), f.hash
	}
	return u
}

// Follow implements env.Systemd.
func (m *Manager) Follow(fn func([]env.UnitStatus, error)) {
	m.follow, m.told = fn, nil
	if m.away {
		m.tellsAway(fn, ErrAway)
		return
	}
	m.tell()
}

// tell tells the node what has changed, in a moment.
func (m *Manager) tell() {
	if m.follow == nil || m.telling || m.away {
		return
	}
	m.telling = true
	m.After(max(m.brief(), m.tells-m.h.Now()), func() {
		m.telling = false
		if m.follow == nil || m.away {
			return
		}
		if m.h.Now() < m.tells {
			m.tell()
			return
		}
		first := m.told == nil
		if first {
			m.told = map[string]env.UnitStatus{}
		}
		var list []env.UnitStatus
		for _, s := range m.Status() {
			if was, ok := m.told[s.Name]; !ok || was != s {
				m.told[s.Name] = s
				list = append(list, s)
			}
		}
		if first || len(list) > 0 {
			m.follow(list, nil)
		}
	})
}
