package authority

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

type quiet struct{}

func (quiet) Log(env.Level, string, ...any) {}

// serveDesk is a server with the certificate of the authority in dir, giving out others.
func serveDesk(t *testing.T, dir string) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(Server.Cert(dir), Server.Key(dir))
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(JoinPath, &Desk{Dir: dir, Log: quiet{}})
	s := httptest.NewUnstartedServer(mux)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func tokenOf(t *testing.T, a *Authority, made time.Time, hosts ...string) string {
	t.Helper()
	token, err := NewToken(a.Pin(), hosts, time.Minute, made)
	require.NoError(t, err)
	text, err := a.Sign(token)
	require.NoError(t, err)
	return text
}

func TestJoin(t *testing.T) {
	a, dir := initDir(t)
	url := serveDesk(t, dir)
	mine := filepath.Join(t.TempDir(), "etc", "tls")
	j := Joining{URL: url, Token: tokenOf(t, a, time.Now(), "core-02"), Name: "core-02", Dir: mine}
	require.NoError(t, Join(t.Context(), j))

	for _, role := range Roles {
		pair, err := tls.LoadX509KeyPair(role.Cert(mine), role.Key(mine))
		require.NoError(t, err)
		assert.Equal(t, "core-02", pair.Leaf.Subject.CommonName)
		assert.NoError(t, pair.Leaf.VerifyHostname("core-02"))
		assert.Error(t, pair.Leaf.VerifyHostname("first.example"))
	}
	_, err := os.Stat(filepath.Join(mine, KeyFile))
	assert.ErrorIs(t, err, os.ErrNotExist, "the authority's key stays where it is")

	// The second time the directory is taken; in another one the token is used.
	assert.ErrorContains(t, Join(t.Context(), j), "ca.crt: is there already")
	j.Dir = t.TempDir()
	assert.ErrorContains(t, Join(t.Context(), j), "token: was used already")
	left, err := os.ReadDir(j.Dir)
	require.NoError(t, err)
	assert.Empty(t, left)

	// To renew keeps the keys.
	before, err := os.ReadFile(Peer.Cert(mine))
	require.NoError(t, err)
	j = Joining{URL: url, Token: tokenOf(t, a, time.Now(), "core-02", "10.9.9.9"), Name: "core-02", Dir: mine, Renew: true}
	require.NoError(t, Join(t.Context(), j))
	after, err := os.ReadFile(Peer.Cert(mine))
	require.NoError(t, err)
	assert.NotEqual(t, before, after)
	pair, err := tls.LoadX509KeyPair(Peer.Cert(mine), Peer.Key(mine))
	require.NoError(t, err)
	assert.NoError(t, pair.Leaf.VerifyHostname("10.9.9.9"))
}

func TestJoinsThatAreRefused(t *testing.T) {
	a, dir := initDir(t)
	other, otherDir := initDir(t)
	url, otherURL := serveDesk(t, dir), serveDesk(t, otherDir)
	now := time.Now()

	keyless := t.TempDir()
	for _, name := range []string{"server.crt", "server.key", "ca.crt"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(keyless, name), text, 0o600))
	}
	for _, c := range []struct {
		what string
		j    Joining
		text string
	}{
		{"a server of another authority", Joining{URL: otherURL, Token: tokenOf(t, a, now)}, "not from the authority of the token"},
		{"a token of another authority", Joining{URL: url, Token: tokenOf(t, other, now)}, "not from the authority of the token"},
		{"an old token", Joining{URL: url, Token: tokenOf(t, a, now.Add(-time.Hour))}, "token: expired on"},
		{"no token", Joining{URL: url, Token: "secret"}, "token: want what keelson ca token prints"},
		{"a host of somebody else", Joining{URL: url, Token: tokenOf(t, a, now, "core-02"), Hosts: []string{"first.example"}}, `host "first.example": this token is for core-02`},
		{"a host where the token names none", Joining{URL: url, Token: tokenOf(t, a, now), Hosts: []string{"core-02"}}, `host "core-02": this token is for 127.0.0.1`},
		{"no TLS", Joining{URL: "http://127.0.0.1:1", Token: tokenOf(t, a, now)}, "want https://HOST:PORT"},
		{"a member without the authority's key", Joining{URL: serveDesk(t, keyless), Token: tokenOf(t, a, now)}, "ask the one where keelson ca init was run"},
		{"a strange name", Joining{URL: url, Token: tokenOf(t, a, now), Name: "a/b"}, `name "a/b"`},
		{"nothing to renew", Joining{URL: url, Token: tokenOf(t, a, now), Renew: true}, "no such file"},
	} {
		c.j.Dir = t.TempDir()
		if c.j.Name == "" {
			c.j.Name = "x"
		}
		err := Join(t.Context(), c.j)
		if assert.ErrorContains(t, err, c.text, c.what) {
			assert.NotContains(t, err.Error(), "\n", c.what)
		}
		left, err := os.ReadDir(c.j.Dir)
		require.NoError(t, err)
		assert.Empty(t, left, c.what)
	}
}

// Of many machines with the same token one gets in.
func TestOneTokenOneMachine(t *testing.T) {
	a, dir := initDir(t)
	url, token := serveDesk(t, dir), tokenOf(t, a, time.Now())
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		dir := t.TempDir()
		wg.Go(func() { errs[i] = Join(t.Context(), Joining{URL: url, Token: token, Name: "x", Dir: dir}) })
	}
	wg.Wait()
	in := 0
	for _, err := range errs {
		if err == nil {
			in++
		} else {
			assert.ErrorContains(t, err, "was used already")
		}
	}
	assert.Equal(t, 1, in)
}

// What a desk is sent is foreign: it answers with a status and never falls.
func FuzzJoinRequest(f *testing.F) {
	a, err := New("a", time.Now())
	require.NoError(f, err)
	dir := f.TempDir()
	key, err := keyPEM(a.key)
	require.NoError(f, err)
	require.NoError(f, fileSet{CertFile: certPEM(a.Cert.Raw), KeyFile: key}.write(dir))
	token, err := NewToken(a.Pin(), nil, time.Hour, time.Now())
	require.NoError(f, err)
	text, err := a.Sign(token)
	require.NoError(f, err)
	own, err := newKey()
	require.NoError(f, err)
	csr, err := requestPEM("x", own)
	require.NoError(f, err)
	f.Add(text, "x", "10.0.0.1", csr)
	f.Add("", "", "", "")
	desk := &Desk{Dir: dir, Log: quiet{}}
	f.Fuzz(func(t *testing.T, token, name, host, csr string) {
		body, err := json.Marshal(joinRequest{Token: token, Name: name, Hosts: []string{host}, Requests: map[Role]string{Peer: csr}})
		require.NoError(t, err)
		for _, p := range [][]byte{body, []byte(csr)} {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, JoinPath, bytes.NewReader(p))
			r.RemoteAddr = "10.0.0.1:1000"
			desk.ServeHTTP(w, r)
			require.NotEqual(t, http.StatusInternalServerError, w.Code, w.Body.String())
		}
	})
}
