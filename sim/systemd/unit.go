package systemd

import (
	"fmt"
	"time"

	"github.com/keelson/keelson/core/env"
)

// unit is a unit that the manager knows.
//
//	inactive ──start──▶ activating: start-pre ─▶ start ──▶ active ──stop──▶ deactivating ──▶ inactive
//	    ▲                    │ fails                         │ ends             │ too long
//	    └──reset── failed ◀──┴───────────────────────────────┴──────────────────┘
//	                 or activating: auto-restart ──▶ start-pre, as Restart= says
type unit struct {
	name, kind  string
	def         *definition // nil: there is no file
	hash        string      // of the file as it was read
	active, sub string
	result      string
	step        uint64 // counts the changes of state, so that what was to follow an old one does not
	job         *job
	runs        bool // a main process is there, or, without one, it is active
	start       uint64
	since       time.Time
	pid         int
	starts      []time.Duration
	began       time.Duration // of the present attempt to start
}

// job is a job of a unit.
type job struct {
	verb  env.JobVerb
	again bool // a restart that has stopped the unit
	done  []func(env.JobResult, error)
}

func (u *unit) idle() bool {
	return u.job == nil && !u.runs && (u.active == "inactive" || u.active == "failed")
}

// set is the only place where the state of a unit changes.
func (m *Manager) set(u *unit, active, sub, result string) {
	u.step++
	if active == "active" && u.active != "active" {
		u.since = m.h.Wall()
	}
	u.active, u.sub, u.result = active, sub, result
	m.forget(u)
	m.tell()
}

// forget drops a unit of which nothing is left.
func (m *Manager) forget(u *unit) {
	if u.def == nil && u.idle() && m.units[u.name] == u {
		delete(m.units, u.name)
	}
}

// next runs fn after d unless the unit's state changes first.
func (m *Manager) next(u *unit, d time.Duration, fn func()) {
	step := u.step
	m.After(d, func() {
		if u.step == step {
			fn()
		}
	})
}

// Job implements env.Systemd.
func (m *Manager) Job(verb env.JobVerb, name string, done func(env.JobResult, error)) {
	m.send(func(err error) { done("", err) }, func(c *call) {
		m.inLine(func() {
			m.queue(verb, name, false, func(r env.JobResult, err error) { c.answer(func() { done(r, err) }) })
		})
	})
}

// By has an operator at the machine start or stop a unit.
func (m *Manager) By(verb env.JobVerb, name string) { m.queue(verb, name, true, nil) }

// Crash ends the main process of a unit by a signal. False where there is none.
func (m *Manager) Crash(name string) bool {
	u := m.units[name]
	if u == nil || !u.runs || u.kind != "service" {
		return false
	}
	m.exited(u, 1, "signal")
	return true
}

// queue makes a job, once the manager is not busy reading files.
func (m *Manager) queue(verb env.JobVerb, name string, foreign bool, done func(env.JobResult, error)) {
	if wait := m.reloading - m.h.Now(); wait > 0 {
		m.After(wait, func() { m.queue(verb, name, foreign, done) })
		return
	}
	u := m.units[name]
	if _, there := m.files[name]; there && u == nil {
		u = m.know(name)
	}
	asked := Asked{Unit: name, Verb: verb, Foreign: foreign, Running: u != nil && u.runs}
	if u != nil {
		asked.Was = m.status(name)
		asked.Hash = u.hash
	}
	m.h.Asked(asked)
	if done == nil {
		done = func(env.JobResult, error) {}
	}
	switch {
	case u == nil:
		done("", fmt.Errorf("Unit %s not found: %w", name, env.ErrRefused)) // systemd's words
	case verb != env.JobStop && (u.def == nil || u.def.bad):
		done("", fmt.Errorf("Unit %s has a bad unit file setting: %w", name, env.ErrRefused)) // systemd's words
	case u.job != nil && u.job.verb == verb && !u.job.again:
		u.job.done = append(u.job.done, done)
	default:
		m.replace(u, &job{verb: verb, done: []func(env.JobResult, error){done}})
	}
}

// replace has a job take the place of that which is under way.
func (m *Manager) replace(u *unit, j *job) {
	m.finish(u, env.JobCanceled)
	u.job = j
	m.tell()
	m.After(m.slow, func() {
		if u.job != j {
			return
		}
		switch j.verb {
		case env.JobStart:
			m.begin(u)
		default:
			m.halt(u)
		}
	})
}

// finish ends the job of a unit.
func (m *Manager) finish(u *unit, r env.JobResult) {
	j := u.job
	if j == nil {
		return
	}
	u.job = nil
	m.forget(u)
	m.tell()
	for _, done := range j.done {
		done(r, nil)
	}
}

// begin starts a unit that is not active.
func (m *Manager) begin(u *unit) {
	switch {
	case u.active == "active" || u.active == "reloading":
		m.finish(u, env.JobDone)
		return
	case u.active == "deactivating":
		m.next(u, 10*time.Millisecond, func() { m.begin(u) }) // after it has stopped
		return
	case u.def == nil || u.def.bad:
		m.finish(u, env.JobFailed)
		return
	case u.active == "activating" && u.sub != "auto-restart":
		return // it is on its way
	}
	if m.limited(u) {
		m.set(u, "failed", "failed", orElse(u.result, "start-limit-hit"))
		m.finish(u, env.JobFailed)
		return
	}
	u.began = m.h.Now()
	m.say(u, "systemd", "Starting "+u.name+"...")
	if u.kind != "service" {
		m.ran(u, true, "")
		m.set(u, "active", subOf(u.kind), "success")
		m.finish(u, env.JobDone)
		return
	}
	m.prepare(u, 0)
}

// orElse is why a unit failed before it was started too often.
func orElse(result, other string) string {
	if result == "" || result == "success" {
		return other
	}
	return result
}

func subOf(kind string) string {
	switch kind {
	case "socket":
		return "listening"
	case "timer", "path":
		return "waiting"
	case "mount", "automount":
		return "mounted"
	}
	return "active"
}

// limited counts a start, and says whether there were too many.
func (m *Manager) limited(u *unit) bool {
	now := m.h.Now()
	kept := u.starts[:0]
	for _, at := range u.starts {
		if now-at < u.def.limitIn {
			kept = append(kept, at)
		}
	}
	u.starts = kept
	if u.def.limit > 0 && u.def.limitIn > 0 && len(u.starts) >= u.def.limit {
		return true
	}
	u.starts = append(u.starts, now)
	return false
}

// prepare runs the ExecStartPre lines from the i-th on.
func (m *Manager) prepare(u *unit, i int) {
	if i >= len(u.def.pre) {
		m.launch(u, 0)
		return
	}
	c := u.def.pre[i]
	m.set(u, "activating", "start-pre", "success")
	m.say(u, c.name, c.says)
	m.bounded(u, c, func() {
		if c.code != 0 && !c.excused {
			m.failed(u, "exit-code", env.JobFailed)
			return
		}
		m.prepare(u, i+1)
	})
}

// bounded waits for a command of the start phase, for as long as the unit may take.
func (m *Manager) bounded(u *unit, c command, fn func()) {
	left := u.def.startMax - (m.h.Now() - u.began)
	if u.def.startMax > 0 && (c.endless || c.lasts > left) {
		m.next(u, max(left, 0), func() { m.failed(u, "timeout", env.JobFailed) })
		return
	}
	if !c.endless {
		m.next(u, c.lasts, fn)
	}
}

// launch runs the i-th ExecStart line.
func (m *Manager) launch(u *unit, i int) {
	c := u.def.start[i]
	if i == 0 {
		u.pid = m.pid()
		m.ran(u, true, "")
	}
	m.speak(u, c)
	switch {
	case u.def.oneshot:
		m.set(u, "activating", "start", "success")
		m.bounded(u, c, func() { m.once(u, i, c) })
	case u.def.notify:
		m.set(u, "activating", "start", "success")
		m.next(u, 20*time.Millisecond, func() { m.up(u, c) })
	default:
		m.up(u, c)
	}
}

// up is a service that runs.
func (m *Manager) up(u *unit, c command) {
	m.set(u, "active", "running", "success")
	m.say(u, "systemd", "Started "+u.name+".")
	m.finish(u, env.JobDone)
	if !c.endless {
		m.next(u, c.lasts, func() { m.exited(u, codeOf(c), "exit-code") })
	}
}

func codeOf(c command) int {
	if c.excused {
		return 0
	}
	return c.code
}

// once is the end of a command of a oneshot.
func (m *Manager) once(u *unit, i int, c command) {
	switch {
	case codeOf(c) != 0:
		m.ran(u, false, "exit")
		m.failed(u, "exit-code", env.JobFailed)
	case i+1 < len(u.def.start):
		m.launch(u, i+1)
	case u.def.remain:
		m.set(u, "active", "exited", "success")
		m.finish(u, env.JobDone)
	default:
		m.ran(u, false, "exit")
		m.set(u, "inactive", "dead", "success")
		m.finish(u, env.JobDone)
	}
}

// exited is the end of a main process by itself.
func (m *Manager) exited(u *unit, code int, result string) {
	m.ran(u, false, "exit")
	if code == 0 {
		result = "success"
	}
	again := u.def != nil && (u.def.restart == "always" || u.def.restart == "on-failure" && code != 0 || u.def.restart == "on-success" && code == 0)
	switch {
	case u.active == "deactivating":
		m.halted(u, "inactive", "success")
	case again:
		m.set(u, "activating", "auto-restart", result)
		m.next(u, u.def.restartWait, func() { m.begin(u) })
	case code == 0:
		m.set(u, "inactive", "dead", result)
	default:
		m.say(u, "systemd", u.name+": Failed with result '"+result+"'.")
		m.set(u, "failed", "failed", result)
	}
}

// failed ends an attempt to start. Restart= applies to it too.
func (m *Manager) failed(u *unit, result string, r env.JobResult) {
	if u.runs {
		m.ran(u, false, "exit")
	}
	m.say(u, "systemd", u.name+": Failed with result '"+result+"'.")
	if u.def != nil && (u.def.restart == "always" || u.def.restart == "on-failure") {
		m.set(u, "activating", "auto-restart", result)
		m.finish(u, r)
		m.next(u, u.def.restartWait, func() { m.begin(u) })
		return
	}
	m.set(u, "failed", "failed", result)
	m.finish(u, r)
}

// halt stops a unit.
func (m *Manager) halt(u *unit) {
	switch {
	case u.active == "inactive" || u.active == "failed":
		m.halted(u, u.active, u.result)
		return
	case u.active == "deactivating":
		return // its end finishes this job
	case u.kind != "service":
		m.ran(u, false, "stop")
		m.halted(u, "inactive", "")
		return
	case !u.runs:
		m.halted(u, "inactive", "success")
		return
	}
	m.say(u, "systemd", "Stopping "+u.name+"...")
	lasts, deaf := m.brief(), false
	most := timeoutDefault
	if u.def != nil {
		most = u.def.stopMax
		for _, c := range u.def.start {
			deaf = deaf || c.deaf
		}
		for _, c := range u.def.stop {
			lasts += c.lasts
			deaf = deaf || c.endless
		}
	}
	m.set(u, "deactivating", "stop-sigterm", u.result)
	if deaf || most > 0 && lasts > most {
		m.next(u, most, func() {
			m.ran(u, false, "stop")
			m.halted(u, "failed", "timeout")
		})
		return
	}
	m.next(u, lasts, func() {
		m.ran(u, false, "stop")
		m.halted(u, "inactive", "success")
	})
}

// halted is the end of a stop.
func (m *Manager) halted(u *unit, active, result string) {
	sub := "dead"
	if active == "failed" {
		sub = "failed"
	}
	if u.active != active {
		m.say(u, "systemd", "Stopped "+u.name+".")
	}
	if j := u.job; j != nil && j.verb == env.JobRestart && !j.again {
		j.again = true
		m.set(u, active, sub, result)
		m.begin(u)
		return
	}
	m.set(u, active, sub, result)
	m.finish(u, env.JobDone)
}

// ran notes that a unit has begun to run or ended.
func (m *Manager) ran(u *unit, on bool, why string) {
	if u.runs == on {
		return
	}
	u.runs = on
	if on {
		m.starts++
		u.start = m.starts
	}
	m.h.Ran(Ran{Unit: u.name, On: on, Start: u.start, Why: why, Hash: u.hash})
}

func (m *Manager) pid() int {
	m.pids++
	return 100 + m.pids
}

// Running lists what runs, sorted.
func (m *Manager) Running() []string {
	var list []string
	for _, name := range sortedNames(m.units) {
		if m.units[name].runs {
			list = append(list, name)
		}
	}
	return list
}

// Runs says whether a unit runs.
func (m *Manager) Runs(name string) bool { return m.units[name] != nil && m.units[name].runs }
