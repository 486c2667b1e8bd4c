package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/unit"
)

// job is what systemd was asked to do with a unit.
type job struct {
	verb env.JobVerb
	// was is what the unit was before.
	was   env.UnitStatus
	since env.Instant
	asked env.Instant // when systemd was last asked what became of it
	done  func(error)
}

// Bounds of the work on units.
const (
	// jobsMax is how many young jobs there are at once. One that takes longer than
	// youngMax is not counted any more: who hangs keeps nobody back.
	jobsMax  = 32
	youngMax = 2 * time.Second
	// A job that takes longer than this is asked about now and then.
	jobMax = time.Minute
	// settleMax is how long files wait for the units that end before they change, so
	// that systemd need not read them all for each.
	settleMax = 200 * time.Millisecond
	faultMin  = time.Second // the wait after a unit's failure; it doubles
	faultMax  = time.Minute
)

// work takes the steps that can be taken. It is called whenever something changed, so
// what has to wait for something else is left for a later call.
func (a *Agent) work() {
	if a.away || a.changing || a.asking || a.wait(a.again) {
		return
	}
	steps := Plan(a.picture())
	for _, name := range steps.Halt {
		a.begin(a.units[name], env.JobStop, nil)
	}
	if a.change(without(steps.Change, steps.Halt)) {
		return // what is started may need what is written
	}
	for _, name := range steps.Stop {
		a.begin(a.units[name], env.JobStop, nil)
	}
	a.starts(slices.DeleteFunc(steps.Start, func(name string) bool { return a.units[name].have == nil || rewritten(&steps, name) }))
}

// spares says that what runs is let run although nobody wants it here: the decision may
// have been made while the machine was not registered.
func (a *Agent) spares() bool {
	if a.draining != nil {
		return false
	}
	n := a.get(a.lease.key())
	return n == nil || n.Created != a.lease.created || a.wait(a.patience)
}

// rewritten says that the file of a unit that is here is about to change.
func rewritten(s *Steps, name string) bool {
	return slices.ContainsFunc(s.Change.Write, func(w env.UnitText) bool { return w.Name == name })
}

// picture is what Plan is asked about: all units that something can be done about now.
func (a *Agent) picture() (want []Wanted, have []Have) {
	a.each(func(u *local) {
		switch {
		case u.unreadable || u.doubt || u.forgotten || a.wait(u.until):
			return
		case u.job != nil && (u.job.verb == env.JobStop || u.have == nil):
			return
		case u.want == nil && u.active() && !u.fenced() && a.spares():
			return
		case planted.On(planted.LeftOverIgnored) && u.want == nil && u.found:
			return
		}
		if u.want != nil {
			want = append(want, *u.want)
		}
		if u.have != nil {
			h := Have{UnitStatus: *u.have, Launched: u.mark.Launched}
			if u.halted {
				h.Active, h.Job = "inactive", false
			}
			h.Job = h.Job || u.mark.Begun
			h.Launched = h.Launched || u.job != nil || u.mark.Begun && u.want != nil && u.want.State == unit.Loaded
			have = append(have, h)
		}
	})
	return want, have
}

func without(c env.UnitChange, names []string) (kept env.UnitChange) {
	for _, name := range c.Remove {
		if !slices.Contains(names, name) {
			kept.Remove = append(kept.Remove, name)
		}
	}
	for _, w := range c.Write {
		if !slices.Contains(names, w.Name) {
			kept.Write = append(kept.Write, w)
		}
	}
	return kept
}

// change has files changed. True means that units must not be started meanwhile.
func (a *Agent) change(c env.UnitChange) bool {
	if len(c.Remove)+len(c.Write) == 0 {
		a.settle = 0
		return false
	}
	if a.settles(c) {
		return false
	}
	a.settle, a.changing = 0, true
	for _, w := range c.Write {
		u := a.units[w.Name]
		u.writing = u.want.Hash
	}
	want := make(map[string]*Wanted, len(c.Write))
	for _, w := range c.Write {
		want[w.Name] = a.units[w.Name].want
	}
	a.env.Systemd.Change(c, func(failed []env.UnitError, err error) {
		a.changing = false
		if !a.over {
			a.changed(c, want, failed, err)
		}
	})
	return true
}

// settles says that a change had better wait a moment for units that are ending. What is
// new here waits for nobody.
func (a *Agent) settles(c env.UnitChange) bool {
	ending := false
	a.each(func(u *local) { ending = ending || u.job != nil && u.job.verb == env.JobStop })
	isNew := slices.ContainsFunc(c.Write, func(w env.UnitText) bool { return a.units[w.Name].have == nil })
	if !ending || isNew {
		return false
	}
	if a.settle == 0 {
		a.settle = a.env.Clock.Now().Add(settleMax)
	}
	return a.wait(a.settle)
}

func (a *Agent) changed(c env.UnitChange, want map[string]*Wanted, failed []env.UnitError, err error) {
	for _, w := range c.Write {
		a.units[w.Name].writing = ""
	}
	if err != nil {
		a.unsettled(err)
		a.doubts = a.doubts || !errors.Is(err, env.ErrUnsent)
		return
	}
	a.failures = 0
	broken := make(map[string]error, len(failed))
	for _, f := range failed {
		broken[f.Name] = f.Err
	}
	for _, name := range c.Remove {
		if u := a.units[name]; u != nil && broken[name] == nil {
			u.gone()
		}
	}
	for _, w := range c.Write {
		if broken[w.Name] == nil {
			a.units[w.Name].written(want[w.Name])
		}
	}
	for _, f := range failed {
		if u := a.units[f.Name]; u != nil {
			a.failed(u, f.Err)
		}
		a.doubts = true
	}
	a.note.save()
	a.wake()
}

// gone notes that the file of a unit is not there any more.
func (u *local) gone() {
	u.fresh = false
	u.have, u.halted, u.known, u.found, u.strange, u.outcome = nil, false, false, false, false, ""
	u.fault, u.failures, u.until = "", 0, 0
	u.mark = mark{Fenced: u.mark.Fenced}
}

// written notes that the file of a unit is there, and that systemd has read it.
func (u *local) written(w *Wanted) {
	if u.have == nil || u.have.Hash != w.Hash {
		u.have = &env.UnitStatus{Name: u.name, Load: "loaded", Active: "inactive", Sub: "dead", Hash: w.Hash}
	}
	u.fresh = false
	u.halted, u.known, u.found, u.strange, u.outcome = false, true, false, false, ""
	u.fault, u.failures, u.until = "", 0, 0
	u.mark = mark{Since: w.Since, Fenced: u.mark.Fenced, Rules: rules(w.Place)}
}

// failed notes that something went wrong with one unit: it is tried again later, and the
// others go on.
func (a *Agent) failed(u *local, err error) {
	wait := min(faultMin<<min(u.failures, 10), faultMax)
	if why := brief(err); u.fault != why {
		a.env.Log.Log(env.Warn, "units: what should be done with a unit was not", "unit", u.name, "reason", why, "again", wait)
		u.fault = why
	}
	u.failures++
	u.until = a.env.Clock.Now().Add(wait)
	a.wake()
}

// faultLength bounds what is told of a fault, which may quote a unit's file.
const faultLength = 500

func brief(err error) string {
	text := err.Error()
	if len(text) <= faultLength {
		return text
	}
	return strings.ToValidUTF8(text[:faultLength], "") + "..."
}

// unsettled notes that a request to systemd went wrong as a whole: all wait.
func (a *Agent) unsettled(err error) {
	wait := min(faultMin<<min(a.failures, 10), faultMax)
	a.env.Log.Log(env.Info, "units: the service manager did not answer", "reason", err, "again", wait)
	a.failures++
	a.again = a.env.Clock.Now().Add(wait)
	a.wake()
}

// starts has units started, as many as there is room for.
func (a *Agent) starts(names []string) {
	if len(names) == 0 {
		return
	}
	var b blockers
	a.each(b.add)
	for room := a.room(); room > 0 && len(names) > 0; names = names[1:] {
		if u := a.units[names[0]]; a.start(u, &b) {
			b.add(u)
			room--
		}
	}
	a.note.write()
}

// start has a unit started, unless it has to wait for something, and tells whether it was.
func (a *Agent) start(u *local, b *blockers) bool {
	was := u.waits
	u.waits = b.blocks(u)
	if u.waits != "" {
		if was == "" {
			a.env.Rare.Mark("agent: a start waits for another unit")
		}
		return false
	}
	if u.want.Fenced() && !(u.claim.held && a.lease.valid()) {
		u.waits = "waits for its claim: a singleton starts when no other machine can run it"
		return false
	}
	if !u.mark.Begun {
		u.mark.Begun, u.number = true, a.note.soon()
	}
	if !a.note.has(u.number) { // or a later life would not know whose it is
		return false
	}
	a.begin(u, env.JobStart, nil)
	return true
}

// blockers are the units that are not over, sorted as they were added, and those of them
// that say what may not run beside them: most units say nothing and ask only those.
type blockers struct{ all, ruling []*local }

func (b *blockers) add(o *local) {
	if o.over() {
		return
	}
	b.all = append(b.all, o)
	if o.strange || len(o.mark.Rules) > 0 || o.want != nil && len(o.want.Place.Conflicts) > 0 {
		b.ruling = append(b.ruling, o)
	}
}

// blocks names a unit that has to end before u starts, or "".
func (b *blockers) blocks(u *local) string {
	mine := u.want.Place
	all := b.ruling
	if len(rules(mine)) > 0 {
		all = b.all
	}
	for _, o := range all {
		if o == u {
			continue
		}
		stays := o.want != nil && o.want.State == unit.Launched && o.have != nil && o.have.Hash == o.want.Hash
		switch {
		case stays && apart(u.name, mine.Conflicts, o.name, o.want.Place.Conflicts):
			return "waits for " + o.name + ", which conflicts with it, to end"
		case !stays && (o.strange || apart(u.name, rules(mine), o.name, o.mark.Rules)):
			return "waits for " + o.name + " to end"
		}
	}
	return ""
}

// over says that nothing of the unit runs, nor will by what is under way.
func (u *local) over() bool {
	return u.have == nil || u.job == nil && !u.fresh && (u.halted || !mayRun(u.have))
}

// room is how many starts there may be besides the young jobs. Where there is none, a pass
// runs when one of those is old.
func (a *Agent) room() int {
	young, oldest := 0, a.env.Clock.Now()
	a.each(func(u *local) {
		if u.job != nil && a.env.Clock.Now().Sub(u.job.since) < youngMax {
			young++
			oldest = min(oldest, u.job.since)
		}
	})
	if young >= jobsMax {
		a.wakeAt(oldest.Add(youngMax))
	}
	return max(jobsMax-young, 0)
}

// begin asks systemd for a job, which takes the place of the one under way.
func (a *Agent) begin(u *local, verb env.JobVerb, done func(error)) {
	if u.job != nil {
		u.job.answer(fmt.Errorf("agent: restart %s: something else was decided", u.name))
	}
	j := &job{verb: verb, since: a.env.Clock.Now(), asked: a.env.Clock.Now(), done: done}
	if u.have != nil {
		j.was = *u.have
	}
	u.job = j
	if verb != env.JobStop {
		u.halted, u.fresh, u.mark.Begun, u.outcome = false, true, true, ""
	}
	a.env.Systemd.Job(verb, u.name, func(r env.JobResult, err error) {
		if u.job != j || a.over {
			return // another has taken its place
		}
		u.job = nil
		a.ended(u, j, r, err)
		a.wake()
	})
}

// ended takes the outcome of a job.
func (a *Agent) ended(u *local, j *job, r env.JobResult, err error) {
	j.answer(restarted(u.name, r, err))
	switch {
	case err == nil && j.verb == env.JobStop:
		a.stopped(u, r)
	case err == nil:
		a.started(u, r)
	case errors.Is(err, env.ErrUnsent), errors.Is(err, env.ErrRefused) && j.verb != env.JobStop:
		a.failed(u, fmt.Errorf("%s: %w", j.verb, err))
	case j.verb != env.JobStop && planted.On(planted.UnknownStartMoved):
		u.have, u.forgotten = nil, true
		a.release(u)
	default:
		if j.verb != env.JobStop {
			a.env.Rare.Mark("agent: the outcome of a start is unknown")
		}
		u.doubt, a.doubts = true, true
		u.job = j // until it is known
		u.until = a.env.Clock.Now().Add(retryMin)
		a.env.Log.Log(env.Info, "units: the outcome of a job is unknown, the service manager is asked", "unit", u.name, "job", j.verb, "reason", err)
	}
}

// answer tells whoever waits for the job.
func (j *job) answer(err error) {
	if done := j.done; done != nil {
		j.done = nil
		done(err)
	}
}

func restarted(name string, r env.JobResult, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("agent: restart %s: %w", name, err)
	case r != env.JobDone:
		return fmt.Errorf("agent: restart %s: %s", name, r)
	}
	return nil
}

// started notes that systemd has done what it was told, however that ended: to try again
// is its business, by the unit's Restart=.
func (a *Agent) started(u *local, r env.JobResult) {
	u.launch()
	u.fault, u.failures, u.until = "", 0, 0
	if r != env.JobDone && r != env.JobFailed {
		u.outcome = "start: " + string(r)
	}
	a.note.save()
}

// launch notes that systemd has been told to start the unit.
func (u *local) launch() {
	u.mark.Launched, u.known = true, true
	if u.want != nil {
		u.mark.Since = u.want.Since
	}
}

func (a *Agent) stopped(u *local, r env.JobResult) {
	if r != env.JobDone {
		u.doubt, a.doubts = true, true
		a.failed(u, fmt.Errorf("stop: %s", r))
		return
	}
	u.halt()
	u.fault, u.failures, u.until = "", 0, 0
	a.note.save()
}

// halt notes that the unit has ended because it was told to.
func (u *local) halt() {
	u.halted, u.fresh, u.outcome = true, false, ""
	u.mark.Launched, u.mark.Begun = false, false
}

// followed takes what systemd tells by itself.
func (a *Agent) followed(changed []env.UnitStatus, err error) {
	switch {
	case a.over:
		return
	case err != nil:
		if !a.away {
			a.env.Log.Log(env.Warn, "units: the service manager cannot be reached, all units stay as they are", "reason", err)
		}
		a.away = true
		return
	case a.away || !a.told:
		if a.away {
			a.env.Log.Log(env.Info, "units: the service manager is back")
		}
		a.away, a.again, a.failures = false, 0, 0
		a.each(func(u *local) { u.until = 0 })
		a.tells++
		a.all(changed, a.tells)
	default:
		a.tells++
		for i := range changed {
			a.status(&changed[i])
		}
	}
	a.wake()
}

// status takes what systemd says of one unit. Of one that nobody knows of, or of another
// file than was written, it is asked: what it says may be older than what was done since.
func (a *Agent) status(s *env.UnitStatus) {
	u := a.units[s.Name]
	switch {
	case u == nil || u.have == nil && u.writing == "":
		a.doubts = true
	case u.forgotten:
	case u.have != nil && s.Hash != u.have.Hash && s.Hash != u.writing:
		a.doubts = true
	default:
		a.is(u, s)
	}
}

func (a *Agent) is(u *local, s *env.UnitStatus) {
	u.have, u.told = s, a.tells
	u.fresh = u.fresh && u.job != nil
	if mayRun(s) && u.job == nil {
		u.halted = false
	}
	if j := u.job; j != nil && j.verb == env.JobStart && !u.mark.Launched && (runs(s) || s.Job) {
		u.launch() // systemd has been told, whenever it will be done
		a.note.save()
	}
}

// all takes what systemd says of all units. What it told of one by itself since the
// number is newer.
func (a *Agent) all(list []env.UnitStatus, since uint64) {
	there := make(map[string]bool, len(list))
	for i := range list {
		s := &list[i]
		there[s.Name] = true
		u := a.local(s.Name)
		if u.forgotten || u.have != nil && u.told > since {
			continue
		}
		if !a.told {
			u.found = true
			u.state.doubt, u.launched.doubt = true, true
			if planted.On(planted.RestartRestartsUnits) {
				s.Hash = ""
			}
		}
		a.is(u, s)
	}
	a.each(func(u *local) {
		if u.have != nil && !there[u.name] && u.writing == "" && u.told <= since {
			u.gone()
		}
		a.resolve(u)
	})
	a.told = true
	a.note.save()
}

// resolve ends doubts about a unit by what systemd says of it, and jobs that it does not
// know of any more.
func (a *Agent) resolve(u *local) {
	j := u.job
	if j == nil {
		u.doubt = false
		return
	}
	old := a.env.Clock.Now().Sub(j.since) >= jobMax
	if !u.doubt && (!old || u.have != nil && u.have.Job) {
		return
	}
	u.job, u.doubt = nil, false
	j.answer(fmt.Errorf("agent: restart %s: nobody knows how it ended", u.name))
	switch {
	case u.have == nil:
	case j.verb == env.JobStop:
		if !mayRun(u.have) {
			u.halt()
		}
	case mayRun(u.have) || *u.have != j.was:
		u.launch()
	}
}

// ask asks systemd about all units.
func (a *Agent) ask() {
	if a.asking || a.changing || a.away || a.wait(a.again) {
		return
	}
	a.asking, a.doubts = true, false
	since := a.tells
	a.env.Systemd.Units(func(list []env.UnitStatus, err error) {
		a.asking = false
		switch {
		case a.over:
		case err != nil:
			a.doubts = true
			a.unsettled(err)
		default:
			a.failures = 0
			a.all(list, since)
			a.wake()
		}
	})
}

// clear has doubts resolved, also while nothing else can be done: a singleton may have to
// be stopped.
func (a *Agent) clear() {
	a.askAboutOldJobs()
	if a.doubts {
		a.ask()
	}
}

// askAboutOldJobs doubts jobs whose end is long in coming: it may have been missed.
func (a *Agent) askAboutOldJobs() {
	now := a.env.Clock.Now()
	a.each(func(u *local) {
		if u.job != nil && !a.wait(u.job.asked.Add(jobMax)) {
			u.job.asked = now
			a.doubts = true
		}
	})
}
