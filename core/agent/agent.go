package agent

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/sched"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// Agent makes the units of one machine what the registry says.
type Agent struct {
	cfg    Config
	env    *env.Env
	src    control.Source
	note   *note
	lease  *lease
	out    *outbox
	reader reader
	units  map[string]*local
	names  []string // of units, sorted; nil where that has to be done
	cancel []func()

	// A pass runs in a turn of its own, soon after something happened or at timerAt.
	woken   bool
	timer   env.Timer
	timerAt env.Instant

	confirmed bool // a view was as new as all that was acknowledged
	unread    bool // the view may say something else than when it was read last
	told      bool // systemd has told of all units in this life
	away      bool // systemd cannot be reached
	changing  bool // files are being changed
	asking    bool // systemd is being asked about all units
	doubts    bool // and has to be again
	again     env.Instant
	failures  int         // of requests to systemd, in a row
	patience  env.Instant // until when nothing that runs is unloaded
	settle    env.Instant // until when a change of files waits for units that end
	tells     uint64      // counts what systemd tells by itself

	draining  func() // what Stop waits for
	drainedBy env.Instant
	leaving   func() // what waits for the end
	over      bool
}

// local is one unit, as far as this machine goes.
type local struct {
	name string
	want *Wanted         // nil: not wanted here
	have *env.UnitStatus // nil: no file here
	mark mark            // what the note says
	// known says that mark tells of what is here, and not only of what should be.
	known bool
	found bool // its file lay there before this life
	// strange says that nobody knows what its file says.
	strange bool

	job     *job
	told    uint64 // the last of Agent.tells that was about it
	halted  bool   // a job to stop it is done, whatever was told of it before
	fresh   bool   // it was started, and nothing was told of it since that job ended
	writing string // hash of the file under way
	doubt   bool   // systemd has to be asked what became of it
	outcome string // of the last start, where it is none that the status shows

	fault    string // why what should be done was not, "" if nothing went wrong
	waits    string // what its start waits for
	failures int
	until    env.Instant // when it is tried again

	unreadable bool // what is decided cannot be read: nothing is done
	forgotten  bool // by a planted bug

	number          uint64 // of the note that names it
	claim           claim
	state, launched own
	shown           registry.UnitState
}

// Open starts the agent of this machine. It touches no unit before it has read, at an
// index that somebody confirmed, what is decided, and is registered.
func Open(cfg Config, e *env.Env, src control.Source) (*Agent, error) {
	if cfg.Machine == "" || cfg.Boot == "" {
		return nil, fmt.Errorf("agent: machine %q, boot %q: both are needed", cfg.Machine, cfg.Boot)
	}
	if e.Systemd == nil {
		return nil, errors.New("agent: this machine has no service manager to run units with")
	}
	cfg.fill()
	a := &Agent{cfg: cfg, env: e, src: src, unread: true, units: make(map[string]*local), reader: reader{lineMax: cfg.LineMax}}
	a.note = openNote(e, cfg.Boot)
	a.note.content, a.note.saved = a.text, a.noteSaved
	a.out = &outbox{a: a}
	a.lease = &lease{a: a}
	a.lease.begin()
	a.remember()
	a.note.save()
	a.cancel = []func(){
		src.Follow(cfg.Keys.Machine(cfg.Machine), a.machineChanged),
		src.Follow(path.Dir(cfg.Keys.Global("x")), func([]*store.Event) { a.reread() }),
	}
	e.Systemd.Follow(a.followed)
	return a, nil
}

// remember takes over what the former life has left in its note.
func (a *Agent) remember() {
	for _, name := range slices.Sorted(maps.Keys(a.note.former)) {
		u := a.local(name)
		u.mark = a.note.former[name]
		u.known, u.found = true, true
		u.mark.Launched = u.mark.Launched && a.note.sameBoot
		u.mark.Begun = u.mark.Begun && a.note.sameBoot
		late := a.env.Clock.Now().Add(lateMax) // a write of that life may still be under way
		u.claim.maybe, u.claim.late = u.mark.Fenced, late
		for _, k := range []*own{&u.state, &u.launched} {
			k.doubt, k.late = true, late
		}
	}
}

func (a *Agent) local(name string) *local {
	u := a.units[name]
	if u == nil {
		u = &local{name: name}
		a.units[name], a.names = u, nil
		u.number = a.note.soon()
	}
	return u
}

// each calls fn with every unit, sorted by name.
func (a *Agent) each(fn func(*local)) {
	if a.names == nil {
		a.names = slices.Sorted(maps.Keys(a.units))
	}
	for _, name := range a.names {
		fn(a.units[name])
	}
}

// text is the note as it should be now.
func (a *Agent) text() noteText {
	t := noteText{Format: noteFormat, Instance: a.note.instance, Boot: a.cfg.Boot, Unsure: a.lease.epoch == 0, Units: make(map[string]mark)}
	a.each(func(u *local) { t.Units[u.name] = u.mark })
	return t
}

// noteSaved begins to register once it is durable who we are.
func (a *Agent) noteSaved() {
	if a.over {
		a.left()
		return
	}
	if a.lease.number == 0 && a.note.has(1) {
		a.lease.beat()
	}
	a.wake()
}

// Set takes what the machine says of itself from now on. Its record follows.
func (a *Agent) Set(f Facts) {
	a.cfg.Facts = f.clone()
	if a.lease.number > 0 && !a.lease.over && a.lease.text != a.lease.record() {
		a.lease.soon()
	}
	a.reread()
}

// Ready is nil while the machine is registered, or why it is not.
func (a *Agent) Ready() error { return a.lease.ready() }

var errNotYet = errors.New("agent: this machine is not registered yet")

func (a *Agent) machineChanged(events []*store.Event) {
	object := a.cfg.Keys.MachineObject(a.cfg.Machine)
	news := events == nil
	for _, e := range events {
		news = news || e.Node.Key != object
		if e.Node.Deleted && a.lease.state == held {
			a.lease.soon()
		}
		if !e.Refresh {
			a.wake()
		}
	}
	if news {
		a.reread()
	}
}

// reread has the view read again.
func (a *Agent) reread() {
	a.unread = true
	a.wake()
}

// confirmedView notes that the view is as new as all that was acknowledged.
func (a *Agent) confirmedView() {
	a.confirmed = true
	a.reread()
}

// registered follows a record that was created, or taken over.
func (a *Agent) registered() {
	a.note.save()
	if a.lease.epoch > 1 { // what others removed meanwhile
		a.each(func(u *local) {
			for _, k := range []*own{&u.state, &u.launched} {
				if k.want != "" {
					a.out.anew(k)
				}
			}
		})
	}
	a.reread()
}

// wake has a pass run in a later turn.
func (a *Agent) wake() {
	if !a.woken && !a.over {
		a.woken = true
		a.env.Clock.After(0, a.pass)
	}
}

// wakeAt has a pass run at t at the latest.
func (a *Agent) wakeAt(t env.Instant) {
	if a.over || a.timer != nil && a.timerAt <= t {
		return
	}
	if a.timer != nil {
		a.timer.Stop()
	}
	a.timerAt = t
	a.timer = a.env.Clock.After(t.Sub(a.env.Clock.Now()), func() {
		a.timer = nil
		a.wake()
	})
}

// wait says that t is to come, and has a pass run then.
func (a *Agent) wait(t env.Instant) bool {
	if a.env.Clock.Now() >= t {
		return false
	}
	a.wakeAt(t)
	return true
}

// acting says that the agent knows what is decided and what is here, and is who it says.
func (a *Agent) acting() bool {
	return a.told && a.confirmed && a.lease.epoch > 0 && a.lease.clash == nil && a.src.View() != nil
}

// pass looks at everything and does what can be done now. It never waits.
func (a *Agent) pass() {
	a.woken = false
	if a.over {
		return
	}
	if a.told {
		a.fence()
		a.clear()
	}
	if a.acting() {
		a.decide()
		a.adopt()
		a.claims()
		a.work()
		a.each(a.report)
		a.out.pump()
		a.tidy()
	}
	a.drained()
}

// get gives a key of the view, or nil.
func (a *Agent) get(key string) *store.Node {
	v := a.src.View()
	if v == nil {
		return nil
	}
	n, err := v.Get(key, true)
	if err != nil {
		return nil
	}
	return n
}

// decide reads the view, if it may have changed.
func (a *Agent) decide() {
	if !a.unread || !a.acting() {
		return
	}
	a.unread = false
	unreadable := make(map[string]bool)
	assigned := a.assignments(path.Dir(a.cfg.Keys.Assignment(a.cfg.Machine, "x")), unreadable)
	globals := a.assignments(path.Dir(a.cfg.Keys.Global("x")), unreadable)
	wanted := Want(assigned, globals, a.me())
	storeAway := a.env.Clock.Now() > a.lease.confirmed.Add(a.cfg.TTL)
	if a.draining != nil || planted.On(planted.StopWhenStoreAway) && storeAway {
		wanted, unreadable = nil, nil
	}
	here := make(map[string]*Wanted, len(wanted))
	for i := range wanted {
		here[wanted[i].Name] = &wanted[i]
		a.local(wanted[i].Name)
	}
	a.each(func(u *local) {
		u.unreadable = unreadable[u.name]
		if !u.unreadable {
			u.decided(here[u.name])
		}
	})
	a.reader.forget()
	a.note.write()
}

// assignments reads the documents of a directory. Of one that cannot be read it is
// noted that nothing is known.
func (a *Agent) assignments(dir string, unreadable map[string]bool) (list []Wanted) {
	n := a.get(dir)
	if n == nil {
		return nil
	}
	for _, doc := range n.Nodes {
		name := path.Base(doc.Key)
		s, err := registry.DecodeAssignment(name, doc.Value)
		switch err = cmp.Or(unit.CheckName(name), err); {
		case doc.Dir:
		case err != nil:
			if !unreadable[name] {
				a.env.Log.Log(env.Warn, "units: a decision cannot be read, the unit is let alone", "unit", name, "reason", err)
			}
			unreadable[name] = true
		default:
			list = append(list, a.reader.read(*s))
		}
	}
	return list
}

// me is this machine as far as global units go.
func (a *Agent) me() sched.Machine {
	meta := maps.Clone(a.cfg.Facts.Metadata)
	if meta == nil {
		meta = make(map[string]string)
	}
	if n := a.get(path.Dir(a.cfg.Keys.Metadata(a.cfg.Machine, "x"))); n != nil {
		for _, kv := range n.Nodes {
			meta[path.Base(kv.Key)] = kv.Value
			if kv.Value == "" {
				delete(meta, path.Base(kv.Key))
			}
		}
	}
	return sched.Machine{ID: a.cfg.Machine, Metadata: meta, Capacity: a.cfg.Facts.Capacity}
}

// decided takes a decision. Where it is a new one, what went wrong with the last is
// forgotten.
func (u *local) decided(w *Wanted) {
	if w == nil != (u.want == nil) || w != nil && (w.Hash != u.want.Hash || w.State != u.want.State || w.Since != u.want.Since) {
		u.fault, u.waits, u.failures, u.until = "", "", 0, 0
	}
	u.want = w
}

// adopt brings what is here under the decisions in force. One of which the note tells
// nothing counts as launched if it runs or has failed: it was, by somebody who cannot be
// asked any more. By a newer decision to launch it is started in any case: that changes
// nothing for a unit that runs, but overtakes a stop that a former life may have sent.
func (a *Agent) adopt() {
	changed := false
	a.each(func(u *local) {
		if u.have == nil || u.job != nil || u.doubt {
			return
		}
		launched, w := u.mark.Launched, u.want
		mine := w != nil && w.State == unit.Launched && w.Hash == u.have.Hash
		switch {
		case !u.known:
			u.known, u.strange = true, !mine
			u.mark = mark{Launched: mayRun(u.have) || u.have.Active == "failed" && !a.note.found, Fenced: u.mark.Fenced}
			launched = !u.mark.Launched // has to be noted
			if mine {
				u.mark.Since, u.mark.Rules = w.Since, rules(w.Place)
			}
		case mine && w.Since > u.mark.Since:
			u.mark.Launched = false
		}
		changed = changed || launched != u.mark.Launched
	})
	if changed {
		a.note.save()
	}
}

// tidy forgets units that nothing is left of, here and in the store.
func (a *Agent) tidy() {
	var gone []string
	a.each(func(u *local) {
		if u.want == nil && !u.forgotten && u.have == nil && u.job == nil && !u.unreadable && u.writing == "" && !u.claim.maybe && !u.claim.flying &&
			u.state.settled() && u.launched.settled() {
			gone = append(gone, u.name)
		}
	})
	if len(gone) == 0 {
		return
	}
	for _, name := range gone {
		delete(a.units, name)
	}
	a.names = nil
	a.note.save()
}

// Restart has systemd restart a unit that is launched here, and calls done, in a later
// turn, when that is over.
func (a *Agent) Restart(name string, done func(error)) {
	u := a.units[name]
	refuse := func(why string) {
		a.env.Clock.After(0, func() { done(fmt.Errorf("agent: restart %s: %s", name, why)) })
	}
	switch {
	case u == nil || u.want == nil || u.have == nil || u.want.State != unit.Launched || !u.mark.Launched:
		refuse("it is not launched here")
	case a.away:
		refuse("the service manager cannot be reached")
	case u.job != nil || u.doubt || a.changing || !a.acting():
		refuse("something else is under way, try again")
	case u.want.Fenced() && !(u.claim.held && a.lease.valid()):
		refuse("it is a singleton, and this machine's hold on it is not certain")
	default:
		a.begin(u, env.JobRestart, done)
	}
}

// drainMax bounds how long Stop waits for units to end.
const drainMax = 90 * time.Second

// Stop ends the agent in order and calls done once, in a later turn: units stay as they
// are or, where Config.Drain is set, are unloaded and the machine's record is removed.
func (a *Agent) Stop(done func()) {
	if !a.cfg.Drain || !a.acting() {
		a.end()
		a.leaving = done
		a.env.Clock.After(noteMax, a.leave)
		a.left()
		return
	}
	a.draining = done
	a.drainedBy = a.env.Clock.Now().Add(drainMax)
	a.reread()
}

// noteMax is how long Stop waits for the note to be durable.
const noteMax = 2 * time.Second

// left ends Stop when what was done is noted.
func (a *Agent) left() {
	if a.note.has(a.note.asked) {
		a.env.Clock.After(0, a.leave)
	}
}

func (a *Agent) leave() {
	if done := a.leaving; done != nil {
		a.leaving = nil
		done()
	}
}

// drained ends a drain when nothing is left, or that has taken too long.
func (a *Agent) drained() {
	if a.draining == nil || len(a.units) > 0 && a.wait(a.drainedBy) {
		return
	}
	if len(a.units) > 0 {
		names := slices.Sorted(maps.Keys(a.units))
		a.env.Log.Log(env.Warn, "units: not all could be unloaded in time", "units", strings.Join(names, " "))
	}
	done := a.draining
	a.end()
	a.lease.release(func() { a.env.Clock.After(0, done) })
}

func (a *Agent) end() {
	a.over = true
	a.lease.stop()
	if a.timer != nil {
		a.timer.Stop()
	}
	for _, cancel := range a.cancel {
		cancel()
	}
}
