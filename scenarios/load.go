package scenarios

import (
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/scenarios/chaos"
	"github.com/keelson/keelson/sim"
	"github.com/keelson/keelson/sim/check"
)

// watch puts the cluster under the oracles that every run is under.
func (r *runner) watch() {
	r.rotten = map[env.NodeID]bool{}
	check.WatchMirrors(r.cluster)
	r.load = chaos.Attach(r.cluster, func(id env.NodeID) bool { return r.rotten[id] })
}

// damage notes that a machine's disk is not sound any more.
func (r *runner) damage(m *sim.Machine) { r.rotten[m.ID()] = true }
