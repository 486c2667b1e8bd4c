package secure

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"
)

// Files names what one side of a process needs for TLS: the side that clients see,
// or the one that other members see.
type Files struct {
	Cert, Key string // this side's certificate, with what links it to its authority, and its key; both or neither
	CA        string // authorities of the other end; "" leaves servers to those of the system and asks nobody else
	// ClientAuth says that whoever connects must show a certificate of CA.
	ClientAuth bool
}

// state is the content of the files, all read and found good together.
type state struct {
	content     [3][]byte // of Cert, Key and CA
	pair        *tls.Certificate
	authorities []*x509.Certificate
	pool        *x509.CertPool // of authorities; nil where there is no CA
	dated       []dated
	server      *tls.Config
}

// dated is a certificate and the file it is from.
type dated struct {
	file string
	cert *x509.Certificate
}

// read gives the content of the files.
func (f *Files) read() (content [3][]byte, err error) {
	for i, name := range []string{f.Cert, f.Key, f.CA} {
		if name == "" {
			continue
		}
		if content[i], err = os.ReadFile(name); err != nil {
			return content, err
		}
	}
	return content, nil
}

// parse judges the content of the files. Its errors are one line that begins with
// the name of a file.
func (f *Files) parse(content [3][]byte, now time.Time) (*state, error) {
	s := &state{content: content}
	if f.Cert != "" {
		pair, err := f.parsePair(content[0], content[1])
		if err != nil {
			return nil, err
		}
		if err := inForce(f.Cert, pair.Leaf, now); err != nil {
			return nil, err
		}
		s.pair = pair
		s.dated = append(s.dated, dated{f.Cert, pair.Leaf})
	}
	if f.CA != "" {
		all, err := certificates(f.CA, content[2])
		if err != nil {
			return nil, err
		}
		if err := anyInForce(f.CA, all, now); err != nil {
			return nil, err
		}
		s.authorities, s.pool = all, x509.NewCertPool()
		for _, c := range all {
			s.pool.AddCert(c)
			s.dated = append(s.dated, dated{f.CA, c})
		}
	}
	return s, nil
}

func (f *Files) parsePair(certText, keyText []byte) (*tls.Certificate, error) {
	chain, err := certificates(f.Cert, certText)
	if err != nil {
		return nil, err
	}
	key, err := privateKey(f.Key, keyText)
	if err != nil {
		return nil, err
	}
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("%s: is not the key of the certificate in %s", f.Key, f.Cert)
	}
	pair := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair, nil
}

// certificates reads the certificates of a PEM file; what else it holds is passed over.
func certificates(file string, text []byte) (all []*x509.Certificate, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: holds no certificate in PEM form", file)
	}
	return all, nil
}

// privateKey reads the first private key of a PEM file.
func privateKey(file string, text []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, fmt.Errorf("%s: the key is locked by a password: want it without", file)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
		return nil, fmt.Errorf("%s: a key that cannot sign", file)
	}
	return nil, fmt.Errorf("%s: holds no private key in PEM form", file)
}

// inForce reports a certificate that is too old or too new.
func inForce(file string, c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("%s: expired on %s: renew it", file, date(c.NotAfter))
	case now.Before(c.NotBefore):
		return fmt.Errorf("%s: not valid before %s: look at this machine's clock", file, date(c.NotBefore))
	}
	return nil
}

// anyInForce reports authorities of which none counts at present.
func anyInForce(file string, all []*x509.Certificate, now time.Time) (err error) {
	for _, c := range all {
		if err = inForce(file, c, now); err == nil {
			return nil
		}
	}
	return err
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// isSame reports whether nothing changed since s was read.
func (s *state) isSame(content [3][]byte) bool {
	for i := range content {
		if !bytes.Equal(s.content[i], content[i]) {
			return false
		}
	}
	return true
}
