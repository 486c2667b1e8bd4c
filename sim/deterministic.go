package sim

import "crypto/rand"

// Deterministic makes crypto/rand.Reader a constant for the rest of this process.
//
// Raft draws its election jitter from that reader and offers no other way. Call
// it once, before anything else, in a process that runs worlds and does nothing
// else: TestMain of their tests, and the sim verbs of the command. A process
// that opens sockets, speaks TLS or makes keys must never call it: every key and
// nonce would be known.
func Deterministic() {
	//lint:global raft reads this variable and offers no other way to its jitter
	rand.Reader = constant{}
}

// constant is a reader of zeros.
type constant struct{}

func (constant) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func deterministic() bool {
	_, ok := rand.Reader.(constant)
	return ok
}
