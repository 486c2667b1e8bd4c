package chaos

import (
	"fmt"
	"time"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/daemon"
	"github.com/keelson/keelson/core/fleet"
	"github.com/keelson/keelson/sim"
	"github.com/keelson/keelson/sim/systemd"
)

// Scale is a world of many machines that run many units, for measuring how fast it goes.
type Scale struct {
	Machines, Units int
	c               *sim.Cluster
	running         int
}

// scaleMembers is how many of the machines are members; the others are workers.
const scaleMembers = 5

// scaleClients is how many clients start the units, each one after the other.
const scaleClients = 20

// Open makes the machines and waits until all are known.
func (s *Scale) Open(seed uint64) error {
	s.c = sim.NewCluster(seed, min(scaleMembers, s.Machines), sim.ClusterOptions{
		Options: sim.Options{NoRare: true},
		Units: func(m *sim.Machine) *fleet.Config {
			return &fleet.Config{Metadata: map[string]string{"rack": fmt.Sprint(uint64(m.ID()) / 40)}}
		},
	})
	s.c.OnRan(func(_ *sim.Machine, r systemd.Ran) {
		if r.On {
			s.running++
		} else {
			s.running--
		}
	})
	if s.c.AwaitLeader(time.Minute) == nil {
		return fmt.Errorf("no leader")
	}
	for i := scaleMembers; i < s.Machines; i++ {
		m := s.c.AddMachine(fmt.Sprintf("w%d", i), daemon.Config{Bootstrap: bootstrap.Config{Proxy: bootstrap.On, InitialCluster: s.c.Founded()}})
		m.PowerOn()
	}
	return nil
}

// Start has clients start the units, and waits until all run.
func (s *Scale) Start() error {
	var failed error
	for i := range scaleClients {
		s.c.Spawn(fmt.Sprint("starter", i), func(p *sim.Proc) {
			lib := client.New(p, client.Options{Endpoints: s.c.Endpoints()[:scaleMembers], Timeout: 10 * time.Second}).Units()
			for n := i; n < s.Units && failed == nil; n += scaleClients {
				failed = lib.Put(p.Context(), &client.Unit{
					Name: fmt.Sprintf("app%d.service", n), DesiredState: "launched",
					Options: options("[Service]\nExecStart=/bin/sleep infinity\n"),
				})
			}
		})
	}
	if !s.until(10*time.Minute, func() bool { return s.running == s.Units || failed != nil }) {
		return fmt.Errorf("%d of %d units run", s.running, s.Units)
	}
	return failed
}

func (s *Scale) until(most time.Duration, cond func() bool) bool {
	for end := s.c.Now() + most; s.c.Now() < end && !cond(); {
		if !s.c.RunFor(200 * time.Millisecond) {
			return false
		}
	}
	return cond()
}

// Run lets time pass, in which a machine in a hundred loses its power for a while.
func (s *Scale) Run(d time.Duration) error {
	for i := 0; i < s.Machines; i += 100 {
		m := s.c.Machines()[min(i+scaleMembers, len(s.c.Machines())-1)]
		s.c.After(d/10, "power off", m.PowerOff)
		s.c.After(d/2, "power on", m.PowerOn)
	}
	s.c.RunFor(d)
	if f := s.c.Failure(); f != nil {
		return f
	}
	if s.running != s.Units {
		return fmt.Errorf("%d of %d units run in the end", s.running, s.Units)
	}
	return nil
}

// Virtual is how much time has passed in the world.
func (s *Scale) Virtual() time.Duration { return s.c.Now() }

// Close ends the world.
func (s *Scale) Close() { s.c.Close() }
