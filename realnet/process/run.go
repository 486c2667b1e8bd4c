package process

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/keelson/keelson/core/env"
)

// run is one time that a unit goes from its start to its end. Its goroutine walks
// through the steps in order; whoever wants it to end closes stop.
type run struct {
	unit *managed
	id   string // the invocation, by which its processes are found
	stop chan struct{}

	// Guarded by the host's lock.
	ending bool // stop is closed
	main   *proc

	// Of the run's goroutine.
	procs []*proc // that were started and may still be there
}

// ending is how a run came to its end.
type ending struct {
	result     string
	exit       exit // of the main process, if there was one
	dependency bool // it never began, because another unit did not
}

func newRun(u *managed) *run {
	var id [16]byte
	rand.Read(id[:]) // never fails
	return &run{unit: u, id: hex.EncodeToString(id[:]), stop: make(chan struct{})}
}

// end asks the run to end. The host's lock is held.
func (r *run) end() {
	if !r.ending {
		r.ending = true
		close(r.stop)
	}
}

func (r *run) stopped() bool {
	select {
	case <-r.stop:
		return true
	default:
		return false
	}
}

// now shows a state.
func (r *run) now(active, sub string) {
	r.locked(func(u *managed) { u.become(active, sub) })
}

// locked changes the unit and tells of it.
func (r *run) locked(fn func(u *managed)) {
	h := r.unit.host
	h.mu.Lock()
	defer h.mu.Unlock()
	fn(r.unit)
	h.keep(r.unit)
	h.tell(r.unit)
}

// settings are those of the file as it is now.
func (r *run) settings() (s *settings) {
	h := r.unit.host
	h.mu.Lock()
	defer h.mu.Unlock()
	return r.unit.settings
}

// playTarget is the run of a unit that is nothing but a name.
func (r *run) playTarget() {
	if !r.awaitOthers() {
		r.over(ending{result: "success", dependency: !r.stopped()})
		return
	}
	r.locked(func(u *managed) { u.started("active") })
	<-r.stop
	r.over(ending{result: "success"})
}

// play is the run of a service.
func (r *run) play() {
	s := r.settings()
	if !r.awaitOthers() {
		r.over(ending{result: "success", dependency: !r.stopped()})
		return
	}
	r.unit.say("Starting %s - %s...", s.name, s.description)
	late := after(s.startMax)
	result := r.each(s.pre, "start-pre", late)
	if result == "success" && !r.stopped() {
		result = r.playMain(s, late)
	}
	r.finish(result)
}

// playMain goes from the first ExecStart to where the service ends by itself or is
// asked to.
func (r *run) playMain(s *settings, late <-chan time.Time) (result string) {
	if s.kind == "oneshot" {
		result = r.each(s.start, "start", late)
	} else {
		result = r.startMain(s)
	}
	if result != "success" || r.stopped() {
		return result
	}
	if result = r.each(s.startPost, "start-post", late); result != "success" || r.stopped() {
		return result
	}
	if r.main == nil && !s.remain {
		r.unit.say("Finished %s - %s.", s.name, s.description)
		return "success"
	}
	r.unit.say("Started %s - %s.", s.name, s.description)
	if r.main == nil {
		r.locked(func(u *managed) { u.started("exited") })
		<-r.stop
		return r.stopCommands(s)
	}
	r.locked(func(u *managed) { u.started("running") })
	return r.watch(s)
}

// watch waits for the end of what runs.
func (r *run) watch(s *settings) (result string) {
	select {
	case <-r.stop:
		return r.stopCommands(s)
	case <-r.main.done:
	}
	e := r.main.exit
	result = s.judge(e)
	r.unit.say("%s: Main process exited, code=%s, status=%s", s.name, e.how(), e.text())
	if result == "success" && s.remain {
		r.locked(func(u *managed) { r.main = nil; u.become("active", "exited") })
		<-r.stop
		return r.stopCommands(s)
	}
	return result
}

// startMain starts the main process of a service that is not of kind oneshot.
func (r *run) startMain(s *settings) string {
	c := &s.start[0]
	p := r.spawn(s, c, nil)
	r.locked(func(u *managed) {
		r.main = p
		u.become("activating", "start")
	})
	if s.kind == "exec" && p.exit.err != nil {
		return s.judge(p.exit)
	}
	return "success"
}

// stopCommands runs ExecStop. What they end with matters less than that they ran.
func (r *run) stopCommands(s *settings) string {
	late := after(s.stopMax)
	for i := range s.stop {
		r.now("deactivating", "stop")
		p := r.spawn(s, &s.stop[i], r.about("success"))
		select {
		case <-p.done:
			if result := s.judge(p.exit); result != "success" && !s.stop[i].ignore {
				return result
			}
		case <-late:
			return "timeout"
		}
	}
	return "success"
}

// each runs commands one after the other, until one fails or the run is asked to end.
func (r *run) each(list []command, sub string, late <-chan time.Time) (result string) {
	s := r.settings()
	for i := range list {
		p := r.spawn(s, &list[i], nil)
		r.now("activating", sub)
		select {
		case <-p.done:
			if result := s.judge(p.exit); result != "success" && !list[i].ignore {
				r.unit.say("%s: Control process exited, code=%s, status=%s", s.name, p.exit.how(), p.exit.text())
				return result
			}
		case <-r.stop:
			return "success"
		case <-late:
			r.unit.say("%s: %s operation timed out. Terminating.", s.name, sub)
			return "timeout"
		}
	}
	return "success"
}

// finish ends what is left of the run: processes first, then ExecStopPost.
func (r *run) finish(result string) {
	s := r.settings()
	had := r.main
	if !r.terminate(s) && result == "success" {
		result = "timeout"
	}
	e := ending{result: result}
	if had != nil {
		e.exit = had.exit
		if result == "success" {
			e.result = s.judgeStopped(had.exit)
		}
	}
	late := after(s.stopMax)
	for i := range s.stopPost {
		r.now("deactivating", "stop-post")
		p := r.spawn(s, &s.stopPost[i], r.about(e.result))
		select {
		case <-p.done:
			if bad := s.judge(p.exit); bad != "success" && !s.stopPost[i].ignore && e.result == "success" {
				e.result = bad
			}
		case <-late:
			if e.result == "success" {
				e.result = "timeout"
			}
		}
	}
	if len(s.stopPost) > 0 {
		r.terminate(s)
	}
	if e.result != "success" {
		r.unit.say("%s: Failed with result '%s'.", s.name, e.result)
	}
	if r.stopped() {
		r.unit.say("Stopped %s - %s.", s.name, s.description)
	}
	r.over(e)
}

// about is what stop commands are told of the run.
func (r *run) about(result string) (env []string) {
	env = []string{"SERVICE_RESULT=" + result}
	if r.main == nil {
		return env
	}
	select {
	case <-r.main.done:
		return append(env, "EXIT_CODE="+r.main.exit.how(), "EXIT_STATUS="+strconv.Itoa(r.main.exit.code))
	default:
		return append(env, "MAINPID="+strconv.Itoa(r.main.pid))
	}
}

func (r *run) over(e ending) {
	r.locked(func(u *managed) {
		u.ended(e)
	})
}

// awaitOthers starts what this unit needs or wants, and waits for whatever it is to come
// after. False says that something it needs is not there, or that the run is to end.
func (r *run) awaitOthers() bool {
	s, h := r.settings(), r.unit.host
	type wait struct {
		done   chan env.JobResult
		needed bool
	}
	var waits []wait
	h.mu.Lock()
	for _, name := range slices.Concat(s.needs, s.binds, s.wants) {
		other := h.units[name]
		if other == nil || !other.there || name == s.name {
			continue // a unit that this manager does not have: systemd's, most likely
		}
		w := wait{make(chan env.JobResult, 1), !slices.Contains(s.wants, name)}
		refused := other.settings.bad != nil || other.settings.unsupported != nil
		if refused {
			w.done <- env.JobFailed
		} else {
			other.ask(env.JobStart, func(res env.JobResult) { w.done <- res })
		}
		if slices.Contains(s.after, name) && !h.waitsFor(other, r.unit, nil) || refused {
			waits = append(waits, w)
		}
	}
	for _, name := range s.after {
		other := h.units[name]
		if other == nil || other.job == nil || other.job.verb == env.JobStop || h.waitsFor(other, r.unit, nil) {
			continue
		}
		w := wait{done: make(chan env.JobResult, 1)}
		other.job.waiting = append(other.job.waiting, func(res env.JobResult) { w.done <- res })
		waits = append(waits, w)
	}
	h.mu.Unlock()
	for _, w := range waits {
		select {
		case res := <-w.done:
			if w.needed && res != env.JobDone {
				r.unit.say("Dependency failed for %s - %s.", s.name, s.description)
				return false
			}
		case <-r.stop:
			return false
		}
	}
	return !r.stopped()
}

// after is a timer that does not run for no time at all.
func after(d time.Duration) <-chan time.Time {
	if d <= 0 {
		return nil
	}
	return time.After(d)
}
