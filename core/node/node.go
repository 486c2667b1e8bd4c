package node

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/replica"
	"github.com/keelson/keelson/core/store"
)

// Config is what a node is told at start. ID, Cluster, Members and Fatal are
// required and must be the same at each start; the zero value of everything else
// is the default that its comment names.
type Config struct {
	Name    string
	ID      env.NodeID
	Cluster uint64
	// Members are the voters of the first start, this node among them. Later
	// they only tell where members are that have not said so themselves.
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
	// TailEntries are kept in memory for followers that are late; 5000.
	TailEntries uint64
	// SegmentBytes is the size of a file of the log; 16 MiB.
	SegmentBytes int
	// ChunkBytes is the size of one piece of a snapshot sent to another; 64 KiB.
	ChunkBytes int
	// BatchBytes bounds the commands that share one entry of the log; 1 MiB.
	BatchBytes int
	// PendingMax and PendingBytesMax bound the commands that wait for an
	// outcome: 16384 and 64 MiB. PendingMax bounds waiting reads, too.
	PendingMax      int
	PendingBytesMax int
	// CompareEvery is the log time between two comparisons of what happened on each
	// member, 2 s, and HashEvery that between two of all that is stored, 10 minutes.
	CompareEvery, HashEvery time.Duration
	// NextFormats has the node read, and write where all others do, a format that no
	// release knows: it stands for a later version in tests.
	NextFormats bool
	// HoldBatch, if not 0, keeps the cluster from writing batches in a newer format
	// than this, as before a return to an older version.
	HoldBatch int
	// Timeout bounds a write or a linearizable read; 5 s and two election timeouts.
	Timeout time.Duration
	// Passwords makes and checks hashes; auth.Bcrypt of auth.CostDefault.
	Passwords auth.Passwords
	// Fatal is called once when the node can do nothing more, for example after
	// a disk error. Whoever drives the node drops it then.
	Fatal func(error)
}

func (c *Config) fill() error {
	if c.Fatal == nil {
		return fmt.Errorf("node: configure %v: no function for fatal errors", c.ID)
	}
	c.Tick = cmp.Or(c.Tick, 100*time.Millisecond)
	c.ElectionTicks = cmp.Or(c.ElectionTicks, 10)
	c.BatchBytes = cmp.Or(c.BatchBytes, 1<<20)
	c.PendingMax = cmp.Or(c.PendingMax, 16384)
	c.PendingBytesMax = cmp.Or(c.PendingBytesMax, 64<<20)
	c.CompareEvery = cmp.Or(c.CompareEvery, 2*time.Second)
	c.HashEvery = cmp.Or(c.HashEvery, 10*time.Minute)
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second+2*c.election())
	return nil
}

func (c *Config) election() time.Duration { return c.Tick * time.Duration(c.ElectionTicks) }

// Status is what a node knows about itself, for checkers and people.
type Status struct {
	ID          env.NodeID
	Role        gateway.Role
	Leader      env.NodeID // 0 where none is known
	Term        uint64
	Vote        env.NodeID
	Commit      uint64 // raft index
	Applied     uint64 // raft index
	First, Last uint64 // raft indexes of the entries in memory
	Snapshot    uint64 // raft index of the last durable snapshot
	Index       store.Index
	Incarnation uint64
	Voters      []env.NodeID
	Learners    []env.NodeID
	Pending     int  // commands of this node's clients without an outcome
	Reads       int  // linearizable reads without an answer
	Watches     int  // open watches
	Ready       bool // takes part in its cluster
	Full        bool // the disk is full
	Dead        bool // after Fatal
	Removed     bool // taken out of the cluster
	// Compared is the raft index up to which all voters were seen to have the same
	// state; Differing counts the comparisons in which one had not.
	Compared, Differing uint64
	// BatchFormat is that of the last batch applied, 0 before the first.
	BatchFormat int
}

// Node is one machine of a cluster.
type Node struct {
	cfg       Config
	env       *env.Env
	replica   *replica.Replica
	mux       *gateway.Mux
	store     *store.Store
	watchers  *store.Watchers
	events    []*store.Event // applied in this turn, not told to watchers yet
	outcomes  []outcome      // results of this turn, not told to clients yet
	restored  bool           // the state was replaced in this turn
	commands  commands       // of this node's clients
	forwarded forwarded      // of other nodes' clients, on the leader
	changes   changes        // of the members, on the leader
	left      bool           // told that it is no member any more
	reads     reads
	base      timeBase
	keeper    *control.Keeper
	publisher *publisher
	compare   comparer
	formats   formats
	info      infoCache
	access    access
	wake      wake
	// groupStale says that members may be elsewhere than the network was told.
	groupStale bool
	replacing  bool       // some member says in whose place it came, as of then
	known      []env.Peer // as the network was last told, by ID
	former     []env.Peer // of them, those that have left since, oldest first
	followers  []*follower
	dead       error
	stopped    bool
}

// Open brings a node up from what its disk holds.
func Open(cfg Config, e *env.Env) (*Node, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, env: e, store: store.New(), watchers: store.NewWatchers(), keeper: control.NewKeeper(e)}
	n.access.stale = true
	n.mux = gateway.New(n, gateway.Options{ReadDefaultLocal: cfg.ReadDefaultLocal, Version: cfg.Version, Passwords: cfg.Passwords})
	n.info.started = e.Clock.Wall().UnixNano()
	n.publisher = newPublisher(n)
	n.compare.n, n.formats.n = n, n
	var voters []env.NodeID
	for _, m := range cfg.Members {
		voters = append(voters, m.ID)
	}
	r, err := replica.Open(replica.Config{
		ID: cfg.ID, Cluster: cfg.Cluster, Voters: voters, Join: cfg.Join,
		Tick: cfg.Tick, ElectionTicks: cfg.ElectionTicks, SegmentBytes: cfg.SegmentBytes,
		SnapshotBytes: cfg.SnapshotBytes, SnapshotEntries: cfg.SnapshotEntries, TailEntries: cfg.TailEntries, ChunkBytes: cfg.ChunkBytes,
		OnMessage: n.message, OnRestore: n.replaced, Fatal: n.die,
	}, e, (*machine)(n))
	if err != nil {
		return nil, fmt.Errorf("node %v: %w", cfg.ID, err)
	}
	n.replica = r
	n.commands.first, n.commands.next = 1, 1
	n.restored = false // nobody watches yet
	n.compare.restored()
	n.regroup()
	return n, nil
}

// Receive takes a frame that another node sent.
func (n *Node) Receive(from env.NodeID, frame []byte) {
	if !n.inert() {
		n.replica.Receive(from, frame)
	}
}

// Serve answers one request of a client. Cancel says that nobody waits for the
// answer any more; after it, r is not touched.
func (n *Node) Serve(req *gateway.Request, r gateway.Responder) (cancel func()) {
	if n.left {
		r.Reply(gateway.Removed(n.Info(), req.Method == "HEAD"))
		return func() {}
	}
	return n.mux.Serve(req, r)
}

// Do answers an operation that gateway.Parse made, as Serve does.
func (n *Node) Do(op *gateway.Operation, r gateway.Responder) (cancel func()) {
	if n.left {
		r.Reply(gateway.Removed(n.Info(), op.Head))
		return func() {}
	}
	return n.mux.Do(op, r)
}

// Admit judges a request to another API of this machine by the users and roles of this one.
func (n *Node) Admit(a *gateway.Admission) (cancel func()) { return n.mux.Admit(a) }

// Leading tells whether this node leads and has applied all that its log holds.
func (n *Node) Leading() bool {
	_, leading := n.replica.Leading()
	return leading && !n.inert()
}

// flushPasses bounds how often a turn goes round: what is applied may call for
// commands, which may be applied at once where one member is alone.
const flushPasses = 4

// Flush ends a turn: everything that the inputs since the last one call for is
// done or under way when it returns.
func (n *Node) Flush() {
	if n.stopped {
		return
	}
	for range flushPasses {
		n.pump()
		n.replica.Advance()
		if !n.deliver() {
			break
		}
	}
	n.keep()
	n.compare.keep()
	n.publisher.look()
	n.pump()
	if n.groupStale {
		n.regroup()
	}
	n.replica.Flush()
	if n.deliver() && n.commands.sent < n.commands.next {
		n.env.Clock.After(0, func() {}) // whoever was told wants something written: in the next turn
	}
	n.farewell()
	n.arm()
}

// deliver tells watchers and clients what was applied since the last call, and
// whether there was anything.
func (n *Node) deliver() bool {
	restored := n.restored
	if restored {
		n.restored = false
		n.access.changed = false
		n.mux.Restored()
	}
	if n.access.changed {
		n.access.changed = false
		n.mux.AuthChanged()
	}
	events, outcomes := n.events, n.outcomes
	n.events, n.outcomes = nil, nil
	for _, e := range events {
		n.watchers.Notify(e)
	}
	if len(n.followers) > 0 && (restored || len(events) > 0) {
		n.tellFollowers(events, restored)
	}
	for _, o := range outcomes {
		o.done(o.result)
	}
	return len(events)+len(outcomes) > 0 || restored && len(n.followers) > 0
}

// Stop hands leadership over if this node leads, answers what is pending with
// an error and calls done in this or a later turn. The driver keeps calling the
// node until then.
func (n *Node) Stop(done func()) {
	n.replica.Stop(func() {
		n.stopped = true
		n.keeper.Stop()
		n.publisher.stop()
		n.compare.stop()
		n.wake.stop()
		n.failAll(causeStopped)
		n.mux.Stop()
		done()
	})
}

// die is told by the replica that nothing more can be done.
func (n *Node) die(err error) {
	if n.dead != nil {
		return
	}
	n.dead = err
	n.keeper.Stop()
	n.compare.stop()
	n.wake.stop()
	n.cfg.Fatal(err)
}

// Left tells whether the node was told that it is no member any more. Clients get no
// other answer from it.
func (n *Node) Left() bool { return n.left }

// inert tells that the node takes nothing more.
func (n *Node) inert() bool { return n.stopped || n.dead != nil }

// ID is the node's name in its cluster.
func (n *Node) ID() env.NodeID { return n.cfg.ID }

// Cluster is the ID of the node's cluster.
func (n *Node) Cluster() uint64 { return n.cfg.Cluster }

// View is the store as this node has applied it. It is the same value until
// something changes, and may be read anywhere.
func (n *Node) View() *store.View { return n.store.View() }

// Chain is the rolling hash over everything applied, for checkers: nodes that
// have applied equally much must agree on it.
func (n *Node) Chain() uint64 { return n.store.Chain() }

// Store is the node's state, for checkers on the loop.
func (n *Node) Store() *store.Store { return n.store }

// Replica is the node's part in the consensus, for checkers on the loop.
func (n *Node) Replica() *replica.Replica { return n.replica }

// Status tells what the node knows about itself.
func (n *Node) Status() Status {
	s := n.replica.Status()
	return Status{
		ID: n.cfg.ID, Role: role(s.Role), Leader: s.Leader, Term: s.Term, Vote: s.Vote,
		Commit: s.Commit, Applied: s.Applied, First: s.First, Last: s.Last, Snapshot: s.Snapshot,
		Index: n.store.Index(), Incarnation: s.Incarnation, Voters: s.Voters, Learners: s.Learners,
		Pending: n.commands.count, Reads: n.reads.count, Watches: n.watchers.Len(),
		Ready: s.Ready, Full: s.Full, Dead: n.dead != nil, Removed: s.Removed,
		Compared: n.compare.agreed, Differing: n.compare.differs, BatchFormat: n.formats.seen,
	}
}

func role(r replica.Role) gateway.Role {
	switch r {
	case replica.Leader:
		return gateway.Leader
	case replica.Candidate, replica.PreCandidate:
		return gateway.Candidate
	default:
		return gateway.Follower
	}
}

// machine is the node as the replica's state machine.
type machine Node

// Apply changes the store by one entry: time moves, then the commands follow.
func (m *machine) Apply(index uint64, entry []byte) {
	n := (*Node)(m)
	b, err := store.DecodeBatchUpTo(entry, n.newest())
	if err != nil {
		n.die(fmt.Errorf("node: apply entry %d: %w", index, err))
		return
	}
	if n.dead != nil {
		return
	}
	results := n.store.Apply(b, n.emit)
	for i := range b.Commands {
		id := &b.Commands[i].ID
		if results[i].Copy {
			n.env.Rare.Mark("node: copy of a command ignored")
		}
		if id.Node == n.cfg.ID && id.Incarnation == n.replica.Incarnation() {
			n.finish(id.Number, results[i])
		}
	}
	n.compare.applied(index)
	n.formats.applied(store.BatchFormat(entry))
}

func (n *Node) emit(e *store.Event) {
	n.events = append(n.events, e)
	if n.info.saw(e) {
		n.groupStale, n.formats.stale = true, true
	}
	if e.Node.Key == store.SecretKey {
		n.access.stale, n.access.changed = true, true
	}
}

// Snapshot gives the store as it is.
func (m *machine) Snapshot() replica.Snapshot { return m.store.View() }

// Restore replaces the store.
func (m *machine) Restore(r io.Reader) error {
	s, err := store.Load(r)
	if err != nil {
		return err
	}
	m.store = s
	m.info.stale, m.groupStale, m.access.stale = true, true, true
	return nil
}

// replaced follows a state that came from the leader. Results of commands in
// between are not in it; only that they were applied.
func (n *Node) replaced() {
	n.restored = true
	n.compare.restored()
	n.formats.stale = true
	n.events = nil // the history of the new state holds them
	n.lostResults()
}

// message takes what another node sent to this one.
func (n *Node) message(from env.NodeID, payload []byte) {
	if len(payload) > 0 && payload[0] == compareMark {
		if err := n.compare.hear(from, payload); err != nil {
			n.env.Log.Log(env.Warn, "hashes dropped", "from", from, "reason", err)
		}
		return
	}
	if len(payload) > 0 && payload[0] == changeMark {
		if err := n.hearChange(from, payload); err != nil {
			n.env.Log.Log(env.Warn, "change of members dropped", "from", from, "reason", err)
		}
		return
	}
	n.takeForwarded(from, payload)
}

// After implements gateway.Alarm.
func (n *Node) After(d time.Duration, fn func()) (stop func()) {
	return n.env.Clock.After(d, fn).Stop
}
