package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/env/envtest"
)

func TestThePromisesOfEnv(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			envtest.Suite(t, func(t *testing.T) envtest.Rig { return newRig(t, seed) })
		})
	}
}

// rig is two machines of a world that run whatever the suite hands them.
type rig struct {
	t     *testing.T
	w     *World
	ms    [2]*Machine
	nodes [2]envtest.Node
}

func newRig(t *testing.T, seed uint64) *rig {
	r := &rig{t: t, w: newTestWorld(t, seed, Options{Link: LinkConfig{Latency: time.Millisecond, Loss: 0.3, Duplicate: 0.1}})}
	for i := range r.ms {
		r.ms[i] = r.w.Add(env.NodeID(i+1), fmt.Sprintf("n%d", i+1), toys(func(x *toy) error {
			n := r.nodes[i]
			x.receive, x.flush = n.Receive, n.Flush
			if n.Start != nil {
				n.Start(x.env)
			}
			return nil
		}))
		r.ms[i].Clock().SetDrift(int64(seed) * 1000)
	}
	return r
}

func (r *rig) ID(machine int) env.NodeID { return r.ms[machine].ID() }

func (r *rig) Start(machine int, n envtest.Node) {
	r.nodes[machine] = n
	r.ms[machine].PowerOn()
	require.Nil(r.t, r.w.Failure())
}

func (r *rig) Do(machine int, fn func()) {
	r.t.Helper()
	in := &doInput{fn: fn}
	r.ms[machine].input(in)
	r.w.RunTill(time.Minute, func() bool { return in.ran })
	require.Nil(r.t, r.w.Failure())
	require.True(r.t, in.ran)
}

type doInput struct {
	fn  func()
	ran bool
}

func (*doInput) live() bool    { return true }
func (*doInput) drop(*Machine) {}

func (d *doInput) deliver(*Machine) {
	d.ran = true
	d.fn()
}

func (r *rig) Wait(d time.Duration) { r.w.RunFor(d) }

func (r *rig) Kill(machine int) { r.ms[machine].Kill() }

func (r *rig) PowerOff(machine int) { r.ms[machine].PowerOff() }

func (r *rig) Fill(machine int, bytes int) {
	d := r.ms[machine].Disk()
	if bytes < 0 {
		d.SetCapacity(0)
		return
	}
	d.SetCapacity(d.Used() + bytes)
}
