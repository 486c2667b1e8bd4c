package node

import (
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/store"
)

// Config is what a node is told at start. ID, Cluster and Members are required
// and must be the same at each start; the zero value of everything else is the
// default that its comment names.
type Config struct {
	Name    string
	ID      env.NodeID
	Cluster uint64
	// Members are the voters of the first start, this node among them. They
	// decide nothing once the node has a log.
	Members []gateway.Member
	// Join says that the node was added to a cluster that runs already: it
	// starts without a vote and waits for the leader to bring it up.
	Join bool
	// ClientURLs are published to the other members and to clients.
	ClientURLs []string
	// ReadDefaultLocal makes a plain GET a local read, as originally.
	ReadDefaultLocal bool
	Version          string
	Tick             time.Duration // 100 ms
	ElectionTicks    int           // 10
	// SnapshotBytes is the volume of log after which a snapshot is taken, if
	// twice the last snapshot is not more; 64 MiB.
	SnapshotBytes int64
	// SnapshotEntries, if not 0, also takes one after so many entries.
	SnapshotEntries uint64
	// TailEntries are kept in memory behind a snapshot for slow followers; 5000.
	TailEntries uint64
	// PendingMax and PendingBytesMax bound the commands that wait for an
	// outcome: 16384 and 64 MiB.
	PendingMax      int
	PendingBytesMax int
	// Timeout bounds a write or a linearizable read; 5 s and two election timeouts.
	Timeout time.Duration
	// Fatal is called once when the node can do nothing more, for example after
	// a disk error. Whoever drives the node drops it then.
	Fatal func(error)
}

// Status is what a node knows about itself, for checkers and people.
type Status struct {
	ID          env.NodeID
	Role        gateway.Role
	Leader      env.NodeID // 0 where none is known
	Term        uint64
	Commit      uint64 // raft index
	Applied     uint64 // raft index
	Index       store.Index
	Incarnation uint64
	Pending     int  // commands of this node's clients without an outcome
	Dead        bool // after Fatal
	Removed     bool // taken out of the cluster
}

// Node is one machine of a cluster.
type Node struct {
	cfg Config
	env *env.Env
}

// Open brings a node up from what its disk holds.
func Open(cfg Config, e *env.Env) (*Node, error) { return &Node{cfg: cfg, env: e}, nil }

// Receive takes a frame that another node sent.
func (n *Node) Receive(from env.NodeID, frame []byte) {}

// Serve answers one request of a client. Cancel says that nobody waits for the
// answer any more; after it, r is not touched.
func (n *Node) Serve(req *gateway.Request, r gateway.Responder) (cancel func()) { return func() {} }

// Flush ends a turn: everything that the inputs since the last one call for is
// done or under way when it returns.
func (n *Node) Flush() {}

// Stop hands leadership over if this node leads, answers what is pending with
// an error and calls done in this or a later turn. The driver keeps calling the
// node until then.
func (n *Node) Stop(done func()) {}

// View is the store as this node has applied it.
func (n *Node) View() *store.View { return nil }

// Status tells what the node knows about itself.
func (n *Node) Status() Status { return Status{} }
