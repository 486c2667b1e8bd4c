package replica

import (
	"fmt"
	"slices"

	"github.com/keelson/keelson/core/env"
)

// A member that founded its group alone has nobody to ask whether its disk is the one
// that it had: by its own words there are no others. But whoever takes part in its
// group was let in by its log. So a frame of the group from somebody of whom its log
// knows nothing, now or earlier, proves that the log is not the one that the others
// know: the disk was emptied, or an old copy of it put back.

// isStranger reports whether this replica is the only voter and knows nothing of the
// sender.
func (r *Replica) isStranger(from env.NodeID) bool {
	voters := r.conf.GetVoters()
	return len(voters) == 1 && voters[0] == uint64(r.cfg.ID) && len(r.conf.GetVotersOutgoing()) == 0 &&
		!slices.Contains(r.conf.GetLearners(), uint64(from)) && !r.left(from)
}

// forgotten judges a frame of this group. True means that it must not be taken.
func (r *Replica) forgotten(from env.NodeID) bool {
	if !r.isStranger(from) {
		return false
	}
	if _, leading := r.Leading(); !leading { // only a leader has surely applied all that its log holds
		return r.founded
	}
	r.env.Rare.Mark("replica: known by strangers")
	r.die(fmt.Errorf("replica: member %v takes part in this cluster, but the log here does not know it: the disk was emptied or replaced by an old copy; have this member replaced (keelson member replace), and start it with all members in --initial-cluster", from))
	return true
}
