// Package check holds what must be true of a simulated cluster at every moment, and what must come true once trouble stops.
//
// Always looks after each turn of each node and ends the run at the first
// broken promise. Calm waits for what must come true in bounded time: a leader,
// every request answered, replicas equal, expired keys gone. Both name the
// oracle that spoke, since a planted bug counts as found only by its own.
package check

// The oracles.
const (
	TwoLeaders = "two leaders in a term"
	Complete   = "leader completeness" // a leader whose log lacks what was committed before
	State      = "state hash"          // replicas that applied the same differ
	Restart    = "restart"             // a process that cannot go on from what its disk holds
	Index      = "index"               // the store's index or log time went back
	Holders    = "holders over max"
	Resource   = "resource bound"
	Memory     = "memory bound"
	Liveness   = "liveness"
	TTLLate    = "ttl late"
	Promoted   = "promotion" // a member votes that does not hold the log
	Departure  = "departure" // a member that was removed lives on
	Mirrored   = "mirror"    // a mirror shows what the members never were
	Access     = "access"    // somebody was shown, or changed, what he may not, or an administrator's change was lost
)
