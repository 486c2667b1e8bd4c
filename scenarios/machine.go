package scenarios

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/keelson/keelson/cmd/cli/options"
	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/daemon"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/scenarios/script"
	"github.com/keelson/keelson/sim"
)

// machineMade carries out a machine statement.
func (r *runner) machineMade(d *script.Machine) error {
	m := r.cluster.AddMachine(d.Name, daemon.Config{})
	if d.Address != "" {
		a, err := netip.ParseAddr(d.Address)
		if err != nil {
			return err
		}
		m.SetAddress(a)
	}
	r.configure(m, &d.Start)
	m.PowerOn()
	return nil
}

// configure has a machine's daemon started with a command line from now on. One that
// is not understood ends each start, as it ends a process.
func (r *runner) configure(m *sim.Machine, s *script.Start) {
	args := r.filled(s.Flags)
	add := func(name, value string, unless ...string) {
		if !given(s, append(unless, name)...) {
			args = append([]string{"--" + name, value}, args...)
		}
	}
	add("name", m.Name())
	add("initial-advertise-peer-urls", "http://"+m.Name()+":2380", "peer-addr")
	add("advertise-client-urls", m.URL(), "addr")
	serve, err := options.Parse(options.Source{
		Args: args, Environ: r.filled(s.Environ), Lenient: true,
		ReadFile: func(name string) ([]byte, error) { return tool.Load(r.filesOf(m), name) },
	})
	if err != nil {
		r.cluster.Misconfigure(m, err)
		return
	}
	serve.Daemon.Mirror = []string{"/"} // of a proxy, so that there are mirrors to look at
	serve.Daemon.Fleet = r.fleetOf(m, &serve.Units)
	r.cluster.Configure(m, serve.Daemon)
}

// lastWord stands for the last line that the last command printed, such as the URL of
// a token.
const lastWord = "$last"

func (r *runner) filled(words []string) []string {
	var list []string
	for _, w := range words {
		list = append(list, strings.ReplaceAll(w, lastWord, r.last))
	}
	return list
}

// given says that a start has one of these options, as a flag or a variable.
func given(s *script.Start, names ...string) bool {
	for _, name := range names {
		variable := "ETCD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		for _, f := range s.Flags {
			if f, _, _ = strings.Cut(strings.TrimLeft(f, "-"), "="); f == name {
				return true
			}
		}
		if slices.ContainsFunc(s.Environ, func(e string) bool { return strings.HasPrefix(e, variable+"=") }) {
			return true
		}
	}
	return false
}

func (r *runner) restart(d *script.Restart) error {
	m, err := r.machine(d.Who)
	if err != nil {
		return err
	}
	if m.Up() {
		if err := r.stop(&script.Stop{Who: []string{d.Who}}); err != nil {
			return err
		}
	}
	if d.As {
		r.configure(m, &d.Start)
	}
	m.PowerOn()
	return nil
}

// focus has conditions speak of a machine's cluster.
func (r *runner) focusOn(d *script.Focus) error {
	m, err := r.machine(d.Who)
	if err == nil {
		r.cluster.Focus(m)
	}
	return err
}

func (r *runner) zone(d *script.Zone) error {
	z := r.cluster.Zone()
	switch d.What {
	case "srv":
		var records []env.Service
		for _, record := range d.Records {
			host, text, _ := strings.Cut(record, ":")
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				return fmt.Errorf("dns: %s: %w", record, err)
			}
			records = append(records, env.Service{Target: host, Port: uint16(port)})
		}
		z.SetServices(d.Name, records...)
	case "a":
		var records []netip.Addr
		for _, record := range d.Records {
			a, err := netip.ParseAddr(record)
			if err != nil {
				return fmt.Errorf("dns: %w", err)
			}
			records = append(records, a)
		}
		z.SetAddresses(d.Name, records...)
	case "slow":
		z.SetSlow(d.Slow)
	case "fails":
		z.SetFailing(true)
	case "works":
		z.SetFailing(false)
		z.SetSlow(0)
	}
	return nil
}

// role says that a machine's daemon is what a condition names.
func (r *runner) role(name, role string) bool {
	m, err := r.machine(name)
	d := sim.DaemonOf(m)
	if err != nil || d == nil {
		return false
	}
	switch role {
	case "proxy":
		return d.Proxy() != nil
	case "waiting":
		return d.Waiting() != ""
	}
	n := d.Member()
	if n == nil {
		return false
	}
	s := n.Status()
	list := s.Voters
	if role == "learner" {
		list = s.Learners
	}
	return slices.Contains(list, s.ID)
}

// refuses says that a machine's daemon ended by itself for a reason.
func (r *runner) refuses(name, why string) bool {
	m, err := r.machine(name)
	if err != nil || m.Up() || len(m.Exits()) == 0 {
		return false
	}
	last := m.Exits()[len(m.Exits())-1]
	return last.Err != nil && strings.Contains(last.Err.Error(), why)
}
