// Package authority is a cluster's own certificate authority: it makes the certificates of machines, and the tokens by which they get them.
//
// Everything is in one directory, with the authority's key on one machine only:
//
//	ca.crt ca.key      the authority
//	ca.used            tokens that were used, until they would have expired
//	server.crt .key    what clients see of this machine
//	peer.crt .key      what other members see of it, as a server and as a client
//	client.crt .key    what it shows where it is a client
package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Names of the files in a directory.
const (
	CertFile = "ca.crt"
	KeyFile  = "ca.key"
	usedFile = "ca.used"
)

// Role is what a certificate is for. Its files are named after it.
type Role string

// The roles.
const (
	Server Role = "server"
	Peer   Role = "peer"
	Client Role = "client"
)

// Roles are those of a machine that may become a member.
var Roles = []Role{Server, Peer, Client}

var usages = map[Role][]x509.ExtKeyUsage{
	Server: {x509.ExtKeyUsageServerAuth},
	Peer:   {x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	Client: {x509.ExtKeyUsageClientAuth},
}

// Cert and Key are the paths of the role's files in dir.
func (r Role) Cert(dir string) string { return filepath.Join(dir, string(r)+".crt") }

// Key is the path of the role's key.
func (r Role) Key(dir string) string { return filepath.Join(dir, string(r)+".key") }

const (
	// lifetime is how long an authority counts, and DefaultTTL how long the
	// certificates that it makes do.
	lifetime   = 10 * 365 * 24 * time.Hour
	DefaultTTL = 365 * 24 * time.Hour
	// skew is how far behind the clock of a machine may be that gets a certificate.
	skew = time.Hour
)

// Authority can make certificates.
type Authority struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New makes an authority of the given name. Nothing is written.
func New(name string, now time.Time) (*Authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{cert, key}, nil
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// Open reads the authority in dir. Its errors name the file; where there is no
// authority they wrap fs.ErrNotExist.
func Open(dir string) (*Authority, error) {
	cert, err := readCert(filepath.Join(dir, CertFile))
	if err != nil {
		return nil, err
	}
	key, err := readKey(filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s: is not the key of %s", filepath.Join(dir, KeyFile), CertFile)
	}
	return &Authority{cert, key}, nil
}

func readCert(path string) (*x509.Certificate, error) {
	der, err := readPEM(path, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	der, err := readPEM(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: want an ECDSA key, as keelson ca makes them", path)
	}
	return ec, nil
}

func readPEM(path, kind string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s: holds no %s in PEM form", path, strings.ToLower(kind))
	}
	return block.Bytes, nil
}

// Pin names an authority: the SHA-256 of its certificate.
type Pin [sha256.Size]byte

func pinOf(c *x509.Certificate) Pin { return sha256.Sum256(c.Raw) }

// Pin is what others know this authority by.
func (a *Authority) Pin() Pin { return pinOf(a.Cert) }

// Order is a certificate to be made.
type Order struct {
	Name  string   // of the machine or person
	Hosts []string // names and addresses by which it is reached
	Role  Role
	TTL   time.Duration // DefaultTTL if 0
}

// certName is what the subject of a certificate may be called.
var certName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9@._-]{0,63}$`)

// hostName is a name that can be resolved, possibly with a star for one label.
var hostName = regexp.MustCompile(`^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$`)

// CheckName judges the name of a machine.
func CheckName(name string) error {
	if !certName.MatchString(name) {
		return fmt.Errorf("name %q: want up to 64 letters, digits and .-_@", name)
	}
	return nil
}

// CheckHost judges a host name or address.
func CheckHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if len(host) > 253 || !hostName.MatchString(host) {
		return fmt.Errorf("host %q: want a host name or an address, without port", host)
	}
	return nil
}

// Issue makes a certificate for pub. The result is in PEM form and ends with the
// authority's own certificate, so that who knows only its pin can check it.
func (a *Authority) Issue(o Order, pub crypto.PublicKey, now time.Time) ([]byte, error) {
	if err := CheckName(o.Name); err != nil {
		return nil, err
	}
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.TTL < time.Minute {
		return nil, fmt.Errorf("a lifetime of %v: want a minute or more", o.TTL)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: o.Name},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(o.TTL),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           usages[o.Role],
		BasicConstraintsValid: true,
	}
	if template.ExtKeyUsage == nil {
		return nil, fmt.Errorf("role %q: want server, peer or client", o.Role)
	}
	if template.NotAfter.After(a.Cert.NotAfter) {
		template.NotAfter = a.Cert.NotAfter
	}
	for _, host := range o.Hosts {
		if err := CheckHost(host); err != nil {
			return nil, err
		}
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Cert, pub, a.key)
	if err != nil {
		return nil, err
	}
	return append(certPEM(der), certPEM(a.Cert.Raw)...), nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Loopback are the names by which every machine reaches itself.
var Loopback = []string{"localhost", "127.0.0.1", "::1"}

// withLoopback adds Loopback to hosts and drops what stands there twice.
func withLoopback(hosts []string) []string {
	var all []string
	for _, h := range append(slices.Clone(hosts), Loopback...) {
		if !slices.Contains(all, h) {
			all = append(all, h)
		}
	}
	return all
}

// Init makes an authority in dir, and certificates for this machine. It refuses to
// touch a file that is there.
func Init(dir, authorityName string, o Order, now time.Time) (*Authority, error) {
	a, err := New(authorityName, now)
	if err != nil {
		return nil, err
	}
	key, err := keyPEM(a.key)
	if err != nil {
		return nil, err
	}
	files := fileSet{CertFile: certPEM(a.Cert.Raw), KeyFile: key}
	o.Hosts = withLoopback(o.Hosts)
	for _, role := range Roles {
		o.Role = role
		if err := a.make(files, string(role), o, now); err != nil {
			return nil, err
		}
	}
	return a, files.write(dir)
}

// IssueFiles makes a key and a certificate in dir, BASE.crt and BASE.key.
func (a *Authority) IssueFiles(dir, base string, o Order, now time.Time) error {
	files := fileSet{}
	if err := a.make(files, base, o, now); err != nil {
		return err
	}
	return files.write(dir)
}

func (a *Authority) make(files fileSet, base string, o Order, now time.Time) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	keyText, err := keyPEM(key)
	if err != nil {
		return err
	}
	cert, err := a.Issue(o, key.Public(), now)
	if err != nil {
		return err
	}
	files[base+".crt"], files[base+".key"] = cert, keyText
	return nil
}

// Renew makes new certificates for this machine's old keys, with the old names. As
// only one file of each pair changes, no reader ever finds half of it.
func (a *Authority) Renew(dir string, ttl time.Duration, now time.Time) error {
	for _, role := range Roles {
		old, err := readCert(role.Cert(dir))
		if err != nil {
			return err
		}
		cert, err := a.Issue(Order{old.Subject.CommonName, HostsOf(old), role, ttl}, old.PublicKey, now)
		if err != nil {
			return fmt.Errorf("%s: %w", role.Cert(dir), err)
		}
		if err := replaceFile(role.Cert(dir), cert); err != nil {
			return err
		}
	}
	return nil
}

// HostsOf are the names and addresses in a certificate.
func HostsOf(c *x509.Certificate) []string {
	hosts := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

// ThisMachine gives the names and addresses by which others may reach this one.
func ThisMachine() (hosts []string, err error) {
	if name, err := os.Hostname(); err == nil && CheckHost(name) == nil {
		hosts = append(hosts, name)
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			hosts = append(hosts, n.IP.String())
		}
	}
	return hosts, nil
}

var errNoKey = errors.New("the authority's key is not on this machine: ask the one where keelson ca init was run")
