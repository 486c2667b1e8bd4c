//go:build planted

package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/keelson/keelson/core/control/controltest"
	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// Each planted bug must change behaviour, or the mutation run proves nothing: a decision
// that arrives after its engine was deposed tells a second machine of the unit.
func TestPlantedBugBites(t *testing.T) {
	defer func() { planted.Active = planted.None }()
	for _, bug := range []planted.Bug{planted.None, planted.LateEngineWrites} {
		planted.Active = bug
		twice := 0
		for seed := range uint64(20) {
			twice += assignedTwice(t, seed)
		}
		assert.Equal(t, bug != planted.None, twice > 0, "bug %d", bug)
	}
}

// assignedTwice counts for how long a unit was told to two machines while the lease went
// from hand to hand.
func assignedTwice(t *testing.T, seed uint64) (n int) {
	r := &rig{World: controltest.New(seed, 2), t: t}
	r.model = registry.Open(r.Members[1], keys, r)
	r.open(0, Config{})
	r.open(1, Config{})
	r.machine("m1", 0)
	r.run(time.Second)
	r.Lost = 100
	r.submit("a.service", hello, unit.Launched)
	r.run(2 * time.Second) // the decision of the first engine is under way
	r.Lost, r.leader = 0, 1
	r.machine("m2", 0)
	r.desire("a.service", unit.Launched)
	r.run(2 * time.Second)
	drained := r.value(keys.Target("a.service"))
	r.Commit(store.Command{Op: store.OpSet, Key: keys.Cordon(drained), Value: registry.Draining})
	r.Run(2*time.Minute, func() {
		if len(r.model.Assigned("a.service")) > 1 {
			n++
		}
	})
	return n
}
