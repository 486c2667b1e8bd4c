package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/control/controltest"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// large is a cluster of 1,000 machines that have 10,000 units between them, of an engine
// that has placed them all.
func large(t require.TestingT, machines, units int) *rig {
	r := &rig{World: controltest.New(1, 1), t: t}
	r.model = registry.Open(r.Members[0], keys, r)
	var cs []store.Command
	for i := range machines {
		cs = append(cs, store.Command{Op: store.OpSet, Key: keys.MachineObject(fmt.Sprintf("m%04d", i)), Value: registry.EncodeMachine(&registry.Machine{ID: fmt.Sprintf("m%04d", i)})})
	}
	f := r.parse(hello)
	for i := range units {
		cs = append(cs, r.model.Create(fmt.Sprintf("u%05d.service", i), f, unit.Launched)...)
	}
	r.Commit(cs...)
	r.open(0, Config{})
	r.run(5 * time.Second)
	require.Len(t, r.model.AssignedNames(), units)
	return r
}

// BenchmarkChange is one change of a desired state among 10,000 units, through a real
// store, two models, the scheduler and back.
func BenchmarkChange(b *testing.B) {
	r := large(b, 1000, 10_000)
	states := []unit.State{unit.Loaded, unit.Launched}
	b.ResetTimer()
	for i := range b.N {
		name := fmt.Sprintf("u%05d.service", i%10_000)
		r.desire(name, states[i/10_000%2])
		r.Run(0, nil)
	}
}

// BenchmarkDestroy is a unit among 10,000 that goes, with all that is left of it, and
// comes again.
func BenchmarkDestroy(b *testing.B) {
	r := large(b, 1000, 10_000)
	f := r.parse(hello)
	b.ResetTimer()
	for i := range b.N {
		name := fmt.Sprintf("u%05d.service", i%10_000)
		r.Commit(r.model.Destroy(r.model.Unit(name))...)
		r.Run(0, nil)
		r.Commit(r.model.Create(name, f, unit.Launched)...)
		r.Run(0, nil)
	}
}

// BenchmarkDeath is a machine that dies and comes back: its ten units are placed anew.
func BenchmarkDeath(b *testing.B) {
	r := large(b, 1000, 10_000)
	b.ResetTimer()
	for i := range b.N {
		id := fmt.Sprintf("m%04d", i%1000)
		r.Commit(store.Command{Op: store.OpDelete, Key: keys.MachineObject(id)})
		r.Run(0, nil)
		r.machine(id, 0)
		r.Run(0, nil)
	}
}

// BenchmarkBeat is the sign of life of one machine of 1,000.
func BenchmarkBeat(b *testing.B) {
	r := large(b, 1000, 10_000)
	b.ResetTimer()
	for i := range b.N {
		r.Commit(store.Command{Op: store.OpUpdate, Key: keys.MachineObject(fmt.Sprintf("m%04d", i%1000)), Refresh: true, HasTTL: true, TTL: time.Hour})
		r.Run(0, nil)
	}
}

// BenchmarkTakeover is what a member does whose engine begins to decide.
func BenchmarkTakeover(b *testing.B) {
	r := large(b, 1000, 10_000)
	b.ResetTimer()
	for range b.N {
		r.engines[0].become(waiting, "again")
		r.engines[0].fence = 0
		r.leader = 0
		r.engines[0].wake()
		r.Run(time.Millisecond, nil)
		require.True(b, r.engines[0].Deciding())
	}
}
