// Package env declares everything a node may touch outside its own memory.
//
// Package sim implements it with virtual time and seeded faults, package realnet
// with goroutines and the operating system. Both keep the same promises, which
// package envtest checks:
//
//   - One loop. Every method is called from the node's loop and every completion
//     runs on it, so nothing above this package needs a lock.
//   - Later. A completion never runs inside the call that asked for it.
//   - Once, or never. A completion runs once; after a crash it never runs.
//   - In order, by name. Two writes to one file finish in the order asked.
//   - Still. Clock.Now does not move within a turn.
//
// Whatever crosses these interfaces is plain data, so that a node's inputs can
// be recorded and run again.
package env

import (
	"io"
	"math/rand/v2"
	"strconv"
	"time"
)

// NodeID names a machine for as long as its cluster lives. Zero is nobody.
type NodeID uint64

// String gives the ID as people and the HTTP API write it: lower-case hex
// without padding.
func (id NodeID) String() string { return strconv.FormatUint(uint64(id), 16) }

// Instant is a reading of one node's monotonic clock, in nanoseconds since an
// origin that means nothing on another machine or after a restart.
type Instant int64

// Add gives the instant d later.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Sub gives the time from u to t.
func (t Instant) Sub(u Instant) time.Duration { return time.Duration(t - u) }

// Env is one node's world. All fields are required, but for Systemd and Journal, which
// only a machine that runs units has.
type Env struct {
	Clock   Clock
	Disk    Disk
	Net     Net
	Web     Web
	Names   Names
	Work    Work
	Systemd Systemd
	Journal Journal
	Log     Log
	Rare    Rare
	// Rand is this node's own stream. It is seeded differently at each start
	// and must never decide anything that replicas have to agree on.
	Rand *rand.Rand
}

// Clock tells time and wakes the node.
type Clock interface {
	Now() Instant    // monotonic; means nothing on another machine
	Wall() time.Time // may jump, UTC; only for what people read
	// After runs fn once, on the loop, no sooner than d from Now. A d of zero
	// or less means in a later turn, as soon as possible.
	After(d time.Duration, fn func()) Timer
}

// Timer is one pending call of Clock.After.
type Timer interface {
	// Stop makes sure that the function does not run any more. Stopping twice,
	// or after it ran, does nothing.
	Stop()
}

// Disk holds the few files a node owns. Its verbs are the durable steps a node
// needs, not the calls of the operating system. A name is one path element, or a
// directory and an element joined by a slash: member/identity. Directories are made
// when they are needed; In gives the view of one of them.
//
// After a completion with an error, what the file holds is unknown until the
// node starts again: the node must stop and recover, never retry. The one
// exception is an error that wraps ErrFull: then nothing of the request was
// kept, and the same request may be made again later.
//
// An append that nobody waits for fails for lack of room in silence. Then every
// later append to that name fails with ErrFull too, up to and including the next
// one with a completion, which tells: no piece is kept behind a missing one.
// Appends that are asked for before that completion runs may go either way.
type Disk interface {
	// Names lists the files, sorted. At start only.
	Names() ([]string, error)
	// Load reads a whole file. At start only. A missing file is fs.ErrNotExist.
	// A file that was appended to may be followed by zero bytes that nobody
	// wrote (room reserved on disk).
	//
	// To be read is not to be durable. What an earlier life asked for and never
	// heard of may be seen after its process was killed and be gone after a
	// later power loss: bytes at the end of a file, new content of a replaced
	// one (the old comes back), a removal (the file comes back). A node that
	// relies on such a thing must first write it itself. The same goes for
	// Names.
	Load(name string) ([]byte, error)
	// Append adds p to the end of name, making the file if needed. After
	// done(nil), p and everything appended to name before it survive power
	// loss. A nil done asks for order but not for durability. The caller must
	// not change p afterwards.
	//
	// Appending to a file that Load saw in this life is not allowed: a node
	// begins a new file at each start. One that was removed since is a new file.
	Append(name string, p []byte, done func(error))
	// Replace sets the content of name, wholly or not at all, and durably once
	// done(nil) runs. Content is read once, possibly outside the loop, so it
	// must be an immutable value; an error it returns is passed to done and
	// leaves the file as it was.
	Replace(name string, content io.WriterTo, done func(error))
	// Remove deletes name, durably once done(nil) runs. A missing file is no
	// error, but then nothing is made durable: a removal that an earlier life
	// began may still be taken back. A nil done is allowed.
	Remove(name string, done func(error))
}

// Net carries frames to other nodes. It promises nothing: frames may be lost,
// late, repeated, reordered or cut off one way. Frames that arrive are handed
// to the node by whoever drives it.
type Net interface {
	// Send takes ownership of frame. False means that it was dropped on the
	// spot, because the queue to that node is full or nobody is known there.
	Send(to NodeID, frame []byte) bool
	// Set says who this node is and makes the nodes that can be reached exactly
	// g.Peers. Setting the same again is free. Before the first Set nobody can be
	// reached and nothing arrives. A URL that cannot be used is logged, and its
	// node is reached by its other ones or not at all.
	//
	// A node of the same cluster that is not in the group can be answered once a
	// frame of it has arrived: it says where it is, by the URLs that its own group
	// has for it. Or a member that is behind could never catch up with a leader of
	// whom it has not heard yet.
	Set(g Group)
}

// Group is a cluster as one of its nodes sees it.
type Group struct {
	Cluster uint64
	Self    NodeID
	Peers   []Peer // sorted by ID; Self may be among them and is passed over
}

// Peer is where a node is found.
type Peer struct {
	ID   NodeID
	URLs []string // scheme://host:port, tried in turn
}

// Level says whom a log line is for.
type Level int8

// The levels, in rising order.
const (
	Debug Level = iota // developers
	Info               // operators, life events of a node
	Warn               // operators, something to look at
	Error              // operators, something to do
)

// Log takes lines for people. kv is pairs of a string and any printable value,
// as log/slog takes them.
type Log interface {
	Log(level Level, msg string, kv ...any)
}

// Rare is how the simulator reaches code that hardly ever runs.
type Rare interface {
	// Chance says whether to take a correct but rare path here. It is always
	// false on a real machine. The name is "package: what happens".
	Chance(name string) bool
	// Mark notes that a rare state was reached. It has no effect on the node.
	Mark(name string)
}
