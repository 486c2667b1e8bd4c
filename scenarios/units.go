package scenarios

import (
	"cmp"
	"fmt"
	"path"
	"time"

	"github.com/keelson/keelson/cmd/cli/options"
	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/daemon"
	"github.com/keelson/keelson/core/fleet"
	"github.com/keelson/keelson/scenarios/script"
	"github.com/keelson/keelson/sim"
	"github.com/keelson/keelson/sim/check"
	"github.com/keelson/keelson/sim/systemd"
)

// library is the unit files that every scenario has.
var library = map[string]string{
	"hello.service": "[Unit]\nDescription=Hello World\n\n[Service]\nExecStart=/bin/bash -c \"while true; do echo \\\"Hello, world\\\"; sleep 1; done\"\n",
	"web@.service":  "[Unit]\nDescription=Web %i\n\n[Service]\nExecStart=/bin/bash -c \"while true; do echo web %i; sleep 1; done\"\n\n[X-Fleet]\nConflicts=web@*.service\n",
}

// runsUnits has the machines of a cluster run units, and looks at what they do.
func (r *runner) runsUnits(o map[string]string) func(*sim.Machine) *fleet.Config {
	if o["units"] != "on" {
		return nil
	}
	r.ttl, _ = time.ParseDuration(o["ttl"]) // checked by the parser; "" is the default
	for name, text := range library {
		r.shared[name] = []byte(text)
	}
	return func(m *sim.Machine) *fleet.Config {
		return &fleet.Config{TTL: r.ttl, Metadata: metadataOf(m)}
	}
}

// fleetOf is what a machine is told about units by flags; nil where machines run none. Its
// ID is read from a file only if one is named.
func (r *runner) fleetOf(m *sim.Machine, o *options.Units) *fleet.Config {
	if r.units == nil {
		return nil
	}
	f := o.Fleet
	f.TTL, f.NoAgent = cmp.Or(f.TTL, r.ttl), o.Manager == options.UnitsAPI
	if f.Metadata == nil {
		f.Metadata = metadataOf(m)
	}
	for _, other := range r.cluster.Machines() {
		if o.MachineIDFile == other.Name()+".machine-id" {
			f.Machine = other.MachineID()
		}
	}
	return &f
}

// metadataOf gives machines something to be told apart by: three zones, two kinds of
// disks, two regions.
func metadataOf(m *sim.Machine) map[string]string {
	n := int(m.ID() - 1)
	return map[string]string{
		"az": []string{"a", "b", "c"}[n%3], "disk": []string{"ssd", "hdd"}[n%2],
		"region": []string{"us-east", "us-east", "us-west"}[n%3],
	}
}

// watchUnits puts the oracles of units in place and counts starts.
func (r *runner) watchUnits(o map[string]string) {
	if o["units"] != "on" {
		return
	}
	r.units = check.WatchUnits(r.cluster, check.UnitsOptions{TTL: r.ttl})
	r.starts = map[string]int{}
	r.cluster.OnRan(func(_ *sim.Machine, e systemd.Ran) {
		if e.On {
			r.starts[e.Unit]++
		}
	})
}

func (r *runner) workers(d *script.Workers) error {
	if r.units == nil {
		return fmt.Errorf("machines of this cluster run no units: say units=on where it is made")
	}
	for i := range d.Count {
		m := r.cluster.AddMachine(fmt.Sprintf("w%d", i+1), daemon.Config{
			Bootstrap: bootstrap.Config{Proxy: bootstrap.On, InitialCluster: r.cluster.Founded()},
		})
		m.PowerOn()
	}
	return nil
}

func (r *runner) unitFile(d *script.UnitFile) error {
	r.shared[d.Name] = []byte(d.Text)
	return nil
}

func (r *runner) manager(d *script.Manager) error {
	m, err := r.machine(d.Who)
	if err != nil {
		return err
	}
	s := m.Systemd()
	switch d.What {
	case "away":
		s.Away()
	case "back":
		s.Back()
	case "slow":
		s.SetSlow(d.Slow)
	case "failing":
		s.SetFailing(true)
	case "sound":
		s.SetFailing(false)
		s.SetSlow(0)
	}
	return nil
}

func (r *runner) links(d *script.Links) error {
	c := sim.DefaultLink()
	c.Loss, c.Latency = d.Loss, max(c.Latency, d.Latency)
	r.cluster.Net().SetAll(c)
	return nil
}

func (r *runner) crash(d *script.Crash) error {
	m, err := r.machine(d.Who)
	if err == nil && !m.Systemd().Crash(d.Unit) {
		err = fmt.Errorf("%s does not run on %s", d.Unit, m.Name())
	}
	return err
}

// running counts the units that run and whose names a pattern fits, once for each
// machine.
func (r *runner) runningUnits(pattern string) (n int, on []*sim.Machine) {
	for _, m := range r.cluster.Machines() {
		for _, name := range m.Systemd().Running() {
			if ok, err := path.Match(pattern, name); ok && err == nil {
				n++
				on = append(on, m)
			}
		}
	}
	return n, on
}

// unitsHold asks the conditions about units.
func (r *runner) unitsHold(c script.Condition) bool {
	switch c.What {
	case "runs-on":
		n, on := r.runningUnits(c.Key)
		m, err := r.machine(c.Who)
		return err == nil && n == 1 && on[0] == m
	case "runs":
		n, _ := r.runningUnits(c.Key)
		return n == c.Max
	case "started":
		n := 0
		for name, starts := range r.starts {
			if ok, err := path.Match(c.Key, name); ok && err == nil {
				n += starts
			}
		}
		return n == c.Max
	case "settled":
		return r.units != nil && r.units.Unsettled() == ""
	case "machines":
		return r.units != nil && r.units.Machines() == c.Max
	}
	return false
}
