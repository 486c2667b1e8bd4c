package check

import (
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/sim"
)

// rebuilt looks at machines that are being rebuilt from the others. That mends what a
// plan has damaged; where it has damaged nothing it would hide that the code did.
func (a *Always) rebuilt(m *sim.Machine) {
	d := sim.DaemonOf(m)
	if d == nil {
		return
	}
	reason, diverged := d.Rebuilding()
	allowed := func(by func(env.NodeID) bool) bool { return by != nil && by(m.ID()) }
	switch {
	case reason == "":
	case diverged && !allowed(a.o.Flipped):
		a.c.Fail(State, "%s found that its state is wrong, which nothing has touched: %s", m.Name(), reason)
	case !diverged && !allowed(a.o.Damaged):
		a.c.Fail(Restart, "%s found its log rotten, which nothing has touched: %s", m.Name(), reason)
	}
}
