package authority

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Token is the right to get certificates once, soon. Whoever has it trusts the
// authority that it names, and needs to know nothing else.
type Token struct {
	ID      [16]byte // random: by it the token is known when it comes again
	Expires time.Time
	Pin     Pin
	// Hosts are the names and addresses that the certificates may have. Where there
	// is none it is the address that the request comes from.
	Hosts []string
}

const (
	tokenPrefix = "keelson1." // with the version of what follows
	tokenDomain = "keelson join token 1\x00"
	tokenMax    = 8 << 10
	hostsMax    = 64
	// TokenTTLMax bounds how long a token may count.
	TokenTTLMax = 24 * time.Hour
)

// NewToken makes a token that counts for ttl.
func NewToken(pin Pin, hosts []string, ttl time.Duration, now time.Time) (*Token, error) {
	if ttl < time.Second || ttl > TokenTTLMax {
		return nil, fmt.Errorf("a lifetime of %v: want from 1s to %v", ttl, TokenTTLMax)
	}
	if len(hosts) > hostsMax {
		return nil, fmt.Errorf("%d hosts: want at most %d", len(hosts), hostsMax)
	}
	for _, h := range hosts {
		if err := CheckHost(h); err != nil {
			return nil, err
		}
	}
	t := &Token{Expires: now.Add(ttl).Truncate(time.Second), Pin: pin, Hosts: hosts}
	rand.Read(t.ID[:]) // never fails: see crypto/rand
	return t, nil
}

// appendTo appends what is signed: ID, expiry, pin, and the hosts with their
// lengths.
func (t *Token) appendTo(p []byte) []byte {
	p = append(p, t.ID[:]...)
	p = binary.BigEndian.AppendUint64(p, uint64(t.Expires.Unix()))
	p = append(p, t.Pin[:]...)
	p = append(p, byte(len(t.Hosts)))
	for _, h := range t.Hosts {
		p = append(p, byte(len(h)))
		p = append(p, h...)
	}
	return p
}

// Sign gives the token as text.
func (a *Authority) Sign(t *Token) (string, error) {
	body := t.appendTo(nil)
	sig, err := ecdsa.SignASN1(rand.Reader, a.key, digest(body))
	if err != nil {
		return "", err
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(body, sig...)), nil
}

func digest(body []byte) []byte {
	sum := sha256.Sum256(append([]byte(tokenDomain), body...))
	return sum[:]
}

var errToken = errors.New("token: want what keelson ca token prints, whole")

// ParseToken reads a token. It proves nothing: that is Verify's.
func ParseToken(text string) (*Token, error) {
	t, _, _, err := splitToken(text)
	return t, err
}

// splitToken gives the token, the bytes that are signed and their signature.
func splitToken(text string) (t *Token, body, sig []byte, err error) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok || len(text) > tokenMax {
		return nil, nil, nil, errToken
	}
	p, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	const fixed = 16 + 8 + 32 + 1
	if err != nil || len(p) < fixed {
		return nil, nil, nil, errToken
	}
	t = &Token{ID: [16]byte(p), Pin: Pin(p[24:56])}
	seconds := binary.BigEndian.Uint64(p[16:24])
	if seconds > 1<<40 || p[56] > hostsMax {
		return nil, nil, nil, errToken
	}
	t.Expires = time.Unix(int64(seconds), 0)
	at := fixed
	for range p[56] {
		if at >= len(p) || at+1+int(p[at]) > len(p) {
			return nil, nil, nil, errToken
		}
		host := string(p[at+1 : at+1+int(p[at])])
		if CheckHost(host) != nil {
			return nil, nil, nil, errToken
		}
		t.Hosts = append(t.Hosts, host)
		at += 1 + len(host)
	}
	return t, p[:at], p[at:], nil
}

// Verify reads a token and makes sure that this authority made it and that its time
// is not over. Whether it was used before is the ledger's to say.
func Verify(text string, authority *x509.Certificate, now time.Time) (*Token, error) {
	t, body, sig, err := splitToken(text)
	if err != nil {
		return nil, err
	}
	if t.Pin != pinOf(authority) {
		return nil, errors.New("token: is of another authority")
	}
	pub, ok := authority.PublicKey.(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(pub, digest(body), sig) {
		return nil, errors.New("token: was changed: its signature is not this authority's")
	}
	if !now.Before(t.Expires) {
		return nil, fmt.Errorf("token: expired on %s: make a new one with keelson ca token", t.Expires.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	return t, nil
}

// hostsFor are the hosts that a request for asked from the address gets.
func (t *Token) hostsFor(asked []string, from netip.Addr) ([]string, error) {
	allowed := t.Hosts
	if len(allowed) == 0 {
		allowed = []string{from.Unmap().WithZone("").String()}
	}
	if len(asked) == 0 {
		return withLoopback(allowed), nil
	}
	for _, h := range asked {
		if !slices.Contains(allowed, h) && !slices.Contains(Loopback, h) {
			return nil, fmt.Errorf("host %q: this token is for %s: make one with keelson ca token --host %s", h, strings.Join(allowed, ", "), h)
		}
	}
	return withLoopback(asked), nil
}
