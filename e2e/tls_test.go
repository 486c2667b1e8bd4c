package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/realnet/web"
)

// trusted is a cluster of machines that have made each other's acquaintance by
// keelson ca init and keelson join.
type trusted struct {
	*testing.T
	*cluster
}

func (c *trusted) tlsDir(i int) string { return filepath.Join(c.dir, name(i)+"-tls") }

// types runs keelson on machine i.
func (c *trusted) types(i int, args ...string) result {
	c.T.Helper()
	return run(c.T, c.net.spaces[i], []string{"KEELSON_TLS_DIR=" + c.tlsDir(i)}, append([]string{keelson(c.T)}, args...)...)
}

// done is what a command printed that must succeed.
func (c *trusted) done(i int, args ...string) string {
	c.T.Helper()
	got := c.types(i, args...)
	require.Zero(c, got.status, got)
	return strings.TrimSpace(got.out)
}

// serve starts member i, with no word about certificates but where they are.
func (c *trusted) serve(i int, env ...string) {
	c.T.Helper()
	c.members[i] = launch(c.T, c.net.spaces[i], c.dir, append([]string{"KEELSON_TLS_DIR=" + c.tlsDir(i)}, env...), append([]string{keelson(c.T)}, c.args(i)...)...)
}

// config is how a program on machine i shows who it is.
func (c *trusted) config(i int) web.Config {
	dir := c.tlsDir(i)
	return web.Config{CAFile: filepath.Join(dir, "ca.crt"), CertFile: filepath.Join(dir, "client.crt"), KeyFile: filepath.Join(dir, "client.key"), DialTimeout: time.Second}
}

func newTrusted(t *testing.T) *trusted {
	t.Helper()
	net := newNetwork(t, 3)
	c := &trusted{t, &cluster{dir: t.TempDir(), net: net, members: make([]*process, 3)}}
	for i := range 3 {
		c.client = append(c.client, "https://"+net.address(i)+":2379")
		c.peer = append(c.peer, "https://"+net.address(i)+":2380")
	}
	c.done(0, "ca", "init", "--name", name(0))
	c.serve(0)
	until(t, "the first member serves", func() bool { return strings.Contains(c.members[0].err.String(), "serving clients") })
	for i := range 2 {
		c.done(i+1, "join", c.client[0], "--name", name(i+1), "--token", c.done(0, "ca", "token"))
		c.serve(i + 1)
	}
	doer, err := web.New(c.config(0))
	require.NoError(t, err)
	t.Cleanup(doer.Close)
	c.doer = doer
	c.healthy(t)
	return c
}

func TestMutualTLSInTwoCommands(t *testing.T) {
	t.Parallel()
	c := newTrusted(t)
	t.Run("curl", c.curl)
	t.Run("etcdctl of Debian", c.original)
	t.Run("keelson etcdctl", c.ours)
	t.Run("tokens", c.tokens)
	t.Run("proxy", c.proxy)
	t.Run("discovery", c.discovery)
	t.Run("renewal under load", c.renewal)
	t.Run("foreign peer", c.foreign)
	for i, m := range c.members {
		m.Process.Signal(syscall.SIGTERM)
		assert.Zero(t, m.end(t), name(i))
	}
}

func (c *trusted) curl(t *testing.T) {
	program(t, "curl", "curl")
	k := c.config(1)
	withCert := []string{"curl", "-sS", "--cacert", k.CAFile, "--cert", k.CertFile, "--key", k.KeyFile}
	got := run(t, nil, nil, append(withCert, c.client[2]+"/v2/keys/curl", "-XPUT", "-d", "value=secret")...)
	assert.Contains(t, got.out, `"value":"secret"`, got)
	got = run(t, nil, nil, append(withCert, c.client[0]+"/v2/keys/curl")...)
	assert.Contains(t, got.out, `"value":"secret"`, got)

	// A long poll and a large value go over TLS as well.
	big := strings.Repeat("x", 600_000)
	watch := launch(t, nil, t.TempDir(), nil, append(withCert, c.client[1]+"/v2/keys/big?wait=true")...)
	time.Sleep(300 * time.Millisecond)
	file := filepath.Join(t.TempDir(), "big")
	require.NoError(t, os.WriteFile(file, []byte("value="+big), 0o600))
	got = run(t, nil, nil, append(withCert, c.client[0]+"/v2/keys/big", "-XPUT", "--data", "@"+file)...)
	require.Zero(t, got.status, got.err)
	assert.Zero(t, watch.end(t))
	assert.Contains(t, watch.out.String(), big)

	// Nobody without a certificate gets in: at the handshake, or where the authority
	// is after it.
	noCert := []string{"curl", "-sS", "--cacert", k.CAFile, "-w", "%{http_code}"}
	got = run(t, nil, nil, append(noCert, c.client[1]+"/v2/keys/curl")...)
	assert.NotZero(t, got.status, got)
	for _, path := range []string{"/v2/keys/curl", "/v2/members", "/metrics", "/version", "/v2/join/x", "/"} {
		got = run(t, nil, nil, append(noCert, c.client[0]+path)...)
		assert.True(t, strings.HasSuffix(got.out, "401"), got)
		assert.NotContains(t, got.out, "secret")
	}
	// Nor by http, or at the peers' port.
	got = run(t, nil, nil, "curl", "-sS", strings.Replace(c.client[0], "https", "http", 1)+"/v2/keys")
	assert.Contains(t, got.out, "https is spoken", got)
	got = run(t, nil, nil, append(noCert, c.peer[0]+"/members")...)
	assert.NotZero(t, got.status, got)

	metrics := run(t, nil, nil, append(withCert, c.client[0]+"/metrics")...)
	assert.Regexp(t, regexp.MustCompile(`(?m)^keelson_tls_certificate_expiry_timestamp_seconds\{side="client"\} 1\.`), metrics.out)
	assert.Contains(t, metrics.out, `keelson_tls_certificate_expiry_timestamp_seconds{side="peer"}`)
}

func (c *trusted) original(t *testing.T) {
	k := c.config(2)
	c.etcdctl(t, []string{"ETCDCTL_API=2"}, program(t, "etcdctl", "etcd-client"), "--ca-file", k.CAFile, "--cert-file", k.CertFile, "--key-file", k.KeyFile)
}

func (c *trusted) ours(t *testing.T) {
	k := c.config(2)
	c.etcdctl(t, []string{"ETCDCTL_CA_FILE=" + k.CAFile, "ETCDCTL_CERT_FILE=" + k.CertFile, "ETCDCTL_KEY_FILE=" + k.KeyFile}, keelson(t), "etcdctl")
}

func (c *trusted) etcdctl(t *testing.T, env []string, args ...string) {
	ctl := append(args, "--endpoints", strings.Join(c.client, ","))
	does := func(words ...string) string {
		t.Helper()
		got := run(t, nil, env, append(append([]string{}, ctl...), words...)...)
		require.Zero(t, got.status, got)
		return got.out
	}
	assert.Equal(t, "one\n", does("set", "/ctl", "one"))
	assert.Equal(t, "one\n", does("get", "/ctl"))
	assert.Contains(t, does("cluster-health"), "cluster is healthy")
	assert.Equal(t, 3, strings.Count(does("member", "list"), "clientURLs=https://"))
}

// A proxy asks the members with its machine's certificate, and its clients for theirs.
func (c *trusted) proxy(t *testing.T) {
	at := "https://" + c.net.address(1) + ":3379"
	list := name(0) + "=" + c.peer[0] + "," + name(1) + "=" + c.peer[1]
	p := launch(t, c.net.spaces[1], c.dir, []string{"KEELSON_TLS_DIR=" + c.tlsDir(1)}, keelson(t), "serve", "--name", "proxy", "--proxy", "on",
		"--data-dir", filepath.Join(c.dir, "proxy"), "--listen-client-urls", at, "--initial-cluster", list)
	var seen struct{ Node struct{ Value string } }
	require.NoError(t, c.visit(0))
	until(t, "the proxy passes requests on", func() bool { return c.ask(at, "/v2/keys/visit/"+name(0), &seen) })
	assert.Equal(t, "x", seen.Node.Value)
	k := c.config(0)
	got := run(t, nil, nil, program(t, "curl", "curl"), "-sS", "--cacert", k.CAFile, at+"/v2/keys")
	assert.NotZero(t, got.status, "without a certificate nobody gets in here either")
	p.Process.Signal(syscall.SIGTERM)
	assert.Zero(t, p.end(t))
}

// A further cluster finds itself by a token of this one's discovery service.
func (c *trusted) discovery(t *testing.T) {
	k := c.config(0)
	got := run(t, nil, nil, program(t, "curl", "curl"), "-sS", "--cacert", k.CAFile, "--cert", k.CertFile, "--key", k.KeyFile, c.client[0]+"/new?size=1")
	require.Contains(t, got.out, "https://"+c.net.address(0), got)
	at, peer := "https://"+c.net.address(2)+":3379", "https://"+c.net.address(2)+":3380"
	launch(t, c.net.spaces[2], c.dir, []string{"KEELSON_TLS_DIR=" + c.tlsDir(2)}, keelson(t), "serve", "--name", "found",
		"--data-dir", filepath.Join(c.dir, "found"), "--listen-client-urls", at, "--advertise-client-urls", at,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--discovery", strings.TrimSpace(got.out))
	until(t, "the member has found its cluster", func() bool {
		var h struct{ Health any }
		return c.ask(at, "/health", &h) && h.Health == "true"
	})
}

func (c *trusted) tokens(t *testing.T) {
	token := c.done(0, "ca", "token")
	elsewhere := filepath.Join(t.TempDir(), "tls")
	c.done(2, "join", c.client[0], "--name", "again", "--token", token, "--dir", elsewhere)
	got := c.types(1, "join", c.client[0], "--token", token, "--dir", t.TempDir())
	assert.Equal(t, result{1, "", "keelson: join: " + c.client[0] + ": refused: token: was used already: make a new one with keelson ca token\n"}, got)

	leaf := readCertificate(t, filepath.Join(elsewhere, "peer.crt"))
	assert.NoError(t, leaf.VerifyHostname(c.net.address(2)), "it names the address from which it was asked for")
	assert.Error(t, leaf.VerifyHostname(c.net.address(0)))

	got = c.types(1, "join", c.client[1], "--token", c.done(0, "ca", "token"), "--dir", t.TempDir())
	assert.Equal(t, 1, got.status)
	assert.NotContains(t, got.err, "panic")
	got = c.types(1, "join", c.client[0], "--token", c.done(0, "ca", "token"), "--host", c.net.address(0), "--dir", t.TempDir())
	assert.Contains(t, got.err, "this token is for "+c.net.address(1))
	got = c.types(1, "ca", "token")
	assert.Contains(t, got.err, "ca.key: no such file or directory: the authority is on the machine where keelson ca init was run")
	got = c.types(0, "ca", "init")
	assert.Contains(t, got.err, "ca.crt: is there already")
}

func readCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	require.NotNil(t, block)
	leaf, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return leaf
}

// Certificates of all machines are renewed while clients come and go: each new one
// is used, and no request fails.
func (c *trusted) renewal(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var answered, failed atomic.Int64
	var tasks sync.WaitGroup
	stays, err := web.New(c.config(1)) // with the connections it has from the beginning
	require.NoError(t, err)
	defer stays.Close()
	for i := range 6 {
		tasks.Go(func() {
			for ctx.Err() == nil {
				var err error
				if i < 3 {
					err = c.visit(i)
				} else {
					err = c.asks(stays, i%3)
				}
				if err != nil {
					t.Errorf("%s: %v", name(i%3), err)
					failed.Add(1)
					return
				}
				answered.Add(1)
			}
		})
	}
	works := func() {
		t.Helper()
		goal := answered.Load() + 60
		until(t, "clients are answered", func() bool { return answered.Load() >= goal || failed.Load() > 0 })
	}
	for round := range 2 {
		for i := range 3 {
			works()
			before := readCertificate(t, filepath.Join(c.tlsDir(i), "server.crt")).SerialNumber
			if i == 0 {
				c.done(0, "ca", "renew")
			} else {
				c.done(i, "join", c.client[0], "--renew", "--name", name(i), "--token", c.done(0, "ca", "token"))
			}
			now := readCertificate(t, filepath.Join(c.tlsDir(i), "server.crt")).SerialNumber
			require.NotEqual(t, before, now)
			until(t, name(i)+" shows the new certificate", func() bool { return c.shown(t, i) == now.String() })
			renewed := strings.Count(c.members[i].err.String(), "certificates renewed")
			assert.GreaterOrEqual(t, renewed, 2*round+1)
		}
	}
	works()
	stop()
	tasks.Wait()
	assert.Zero(t, failed.Load())
	t.Logf("%d visits of 3 requests each", answered.Load())
}

// visit is a client that comes to member i with the certificate of its machine, writes
// and reads, and goes.
func (c *trusted) visit(i int) error {
	doer, err := web.New(c.config(i))
	if err != nil {
		return err
	}
	defer doer.Close()
	return c.asks(doer, i)
}

// asks writes and reads at member i.
func (c *trusted) asks(doer *web.Doer, i int) error {
	keys := client.New(doer, client.Options{Endpoints: []string{c.client[i]}}).Keys()
	for range 2 {
		if _, err := keys.Set(context.Background(), "/visit/"+name(i), "x", setOptions); err != nil {
			return err
		}
	}
	_, _, err := get(context.Background(), doer, c.client[i], "/v2/keys/visit")
	return err
}

// shown is the serial number of the certificate that member i shows to a new client.
func (c *trusted) shown(t *testing.T, i int) (serial string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.tlsDir(i), "ca.crt"))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	k := c.config(i)
	pair, err := tls.LoadX509KeyPair(k.CertFile, k.KeyFile)
	require.NoError(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(c.client[i] + "/version")
	if err != nil {
		return ""
	}
	resp.Body.Close()
	return resp.TLS.PeerCertificates[0].SerialNumber.String()
}

// A member whose certificate is of another authority takes no part, and the log of
// the others says who it was; the others go on.
func (c *trusted) foreign(t *testing.T) {
	foreign := filepath.Join(t.TempDir(), "foreign")
	c.done(2, "ca", "init", "--name", "stranger", "--dir", foreign)
	c.members[2].Process.Signal(syscall.SIGTERM)
	require.Zero(t, c.members[2].end(t))
	c.serve(2, "ETCD_PEER_CERT_FILE="+filepath.Join(foreign, "peer.crt"), "ETCD_PEER_KEY_FILE="+filepath.Join(foreign, "peer.key"),
		"ETCD_PEER_TRUSTED_CA_FILE="+filepath.Join(c.tlsDir(2), "ca.crt"), "ETCD_PEER_CLIENT_CERT_AUTH=true")
	named := regexp.MustCompile(`peer refused.*certificate of \\"CN=stranger\\", issued by \\"CN=keelson stranger\\", is refused`)
	for _, i := range []int{0, 1} {
		until(t, name(i)+" names the stranger", func() bool { return named.MatchString(c.members[i].err.String()) })
	}
	until(t, "the stranger is told", func() bool {
		return strings.Contains(c.members[2].err.String(), "the other end refuses this one's certificate")
	})
	assert.NoError(t, c.visit(0), "the others go on")
	c.kill(2)
	c.serve(2)
	c.healthy(t)
}
