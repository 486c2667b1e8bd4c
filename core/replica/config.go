package replica

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/keelson/keelson/core/env"
)

// Machine is the state that entries change. Its methods are called on the loop.
type Machine interface {
	// Apply changes the state by one committed entry. Entries come in order of
	// index; not every index carries one.
	Apply(index uint64, entry []byte)
	// Snapshot gives the present state as an immutable value. It must be cheap.
	Snapshot() Snapshot
	// Restore replaces the state, wholly or, with an error, not at all.
	Restore(r io.Reader) error
}

// Snapshot is an immutable state of a Machine. Its readers may be used outside
// the loop.
type Snapshot interface {
	// NewReader encodes the state as it is read, so that no copy of it is made.
	NewReader() io.Reader
}

// Config is what a replica is told at start. ID, Cluster, Fatal and, unless Join
// is set, Voters are required; zero elsewhere stands for the default named.
type Config struct {
	ID      env.NodeID
	Cluster uint64
	// Voters are the members of the first start. A replica that has a log
	// already ignores them.
	Voters []env.NodeID
	// Join says that others have a cluster already and will bring this replica up.
	Join bool

	Tick          time.Duration // 100 ms; the leader's heartbeat
	ElectionTicks int           // 10; silence after which a follower campaigns, stretched by up to an eighth

	SegmentBytes int // of the log on disk, as wal.Options has it

	// SnapshotBytes is the volume of applied entries after which a snapshot is
	// taken, unless twice the last snapshot is more; 64 MiB.
	SnapshotBytes int64
	// SnapshotEntries also takes one after so many entries; 0 is no such limit.
	SnapshotEntries uint64
	// TailEntries and TailBytes bound the applied entries that stay in memory for
	// followers that are late; 5000 entries and 16 MiB. One that is further behind
	// gets a snapshot.
	TailEntries uint64
	TailBytes   int64
	// ChunkBytes is the size of one piece of a snapshot on its way to a follower,
	// 64 KiB, and ChunkWindow how many may be unanswered, 4.
	ChunkBytes  int
	ChunkWindow int

	MessageBytes     uint64 // 1 MiB; entries in one append message
	InflightMessages int    // 256; append messages to one follower without an answer
	InflightBytes    uint64 // 8 MiB; the same in bytes
	UncommittedBytes uint64 // 32 MiB; proposals beyond are refused with ErrBusy
	WritesMax        int    // 16; log appends under way, later ones are merged

	// OnMessage takes what another replica sent with Send. The payload may be kept.
	OnMessage func(from env.NodeID, payload []byte)
	// OnRestore is called after Restore replaced the machine's state.
	OnRestore func()
	// Fatal is called once when the replica can do nothing more.
	Fatal func(error)
}

// Errors of Propose. A refused proposal is not in the log and never will be.
var (
	ErrNotLeader = errors.New("not the leader")
	ErrBusy      = errors.New("too many proposals under way")
)

// electionRounds is how many election timeouts a leader's own append may be
// outstanding before the leader hands over.
const electionRounds = 2

func (c *Config) fill() error {
	if c.ID == 0 {
		return errors.New("replica: configure: no id")
	}
	if c.Fatal == nil {
		return errors.New("replica: configure: no function for fatal errors")
	}
	c.Voters = slices.Clone(c.Voters)
	slices.Sort(c.Voters)
	c.Voters = slices.Compact(c.Voters)
	if _, found := slices.BinarySearch(c.Voters, c.ID); !found && !c.Join {
		return fmt.Errorf("replica: configure: %v is not among the first voters %v", c.ID, c.Voters)
	}
	if len(c.Voters) > 0 && c.Voters[0] == 0 {
		return errors.New("replica: configure: zero is nobody's id")
	}
	if c.Tick < 0 || c.ElectionTicks < 0 || c.ElectionTicks == 1 {
		return fmt.Errorf("replica: configure: tick %v and %d ticks to an election: want a positive time and at least 2", c.Tick, c.ElectionTicks)
	}
	c.Tick = cmp.Or(c.Tick, 100*time.Millisecond)
	c.ElectionTicks = cmp.Or(c.ElectionTicks, 10)
	c.SnapshotBytes = cmp.Or(c.SnapshotBytes, 64<<20)
	c.TailEntries = cmp.Or(c.TailEntries, 5000)
	c.TailBytes = cmp.Or(c.TailBytes, 16<<20)
	c.ChunkBytes = cmp.Or(c.ChunkBytes, 64<<10)
	c.ChunkWindow = cmp.Or(c.ChunkWindow, 4)
	c.MessageBytes = cmp.Or(c.MessageBytes, 1<<20)
	c.InflightMessages = cmp.Or(c.InflightMessages, 256)
	c.InflightBytes = cmp.Or(c.InflightBytes, 8<<20)
	c.UncommittedBytes = cmp.Or(c.UncommittedBytes, 32<<20)
	c.WritesMax = cmp.Or(c.WritesMax, 16)
	if c.OnMessage == nil {
		c.OnMessage = func(env.NodeID, []byte) {}
	}
	if c.OnRestore == nil {
		c.OnRestore = func() {}
	}
	return nil
}

// election is the election timeout.
func (c *Config) election() time.Duration { return c.Tick * time.Duration(c.ElectionTicks) }

// Role is a replica's part in the consensus.
type Role uint8

// The roles.
const (
	Follower Role = iota
	PreCandidate
	Candidate
	Leader
)

// String names the role.
func (r Role) String() string {
	switch r {
	case PreCandidate:
		return "pre-candidate"
	case Candidate:
		return "candidate"
	case Leader:
		return "leader"
	default:
		return "follower"
	}
}

// Status is what a replica knows about itself.
type Status struct {
	ID          env.NodeID
	Incarnation uint64
	Role        Role
	Term        uint64
	Vote        env.NodeID
	Leader      env.NodeID // 0 where none is known
	Commit      uint64
	Applied     uint64
	First, Last uint64 // indexes of the entries in memory
	Snapshot    uint64 // index of the last durable snapshot of this life
	Voters      []env.NodeID
	Learners    []env.NodeID
	Ready       bool // the incarnation is durable: the replica takes part
	Full        bool // the disk is full
	Removed     bool
	Dead        bool
}
