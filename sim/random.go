package sim

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"time"
)

// stream is one random generator that counts its draws.
type stream struct {
	pcg   rand.PCG
	draws uint64
}

// Uint64 implements rand.Source.
func (s *stream) Uint64() uint64 {
	s.draws++
	return s.pcg.Uint64()
}

// random is a stream with the methods of rand.Rand.
type random struct {
	*rand.Rand
	source *stream
}

func newRandom(seed uint64, purpose string) *random {
	h := hashString(fold(seed^0x6b65656c736f6e21, hashKey), purpose)
	s := &stream{}
	s.pcg.Seed(fold(h, hashKey), fold(h^hashKey, seed|1))
	return &random{Rand: rand.New(s), source: s}
}

// chance is true with probability p. It draws only where the answer is open.
func (r *random) chance(p float64) bool {
	switch {
	case p <= 0:
		return false
	case p >= 1:
		return true
	}
	return r.Float64() < p
}

// tail draws from an exponential distribution, cut off at twenty times its mean.
func (r *random) tail(mean time.Duration) time.Duration {
	if mean <= 0 {
		return 0
	}
	return time.Duration(min(r.ExpFloat64(), 20) * float64(mean))
}

// upTo draws evenly from [0, d].
func (r *random) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(r.Int64N(int64(d) + 1))
}

// The hash is a fixed one: hash/maphash differs from process to process, and the
// standard ones cost more than the events they describe. Each step multiplies
// 64 by 64 bits and folds the halves, as wyhash does.
const (
	hashKey   = 0x9e3779b97f4a7c15
	lengthKey = 0xa0761d6478bd642f // another one: what is folded next must not meet its own factor
)

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^hashKey, b^0xd6e8feb86659fd93)
	return hi ^ lo
}

func hashBytes(h uint64, p []byte) uint64 {
	h ^= (uint64(len(p)) + 1) * lengthKey
	for len(p) >= 16 { // one multiplication for two words
		h = fold(h^binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:]))
		p = p[16:]
	}
	if len(p) >= 8 {
		h = fold(h, binary.LittleEndian.Uint64(p))
		p = p[8:]
	}
	if len(p) > 0 {
		var last [8]byte
		copy(last[:], p)
		h = fold(h, binary.LittleEndian.Uint64(last[:]))
	}
	return h
}

func hashString(h uint64, s string) uint64 {
	h ^= (uint64(len(s)) + 1) * lengthKey
	for len(s) > 0 {
		var word [8]byte
		n := copy(word[:], s)
		h = fold(h, binary.LittleEndian.Uint64(word[:]))
		s = s[n:]
	}
	return h
}
