package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/unit"
	"github.com/keelson/keelson/sim"
)

// Bounds of what must come true of units in calm: leases of machines that are gone run
// out, managers that hang give up, and everybody looks again.
const (
	settleMost = 90 * time.Second
	stillFor   = 5 * time.Second
)

// Settled waits until what runs is what is decided, what is decided is what is wanted,
// and what is said is true; then decisions must stand still.
func (u *Units) Settled(b Bounds) bool {
	b.fill()
	most := settleMost + 3*u.o.TTL
	if !wait(u.c, most, func() bool { return u.Unsettled() == "" || u.absent() }) {
		if u.c.Failure() == nil {
			u.c.Fail(Strays, "%v after the end of trouble: %s", most, u.Unsettled())
		}
		return false
	}
	if u.absent() {
		return true
	}
	before := u.Moved
	if !u.c.RunFor(stillFor) {
		return false
	}
	if u.Moved > before {
		return fail(u.c, "units still move in calm: the last at %v", u.Moved)
	}
	if why := u.Unsettled(); why != "" {
		u.c.Fail(Strays, "in calm: %s", why)
		return false
	}
	return true
}

// absent says that there is a member that nobody has started. It may be of an older
// version for all that the others know, so that no engine decides.
func (u *Units) absent() bool {
	leader := u.c.Leader()
	if leader == nil {
		return false
	}
	st := sim.NodeOf(leader).Status()
	return slices.ContainsFunc(slices.Concat(st.Voters, st.Learners), func(id env.NodeID) bool {
		m := u.c.ByMember(id)
		return m == nil || sim.NodeOf(m) == nil || sim.NodeOf(m).ID() != id
	})
}

// Unsettled says what is not as it should be, or "".
func (u *Units) Unsettled() string {
	alive := map[string]bool{}
	for _, m := range u.c.Machines() {
		if !m.Up() || !sim.RunsUnits(m) || sim.NodeOf(m) != nil && !u.c.IsMember(m) {
			continue // it was taken out of the cluster, or is not ready to tell
		}
		alive[m.MachineID()] = true
		if record, _ := u.p.machine(m.MachineID()); record == nil {
			return m.Name() + " is up and has no record"
		}
		if why := u.strays(m); why != "" {
			return why
		}
	}
	for _, id := range u.p.below("machines") {
		record, _ := u.p.machine(id)
		switch {
		case record != nil && !alive[id]:
			return "the record of machine " + id + ", which is gone, is still there"
		case record == nil && len(u.p.assigned(id)) > 0:
			return "units are assigned to machine " + id + ", which is gone"
		}
	}
	for _, name := range u.p.below("job") {
		if why := u.unplaced(name); why != "" {
			return why
		}
	}
	return u.leftovers(alive)
}

// Machines counts the machines that the registry knows.
func (u *Units) Machines() (n int) {
	for _, id := range u.p.below("machines") {
		if m, _ := u.p.machine(id); m != nil {
			n++
		}
	}
	return n
}

// strays compares a machine with what it is to do.
func (u *Units) strays(m *sim.Machine) string {
	wants := u.wants[m.MachineID()]
	seen := map[string]bool{}
	for _, s := range m.Systemd().Status() {
		seen[s.Name] = true
		w := wants[s.Name]
		switch {
		case w == nil || w.state == "":
			return fmt.Sprintf("the file of %s lies on %s, which is not to have it", s.Name, m.Name())
		case s.Hash != w.hash:
			return fmt.Sprintf("%s on %s has another file than was decided", s.Name, m.Name())
		case w.state == unit.Launched && lasting(m.Systemd().Text(s.Name)) && s.Active != "active" && s.Result != "signal":
			return fmt.Sprintf("%s on %s is to run and is %s %s (%s)", s.Name, m.Name(), s.Active, s.Sub, s.Result)
		case w.state == unit.Loaded && m.Systemd().Runs(s.Name) && !enabled(m, s.Name):
			return fmt.Sprintf("%s on %s is not to run and does", s.Name, m.Name())
		}
		if why := u.untrue(m, s); why != "" {
			return why
		}
	}
	for _, name := range m.Systemd().Running() {
		if w := wants[name]; w == nil || w.state == "" || w.state == unit.Loaded && !enabled(m, name) {
			return fmt.Sprintf("%s runs on %s, which is not to run it", name, m.Name())
		}
	}
	for _, name := range sortedKeys(wants) {
		if wants[name].state != "" && !seen[name] {
			return fmt.Sprintf("%s is to be on %s and is not", name, m.Name())
		}
	}
	return ""
}

// enabled says that systemd may start a unit by itself.
func enabled(m *sim.Machine, name string) bool {
	return strings.Contains(m.Systemd().Text(name), "[Install]")
}

// lasting says that a unit runs until it is stopped.
func lasting(text string) bool {
	if strings.Contains(text, "TimeoutStartSec") {
		return false // it may be too slow
	}
	return strings.Contains(text, "\nExecStart=/bin/sleep infinity") || strings.Contains(text, "while true")
}

// untrue compares what the registry says of a unit with what systemd does.
func (u *Units) untrue(m *sim.Machine, s env.UnitStatus) string {
	l, ok := u.p.get("states", s.Name, m.MachineID())
	if !ok {
		return fmt.Sprintf("nothing is said of %s on %s", s.Name, m.Name())
	}
	said, err := registry.DecodeState(s.Name, m.MachineID(), l.value)
	if err != nil {
		return err.Error()
	}
	if s.Job || s.Active == "activating" || s.Active == "deactivating" {
		return "" // it is about to be another
	}
	if !lasting(m.Systemd().Text(s.Name)) {
		return "" // what changes all the time is told now and then
	}
	if why := u.unmarked(m, s); why != "" {
		return why
	}
	if said.Active != s.Active || said.Sub != s.Sub || said.Load != s.Load {
		return fmt.Sprintf("%s on %s is said to be %s %s %s and is %s %s %s", s.Name, m.Name(), said.Load, said.Active, said.Sub, s.Load, s.Active, s.Sub)
	}
	return ""
}

// unmarked says that the mark that a unit was launched is not that of its machine: then it
// is shown as loaded.
func (u *Units) unmarked(m *sim.Machine, s env.UnitStatus) string {
	w := u.wants[m.MachineID()][s.Name]
	if _, own := u.p.get("machines", m.MachineID(), "units", s.Name); !own || w.state != unit.Launched || s.Active != "active" {
		return "" // that of a global unit nobody marks
	}
	if mark, _ := u.p.get("job", s.Name, "job-state"); mark.value != m.MachineID() {
		return fmt.Sprintf("%s runs on %s as decided and is marked as launched by %q", s.Name, m.Name(), mark.value)
	}
	return ""
}

// unplaced says that a unit should be somewhere and is nowhere, although a machine
// could take it.
func (u *Units) unplaced(name string) string {
	if _, ok := u.p.get("job", name, "object"); !ok {
		return "of " + name + ", which was destroyed, something is left: " + strings.Join(u.p.below("job", name), " ")
	}
	state, _ := u.p.get("job", name, "target-state")
	target, placed := u.p.get("job", name, "target")
	wanted := state.value == string(unit.Loaded) || state.value == string(unit.Launched)
	switch {
	case placed && !wanted:
		return fmt.Sprintf("%s is %s and is still placed on %s", name, state.value, target.value)
	case !wanted:
		return ""
	}
	raw, place := u.contents(name)
	if place == nil || place.Global && slices.ContainsFunc(u.p.globals(), named(name)) {
		return ""
	}
	if place.Global {
		return name + " is global and no machine is told"
	}
	if placed {
		d, ok := u.p.get("machines", target.value, "units", name)
		if !ok {
			return fmt.Sprintf("%s is placed on %s, which is not told", name, target.value)
		}
		a, err := registry.DecodeAssignment(name, d.value)
		if err != nil || a.Raw != raw || string(a.State) != state.value {
			return fmt.Sprintf("machine %s is told something else of %s than what is wanted", target.value, name)
		}
		return ""
	}
	for _, m := range u.p.below("machines") {
		if u.able(m, name, place) {
			return fmt.Sprintf("%s is placed nowhere, although machine %s could take it", name, m)
		}
	}
	return ""
}

// contents gives the file of a unit as it was submitted.
func (u *Units) contents(name string) (raw string, place *unit.Placement) {
	object, _ := u.p.get("job", name, "object")
	_, hash, err := registry.DecodeObject(object.value)
	if err != nil {
		return "", nil
	}
	l, _ := u.p.get("unit", hash.String())
	raw, err = registry.DecodeContents(l.value)
	if err != nil {
		return "", nil
	}
	f, err := unit.Parse(raw, 1<<20)
	if err != nil {
		return raw, nil
	}
	if place, err = f.Placement(name); err != nil {
		return raw, nil
	}
	return raw, place
}

// able says that a machine could take a unit right now.
func (u *Units) able(id, name string, place *unit.Placement) bool {
	m, _ := u.p.machine(id)
	if m == nil || m.Cordon != "" || place.MachineID != "" && place.MachineID != id && place.MachineID != id[:8] || !metadata(place.Metadata, m.Metadata) {
		return false
	}
	if len(place.Resources) > 0 || place.MaxPerMachine > 0 || len(place.Replaces) > 0 {
		return false // it is for the scheduler's own tests to tell
	}
	me := &doc{Assignment: &registry.Assignment{Name: name}, place: place}
	docs := u.p.assigned(id)
	for _, g := range u.p.globals() {
		if admits(g, id, m, docs, nil) {
			docs = append(docs, g)
		}
	}
	for _, d := range docs {
		if conflicts(me, d) || d.place != nil && fitsAny(d.place.Replaces, name) {
			return false
		}
	}
	for _, peer := range place.Peers {
		if !slices.ContainsFunc(docs, named(peer)) {
			return false
		}
	}
	claim, held := u.p.get("job", name, "claim")
	return !held || claim.value == id
}

// leftovers says what nobody needs any more and is still there.
func (u *Units) leftovers(alive map[string]bool) string {
	used := map[string]bool{}
	for _, name := range u.p.below("job") {
		object, _ := u.p.get("job", name, "object")
		if _, hash, err := registry.DecodeObject(object.value); err == nil {
			used[hash.String()] = true
		}
		for _, by := range []string{"claim", "job-state"} {
			if l, ok := u.p.get("job", name, by); ok && !alive[l.value] {
				return fmt.Sprintf("the %s of %s is that of machine %s, which is gone", by, name, l.value)
			}
		}
	}
	for _, hash := range u.p.below("unit") {
		if !used[hash] {
			return "the contents " + hash + ", which no unit has, are still there"
		}
	}
	for _, name := range u.p.below("states") {
		for _, id := range u.p.below("states", name) {
			if w := u.wants[id][name]; !alive[id] || w == nil || w.state == "" {
				return fmt.Sprintf("a state of %s on machine %s is said, which is not to have it", name, id)
			}
		}
	}
	for _, name := range u.p.below("moves") {
		if _, ok := u.p.get("job", name, "object"); !ok {
			return "a move of " + name + ", which was destroyed, is still asked for"
		}
	}
	return ""
}
