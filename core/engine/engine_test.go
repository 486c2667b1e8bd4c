package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/control/controltest"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

var keys = registry.Keys{Prefix: registry.DefaultPrefix}

// rig is a cluster and engines on its members.
type rig struct {
	*controltest.World
	t       require.TestingT
	model   *registry.Model // of the first member
	engines []*Engine
	leader  int
}

func newRig(t require.TestingT, seed uint64, members int) *rig {
	r := &rig{World: controltest.New(seed, members), t: t}
	r.model = registry.Open(r.Members[0], keys, r)
	for i := range members {
		r.open(i, Config{})
	}
	return r
}

func (r *rig) open(i int, c Config) *Engine {
	c.Machine = fmt.Sprint("member", i)
	c.Lead = func() bool { return r.leader == i }
	g := Open(c, r.Env(), r.Members[i], registry.Open(r.Members[i], keys, r))
	r.engines = append(r.engines, g)
	return g
}

// run lets d pass, with a turn's end for each engine after every event.
func (r *rig) run(d time.Duration) {
	r.Run(d, func() {
		for _, g := range r.engines {
			g.Flush()
		}
	})
}

// last is the last entry of the log that holds commands.
func (r *rig) last() (last *store.Batch) {
	for _, b := range r.Entries() {
		if len(b.Commands) > 0 {
			last = b
		}
	}
	return last
}

func (r *rig) parse(text string) *unit.File {
	f, err := unit.Parse(text, 0)
	require.NoError(r.t, err)
	return f
}

func (r *rig) submit(name, text string, s unit.State) {
	r.Commit(r.model.Create(name, r.parse(text), s)...)
}

func (r *rig) desire(name string, s unit.State) {
	r.Commit(r.model.Desire(r.model.Unit(name), s))
}

func (r *rig) machine(id string, ttl time.Duration) {
	r.Commit(store.Command{Op: store.OpSet, Key: keys.MachineObject(id), Value: registry.EncodeMachine(&registry.Machine{ID: id}), HasTTL: ttl > 0, TTL: ttl})
}

// value is that of a key, "" where there is none.
func (r *rig) value(key string) string {
	n, err := r.Truth().Get(key, false)
	if err != nil {
		return ""
	}
	return n.Value
}

func (r *rig) assignment(machine, name string) *registry.Assignment {
	key := keys.Assignment(machine, name)
	if machine == "" {
		key = keys.Global(name)
	}
	a, err := registry.DecodeAssignment(name, r.value(key))
	if err != nil {
		return nil
	}
	return a
}

// below lists all keys below one.
func (r *rig) below(key string) (all []string) {
	r.Truth().Whole(key, func(n *store.Node) {
		if n.Key != key {
			all = append(all, n.Key)
		}
	})
	return all
}

const hello = "[Service]\nExecStart=/bin/true\n"

func TestUnitFromSubmitToDestroy(t *testing.T) {
	r := newRig(t, 1, 3)
	r.machine("m1", 0)
	r.machine("m2", 0)
	r.run(time.Second)
	require.True(t, r.engines[0].Deciding())
	assert.Equal(t, "1", r.value(keys.EngineVersion()))

	r.submit("a.service", hello, unit.Inactive)
	r.run(time.Second)
	assert.Empty(t, r.value(keys.Target("a.service")))
	r.desire("a.service", unit.Launched)
	r.run(20 * time.Millisecond)
	assert.Equal(t, "m1", r.value(keys.Target("a.service")))
	a := r.assignment("m1", "a.service")
	require.NotNil(t, a)
	assert.Equal(t, hello, a.Raw)
	assert.Equal(t, unit.Launched, a.State)
	assert.Positive(t, a.Since)
	assert.Len(t, r.last().Commands, 2, "the placement and what the machine is told, in one entry")

	since := a.Since
	r.desire("a.service", unit.Loaded)
	r.run(20 * time.Millisecond)
	assert.Equal(t, unit.Loaded, r.assignment("m1", "a.service").State)
	assert.Greater(t, r.assignment("m1", "a.service").Since, since)

	other := r.parse(hello + "Restart=always\n")
	r.Commit(r.model.Replace(r.model.Unit("a.service"), other, unit.Launched)...)
	r.run(time.Second)
	assert.Equal(t, other.String(), r.assignment("m1", "a.service").Raw)
	assert.NotEmpty(t, r.value(keys.Contents(r.parse(hello).Hash())))
	r.run(20 * time.Second)
	assert.Empty(t, r.value(keys.Contents(r.parse(hello).Hash())), "contents that no unit has are removed")

	r.Commit(r.model.Destroy(r.model.Unit("a.service"))...)
	r.run(time.Minute)
	assert.Empty(t, r.below(keys.Prefix+"/job"), "nothing is left, no directory either")
	assert.Empty(t, r.below(keys.Prefix+"/unit"))
	assert.Nil(t, r.assignment("m1", "a.service"))
}

func TestIdleEngineWritesOnlyItsLease(t *testing.T) {
	r := newRig(t, 1, 3)
	r.machine("m1", 0)
	r.submit("a.service", hello, unit.Launched)
	r.run(10 * time.Second)
	before := r.Batches()
	r.run(time.Minute)
	assert.LessOrEqual(t, r.Batches()-before, 31)
}

// A machine that dies costs one entry of the log, however many units it had.
func TestDeathIsOneEntry(t *testing.T) {
	r := newRig(t, 1, 3)
	r.machine("m1", 20*time.Second)
	r.run(time.Second)
	for i := range 50 {
		r.submit(fmt.Sprintf("u%d.service", i), hello, unit.Launched)
	}
	r.run(time.Second)
	r.machine("m2", 0)
	r.machine("m3", 0)
	for i := range 50 {
		name := fmt.Sprintf("u%d.service", i)
		require.Equal(t, "m1", r.value(keys.Target(name)))
		r.Commit(store.Command{Op: store.OpSet, Key: keys.State(name, "m1"), Value: registry.EncodeState(&registry.UnitState{MachineID: "m1"})},
			store.Command{Op: store.OpSet, Key: keys.JobState(name), Value: "m1"})
	}
	before := len(r.Entries())
	for r.value(keys.MachineObject("m1")) != "" {
		r.run(time.Millisecond)
	}
	r.run(100 * time.Millisecond)
	moved := 0
	var decided *store.Batch
	for _, b := range r.Entries()[before:] {
		if len(b.Commands) > 1 && decided == nil {
			decided = b
		}
	}
	for _, c := range decided.Commands {
		if c.Op == store.OpCompareAndSwap && c.Key == keys.Target(c.Key[len(keys.Job("")):len(c.Key)-len("/target")]) {
			moved++
		}
	}
	assert.Equal(t, 50, moved)
	assert.Empty(t, r.below(keys.Prefix+"/states"), "what the dead has said is removed")
	assert.Len(t, r.model.AssignedTo("m2"), 25)
	assert.Len(t, r.model.AssignedTo("m3"), 25)
	assert.Empty(t, r.model.AssignedTo("m1"))
	assert.Empty(t, r.value(keys.JobState("u1.service")))
	r.run(time.Second)
	assert.NotContains(t, r.below(keys.Prefix), keys.Machine("m1"), "no directory is left of it either")
}

func TestGlobalUnits(t *testing.T) {
	r := newRig(t, 1, 1)
	r.machine("m1", 0)
	r.submit("g.service", hello+"[X-Fleet]\nGlobal=true\n", unit.Inactive)
	r.run(time.Second)
	assert.Nil(t, r.assignment("", "g.service"))
	r.desire("g.service", unit.Launched)
	r.run(time.Second)
	require.NotNil(t, r.assignment("", "g.service"))
	assert.Empty(t, r.value(keys.Target("g.service")))
	r.Commit(r.model.Replace(r.model.Unit("g.service"), r.parse(hello), unit.Launched)...)
	r.run(time.Second)
	assert.Nil(t, r.assignment("", "g.service"), "it is global no more")
	assert.NotNil(t, r.assignment("m1", "g.service"))
}

// A unit whose contents are gone stays where it is, and is told what it was told.
func TestMissingContentsStopNothing(t *testing.T) {
	r := newRig(t, 1, 1)
	r.machine("m1", 0)
	r.submit("a.service", hello, unit.Launched)
	r.run(time.Second)
	r.Commit(store.Command{Op: store.OpDelete, Key: keys.Contents(r.parse(hello).Hash())})
	r.run(10 * time.Second)
	require.NotNil(t, r.assignment("m1", "a.service"))
	assert.Equal(t, hello, r.assignment("m1", "a.service").Raw)
	r.desire("a.service", unit.Loaded)
	r.run(time.Second)
	assert.Equal(t, unit.Loaded, r.assignment("m1", "a.service").State)
	r.Commit(store.Command{Op: store.OpDelete, Key: keys.MachineObject("m1")})
	r.machine("m2", 0)
	r.run(time.Second)
	assert.Empty(t, r.value(keys.Target("a.service")), "there is nothing that another machine could be told")
}

func TestMissingContentsStopNoGlobalUnit(t *testing.T) {
	r := newRig(t, 1, 1)
	r.machine("m1", 0)
	r.submit("g.service", hello+"[X-Fleet]\nGlobal=true\n", unit.Launched)
	r.run(3 * time.Second)
	before := r.value(keys.Global("g.service"))
	require.NotEmpty(t, before)
	u := r.model.Unit("g.service")
	r.Commit(store.Command{Op: store.OpDelete, Key: keys.Contents(u.Hash)})
	r.run(3 * time.Second)
	assert.Equal(t, before, r.value(keys.Global("g.service")))
	r.desire("g.service", unit.Inactive)
	r.run(3 * time.Second)
	assert.Empty(t, r.value(keys.Global("g.service")))
}

func TestMovesAndDrains(t *testing.T) {
	r := newRig(t, 1, 1)
	r.machine("m1", 0)
	r.machine("m2", 0)
	r.submit("a.service", hello, unit.Launched)
	r.submit("pinned.service", hello+"[X-Fleet]\nMachineID=m1\n", unit.Launched)
	r.run(time.Second)
	a := r.value(keys.Target("a.service"))
	to := map[string]string{"m1": "m2", "m2": "m1"}[a]
	r.Commit(store.Command{Op: store.OpSet, Key: keys.Move("a.service"), Value: to}, store.Command{Op: store.OpSet, Key: keys.Move("pinned.service"), Value: "m2"},
		store.Command{Op: store.OpSet, Key: keys.Move("nobody.service"), Value: "m2"})
	r.run(time.Second)
	assert.Equal(t, to, r.value(keys.Target("a.service")))
	assert.Equal(t, "m1", r.value(keys.Target("pinned.service")))
	assert.Empty(t, r.below(keys.Prefix+"/moves"), "requests are removed, met or not")
	assert.Contains(t, fmt.Sprint(r.Lines), "unit not moved")
	r.Commit(store.Command{Op: store.OpSet, Key: keys.Cordon(to), Value: registry.Draining})
	r.run(time.Second)
	assert.Equal(t, a, r.value(keys.Target("a.service")))
}

// A singleton is placed nowhere else while a living machine may still run it.
func TestClaimsAreWaitedFor(t *testing.T) {
	r := newRig(t, 1, 1)
	r.machine("m1", time.Minute)
	r.submit("s.service", hello+"[X-Fleet]\nSingleton=true\n", unit.Launched)
	r.run(time.Second)
	require.Equal(t, "m1", r.value(keys.Target("s.service")))
	r.Commit(store.Command{Op: store.OpSet, Key: keys.Claim("s.service"), Value: "m1"})
	r.machine("m2", 0)
	r.desire("s.service", unit.Inactive)
	r.run(time.Second)
	assert.Empty(t, r.value(keys.Target("s.service")))
	r.Commit(store.Command{Op: store.OpSet, Key: keys.Cordon("m1"), Value: registry.Cordoned})
	r.run(time.Second)
	r.desire("s.service", unit.Launched)
	r.run(time.Second)
	assert.Empty(t, r.value(keys.Target("s.service")), "m1 has not let go of it, and takes nothing new")
	r.run(time.Minute)
	assert.Equal(t, "m2", r.value(keys.Target("s.service")), "m1 is gone")
	assert.Empty(t, r.value(keys.Claim("s.service")))
}

func TestLeaseGoesToTheLeader(t *testing.T) {
	r := newRig(t, 1, 3)
	r.run(time.Second)
	require.True(t, r.engines[0].Deciding())
	first := r.engines[0].Fence()
	r.leader = 2
	r.run(100 * time.Millisecond)
	assert.False(t, r.engines[0].Deciding())
	assert.True(t, r.engines[2].Deciding(), "at once")
	assert.Greater(t, r.engines[2].Fence(), first)
}

// Where the leader is not to decide, another does after a while.
func TestSomebodyDecides(t *testing.T) {
	r := &rig{World: controltest.New(1, 3), t: t}
	r.model = registry.Open(r.Members[0], keys, r)
	r.open(0, Config{Disabled: true})
	r.open(1, Config{})
	r.open(2, Config{})
	r.machine("m1", 0)
	r.submit("a.service", hello, unit.Launched)
	r.run(5 * time.Second)
	assert.Empty(t, r.value(keys.EngineLease()))
	r.run(5 * time.Second)
	assert.Equal(t, "m1", r.value(keys.Target("a.service")))
	assert.False(t, r.engines[0].Deciding())
	stopped := false
	for _, g := range r.engines[1:] {
		if g.Deciding() {
			g.Stop(func() { stopped = true })
			break
		}
	}
	r.run(time.Second)
	assert.True(t, stopped)
	assert.Empty(t, r.value(keys.EngineLease()), "an engine that ends gives the lease up")
	r.run(10 * time.Second)
	assert.NotEmpty(t, r.value(keys.EngineLease()))
}

// An engine of a later version is left in charge, also after it has gone.
func TestNewerEnginesWin(t *testing.T) {
	r := newRig(t, 1, 2)
	r.leader = -1
	r.Commit(store.Command{Op: store.OpSet, Key: keys.EngineLease(), Value: `{"MachineID":"newer","Version":2}`, HasTTL: true, TTL: 20 * time.Second})
	r.run(time.Second)
	r.leader = 0
	r.run(9 * time.Second)
	assert.Equal(t, `{"MachineID":"newer","Version":2}`, r.value(keys.EngineLease()))
	r.run(20 * time.Second)
	require.True(t, r.engines[0].Deciding(), "it is gone and has left no version behind")
	r.Commit(store.Command{Op: store.OpSet, Key: keys.EngineLease(), Value: `{"MachineID":"newer","Version":2}`}, store.Command{Op: store.OpSet, Key: keys.EngineVersion(), Value: "2"})
	r.run(time.Second)
	assert.False(t, r.engines[0].Deciding())
	r.Commit(store.Command{Op: store.OpDelete, Key: keys.EngineLease()})
	r.run(time.Minute)
	assert.Empty(t, r.value(keys.EngineLease()))
	assert.Contains(t, fmt.Sprint(r.Lines), "the cluster has had a newer one")
}

// Targets that an engine of the original wrote are kept, and machines are told of them.
func TestTakesOverFromTheOriginal(t *testing.T) {
	r := newRig(t, 1, 1)
	r.machine("m1", 0)
	r.machine("m2", 0)
	r.Commit(r.model.Create("a.service", r.parse(hello), unit.Launched)...)
	r.Commit(store.Command{Op: store.OpSet, Key: keys.Target("a.service"), Value: "m2"})
	r.Commit(store.Command{Op: store.OpSet, Key: keys.Prefix + "/job/gone.service/job-state", Value: "m9"})
	r.Commit(store.Command{Op: store.OpSet, Key: keys.Job("empty.service"), Dir: true})
	r.run(time.Second)
	assert.Equal(t, "m2", r.value(keys.Target("a.service")))
	assert.NotNil(t, r.assignment("m2", "a.service"))
	r.run(5 * time.Second)
	for _, key := range r.below(keys.Prefix + "/job") {
		assert.Contains(t, key, "a.service", "leftovers are removed")
	}
}

// One unit of many costs one unit's work.
func TestAChangeCostsWhatItChanges(t *testing.T) {
	r := newRig(t, 1, 1)
	for i := range 20 {
		r.machine(fmt.Sprintf("m%02d", i), 0)
	}
	for i := range 500 {
		r.submit(fmt.Sprintf("u%d.service", i), hello, unit.Launched)
	}
	r.run(5 * time.Second)
	before := r.Batches()
	r.desire("u77.service", unit.Loaded)
	r.run(100 * time.Millisecond)
	assert.LessOrEqual(t, r.Batches()-before, 3)
	assert.Equal(t, unit.Loaded, r.model.Unit("u77.service").Desired)
	assert.Empty(t, r.engines[0].dirty.units)
}
