package fault

import (
	"time"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/sim"
)

// unitFamilies is the trouble that only matters where machines run units.
func unitFamilies() []Family {
	return []Family{
		{"managers", "service managers are out of reach, slow, or cannot write files", (*draw).managers},
		{"crashes", "units crash", (*draw).crashes},
		{"cordons", "an operator cordons machines and drains them", (*draw).cordons},
		{"exiles", "one machine is cut off from everybody for longer than its lease lasts", (*draw).exiles},
	}
}

// OfUnits says that a family only matters where machines run units.
func (f Family) OfUnits() bool {
	for _, u := range unitFamilies() {
		if u.Name == f.Name {
			return true
		}
	}
	return false
}

func unitVerbs() []verb {
	return []verb{
		{"away", "keep the daemon from reaching its service manager", one, false, nil, true, each(away)},
		{"slowunits", "make everything that the service manager does take longer", one, false, []param{{"by", isDuration, true}}, true, each(slowUnits)},
		{"unwritable", "let half of all writes and removals of unit files fail", one, false, nil, true, each(unwritable)},
		{"crash", "end the main process of a unit that runs", one, false, []param{{"nth", isCount, true}}, false, each(crash)},
		{"cordon", "have an operator cordon machines, or drain them; the end lets them take units again", one, false, []param{{"drain", isCount, false}}, true, each(cordon)},
	}
}

func (d *draw) managers() {
	d.strikes(func(at time.Duration) {
		switch d.IntN(5) {
		case 4: // it is lost while something is under way
			who, length := d.someone(), d.between(time.Second, 4*time.Second)
			d.add(at, "slowunits", length, who, durationArg("by", d.between(200*time.Millisecond, time.Second)))
			d.add(min(at+length/2, d.Until-time.Millisecond), "away", d.between(20*time.Millisecond, 5*time.Second), who)
		case 0:
			d.add(at, "slowunits", d.between(500*time.Millisecond, 10*time.Second), d.someone(), durationArg("by", d.between(5*time.Millisecond, 2*time.Second)))
		case 1:
			d.add(at, "unwritable", d.between(500*time.Millisecond, 10*time.Second), d.someone())
		default:
			d.add(at, "away", d.between(20*time.Millisecond, 15*time.Second), d.someone())
		}
	})
}

func (d *draw) crashes() {
	d.strikes(func(at time.Duration) {
		d.add(at, "crash", 0, d.someone(), countArg("nth", d.IntN(100)))
	})
}

func (d *draw) cordons() {
	d.calm = max(d.calm, 5*time.Second)
	d.strikes(func(at time.Duration) {
		d.add(at, "cordon", d.between(time.Second, 15*time.Second), d.someone(), countArg("drain", d.IntN(2)))
	})
}

// exiles lets machines alone one by one, so that all else goes on and their units move.
func (d *draw) exiles() {
	d.calm = max(d.calm, 5*time.Second)
	d.strikes(func(at time.Duration) { d.add(at, "isolate", d.between(3*time.Second, 15*time.Second), d.one()) })
}

func away(r *Runner, m *sim.Machine, _ *Action) func() {
	r.aways[m.ID()]++
	m.Systemd().Away()
	return func() {
		if r.aways[m.ID()]--; r.aways[m.ID()] == 0 {
			m.Systemd().Back()
		}
	}
}

func slowUnits(_ *Runner, m *sim.Machine, a *Action) func() {
	m.Systemd().SetSlow(a.duration("by"))
	return func() { m.Systemd().SetSlow(0) }
}

func unwritable(_ *Runner, m *sim.Machine, _ *Action) func() {
	m.Systemd().SetFailing(true)
	return func() { m.Systemd().SetFailing(false) }
}

func crash(_ *Runner, m *sim.Machine, a *Action) func() {
	nth, _ := a.integer("nth")
	if all := m.Systemd().Running(); len(all) > 0 {
		m.Systemd().Crash(all[nth%len(all)])
	}
	return nil
}

func cordon(r *Runner, m *sim.Machine, a *Action) func() {
	drain, _ := a.integer("drain")
	over := false
	r.wish(&wish{m, func(o *operator, m *sim.Machine) bool {
		if over {
			return true
		}
		_, err := o.units().Cordon(o.ctx(), m.MachineID(), drain > 0)
		return err == nil
	}})
	return func() {
		over = true
		r.wish(&wish{m, func(o *operator, m *sim.Machine) bool { return o.units().Uncordon(o.ctx(), m.MachineID()) == nil }})
	}
}

// units is the API, at all machines that the cluster ever had.
func (o *operator) units() *client.Units {
	return client.New(o.p, client.Options{Endpoints: o.r.c.Endpoints(), Timeout: wishPatience, Rounds: 1}).Units()
}

// endUnits lets every service manager be as it was.
func (r *Runner) endUnits(m *sim.Machine) {
	m.Systemd().Back()
	m.Systemd().SetSlow(0)
	m.Systemd().SetFailing(false)
}
