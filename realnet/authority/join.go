package authority

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// Joining is a machine that wants certificates.
type Joining struct {
	URL   string // of a member that has the authority's key, https://host:port
	Token string
	Name  string   // of this machine
	Hosts []string // what its certificates should name; what the token allows if nil
	Dir   string   // where they go
	// Renew keeps the keys that are in Dir and replaces their certificates.
	Renew bool
}

// joinTimeout bounds a join, from dialing to the last byte.
const joinTimeout = 30 * time.Second

// Join gets certificates and writes them. Keys are made here and never leave.
func Join(ctx context.Context, j Joining) error {
	token, err := ParseToken(j.Token)
	if err != nil {
		return err
	}
	base, err := url.Parse(j.URL)
	if err != nil || base.Scheme != "https" || base.Host == "" || strings.Trim(base.Path, "/") != "" {
		return fmt.Errorf("%s: want https://HOST:PORT", j.URL)
	}
	if err := CheckName(j.Name); err != nil {
		return err
	}
	if err := j.sameAuthority(token.Pin); err != nil {
		return err
	}
	keys, files, err := j.keys()
	if err != nil {
		return err
	}
	req := joinRequest{Token: j.Token, Name: j.Name, Hosts: j.Hosts, Requests: map[Role]string{}}
	for role, key := range keys {
		if req.Requests[role], err = requestPEM(j.Name, key); err != nil {
			return err
		}
	}
	reply, err := ask(ctx, base, token.Pin, &req)
	if err != nil {
		return fmt.Errorf("%s: %w", j.URL, err)
	}
	if err := reply.check(token.Pin, keys); err != nil {
		return fmt.Errorf("%s: %w", j.URL, err)
	}
	if j.Renew {
		return reply.replace(j.Dir)
	}
	files[CertFile] = []byte(reply.Authority)
	for role, cert := range reply.Certificates {
		files[string(role)+".crt"] = []byte(cert)
	}
	return files.write(j.Dir)
}

// sameAuthority refuses to renew certificates with those of another authority, which
// the others would not trust.
func (j *Joining) sameAuthority(pin Pin) error {
	if !j.Renew {
		return nil
	}
	path := filepath.Join(j.Dir, CertFile)
	have, err := readCert(path)
	if err == nil && pinOf(have) != pin {
		err = fmt.Errorf("%s: is not the authority of the token: move the directory away and join anew", path)
	}
	return err
}

// keys makes a key for each role, or reads those that are there. Files are what
// must be written of them.
func (j *Joining) keys() (keys map[Role]*ecdsa.PrivateKey, files fileSet, err error) {
	keys, files = map[Role]*ecdsa.PrivateKey{}, fileSet{}
	for _, role := range Roles {
		if j.Renew {
			keys[role], err = readKey(role.Key(j.Dir))
			if errors.Is(err, fs.ErrNotExist) {
				return nil, nil, fmt.Errorf("%w: nothing to renew: leave out --renew", err)
			}
			if err != nil {
				return nil, nil, err
			}
			continue
		}
		if keys[role], err = newKey(); err != nil {
			return nil, nil, err
		}
		if files[string(role)+".key"], err = keyPEM(keys[role]); err != nil {
			return nil, nil, err
		}
		files[string(role)+".crt"] = nil
	}
	if j.Renew {
		return keys, nil, nil
	}
	files[CertFile] = nil
	return keys, files, files.absent(j.Dir) // before the token is spent
}

func requestPEM(name string, key *ecdsa.PrivateKey) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// ask sends the request to a server that proves to be of the pinned authority.
func ask(ctx context.Context, base *url.URL, pin Pin, req *joinRequest) (*joinReply, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	client := &http.Client{
		Timeout:       joinTimeout,
		Transport:     &http.Transport{TLSClientConfig: pinned(pin, base.Hostname()), DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base.ResolveReference(&url.URL{Path: JoinPath}).String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		return nil, asked(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	return readReply(resp.StatusCode, text)
}

// asked says what a failed request means.
func asked(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err // the URL is said by the caller
	}
	var remote *net.OpError
	if errors.As(err, &remote) && remote.Op == "remote error" { // a member that wants a certificate
		return fmt.Errorf("%w (%w)", errNoKey, remote.Err)
	}
	return err
}

// readReply reads the answer of a desk.
func readReply(status int, text []byte) (*joinReply, error) {
	reply := &joinReply{}
	err := json.Unmarshal(text, reply)
	switch {
	case status == http.StatusNotFound || status == http.StatusUnauthorized && reply.Message == "":
		return nil, errNoKey
	case err != nil:
		return nil, fmt.Errorf("status %d, and an answer that is no JSON: is that a keelson member?", status)
	case status != http.StatusOK:
		return nil, fmt.Errorf("refused: %s", reply.Message)
	}
	return reply, nil
}

// pinned trusts a server whose certificate names host and comes from the authority
// with the pin, which the server sends along.
func pinned(pin Pin, host string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         host,
		InsecureSkipVerify: true, // the chain is judged below: its root is not known before
		VerifyConnection: func(c tls.ConnectionState) error {
			root := find(c.PeerCertificates, pin)
			if root == nil {
				return errors.New("the server's certificate is not from the authority of the token: is that the right server?")
			}
			_, err := c.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: host, Roots: poolOf(root)})
			return err
		},
	}
}

func find(certs []*x509.Certificate, pin Pin) *x509.Certificate {
	for _, c := range certs {
		if pinOf(c) == pin {
			return c
		}
	}
	return nil
}

func poolOf(root *x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return pool
}

// check makes sure that the answer is certificates of the pinned authority for the
// keys that were sent.
func (r *joinReply) check(pin Pin, keys map[Role]*ecdsa.PrivateKey) error {
	root, err := parseCert(r.Authority)
	if err != nil || pinOf(root) != pin {
		return errors.New("the answer is not from the authority of the token")
	}
	for role, key := range keys {
		leaf, err := parseCert(r.Certificates[role])
		if err != nil {
			return fmt.Errorf("the certificate for %s: %w", role, err)
		}
		if !key.PublicKey.Equal(leaf.PublicKey) {
			return fmt.Errorf("the certificate for %s is for another key", role)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: poolOf(root), KeyUsages: usages[role]}); err != nil {
			return fmt.Errorf("the certificate for %s: %w", role, err)
		}
	}
	return nil
}

func parseCert(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no certificate in PEM form")
	}
	return x509.ParseCertificate(block.Bytes)
}

func (r *joinReply) replace(dir string) error {
	for _, role := range Roles {
		if err := replaceFile(role.Cert(dir), []byte(r.Certificates[role])); err != nil {
			return err
		}
	}
	return nil
}
