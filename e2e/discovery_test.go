package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A service that loses its process, a machine that is killed while it waits, one that
// loses its disk while it waits, one that loses it afterwards: all in the words that an
// operator types.
func TestDiscoveryWithRealProcesses(t *testing.T) {
	t.Parallel()
	self, dir := keelson(t), t.TempDir()
	at := loopbackURLs(t, 9)
	serve := func(i int, token string) *process {
		m := name(i)
		return launch(t, nil, dir, nil, self, "serve", "--name", m, "--data-dir", filepath.Join(dir, m), "--discovery", token,
			"--listen-peer-urls", at[1+2*i], "--initial-advertise-peer-urls", at[1+2*i],
			"--listen-client-urls", at[2+2*i], "--advertise-client-urls", at[2+2*i])
	}
	client := func(i int) string { return at[2+2*i] }
	registry := func() *process {
		return launch(t, nil, dir, nil, self, "discovery", "--addr", strings.TrimPrefix(at[0], "http://"), "--data-dir", filepath.Join(dir, "registry"))
	}
	wipe := func(i int) { require.NoError(t, os.RemoveAll(filepath.Join(dir, name(i)))) }

	service := registry()
	answers(t, nil, "OK", at[0]+"/health")
	got := run(t, nil, nil, self, "discovery", "new", "--size", "3", "--ttl", "24h", at[0])
	require.Zero(t, got.status, got)
	token := strings.TrimSpace(got.out)

	first, second := serve(0, token), serve(1, token)
	answers(t, nil, "waiting for 1 more of 3 members", client(0)+"/health")
	answers(t, nil, "waiting for 1 more of 3 members", client(1)+"/health")
	service.kill()
	first.kill()
	second.kill()
	wipe(1)
	registry()
	answers(t, nil, "OK", at[0]+"/health")
	first, second = serve(0, token), serve(1, token)
	assert.Equal(t, 1, second.end(t))
	assert.Contains(t, second.err.String(), `has previously registered with discovery service token`)
	got = run(t, nil, nil, self, "discovery", "release", token, name(1))
	require.Zero(t, got.status, got)
	second = serve(1, token)
	third := serve(2, token)
	for i := range 3 {
		answers(t, nil, `"health":"true"`, client(i)+"/health")
	}
	serve(3, token)
	assert.Contains(t, curl(t, nil, client(0)+"/v2/keys/a", "-XPUT", "-d", "value=1"), `"value":"1"`)
	answers(t, nil, `"value":"1"`, client(3)+"/v2/keys/a")
	answers(t, nil, client(2), client(3)+"/v2/config/local/proxy")

	third.kill()
	wipe(2)
	third = serve(2, token)
	assert.Equal(t, 1, third.end(t))
	list := curl(t, nil, client(0)+"/v2/members")
	assert.Contains(t, list, client(2))
	assert.NotContains(t, first.err.String(), "level=ERROR")
}
