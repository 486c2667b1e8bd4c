package auth

import (
	"crypto/sha256"
	"encoding/base64"

	"golang.org/x/crypto/bcrypt"
)

// The cost of a hash: the time to make or check one doubles with each step.
const (
	CostMin     = bcrypt.MinCost
	CostMax     = bcrypt.MaxCost
	CostDefault = bcrypt.DefaultCost
)

// bcryptMax is the longest password that bcrypt takes in, in bytes.
const bcryptMax = 72

// Passwords makes and checks what is kept of passwords. Both take tens of
// milliseconds, so they belong outside the loop.
type Passwords interface {
	// Hash gives what is kept of a password.
	Hash(password string) (string, error)
	// Check says whether hash was made of password.
	Check(hash, password string) bool
}

// Bcrypt is Passwords of that cost. Check takes hashes of every cost, as long as each
// took to make.
type Bcrypt int

// Hash implements Passwords.
func (cost Bcrypt) Hash(password string) (string, error) {
	h, err := bcrypt.GenerateFromPassword(taken(password), int(cost))
	return string(h), err
}

// Check implements Passwords.
func (Bcrypt) Check(hash, password string) bool {
	return bcrypt.CompareHashAndPassword([]byte(hash), taken(password)) == nil
}

// taken gives what bcrypt gets to see: all of a long password counts, not only the
// beginning that fits.
func taken(password string) []byte {
	if len(password) <= bcryptMax {
		return []byte(password)
	}
	sum := sha256.Sum256([]byte(password))
	return base64.StdEncoding.AppendEncode(nil, sum[:])
}

// provedMax is how many proofs are remembered.
const provedMax = 1024

// Proved remembers which passwords were lately found to match which hashes, so that
// a client that keeps coming costs one check. It holds digests only; a changed
// password has another hash and so another digest.
type Proved struct {
	known map[[sha256.Size]byte]bool
	order [][sha256.Size]byte // oldest first
}

func digest(hash, password string) [sha256.Size]byte {
	return sha256.Sum256([]byte(hash + "\x00" + password))
}

// Has says whether the password is known to match.
func (p *Proved) Has(hash, password string) bool { return p.known[digest(hash, password)] }

// Add remembers a match, in the place of the oldest where there are too many.
func (p *Proved) Add(hash, password string) {
	d := digest(hash, password)
	if p.known[d] {
		return
	}
	if p.known == nil {
		p.known = make(map[[sha256.Size]byte]bool)
	}
	if len(p.order) >= provedMax {
		delete(p.known, p.order[0])
		p.order = p.order[1:]
	}
	p.known[d] = true
	p.order = append(p.order, d)
}
