package process

import (
	"os"
	"slices"
	"time"

	"github.com/keelson/keelson/core/env"
)

// managed is one unit of a host. Everything in it is guarded by the host's lock.
//
//	inactive ──begin──▶ activating ──▶ active ──▶ deactivating ──▶ inactive, failed
//	   ▲                                                                │
//	   └───────────── activating (auto-restart) ◀───────────────────────┘
type managed struct {
	host     *host
	name     string
	there    bool // its file lies in the directory
	hash     string
	settings *settings
	log      *log

	active, sub, result string
	since               time.Time
	job                 *job
	run                 *run        // what goes on, or nil
	again               *time.Timer // while it waits to be restarted
	starts              []time.Time // those that count for the limit
	told                env.UnitStatus
}

// job is what is wanted of a unit at the moment.
type job struct {
	verb    env.JobVerb
	waiting []func(env.JobResult)
}

// load is how the file is.
func (u *managed) load() string {
	switch {
	case !u.there:
		return "not-found"
	case u.settings.bad != nil:
		return "bad-setting"
	}
	return "loaded"
}

func (u *managed) status() env.UnitStatus {
	return env.UnitStatus{
		Name: u.name, Load: u.load(), Active: u.active, Sub: u.sub, Result: u.shownResult(), Hash: u.hash, Job: u.job != nil,
	}
}

// shownResult is empty where the type of unit has none.
func (u *managed) shownResult() string {
	if _, _, suffix := parts(u.name); suffix != ".service" {
		return ""
	}
	return u.result
}

// become changes the state.
func (u *managed) become(active, sub string) {
	if active != u.active {
		u.since = time.Now()
	}
	u.active, u.sub = active, sub
}

// ask begins a job in place of another. Done runs with the host's lock held, possibly
// before ask returns.
func (u *managed) ask(verb env.JobVerb, done func(env.JobResult)) {
	defer u.host.tell(u)
	if u.job != nil && u.job.verb == verb {
		u.job.waiting = append(u.job.waiting, done)
		return
	}
	u.endJob(env.JobCanceled)
	u.job = &job{verb, []func(env.JobResult){done}}
	u.step()
}

func (u *managed) endJob(r env.JobResult) {
	j := u.job
	u.job = nil
	if j == nil {
		return
	}
	for _, done := range j.waiting {
		done(r)
	}
}

// step brings the job forward.
func (u *managed) step() {
	stop := u.job.verb == env.JobStop
	switch {
	case u.run == nil && stop:
		u.forgetRestart()
		u.endJob(env.JobDone)
	case u.run == nil:
		u.begin()
	case stop || u.job.verb == env.JobRestart:
		u.run.end()
	case u.active == "active" && !u.run.ending:
		u.endJob(env.JobDone)
	}
}

// forgetRestart takes a unit that waits to be restarted for one that ended.
func (u *managed) forgetRestart() {
	if u.again == nil {
		return
	}
	u.again.Stop()
	u.again = nil
	u.rest()
	u.host.keep(u)
}

// rest is the state of a unit with nothing under way.
func (u *managed) rest() {
	if u.result == "success" {
		u.become("inactive", "dead")
	} else {
		u.become("failed", "failed")
	}
}

// begin starts the unit, unless it was started too often.
func (u *managed) begin() {
	if u.again != nil {
		u.again.Stop()
		u.again = nil
	}
	if u.tooOften() {
		if u.result == "success" {
			u.result = "start-limit-hit"
		}
		u.say("%s: Start request repeated too quickly.", u.name)
		u.rest()
		u.host.keep(u)
		u.endJob(env.JobFailed)
		return
	}
	u.result = "success"
	u.run = newRun(u)
	u.host.keep(u) // before there are processes: the next host finds them by it
	if _, _, suffix := parts(u.name); suffix == ".target" {
		go u.run.playTarget()
		return
	}
	go u.run.play()
}

// tooOften reports whether the limit of starts is reached, and else counts one more.
func (u *managed) tooOften() bool {
	s := u.settings
	if s.limitInterval <= 0 || s.limitBurst <= 0 {
		return false
	}
	now := time.Now()
	u.starts = slices.DeleteFunc(u.starts, func(t time.Time) bool { return now.Sub(t) > s.limitInterval })
	if len(u.starts) >= s.limitBurst {
		return true
	}
	u.starts = append(u.starts, now)
	return false
}

// started is told by a run that has become active.
func (u *managed) started(sub string) {
	u.become("active", sub)
	if u.job != nil && u.job.verb != env.JobStop && !u.run.ending {
		u.endJob(env.JobDone)
	}
}

// ended is told by a run that is over.
func (u *managed) ended(e ending) {
	r := u.run
	u.run = nil
	u.result = e.result
	u.rest()
	switch {
	case u.job == nil:
	case u.job.verb == env.JobStop:
		u.endJob(env.JobDone)
	case u.job.verb == env.JobRestart || r.ending:
		u.begin()
		return
	case e.dependency:
		u.endJob(env.JobDependency)
	case e.result == "success":
		u.endJob(env.JobDone)
	default:
		u.endJob(env.JobFailed)
	}
	if !r.ending && !e.dependency && u.there && u.settings.restarts(e) {
		u.waitRestart()
		return
	}
	u.host.propagate(u, r.ending)
	if !u.there {
		u.host.forget(u)
	}
}

// subAgain is the state of a unit that waits to be restarted.
const subAgain = "auto-restart"

func (u *managed) waitRestart() {
	u.become("activating", subAgain)
	var timer *time.Timer
	timer = time.AfterFunc(max(u.settings.restartWait, time.Millisecond), func() {
		u.host.mu.Lock()
		defer u.host.mu.Unlock()
		if u.again != timer {
			return
		}
		u.again = nil
		if u.job == nil {
			u.job = &job{verb: env.JobStart}
		}
		u.begin()
		u.host.tell(u)
	})
	u.again = timer
}

// forget takes the unit for one that never ran.
func (u *managed) forget() {
	u.forgetRestart()
	u.starts = nil
	if u.run == nil {
		u.result = "success"
		u.rest()
	}
}

// take gives the unit a file.
func (u *managed) take(text string) {
	u.there, u.hash = true, hashOf(text)
	u.settings = read(u.name, text, specifiersOf(u.name, u.host.machine))
}

// drop is told that the file is gone.
func (u *managed) drop() {
	u.there, u.hash = false, ""
	u.forget()
	if u.run == nil && u.job == nil {
		u.host.forget(u)
	}
}

// say writes a line of the manager's own into the unit's journal.
func (u *managed) say(format string, args ...any) {
	u.log.write(os.Getpid(), "keelson", format, args...)
}
