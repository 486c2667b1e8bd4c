package sim

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/sim/systemd"
)

// MachineID is what /etc/machine-id holds: 32 hex digits, made of the machine's number.
// The first eight tell machines apart.
func (m *Machine) MachineID() string { return fmt.Sprintf("%08x%024x", uint64(m.id), uint64(m.id)) }

// BootID is another one after each time that the power came on.
func (m *Machine) BootID() string { return fmt.Sprintf("%016x%016x", uint64(m.id), m.boots) }

// ByMachineID gives the machine of an ID, or nil.
func (w *World) ByMachineID(id string) *Machine {
	if len(id) < 8 {
		return nil
	}
	n, err := strconv.ParseUint(id[:8], 16, 64)
	if m := w.byID[env.NodeID(n)]; err == nil && m != nil && m.MachineID() == id {
		return m
	}
	return nil
}

// Systemd is the machine's service manager.
func (m *Machine) Systemd() *systemd.Manager { return m.manager }

// Reboot takes the power away and gives it back after d.
func (m *Machine) Reboot(d time.Duration) {
	m.PowerOff()
	boots := m.boots
	m.w.After(d, "reboot", func() {
		if m.boots == boots {
			m.PowerOn()
		}
	})
}

// unitHost is a machine as its service manager sees it.
type unitHost struct {
	m    *Machine
	rand *random
}

var _ systemd.Host = (*unitHost)(nil)

func (h *unitHost) Now() time.Duration               { return h.m.w.now }
func (h *unitHost) Wall() time.Time                  { return h.m.clock.Wall() }
func (h *unitHost) After(d time.Duration, fn func()) { h.m.w.push(h.m.w.now+d, call(fn)) }
func (h *unitHost) Name() string                     { return h.m.name }

// Rand is made when it is used: most worlds run no units.
func (h *unitHost) Rand() *rand.Rand {
	if h.rand == nil {
		h.rand = h.m.w.stream("systemd/" + strconv.FormatUint(uint64(h.m.id), 10))
	}
	return h.rand.Rand
}

func (h *unitHost) Asked(a systemd.Asked) {
	h.m.note(KindUnit, string(a.Verb)+" "+a.Unit, 0)
	for _, fn := range h.m.w.onAsked {
		fn(h.m, a)
	}
}

func (h *unitHost) Ran(r systemd.Ran) {
	text := r.Unit + " runs"
	if !r.On {
		text = r.Unit + " ended by " + r.Why
	}
	h.m.note(KindUnit, text, r.Start)
	for _, fn := range h.m.w.onRan {
		fn(h.m, r)
	}
}

// nodeSystemd is env.Systemd for one life of a node.
type nodeSystemd struct {
	m    *Machine
	life int
}

var _ env.Systemd = (*nodeSystemd)(nil)

// tell hands something to the node as an input, unless this life is over.
func (n *nodeSystemd) tell(fn func()) {
	if n.life == n.m.life && n.m.running {
		n.m.input(&answer{"systemd", fn})
	}
}

func (n *nodeSystemd) live() bool { return n.life == n.m.life }

// Units implements env.Systemd.
func (n *nodeSystemd) Units(done func([]env.UnitStatus, error)) {
	if n.live() {
		n.m.manager.Units(func(list []env.UnitStatus, err error) { n.tell(func() { done(list, err) }) })
	}
}

// Change implements env.Systemd.
func (n *nodeSystemd) Change(c env.UnitChange, done func([]env.UnitError, error)) {
	if n.live() {
		n.m.manager.Change(c, func(failed []env.UnitError, err error) { n.tell(func() { done(failed, err) }) })
	}
}

// Job implements env.Systemd.
func (n *nodeSystemd) Job(verb env.JobVerb, name string, done func(env.JobResult, error)) {
	if n.live() {
		n.m.manager.Job(verb, name, func(r env.JobResult, err error) { n.tell(func() { done(r, err) }) })
	}
}

// Follow implements env.Systemd.
func (n *nodeSystemd) Follow(fn func([]env.UnitStatus, error)) {
	if n.live() {
		n.m.manager.Follow(func(list []env.UnitStatus, err error) { n.tell(func() { fn(list, err) }) })
	}
}

// nodeJournal is env.Journal for one life of a node.
type nodeJournal nodeSystemd

var _ env.Journal = (*nodeJournal)(nil)

// Read implements env.Journal.
func (n *nodeJournal) Read(q env.JournalQuery, r env.JournalReceiver) (cancel func()) {
	s := (*nodeSystemd)(n)
	if !s.live() {
		return func() {}
	}
	x := &journalReader{s: s, r: r}
	stop := n.m.manager.Read(q, x)
	return func() {
		x.over = true
		stop()
	}
}

// journalReader hands lines to the node.
type journalReader struct {
	s    *nodeSystemd
	r    env.JournalReceiver
	over bool
}

func (x *journalReader) Chunk(p []byte) bool {
	x.s.tell(func() {
		if !x.over && !x.r.Chunk(p) {
			x.over = true
		}
	})
	return !x.over
}

func (x *journalReader) End(err error) {
	x.s.tell(func() {
		if !x.over {
			x.over = true
			x.r.End(err)
		}
	})
}

// Status implements env.Journal.
func (n *nodeJournal) Status(name string, done func(text []byte, code int, err error)) {
	s := (*nodeSystemd)(n)
	if s.live() {
		n.m.manager.Tell(name, func(text []byte, code int, err error) { s.tell(func() { done(text, code, err) }) })
	}
}

// RunsUnits says that the daemon of a machine runs, and was told to run units.
func RunsUnits(m *Machine) bool { return DaemonOf(m) != nil && m.fleet }
