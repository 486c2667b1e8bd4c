package secure

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/realnet/authority"
)

// lines is a log that a test looks at.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Log(level env.Level, msg string, kv ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprint(append([]any{level, " ", msg, " "}, kv...)...))
}

func (l *lines) count(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// machines makes an authority and a machine with its certificates.
func machine(t *testing.T, name string, hosts ...string) (*authority.Authority, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	a, err := authority.Init(dir, name+" authority", authority.Order{Name: name, Hosts: hosts}, time.Now())
	require.NoError(t, err)
	return a, dir
}

func files(dir string, role authority.Role) Files {
	return Files{Cert: role.Cert(dir), Key: role.Key(dir), CA: filepath.Join(dir, authority.CertFile), ClientAuth: true}
}

func open(t *testing.T, f Files, o Options) *Keeper {
	t.Helper()
	if o.Log == nil {
		o.Log = &lines{}
	}
	k, err := Open(f, o)
	require.NoError(t, err)
	t.Cleanup(k.Close)
	return k
}

// echo serves what is sent back to the sender, and gives its address.
func echo(t *testing.T, k *Keeper, refused func(net.Addr, error)) string {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := k.Listen(inner, refused)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		tasks.Wait()
	})
	return l.Addr().String()
}

// say sends a word to an echo at address, called host there, and wants it back.
func say(t *testing.T, k *Keeper, address, host string) (net.Conn, error) {
	t.Helper()
	raw, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	c, err := k.Dial(t.Context(), raw, net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	return c, again(c)
}

func again(c net.Conn) error {
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte("word")); err != nil {
		return err
	}
	var p [4]byte
	if _, err := io.ReadFull(c, p[:]); err != nil {
		return err
	}
	if string(p[:]) != "word" {
		return errors.New("not what was sent")
	}
	return nil
}

func TestMutualTLS(t *testing.T) {
	_, ours := machine(t, "ours")
	_, theirs := machine(t, "theirs")
	log := &lines{}
	server := open(t, files(ours, authority.Peer), Options{Log: log})
	address := echo(t, server, LogRefused(log, "peer refused"))

	_, err := say(t, open(t, files(ours, authority.Peer), Options{}), address, "localhost")
	require.NoError(t, err)

	// Another authority: both ends refuse, and say whom.
	foreign := open(t, files(theirs, authority.Peer), Options{})
	_, err = say(t, foreign, address, "localhost")
	require.ErrorContains(t, err, `the certificate of "CN=ours", issued by "CN=ours authority", is refused: x509: certificate signed by unknown authority`)
	blind := files(theirs, authority.Peer)
	blind.CA = filepath.Join(ours, authority.CertFile)
	for range 3 {
		_, err = say(t, open(t, blind, Options{}), address, "localhost")
		require.ErrorContains(t, err, "the other end refuses this one's certificate")
	}
	assert.Equal(t, 1, log.count(`the certificate of "CN=theirs", issued by "CN=theirs authority", is refused`), "said once a minute")

	// No certificate at all.
	_, err = say(t, open(t, Files{CA: filepath.Join(ours, authority.CertFile)}, Options{}), address, "localhost")
	require.ErrorContains(t, err, "the other end refuses")
	assert.Equal(t, 1, log.count("client didn't provide a certificate"))

	// A certificate for clients only is none for a server; and the name counts.
	asServer := echo(t, open(t, files(ours, authority.Client), Options{}), nil)
	_, err = say(t, open(t, files(ours, authority.Peer), Options{}), asServer, "localhost")
	require.ErrorContains(t, err, "incompatible key usage")
	_, err = say(t, open(t, files(ours, authority.Peer), Options{}), address, "elsewhere.example")
	require.ErrorContains(t, err, "not elsewhere.example")

	// Plain HTTP is told what is spoken here.
	raw, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer raw.Close()
	raw.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	text, _ := io.ReadAll(raw)
	assert.Contains(t, string(text), "https is spoken")
}

func TestOldVersionsOfTLSAreRefused(t *testing.T) {
	_, dir := machine(t, "m")
	k := open(t, files(dir, authority.Peer), Options{})
	address := echo(t, k, nil)
	c := k.Client("localhost")
	c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	_, err := tls.Dial("tcp", address, c)
	require.ErrorContains(t, err, "protocol version")
	c.MaxVersion = tls.VersionTLS12
	conn, err := tls.Dial("tcp", address, c)
	require.NoError(t, err)
	conn.Close()
}

func TestStrangers(t *testing.T) {
	_, dir := machine(t, "m")
	k := open(t, files(dir, authority.Server), Options{Strangers: true})
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := k.Listen(inner, nil)
	defer l.Close()
	for _, c := range []struct {
		files    Files
		stranger bool
	}{
		{Files{CA: filepath.Join(dir, authority.CertFile)}, true},
		{files(dir, authority.Client), false},
	} {
		stranger := make(chan bool, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			var p [4]byte
			io.ReadFull(conn, p[:])
			conn.Write(p[:])
			stranger <- IsStranger(conn)
			conn.Close()
		}()
		_, err := say(t, open(t, c.files, Options{}), l.Addr().String(), "localhost")
		require.NoError(t, err)
		assert.Equal(t, c.stranger, <-stranger)
	}
	assert.False(t, IsStranger(&net.TCPConn{}))
}

func TestNamesOfPeers(t *testing.T) {
	_, dir := machine(t, "m", "core-01.example", "10.0.0.1")
	k := open(t, files(dir, authority.Peer), Options{})
	leaf := k.state.Load().pair.Leaf
	assert.NoError(t, checkName(leaf, []string{"core-02.example", "core-01.example"}))
	assert.NoError(t, checkName(leaf, []string{"10.0.0.1"}))
	assert.ErrorContains(t, checkName(leaf, []string{"core-02.example", "10.0.0.2"}), `the certificate of "CN=m" names none of core-02.example, 10.0.0.2`)
	assert.True(t, anyResolves([]string{"*.example", "127.0.0.1"}, "127.0.0.1"))
	assert.False(t, anyResolves([]string{"localhost", "*.example"}, "127.0.0.1"), "everybody is localhost")
	assert.Equal(t, []string{"core-01", "::1"}, hosts([]string{"https://core-01:2380", "https://[::1]:2380"}))
}

// Errors are one line that begins with the file.
func TestBrokenFiles(t *testing.T) {
	a, dir := machine(t, "m")
	good := files(dir, authority.Peer)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	issue := func(name string, now time.Time) string {
		require.NoError(t, a.IssueFiles(dir, name, authority.Order{Name: "m", Role: authority.Peer, TTL: time.Hour}, now))
		return filepath.Join(dir, name)
	}
	old, early := issue("old", time.Now().Add(-48*time.Hour)), issue("early", time.Now().Add(48*time.Hour))
	empty := write("empty", "")
	locked := write("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	torn := write("torn", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	missing := filepath.Join(dir, "missing")
	for _, c := range []struct {
		change func(f *Files)
		file   string
		text   string
	}{
		{func(f *Files) { f.Cert = missing }, missing, "no such file"},
		{func(f *Files) { f.Key = missing }, missing, "no such file"},
		{func(f *Files) { f.CA = missing }, missing, "no such file"},
		{func(f *Files) { f.Cert = empty }, empty, "holds no certificate in PEM form"},
		{func(f *Files) { f.Key = empty }, empty, "holds no private key in PEM form"},
		{func(f *Files) { f.CA = empty }, empty, "holds no certificate in PEM form"},
		{func(f *Files) { f.Cert = torn }, torn, "x509"},
		{func(f *Files) { f.Key = locked }, locked, "locked by a password"},
		{func(f *Files) { f.Key = authority.Client.Key(dir) }, authority.Client.Key(dir), "is not the key of the certificate in " + good.Cert},
		{func(f *Files) { f.Cert, f.Key = old+".crt", old+".key" }, old + ".crt", "expired on"},
		{func(f *Files) { f.Cert, f.Key = early+".crt", early+".key" }, early + ".crt", "not valid before"},
		{func(f *Files) { f.CA = old + ".crt" }, "", ""}, // its second certificate, the authority's, counts
	} {
		f := good
		c.change(&f)
		k, err := Open(f, Options{Log: &lines{}})
		if c.text == "" {
			require.NoError(t, err)
			k.Close()
			continue
		}
		if assert.ErrorContains(t, err, c.text) {
			assert.Contains(t, err.Error(), c.file)
			assert.NotContains(t, err.Error(), "\n")
		}
	}
}

// Half of a renewal changes nothing, is logged once, and the whole counts.
func TestHalfARenewal(t *testing.T) {
	a, dir := machine(t, "m")
	log := &lines{}
	k := open(t, files(dir, authority.Peer), Options{Log: log, Poll: time.Hour})
	require.NoError(t, a.IssueFiles(dir, "new", authority.Order{Name: "renewed", Hosts: []string{"localhost"}, Role: authority.Peer}, time.Now()))
	newCert, err := os.ReadFile(filepath.Join(dir, "new.crt"))
	require.NoError(t, err)
	newKey, err := os.ReadFile(filepath.Join(dir, "new.key"))
	require.NoError(t, err)

	name := func() string { return k.state.Load().pair.Leaf.Subject.CommonName }
	require.NoError(t, os.WriteFile(authority.Peer.Cert(dir), newCert[:len(newCert)/4], 0o600))
	for range 3 {
		require.ErrorContains(t, k.Check(), "peer.crt: holds no certificate")
	}
	require.NoError(t, os.WriteFile(authority.Peer.Cert(dir), newCert, 0o600))
	for range 3 {
		require.ErrorContains(t, k.Check(), "is not the key of the certificate")
	}
	assert.Equal(t, "m", name())
	assert.Equal(t, 2, log.count("the old ones stay in use"))
	require.NoError(t, os.WriteFile(authority.Peer.Key(dir), newKey, 0o600))
	require.NoError(t, k.Check())
	assert.Equal(t, "renewed", name())
	assert.Equal(t, 1, log.count("certificates renewed"))
	require.NoError(t, k.Check())
	assert.Equal(t, 1, log.count("certificates renewed"), "once")
}

// Certificate and authority are replaced while connections come and go: none fails,
// the old authority counts no more, and what stands goes on.
func TestRenewalUnderLoad(t *testing.T) {
	a, dir := machine(t, "m")
	newAuthority, newDir := machine(t, "n")
	server := open(t, files(dir, authority.Peer), Options{Poll: 5 * time.Millisecond})
	address := echo(t, server, nil)
	client := open(t, files(dir, authority.Peer), Options{Poll: 5 * time.Millisecond})
	standing, err := say(t, client, address, "localhost")
	require.NoError(t, err)

	var made atomic.Int64
	var over atomic.Bool
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for !over.Load() {
				c, err := say(t, client, address, "localhost")
				if !assert.NoError(t, err) {
					return
				}
				c.Close()
				made.Add(1)
			}
		})
	}
	for range 5 {
		require.NoError(t, a.Renew(dir, 0, time.Now()))
		want := made.Load() + 20
		require.Eventually(t, func() bool { return made.Load() > want }, 20*time.Second, time.Millisecond)
	}
	over.Store(true)
	load.Wait()

	// The authority changes: first both are trusted, then certificates move, then
	// the old one goes.
	bundle := filepath.Join(dir, authority.CertFile)
	oldCA, newCA := read(t, bundle), read(t, filepath.Join(newDir, authority.CertFile))
	step := func(write func()) {
		t.Helper()
		write()
		require.NoError(t, server.Check())
		require.NoError(t, client.Check())
		_, err := say(t, client, address, "localhost")
		require.NoError(t, err)
	}
	old := open(t, saved(t, dir, oldCA), Options{})
	step(func() { replace(t, bundle, append(bytes.Clone(oldCA), newCA...)) })
	step(func() { require.NoError(t, newAuthority.Renew(dir, 0, time.Now())) })
	step(func() { replace(t, bundle, newCA) })
	_, err = say(t, old, address, "localhost")
	require.Error(t, err, "the old authority counts no more")
	require.NoError(t, again(standing), "what stands goes on")
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return text
}

func replace(t *testing.T, path string, text []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", text, 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// saved copies the files of a peer aside.
func saved(t *testing.T, dir string, ca []byte) Files {
	t.Helper()
	to := t.TempDir()
	for _, path := range []string{authority.Peer.Cert(dir), authority.Peer.Key(dir)} {
		replace(t, filepath.Join(to, filepath.Base(path)), read(t, path))
	}
	replace(t, filepath.Join(to, authority.CertFile), ca)
	return files(to, authority.Peer)
}

func TestTheLogWarnsBeforeTheEnd(t *testing.T) {
	a, dir := machine(t, "m")
	log := &lines{}
	require.NoError(t, a.Renew(dir, 30*24*time.Hour, time.Now()))
	var ahead atomic.Int64
	k := open(t, files(dir, authority.Peer), Options{Log: log, Poll: time.Hour, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	assert.WithinDuration(t, time.Now().Add(30*24*time.Hour), k.Expiry(), time.Minute)
	after := func(days time.Duration, soon, over int) {
		t.Helper()
		ahead.Store(int64(days * 24 * time.Hour))
		k.Check()
		k.Check()
		assert.Equal(t, soon, log.count("expires soon"))
		assert.Equal(t, over, log.count("has expired"))
	}
	after(0, 0, 0)
	after(22, 0, 0)
	after(24, 1, 0)
	after(25, 2, 0)
	after(31, 2, 1)
	assert.Equal(t, 3, log.count("peer.crt"))
}

func TestPublicHostsMayBeVouchedForByEither(t *testing.T) {
	_, dir := machine(t, "m")
	k := open(t, files(dir, authority.Peer), Options{})
	address := echo(t, k, nil)
	conn, err := tls.Dial("tcp", address, k.ClientOfPublic("localhost"))
	require.NoError(t, err)
	conn.Close()
	none := open(t, Files{}, Options{})
	assert.Nil(t, none.ClientOfPublic("example.com").RootCAs, "those of the system")
	_, err = tls.Dial("tcp", address, none.ClientOfPublic("localhost"))
	require.Error(t, err)
}
