package sim

import "github.com/keelson/keelson/core/auth"

// passwords does each piece of work on passwords once in a world: there is no chance
// in it, because the salt comes from the constant reader, and it would take a tenth
// of the processor time of a run.
type passwords struct {
	auth.Bcrypt
	hashes map[string]string
	checks map[[2]string]bool
}

var _ auth.Passwords = (*passwords)(nil)

func newPasswords() *passwords {
	return &passwords{Bcrypt: auth.Bcrypt(auth.CostMin), hashes: make(map[string]string), checks: make(map[[2]string]bool)}
}

// Hash implements auth.Passwords.
func (p *passwords) Hash(password string) (string, error) {
	if h, known := p.hashes[password]; known {
		return h, nil
	}
	h, err := p.Bcrypt.Hash(password)
	if err == nil {
		p.hashes[password] = h
	}
	return h, err
}

// Check implements auth.Passwords.
func (p *passwords) Check(hash, password string) bool {
	of := [2]string{hash, password}
	ok, known := p.checks[of]
	if !known {
		ok = p.Bcrypt.Check(hash, password)
		p.checks[of] = ok
	}
	return ok
}
