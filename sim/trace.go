package sim

import (
	"time"

	"github.com/keelson/keelson/core/env"
)

// Kind says what an event of the trace is.
type Kind uint8

// Event is one line of the trace.
type Event struct {
	ID    uint64        // rises with the order in which events were asked for
	Cause uint64        // the event during which this one was asked for; 0: the test itself
	At    time.Duration // virtual time
	Node  env.NodeID    // 0: none
	Kind  Kind
	Hash  uint64 // of the payload
	Text  string // for people; may be empty
}

// String gives the event as one line.
func (e Event) String() string { panic("sim: not built") }

// Failure is why a run failed: an oracle spoke, or something panicked.
type Failure struct {
	Oracle  string // "panic" or the name given to Fail
	Message string
	Node    env.NodeID // 0: none
	At      time.Duration
	Event   uint64
	Stack   string // of a panic, without addresses
}

// Error gives oracle, place and message.
func (f *Failure) Error() string { panic("sim: not built") }

// Signature is equal for two failures that are probably the same: the oracle and
// the top of the stack, or the message without digits.
func (f *Failure) Signature() string { panic("sim: not built") }
