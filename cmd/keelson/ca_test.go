package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Errors of keelson ca and keelson join are one line that says what, where and what
// next.
func TestBadLinesOfCAAndJoin(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	out, errOut, status := asSelf(t, "ca", "init", "--dir", dir, "--name", "m")
	assert.Zero(t, status, errOut)
	assert.Contains(t, out, "keelson join https://")
	token, _, status := asSelf(t, "ca", "token", "--dir", dir)
	assert.Zero(t, status)
	token = strings.TrimSpace(token)
	empty := t.TempDir()
	for _, c := range []struct {
		line   []string
		status int
		text   string
	}{
		{[]string{"ca", "bogus"}, 2, `ca: unknown command "bogus"`},
		{[]string{"ca", "init", "--dir", dir}, 1, "ca.crt: is there already"},
		{[]string{"ca", "init", "stray"}, 2, `"stray" means nothing here`},
		{[]string{"ca", "init", "--dir", empty, "--name", "a b"}, 1, `name "a b"`},
		{[]string{"ca", "init", "--dir", empty, "--host", "a/b"}, 1, `host "a/b"`},
		{[]string{"ca", "issue", "--dir", dir}, 2, "want one NAME"},
		{[]string{"ca", "issue", "x", "--dir", dir}, 2, "want --host"},
		{[]string{"ca", "issue", "x", "--dir", empty, "--client-only"}, 1, "keelson ca init"},
		{[]string{"ca", "renew", "--dir", empty}, 1, "keelson ca init"},
		{[]string{"ca", "token", "--dir", empty}, 1, "keelson ca init"},
		{[]string{"ca", "token", "--dir", dir, "--ttl", "48h"}, 1, "a lifetime of 48h0m0s"},
		{[]string{"join"}, 2, "want one https://HOST:PORT"},
		{[]string{"join", "https://127.0.0.1:1"}, 2, "want --token"},
		{[]string{"join", "https://127.0.0.1:1", "--token", "x", "--dir", empty}, 1, "token: want what keelson ca token prints"},
		{[]string{"join", "http://127.0.0.1:1", "--token", token, "--dir", empty}, 1, "want https://HOST:PORT"},
		{[]string{"join", "https://127.0.0.1:1", "--token", token, "--dir", empty}, 1, "https://127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused"},
		{[]string{"join", "https://127.0.0.1:1", "--token", token, "--dir", dir}, 1, "ca.crt: is there already"},
	} {
		_, errOut, status := asSelf(t, c.line...)
		assert.Equal(t, c.status, status, "%q: %s", c.line, errOut)
		assert.Contains(t, errOut, c.text)
		assert.Equal(t, 1, strings.Count(errOut, "\n"), errOut)
	}
	left, err := filepath.Glob(filepath.Join(empty, "*"))
	assert.NoError(t, err)
	assert.Empty(t, left)
}

// A member does not start with certificates that nobody would take, and says which
// file it is.
func TestBadCertificates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	_, errOut, status := asSelf(t, "ca", "init", "--dir", dir, "--name", "m")
	assert.Zero(t, status, errOut)
	at := func(name string) string { return filepath.Join(dir, name) }
	https := func(flags ...string) []string {
		free := ports(t, 2)
		client, peer := strings.Replace(loopbackURL(free[0]), "http", "https", 1), strings.Replace(loopbackURL(free[1]), "http", "https", 1)
		return append([]string{
			"serve", "--data-dir", at("data"), "--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		}, flags...)
	}
	for _, c := range []struct {
		line []string
		text string
	}{
		{https("--tls-dir", at("nothing")), "TLS needs --cert-file and --key-file, or what keelson ca init or keelson join puts into --tls-dir=" + at("nothing")},
		{https("--cert-file", at("server.crt")), "--key-file: required where --cert-file is given"},
		{https("--tls-dir", dir, "--cert-file", at("none.crt"), "--key-file", at("server.key")), "certificates for clients: open " + at("none.crt") + ": no such file"},
		{https("--tls-dir", dir, "--cert-file", at("server.crt"), "--key-file", at("peer.key")), at("peer.key") + ": is not the key of the certificate in " + at("server.crt")},
		{https("--tls-dir", dir, "--peer-cert-file", at("peer.key"), "--peer-key-file", at("peer.key"), "--peer-ca-file", at("ca.crt")), "certificates for members: " + at("peer.key") + ": holds no certificate in PEM form"},
	} {
		_, errOut, status := asSelf(t, c.line...)
		assert.Equal(t, 1, status)
		assert.Contains(t, errOut, c.text)
		assert.Equal(t, 1, strings.Count(errOut, "\n"), errOut)
		assert.NoDirExists(t, at("data"))
	}
}
