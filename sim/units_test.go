package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/env/envtest"
	"github.com/keelson/keelson/sim/systemd"
)

func TestThePromisesOfUnits(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			envtest.Units(t, func(t *testing.T) envtest.UnitRig { return newUnitRig(t, seed) })
		})
	}
}

// unitRig is a machine of a world that runs units.
type unitRig struct {
	t *testing.T
	m *Machine
	x *toy
	// runs is the start of each unit that runs.
	runs map[string]uint64
	fn   func(e *env.Env)
}

var (
	_ envtest.Rebooter     = (*unitRig)(nil)
	_ envtest.ManagerLoser = (*unitRig)(nil)
	_ envtest.Breaker      = (*unitRig)(nil)
)

func newUnitRig(t *testing.T, seed uint64) *unitRig {
	w := newTestWorld(t, seed, Options{})
	r := &unitRig{t: t, runs: map[string]uint64{}}
	r.m = w.Add(1, "n1", toys(func(x *toy) error {
		if r.fn != nil {
			r.fn(x.env)
		}
		return nil
	}))
	r.m.Systemd().SetOptions(systemd.Options{Persistent: true})
	w.OnRan(func(_ *Machine, e systemd.Ran) {
		if delete(r.runs, e.Unit); e.On {
			r.runs[e.Unit] = e.Start
		}
	})
	return r
}

func (r *unitRig) Start(fn func(e *env.Env)) {
	r.fn = fn
	r.m.PowerOn()
	require.Nil(r.t, r.m.w.Failure())
}

func (r *unitRig) Do(fn func()) {
	r.t.Helper()
	in := &doInput{fn: fn}
	r.m.input(in)
	r.m.w.RunTill(time.Minute, func() bool { return in.ran })
	require.Nil(r.t, r.m.w.Failure())
	require.True(r.t, in.ran)
}

func (r *unitRig) Wait(d time.Duration) { r.m.w.RunFor(d) }

func (r *unitRig) Kill() { r.m.Kill() }

func (r *unitRig) RunOf(name string) string {
	if r.runs[name] == 0 {
		return ""
	}
	return fmt.Sprint(r.runs[name])
}

func (r *unitRig) Reboot() { r.m.PowerOff() }

func (r *unitRig) LoseManager() { r.m.Systemd().Away() }

func (r *unitRig) FindManager() { r.m.Systemd().Back() }

func (r *unitRig) Break(name string) { r.m.Systemd().Break(name, true) }

func (r *unitRig) Mend(name string) { r.m.Systemd().Break(name, false) }
