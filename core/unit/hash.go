package unit

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
)

// Hash is that of the file's normal form.
func (f *File) Hash() Hash { return sha1.Sum([]byte(f.String())) }

// String is the hash in lower-case hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Short is how lists show a hash.
func (h Hash) Short() string { return h.String()[:7] }

// IsZero reports whether h is the hash of nothing.
func (h Hash) IsZero() bool { return h == Hash{} }

// ParseHash reads what String prints.
func ParseHash(s string) (h Hash, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("%q is no hash of a unit file", s)
	}
	return Hash(b), nil
}
