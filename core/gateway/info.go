package gateway

import (
	"time"

	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
)

// Member is one machine that votes.
type Member struct {
	ID         env.NodeID
	Name       string // empty for a member that has not started yet
	PeerURLs   []string
	ClientURLs []string
	Learner    bool `json:",omitempty"` // holds the log and does not vote yet
	Started    bool `json:"-"`          // has said itself who it is
}

// Role is what a member is in the consensus group.
type Role uint8

// The roles. Candidate includes one that asks whether it could win.
const (
	Follower Role = iota
	Candidate
	Leader
)

// String gives the role as /v2/stats/self writes it.
func (r Role) String() string {
	switch r {
	case Candidate:
		return "StateCandidate"
	case Leader:
		return "StateLeader"
	default:
		return "StateFollower"
	}
}

// Info describes a member and its cluster at one moment. Only the IDs, Members,
// Term and RaftIndex are needed for the keys API; the rest is for people.
type Info struct {
	ClusterID uint64
	Self      env.NodeID
	Name      string
	Leader    env.NodeID // 0 when none is known
	Term      uint64
	RaftIndex uint64 // the last entry this member has applied
	Role      Role
	Members   []Member // in any order
	// Removed says that this member was told that it is none any more: it answers
	// nothing but that.
	Removed bool

	Started      int64         // wall time at which this member started, Unix nanoseconds
	LeaderSince  int64         // wall time at which Leader became known, Unix nanoseconds
	LeaderUptime time.Duration // how long Leader has been known
	Store        store.Stats   // reads are counted by the gateway itself
	Watchers     uint64        // watches on the store, of clients and of this member
}

// Traffic counts the append messages between members, as one member sees them.
type Traffic struct {
	Received, Sent Flow
	Followers      []Progress // on the leader only, in any order
}

// Flow is messages in one direction.
type Flow struct {
	Messages uint64 // since the member started
	// Recent and RecentBytes passed within Span, lately. A Span of zero says that
	// nothing did.
	Recent, RecentBytes uint64
	Span                time.Duration
}

// Progress is how one follower keeps up, as its leader sees it. Latencies are
// round trips of append messages; zero where none is known.
type Progress struct {
	ID                          env.NodeID
	Current, Average            time.Duration
	Deviation, Minimum, Maximum time.Duration
	Failed, Succeeded           uint64
}

// Options are the choices of one server.
type Options struct {
	// ReadDefaultLocal answers a plain GET from this member's own state, possibly
	// stale, as the original did. By default it is linearizable. A GET that says
	// quorum=true or quorum=false is not affected.
	ReadDefaultLocal bool
	// Passwords makes and checks hashes; nil stands for auth.Bcrypt of the default cost.
	Passwords auth.Passwords
	// Version is this server's own version, shown by /version. Optional.
	Version string
}
