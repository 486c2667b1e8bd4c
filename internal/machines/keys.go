package machines

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"

	"golang.org/x/crypto/ssh"
)

// keyPair is a key in the two forms that OpenSSH keeps.
type keyPair struct {
	private []byte // PEM
	public  string // a line, as in authorized_keys
}

// keyRing is the key with which people come in, and those by which they know the
// machines.
type keyRing struct {
	user  keyPair
	hosts []keyPair // as Cluster.Machines
	known string    // as OpenSSH keeps known hosts
}

// newKeys makes all keys of a cluster, and keeps those that its visitors need.
func (c *Cluster) newKeys() (r keyRing, err error) {
	if r.user, err = newKey("keelson-cluster"); err != nil {
		return r, err
	}
	for _, m := range c.Machines {
		k, err := newKey(m.Host)
		if err != nil {
			return r, err
		}
		r.hosts = append(r.hosts, k)
		r.known += fmt.Sprintf("%s,%s %s", m.Address, m.Host, k.public)
	}
	for _, f := range []struct {
		path string
		mode os.FileMode
		text string
	}{
		{c.KeyFile(), 0o600, string(r.user.private)},
		{c.KeyFile() + ".pub", 0o644, r.user.public},
		{c.KnownHosts(), 0o644, r.known},
	} {
		if err := os.WriteFile(f.path, []byte(f.text), f.mode); err != nil {
			return r, err
		}
	}
	return r, nil
}

// newKey makes a key that no other has.
func newKey(comment string) (k keyPair, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return k, err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return k, err
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		return k, err
	}
	return keyPair{pem.EncodeToMemory(block), fmt.Sprintf("%s %s\n", trimmed(line), comment)}, nil
}

// trimmed is a public key without the newline that ends its form.
func trimmed(k ssh.PublicKey) []byte {
	line := ssh.MarshalAuthorizedKey(k)
	return line[:len(line)-1]
}
