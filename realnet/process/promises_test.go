package process

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/env/envtest"
	"github.com/keelson/keelson/realnet"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Word {
		if err := Host(os.Args[2:]); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestPromises holds units as child processes to what package env says.
func TestPromises(t *testing.T) {
	envtest.Units(t, func(t *testing.T) envtest.UnitRig { return newRig(t) })
}

// rig is a directory of units and a loop that asks for them.
type rig struct {
	*testing.T
	dir     string
	loop    *realnet.Loop // nil between lives
	manager *Manager

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func newRig(t *testing.T) *rig {
	r := &rig{T: t, dir: filepath.Join(t.TempDir(), "units")}
	t.Cleanup(func() {
		r.Kill()
		require.NoError(t, Shutdown(r.dir))
	})
	return r
}

// Start implements envtest.UnitRig.
func (r *rig) Start(fn func(e *env.Env)) {
	r.Helper()
	require.Nil(r, r.loop, "the node runs")
	r.loop = realnet.NewLoop()
	log := realnet.NewLog(io.Discard, slog.LevelDebug)
	m, err := Open(Options{
		Dir: r.dir, Machine: "0123456789abcdef0123456789abcdef", Command: []string{os.Args[0], Word},
		Post: r.loop.Post, Log: log, Dial: r.dial,
	})
	require.NoError(r, err)
	r.manager = m
	go r.loop.Run(func() {})
	r.Do(func() { fn(&env.Env{Clock: r.loop, Systemd: m, Journal: m, Log: log}) })
}

func (r *rig) dial() (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		return nil, errors.New("cut off")
	}
	c, err := dial(r.dir)
	if err == nil {
		r.conns = append(r.conns, c)
	}
	return c, err
}

// Do implements envtest.UnitRig.
func (r *rig) Do(fn func()) {
	r.Helper()
	done := make(chan struct{})
	require.True(r, r.loop.Post(func() { fn(); close(done) }))
	<-done
}

// Wait implements envtest.UnitRig.
func (r *rig) Wait(d time.Duration) { time.Sleep(d) }

// Kill implements envtest.UnitRig.
func (r *rig) Kill() {
	if r.loop == nil {
		return
	}
	r.loop.Stop()
	<-r.loop.Stopped()
	r.manager.Close()
	r.loop = nil
}

// RunOf implements envtest.UnitRig.
func (r *rig) RunOf(name string) string {
	var n note
	text, err := os.ReadFile(filepath.Join(r.dir, hostDir, name+stateEnd))
	if err != nil || json.Unmarshal(text, &n) != nil || n.PID == 0 {
		return ""
	}
	if s, ok := readStat(n.PID); !ok || s.zombie || s.began != n.Began {
		return ""
	}
	return strconv.Itoa(n.PID)
}

// Reboot implements envtest.Rebooter.
func (r *rig) Reboot() {
	r.Kill()
	require.NoError(r, Shutdown(r.dir))
	require.NoError(r, os.RemoveAll(filepath.Join(r.dir, hostDir)))
}

// LoseManager implements envtest.ManagerLoser.
func (r *rig) LoseManager() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

// FindManager implements envtest.ManagerLoser.
func (r *rig) FindManager() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = false
}

// Break implements envtest.Breaker: a directory with something in it stands where the
// file should.
func (r *rig) Break(name string) {
	require.NoError(r, os.MkdirAll(filepath.Join(r.dir, name, "in-the-way"), 0o755))
}

// Mend implements envtest.Breaker.
func (r *rig) Mend(name string) { require.NoError(r, os.RemoveAll(filepath.Join(r.dir, name))) }

// hostPID is the process that keeps the units.
func (r *rig) hostPID() int {
	conn, err := dial(r.dir)
	require.NoError(r, err)
	defer conn.Close()
	pid, err := peer(conn)
	require.NoError(r, err)
	return pid
}
