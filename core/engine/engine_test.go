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
	assert.Len(t, r.Last().Commands, 2, "the placement and what the machine is told, in one entry")

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
