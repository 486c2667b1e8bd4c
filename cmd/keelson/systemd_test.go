package main

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// listener hears what a process tells systemd.
type listener struct {
	*net.UnixConn
	path string
}

func newListener(t *testing.T) *listener {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return &listener{conn, path}
}

// hears reports whether a line comes within d, passing over others.
func (s *listener) hears(want string, d time.Duration) bool {
	p := make([]byte, 1000)
	s.SetReadDeadline(time.Now().Add(d))
	for {
		n, err := s.Read(p)
		if err != nil {
			return false
		}
		if strings.Contains(string(p[:n]), want) {
			return true
		}
	}
}

// A machine that waits for others at a discovery service is still starting.
func TestSystemdHearsWhenAProcessKnowsWhatItIs(t *testing.T) {
	registry := startCluster(t, 1)
	token := must(t, "GET", registry.client[0]+"/new?size=2", "").body
	s := newListener(t)
	start := func(name string, env ...string) *process {
		free := ports(t, 2)
		return launch(t, env, "serve", "--name", name, "--discovery", strings.TrimSpace(token),
			"--listen-client-urls", loopbackURL(free[0]), "--advertise-client-urls", loopbackURL(free[0]),
			"--listen-peer-urls", loopbackURL(free[1]), "--initial-advertise-peer-urls", loopbackURL(free[1]))
	}
	first := start("a", "NOTIFY_SOCKET="+s.path, "WATCHDOG_USEC=300000")
	require.True(t, s.hears("WATCHDOG=1", 10*time.Second))
	require.False(t, s.hears("READY=1", time.Second), "it waits for another machine")
	start("b")
	require.True(t, s.hears("READY=1", 20*time.Second))
	require.NoError(t, first.Process.Signal(syscall.SIGTERM))
	assert.True(t, s.hears("STOPPING=1", 10*time.Second))
	assert.Zero(t, first.end(t))
}
