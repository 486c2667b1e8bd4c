package chaos

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/daemon"
	"github.com/keelson/keelson/core/fleet"
	"github.com/keelson/keelson/sim"
	"github.com/keelson/keelson/sim/check"
	"github.com/keelson/keelson/sim/fault"
	"github.com/keelson/keelson/sim/systemd"
)

// unitsLoad is the name of the workload that has machines run units.
const unitsLoad = "units"

// fleetOf is how the machines of a run run units.
type fleetOf struct {
	ttl, reconcile time.Duration
	workers        []string // machines that are no members
	persistent     bool     // unit files outlive a reboot
	idle           string   // the machine whose engine is disabled, or ""
	noAgent        string   // the machine that runs no units, or ""
}

func (s *settings) drawFleet() {
	r := purpose(s.Seed, "fleet")
	f := &fleetOf{
		ttl:       pick(r, 3*time.Second, 3*time.Second, 5*time.Second, 10*time.Second),
		reconcile: pick(r, 500*time.Millisecond, 2*time.Second),
	}
	for i := range pick(r, 0, 1, 1, 2, 3) {
		f.workers = append(f.workers, fmt.Sprintf("k%d", i+1))
	}
	f.persistent = r.IntN(3) == 0
	if r.IntN(5) == 0 && len(s.names) > 1 && !slices.Contains(s.Families, "members") { // somebody must decide
		f.idle = s.names[r.IntN(len(s.names))]
	}
	if r.IntN(8) == 0 && len(f.workers) > 0 {
		f.noAgent = s.names[r.IntN(len(s.names))]
	}
	if slices.Contains(s.Workloads, unitsLoad) {
		s.fleet = f
	}
}

// config gives what a machine is told about units.
func (f *fleetOf) config(m *sim.Machine) *fleet.Config {
	if m.Life() == 1 {
		m.Systemd().SetOptions(systemd.Options{Persistent: f.persistent})
	}
	n := int(m.ID())
	return &fleet.Config{
		TTL: f.ttl, Reconcile: f.reconcile, DisableEngine: m.Name() == f.idle, NoAgent: m.Name() == f.noAgent,
		Metadata: map[string]string{"disk": []string{"ssd", "hdd"}[n%2], "zone": []string{"a", "b", "c"}[n%3]},
	}
}

// forWorkers is the families that strike machines which are no members too.
var forWorkers = []string{"kills", "stops", "power", "pauses", "isolation", "drift", "crash-loops", "slow-cpu", "jumps"}

// plan draws what happens: to the members, and where there are units to workers too.
func (s *settings) plan(shape fault.Shape) fault.Plan {
	members := slices.DeleteFunc(slices.Clone(s.families), fault.Family.OfUnits)
	if s.fleet == nil {
		return fault.Draw(s.Seed, shape, members)
	}
	plan := fault.Draw(s.Seed, shape, members)
	all := shape
	all.Machines = slices.Concat(shape.Machines, s.fleet.workers)
	plan = append(plan, fault.Draw(s.Seed, all, slices.DeleteFunc(slices.Clone(s.families), func(f fault.Family) bool { return !f.OfUnits() }))...)
	if len(s.fleet.workers) > 0 {
		all.Machines = s.fleet.workers
		plan = append(plan, fault.Draw(s.Seed+1, all, slices.DeleteFunc(slices.Clone(s.families), func(f fault.Family) bool { return !slices.Contains(forWorkers, f.Name) }))...)
	}
	slices.SortStableFunc(plan, func(a, b fault.Action) int { return int(a.At - b.At) })
	return plan
}

// openUnits adds the machines that are no members.
func openUnits(b *bench) {
	if b.fleet == nil || b.workers != nil {
		return
	}
	for _, name := range b.fleet.workers {
		m := b.c.AddMachine(name, daemon.Config{Bootstrap: bootstrap.Config{Proxy: bootstrap.On, InitialCluster: b.c.Founded()}})
		m.SetRestart(b.restart)
		m.PowerOn()
		b.workers = append(b.workers, m)
	}
}

// unitsOf is one client's units. Some names are shared by all clients.
type unitsOf struct {
	*caller
	lib  *client.Units
	base int
	// known is the desired state of units that nobody else changes, as acknowledged;
	// unsure is those of which a change may still be on its way.
	known  map[string]string
	unsure map[string]bool
}

// units is clients that submit, start, stop, replace and destroy units.
func units(c *caller) {
	o := c.patient()
	o.Endpoints = c.endpoints
	u := &unitsOf{caller: c, base: c.id, known: map[string]string{}, unsure: map[string]bool{}}
	u.lib = client.New(c.Proc, o).Units()
	for c.next() {
		u.act()
	}
}

func (u *unitsOf) act() {
	name, text := u.unit()
	switch u.draw(20) {
	case 0, 1, 2, 3, 4, 5, 6:
		u.put(name, text, "launched")
	case 7:
		u.put(name, text, "loaded")
	case 8, 9:
		u.put(name, "", "loaded")
	case 10:
		u.put(name, "", "inactive")
	case 11, 12:
		u.put(name, "", "launched")
	case 13, 14, 15:
		u.destroy(name)
	case 16:
		u.burst()
	case 17:
		u.look(name)
	case 18:
		_, _ = u.lib.Why(u.Context(), name)
		_, _ = u.lib.Plan(u.Context(), []client.Unit{{Name: name, Options: options(text), DesiredState: "launched"}})
	case 19:
		_, _ = u.lib.Rebalance(u.Context(), 1+u.draw(3), u.draw(2) == 0)
	}
}

// burst starts several units that conflict, and what belongs to them, at once.
func (u *unitsOf) burst() {
	for i := range 3 {
		name := fmt.Sprintf("web-%d@%d.service", u.base, i)
		u.put(name, u.text("Conflicts="+fmt.Sprintf("web-%d@*.service", u.base)), "launched")
		u.put(fmt.Sprintf("side-%d@%d.service", u.base, i), u.text("MachineOf="+name), "launched")
	}
}

// unit draws a unit and its file.
func (u *unitsOf) unit() (name, text string) {
	i := u.draw(3)
	switch u.draw(9) {
	case 0:
		return fmt.Sprintf("web-%d@%d.service", u.base, i), u.text(fmt.Sprintf("Conflicts=web-%d@*.service", u.base))
	case 1:
		return fmt.Sprintf("side-%d@%d.service", u.base, i), u.text(fmt.Sprintf("MachineOf=web-%d@%d.service", u.base, i))
	case 2:
		if i == 0 {
			return fmt.Sprintf("glob-%d.service", u.base), u.text("Global=true", "MachineMetadata=disk=ssd")
		}
		return fmt.Sprintf("glob-%d.service", u.base), u.text("Global=true")
	case 3, 4:
		return fmt.Sprintf("one-%d-%d.service", u.base, i), "[Service]\nExecStart=/bin/sleep infinity\n" + u.version() + "\n[X-Fleet]\nSingleton=true\n"
	case 5:
		return fmt.Sprintf("ssd-%d.service", u.base), u.text("MachineMetadata=disk=ssd")
	case 6, 7: // shared by all clients
		return fmt.Sprintf("x-%d.service", u.draw(6)), u.text("Conflicts=x-*.service")
	}
	return fmt.Sprintf("app-%d-%d.service", u.base, i), u.text()
}

// text is a unit file: mostly of what runs for ever, sometimes of what does not.
func (u *unitsOf) text(fleet ...string) string {
	service := "ExecStart=/bin/sleep infinity\n"
	switch u.draw(16) {
	case 0:
		service = "ExecStart=/bin/sleep 3\nRestart=always\n"
	case 1:
		service = "ExecStart=/bin/false\n"
	case 2:
		service = "ExecStartPre=/bin/sleep 2\nExecStart=/bin/sleep infinity\n"
	case 3:
		service = "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
	case 4:
		service = "ExecStartPre=/bin/sleep 100\nTimeoutStartSec=4\nExecStart=/bin/sleep infinity\n"
	case 5:
		service = "ExecStart=/bin/sh -c \"trap '' TERM; sleep infinity\"\nTimeoutStopSec=3\n"
	}
	text := "[Service]\n" + service + u.version()
	if len(fleet) > 0 {
		text += "\n[X-Fleet]\n" + strings.Join(fleet, "\n") + "\n"
	}
	if u.draw(8) == 0 {
		text += "\n[Install]\nWantedBy=multi-user.target\n"
	}
	return text
}

// version makes a few different files of one.
func (u *unitsOf) version() string { return fmt.Sprintf("Environment=VERSION=%d\n", u.draw(2)) }

// shared says that other clients change the unit too.
func shared(name string) bool { return strings.HasPrefix(name, "x-") }

func (u *unitsOf) put(name, text, state string) {
	u.done(name, state, u.lib.Put(u.Context(), &client.Unit{Name: name, Options: options(text), DesiredState: state}))
}

func (u *unitsOf) destroy(name string) { u.done(name, "", u.lib.Delete(u.Context(), name)) }

// done notes what came of a change, and looks whether others see it.
func (u *unitsOf) done(name, state string, err error) {
	var refused *client.UnitError
	switch {
	case errors.As(err, &refused) && refused.Status < 500:
	case err != nil:
		u.unsure[name] = true
	default:
		u.known[name] = state
		if u.draw(3) == 0 {
			u.look(name)
		}
	}
}

// look reads a unit: what was acknowledged is seen by every later request.
func (u *unitsOf) look(name string) {
	want, known := u.known[name]
	have, err := u.lib.Get(u.Context(), name)
	switch {
	case err != nil || !known || u.unsure[name] || shared(name):
	case have == nil && want != "":
		u.c.Fail(check.UnitsAPI, "%s was acknowledged as %s and is not there", name, want)
	case have != nil && have.DesiredState != want:
		u.c.Fail(check.UnitsAPI, "%s is wanted to be %q, but %q was acknowledged", name, have.DesiredState, want)
	}
}

// options is a unit file as the API takes it; nil for an empty one.
func options(text string) (list []client.UnitOption) {
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
		} else if name, value, ok := strings.Cut(line, "="); ok {
			list = append(list, client.UnitOption{Section: section, Name: name, Value: value})
		}
	}
	return list
}

// uncordon lets every machine take units again.
func (r *run) uncordon() bool {
	var last error
	p := r.c.Spawn("uncordon", func(p *sim.Proc) {
		lib := client.New(p, client.Options{Endpoints: r.c.Endpoints(), Timeout: 3 * time.Second, Total: 20 * time.Second}).Units()
		var all []client.Machine
		if all, last = lib.Machines(p.Context(), true); last != nil {
			return
		}
		for _, m := range all {
			if m.Cordon == "" {
				continue
			}
			if last = lib.Uncordon(p.Context(), m.ID); last != nil {
				return
			}
		}
	})
	if r.c.Await(p, time.Minute) && last != nil {
		r.c.Fail(check.Liveness, "in calm machines cannot be uncordoned: %v", last)
	}
	return r.c.Failure() == nil
}

// settle has everything about units come right.
func (r *run) settle(b check.Bounds) bool {
	return r.fleet == nil || r.uncordon() && r.units.Settled(b)
}
