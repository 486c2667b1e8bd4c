package node

import (
	"errors"

	"github.com/keelson/keelson/core/wal"
)

// MustBeRebuilt tells errors after which what a member has on its disk must never be
// used again, although the disk itself may be: its log is rotten in the middle, or its
// state has diverged.
func MustBeRebuilt(err error) bool {
	var rot *wal.RotError
	var diverged *DivergedError
	return errors.As(err, &rot) || errors.As(err, &diverged)
}

// Abandon ends the node at once, answers what waits for it with an error, and gives
// the names of the files that its log may have.
func (n *Node) Abandon() []string {
	if n.dead == nil {
		n.dead = errors.New("abandoned")
	}
	n.stopped = true
	n.keeper.Stop()
	n.publisher.stop()
	n.compare.stop()
	n.wake.stop()
	files := n.replica.Abandon()
	n.failAll(causeStopped)
	n.mux.Stop()
	return files
}
