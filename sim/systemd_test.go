package sim

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/sim/systemd"
)

const sleeps = "[Service]\nExecStart=/bin/sleep infinity\n"

// unitMachine is a machine whose node does nothing but give its Systemd away.
func unitMachine(t *testing.T, seed uint64, persistent bool) (*Machine, func() env.Systemd) {
	w := newTestWorld(t, seed, Options{})
	var e *env.Env
	m := w.Add(1, "n1", toys(func(x *toy) error {
		e = x.env
		return nil
	}))
	m.Systemd().SetOptions(systemd.Options{Persistent: persistent})
	m.PowerOn()
	return m, func() env.Systemd { return e.Systemd }
}

func install(m *Machine, s env.Systemd, name, text string) {
	m.Do("install", func(Node) {
		s.Change(env.UnitChange{Write: []env.UnitText{{Name: name, Text: text}}}, func([]env.UnitError, error) {})
		s.Job(env.JobStart, name, func(env.JobResult, error) {})
	})
	m.World().RunFor(time.Second)
}

// Units go on without the daemon, and end with the power; then what lay in /run is gone.
func TestUnitsOutliveTheDaemonAndNotThePower(t *testing.T) {
	for _, persistent := range []bool{false, true} {
		t.Run(fmt.Sprint("persistent=", persistent), func(t *testing.T) {
			m, s := unitMachine(t, 1, persistent)
			install(m, s(), "a.service", sleeps)
			install(m, s(), "b.service", sleeps+"\n[Install]\nWantedBy=multi-user.target\n")
			require.True(t, m.Systemd().Runs("a.service"))
			for _, hurt := range []func(){m.Kill, func() { m.Stop(time.Second) }, func() { m.Pause(time.Minute) }} {
				hurt()
				m.World().RunFor(2 * time.Second)
				assert.Equal(t, []string{"a.service", "b.service"}, m.Systemd().Running())
				m.Resume()
				m.Start()
			}
			boot := m.BootID()
			m.Reboot(time.Second)
			assert.Empty(t, m.Systemd().Running())
			m.World().RunFor(2 * time.Second)
			assert.NotEqual(t, boot, m.BootID())
			if persistent { // what is enabled starts by itself
				assert.Equal(t, []string{"a.service", "b.service"}, m.Systemd().Files())
				assert.Equal(t, []string{"b.service"}, m.Systemd().Running())
			} else {
				assert.Empty(t, m.Systemd().Files())
				assert.Empty(t, m.Systemd().Running())
			}
		})
	}
}

// A start that is in flight when the connection breaks has an unknown outcome, and may
// have its effect.
func TestAStartInFlightMayHappen(t *testing.T) {
	ran := map[bool]bool{}
	for seed := range uint64(20) {
		m, s := unitMachine(t, seed, false)
		install(m, s(), "a.service", "[Service]\nExecStart=/bin/true\n")
		var err error
		m.Systemd().Put("b.service", sleeps)
		m.Do("start", func(Node) {
			s().Job(env.JobStart, "b.service", func(_ env.JobResult, e error) { err = e })
		})
		m.World().RunFor(100 * time.Microsecond)
		m.Systemd().Away()
		m.World().RunFor(time.Second)
		if err != nil && !errors.Is(err, env.ErrUnsent) {
			ran[m.Systemd().Runs("b.service")] = true
		}
	}
	assert.True(t, ran[true] && ran[false], "%v", ran)
}

// What crashes is started again as its file says, and operators may do what they like.
func TestCrashesAndOperators(t *testing.T) {
	m, s := unitMachine(t, 1, false)
	var events []string
	m.World().OnRan(func(_ *Machine, r systemd.Ran) { events = append(events, fmt.Sprint(r.Unit, r.On, r.Why)) })
	install(m, s(), "a.service", sleeps+"Restart=always\nRestartSec=1\n")
	install(m, s(), "b.service", sleeps)
	assert.True(t, m.Systemd().Crash("a.service"))
	assert.True(t, m.Systemd().Crash("b.service"))
	assert.False(t, m.Systemd().Crash("b.service"))
	m.World().RunFor(2 * time.Second)
	assert.Equal(t, []string{"a.service"}, m.Systemd().Running())
	m.Systemd().By(env.JobStop, "a.service")
	m.World().RunFor(time.Second)
	assert.Empty(t, m.Systemd().Running())
	assert.Equal(t, []string{"a.servicetrue", "b.servicetrue", "a.servicefalseexit", "b.servicefalseexit", "a.servicetrue", "a.servicefalsestop"}, events)
}

// A unit that does not hear is killed after its time.
func TestADeafUnitIsKilledInTheEnd(t *testing.T) {
	m, s := unitMachine(t, 1, false)
	install(m, s(), "a.service", "[Service]\nExecStart=/bin/sh -c \"trap '' TERM; sleep infinity\"\nTimeoutStopSec=5\n")
	m.Systemd().By(env.JobStop, "a.service")
	m.World().RunFor(4 * time.Second)
	assert.True(t, m.Systemd().Runs("a.service"))
	m.World().RunFor(2 * time.Second)
	assert.False(t, m.Systemd().Runs("a.service"))
	i := slices.IndexFunc(m.Systemd().Status(), func(u env.UnitStatus) bool { return u.Name == "a.service" })
	assert.Equal(t, "failed timeout", m.Systemd().Status()[i].Active+" "+m.Systemd().Status()[i].Result)
}

// A world without units draws nothing for them.
func TestUnitsCostNothingWhereThereAreNone(t *testing.T) {
	m, _ := unitMachine(t, 1, false)
	m.World().RunFor(time.Minute)
	for name := range m.World().Draws() {
		assert.NotContains(t, name, "systemd")
	}
}
