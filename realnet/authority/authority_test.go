package authority

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func initDir(t *testing.T) (*Authority, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tls")
	a, err := Init(dir, "test authority", Order{Name: "first", Hosts: []string{"first.example"}}, time.Now())
	require.NoError(t, err)
	return a, dir
}

func TestInitMakesWhatAMemberNeeds(t *testing.T) {
	a, dir := initDir(t)
	for _, role := range Roles {
		pair, err := tls.LoadX509KeyPair(role.Cert(dir), role.Key(dir))
		require.NoError(t, err)
		for _, host := range []string{"first.example", "localhost", "127.0.0.1", "::1"} {
			_, err = pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: poolOf(a.Cert), KeyUsages: usages[role]})
			assert.NoError(t, err, "%s for %s", role, host)
		}
		assert.Len(t, pair.Certificate, 2, "the authority's certificate comes along")
	}
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, files, 8)
	for _, f := range files {
		info, err := f.Info()
		require.NoError(t, err)
		assert.EqualValues(t, 0o600, info.Mode(), f.Name())
	}
	_, err = Init(dir, "another", Order{Name: "first"}, time.Now())
	assert.ErrorContains(t, err, "ca.crt: is there already")
	again, err := Open(dir)
	require.NoError(t, err)
	assert.Equal(t, a.Pin(), again.Pin(), "nothing was overwritten")
}

func TestRolesCannotBeSwapped(t *testing.T) {
	a, dir := initDir(t)
	client, err := readCert(Client.Cert(dir))
	require.NoError(t, err)
	_, err = client.Verify(x509.VerifyOptions{Roots: poolOf(a.Cert), KeyUsages: usages[Server]})
	assert.Error(t, err)
	server, err := readCert(Server.Cert(dir))
	require.NoError(t, err)
	_, err = server.Verify(x509.VerifyOptions{Roots: poolOf(a.Cert), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	assert.Error(t, err)
}

func TestRenewKeepsKeysAndNames(t *testing.T) {
	a, dir := initDir(t)
	before, err := os.ReadFile(Peer.Key(dir))
	require.NoError(t, err)
	later := time.Now().Add(48 * time.Hour)
	require.NoError(t, a.Renew(dir, 0, later))
	pair, err := tls.LoadX509KeyPair(Peer.Cert(dir), Peer.Key(dir))
	require.NoError(t, err)
	assert.WithinDuration(t, later.Add(DefaultTTL), pair.Leaf.NotAfter, time.Minute)
	assert.NoError(t, pair.Leaf.VerifyHostname("first.example"))
	after, err := os.ReadFile(Peer.Key(dir))
	require.NoError(t, err)
	assert.Equal(t, before, after)
}

func TestRefusedOrders(t *testing.T) {
	a, dir := initDir(t)
	for _, c := range []struct {
		order Order
		text  string
	}{
		{Order{Name: "../x", Role: Client}, `name "../x"`},
		{Order{Name: "x", Role: "king"}, `role "king"`},
		{Order{Name: "x", Role: Client, Hosts: []string{"a b"}}, `host "a b"`},
		{Order{Name: "x", Role: Client, Hosts: []string{"http://a"}}, `host "http://a"`},
		{Order{Name: "x", Role: Client, TTL: time.Second}, "a lifetime of 1s"},
	} {
		assert.ErrorContains(t, a.IssueFiles(dir, "x", c.order, time.Now()), c.text)
	}
	require.NoError(t, a.IssueFiles(dir, "x", Order{Name: "x", Role: Client, TTL: 2 * lifetime}, time.Now()))
	cert, err := readCert(filepath.Join(dir, "x.crt"))
	require.NoError(t, err)
	assert.Equal(t, a.Cert.NotAfter, cert.NotAfter, "nothing outlives its authority")
}

var now = time.Unix(1_800_000_000, 0)

func sign(t interface {
	require.TestingT
	Helper()
}, a *Authority, ttl time.Duration, hosts ...string,
) string {
	t.Helper()
	token, err := NewToken(a.Pin(), hosts, ttl, now)
	require.NoError(t, err)
	text, err := a.Sign(token)
	require.NoError(t, err)
	return text
}

func TestTokens(t *testing.T) {
	a, err := New("a", now)
	require.NoError(t, err)
	b, err := New("b", now)
	require.NoError(t, err)
	text := sign(t, a, 15*time.Minute, "core-02", "10.0.0.2")

	token, err := Verify(text, a.Cert, now.Add(15*time.Minute-time.Second))
	require.NoError(t, err)
	assert.Equal(t, []string{"core-02", "10.0.0.2"}, token.Hosts)
	assert.Equal(t, a.Pin(), token.Pin)

	_, err = Verify(text, a.Cert, now.Add(15*time.Minute))
	assert.ErrorContains(t, err, "token: expired on 2027-01-15 08:15:00 UTC")
	_, err = Verify(text, b.Cert, now)
	assert.ErrorContains(t, err, "token: is of another authority")

	forged, err := NewToken(a.Pin(), nil, time.Hour, now)
	require.NoError(t, err)
	byB, err := b.Sign(forged)
	require.NoError(t, err)
	_, err = Verify(byB, a.Cert, now)
	assert.ErrorContains(t, err, "its signature is not this authority's")

	for _, bad := range []string{"", "x", tokenPrefix, text[:len(text)/2], "keelson2." + text, strings.Repeat("A", tokenMax+1)} {
		_, err = Verify(bad, a.Cert, now)
		assert.Error(t, err, bad)
	}
	for _, ttl := range []time.Duration{0, -time.Second, 25 * time.Hour} {
		_, err = NewToken(a.Pin(), nil, ttl, now)
		assert.ErrorContains(t, err, "a lifetime of")
	}
}

// Whatever bit of a token is changed, it counts no more; what is signed comes back
// as it was.
func TestNoBitOfATokenMayChange(t *testing.T) {
	a, err := New("a", now)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.SliceOfN(rapid.StringMatching(`[a-z0-9]{1,20}(\.[a-z]{2,5})?`), 0, 5).Draw(t, "hosts")
		text := sign(t, a, time.Hour, hosts...)
		token, err := Verify(text, a.Cert, now)
		require.NoError(t, err)
		require.ElementsMatch(t, hosts, token.Hosts)
		again, err := ParseToken(text)
		require.NoError(t, err)
		require.Equal(t, token, again)

		at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		changed := []byte(text)
		changed[at] ^= 1 << rapid.IntRange(0, 6).Draw(t, "bit")
		_, err = Verify(string(changed), a.Cert, now)
		require.Error(t, err)
	})
}

func FuzzToken(f *testing.F) {
	a, err := New("a", now)
	require.NoError(f, err)
	f.Add(sign(f, a, time.Hour))
	f.Add(sign(f, a, time.Hour, "core-02", "::1"))
	f.Add(tokenPrefix)
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			return
		}
		_, body, sig, err := splitToken(text)
		require.NoError(t, err)
		require.Equal(t, body, token.appendTo(nil), "a token can be written in one way only")
		require.NotNil(t, sig)
		if _, err := Verify(text, a.Cert, now); err == nil {
			require.Equal(t, a.Pin(), token.Pin)
		}
	})
}

func TestATokenIsSpentOnce(t *testing.T) {
	dir := t.TempDir()
	token := func() *Token {
		token, err := NewToken(Pin{}, nil, time.Minute, now)
		require.NoError(t, err)
		return token
	}
	first, second := token(), token()
	require.NoError(t, spend(dir, first, now))
	require.NoError(t, spend(dir, second, now))
	require.ErrorIs(t, spend(dir, first, now), errUsed)
	require.ErrorIs(t, spend(dir, second, now), errUsed)

	// A line cut off by power loss spoils neither what is before nor what is after.
	path := filepath.Join(dir, usedFile)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(text, "0123ab"...), 0o600))
	third := token()
	require.NoError(t, spend(dir, third, now))
	for _, used := range []*Token{first, second, third} {
		require.ErrorIs(t, spend(dir, used, now), errUsed)
	}

	// What has expired is forgotten, and refused for that.
	require.NoError(t, spend(dir, &Token{Expires: now.Add(time.Hour)}, now.Add(2*time.Minute)))
	text, err = os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(strings.TrimSpace(string(text)), "\n")+1)
}

func TestHostsOfAToken(t *testing.T) {
	from := netip.MustParseAddr("::ffff:10.0.0.7")
	open, bound := &Token{}, &Token{Hosts: []string{"core-02", "10.0.0.2"}}
	for _, c := range []struct {
		token *Token
		asked []string
		want  string
	}{
		{open, nil, "10.0.0.7 localhost 127.0.0.1 ::1"},
		{open, []string{"10.0.0.7", "localhost"}, "10.0.0.7 localhost 127.0.0.1 ::1"},
		{bound, nil, "core-02 10.0.0.2 localhost 127.0.0.1 ::1"},
		{bound, []string{"core-02"}, "core-02 localhost 127.0.0.1 ::1"},
	} {
		hosts, err := c.token.hostsFor(c.asked, from)
		require.NoError(t, err)
		assert.Equal(t, c.want, strings.Join(hosts, " "))
	}
	for _, c := range []struct {
		token *Token
		asked string
	}{{open, "core-01"}, {open, "10.0.0.8"}, {bound, "10.0.0.7"}, {bound, "core-01"}, {bound, "*"}} {
		_, err := c.token.hostsFor([]string{c.asked}, from)
		assert.ErrorContains(t, err, "keelson ca token --host "+c.asked)
	}
}
