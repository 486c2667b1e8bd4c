package peer

// verdict says what to do with a frame that arrived.
type verdict int

const (
	fresh    verdict = iota // deliver
	repeated                // came before
	stale                   // an earlier life, or too far behind to know
)

// inbox remembers which sequences of the newest incarnation were delivered.
type inbox struct {
	incarnation uint64
	highest     uint64 // Invariant: no sequence above it was delivered.
	// seen has the bit of sequence s at s%Window, for the Window sequences up
	// to highest.
	seen [Window / 64]uint64
}

// admit decides about a frame and remembers it if it is fresh.
func (in *inbox) admit(incarnation, sequence uint64) verdict {
	switch {
	case incarnation < in.incarnation:
		return stale
	case incarnation > in.incarnation:
		*in = inbox{incarnation: incarnation}
	}
	switch {
	case sequence > in.highest:
		in.advance(sequence)
	case in.highest-sequence >= Window:
		return stale
	case in.has(sequence):
		return repeated
	}
	in.seen[sequence%Window/64] |= 1 << (sequence % 64)
	return fresh
}

// advance moves the window up to sequence and forgets what falls out of it.
func (in *inbox) advance(sequence uint64) {
	if sequence-in.highest >= Window {
		in.seen = [Window / 64]uint64{}
	} else {
		for s := in.highest + 1; s <= sequence; s++ {
			in.seen[s%Window/64] &^= 1 << (s % 64)
		}
	}
	in.highest = sequence
}

func (in *inbox) has(sequence uint64) bool {
	return in.seen[sequence%Window/64]&(1<<(sequence%64)) != 0
}
