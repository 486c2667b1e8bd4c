package store

import (
	"time"

	"github.com/keelson/keelson/core/env"
)

// Index counts changes of the store; it is what clients see as X-Etcd-Index.
type Index uint64

// Time is log time: nanoseconds that leaders have measured on their monotonic
// clocks and written to the log. It only grows, it stands still while there is
// no leader, and every replica reads the same. Deadlines live in it.
type Time int64

// Add gives the time d later, at most the latest there is.
func (t Time) Add(d time.Duration) Time {
	if sum := t + Time(d); d <= 0 || sum >= t {
		return sum
	}
	return 1<<63 - 1
}

// Op is what a command does.
type Op uint8

// The operations. CompareAndSwap and CompareAndDelete need a condition.
const (
	OpSet Op = iota + 1
	OpCreate
	OpUpdate
	OpCompareAndSwap
	OpCreateInOrder // POST: a child of Key, named with the new index
	OpDelete
	OpCompareAndDelete
)

// ID names one command of one life of one node, so that a second copy of it in
// the log changes nothing. Numbers rise within a life (Incarnation); incarnations
// rise over the lives of a node. The zero ID is never taken for a copy.
type ID struct {
	Node        env.NodeID
	Incarnation uint64
	Number      uint64
}

// Command is one change that a client asked for. Key is clean: it begins with
// "/", has no empty, "." or ".." element and no slash at the end (the root is "/").
type Command struct {
	ID ID
	// Settled is a promise of the node named in ID: none of its commands with a
	// lower number is still under way, so nothing about them need be remembered.
	Settled uint64
	Op      Op
	Key     string
	Value   string
	// Dir makes a directory (set, create), or allows deleting an empty one.
	Dir bool
	// Recursive deletes a directory with all that it holds.
	Recursive bool
	// Refresh renews the TTL, keeps the value and wakes no watcher.
	Refresh bool
	// HasTTL tells a TTL of zero (gone at the next chance) from none.
	HasTTL bool
	// Guarded says that the command was judged when SecretKey had last changed at
	// Guard (0: never). Where it has changed since, the command does nothing.
	Guarded bool
	TTL     time.Duration
	// PrevValue and PrevIndex are the conditions; "" and 0 are not given.
	PrevValue string
	PrevIndex Index
	Guard     Index // see Guarded
	Fence     Fence // the zero Fence is none
}

// Fence ties a command to a lease that it was decided under: it is applied only while Key
// is there and was created at Created, whatever its value. A lease is taken by setting its
// key anew, so whatever the former holder has under way does nothing (error 101).
type Fence struct {
	Key     string
	Created Index
}

// Batch is what one entry of the log holds: commands that waited together, and
// the time at which the leader proposed them. A batch without commands only
// moves time.
type Batch struct {
	Time     Time
	Wall     int64 // the leader's wall clock, Unix nanoseconds; for people
	Commands []Command
}

// Result is the outcome of one command: an event, an error, or neither for a
// copy of a command that was applied before and for one whose guard is stale.
type Result struct {
	Event *Event
	Err   *Error
	Copy  bool
	Stale bool
	Index Index // the store's index right after the command
}

// Action is what an event says happened.
type Action string

// The actions, as the API spells them.
const (
	ActionGet              Action = "get"
	ActionSet              Action = "set"
	ActionCreate           Action = "create"
	ActionUpdate           Action = "update"
	ActionCompareAndSwap   Action = "compareAndSwap"
	ActionDelete           Action = "delete"
	ActionCompareAndDelete Action = "compareAndDelete"
	ActionExpire           Action = "expire"
)

// Node is a key as clients see it, at one index.
type Node struct {
	Key      string // "/" for the root
	Value    string
	Dir      bool
	Deleted  bool // shown by delete and expire events: no value
	Created  Index
	Modified Index
	// Expires is the wall time of expiry in Unix nanoseconds, as the leader's
	// clock saw it; 0 for a permanent key. TTL is the time left in log time,
	// meaningful only where Expires is not 0.
	Expires int64
	TTL     time.Duration
	Nodes   []*Node // children, sorted by key; only where asked for
}

// Event is one change of the store. It is immutable once made: the writer, the
// history and every watcher share it.
type Event struct {
	Action  Action
	Index   Index // equals Node.Modified
	Node    *Node
	Prev    *Node // nil where nothing was there
	Refresh bool  // takes an index and a place in the history, wakes nobody

	// gone is the directory that a delete or expire event removed, as it was:
	// it tells which watched keys existed inside. Nil for everything else.
	gone *node
}

// Error is a refusal with its v2 API code. Index is the store's index at the
// time, or 0 where the store was not asked.
type Error struct {
	Code  Code
	Cause string
	Index Index
}
