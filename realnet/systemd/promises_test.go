package systemd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/env/envtest"
	"github.com/keelson/keelson/realnet"
	"github.com/keelson/keelson/realnet/journal"
)

// insideVariable tells a test that it runs on a machine that was booted for it.
const insideVariable = "KEELSON_TEST_INSIDE"

// inside skips what may only be done to a machine that was booted for tests.
func inside(t *testing.T) {
	if os.Getenv(insideVariable) == "" {
		t.Skip("runs on a machine of its own: see TestOnAMachine")
	}
}

// TestPromises holds units by systemd to what package env says.
func TestPromises(t *testing.T) {
	inside(t)
	envtest.Units(t, func(t *testing.T) envtest.UnitRig { return newRig(t) })
}

// rig is a directory of units and a loop that has systemd run them.
type rig struct {
	*testing.T
	dir     string
	loop    *realnet.Loop // nil between lives
	manager *Manager
	journal *journal.Journal
	conn    *sd.Conn // the test's own

	callMax time.Duration
	deaf    atomic.Bool // what is sent to systemd does not arrive

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

// deafConn is a connection whose other end may cease to hear.
type deafConn struct {
	net.Conn
	deaf *atomic.Bool
}

// Write implements net.Conn.
func (c deafConn) Write(p []byte) (int, error) {
	if c.deaf.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func newRig(t *testing.T) *rig {
	conn, err := sd.NewSystemdConnectionContext(context.Background())
	require.NoError(t, err)
	r := &rig{T: t, dir: filepath.Join("/run/fleet-test", strconv.FormatInt(time.Now().UnixNano(), 36), "units"), conn: conn}
	t.Cleanup(func() {
		r.Kill()
		r.clear()
		conn.Close()
	})
	return r
}

// Start implements envtest.UnitRig.
func (r *rig) Start(fn func(e *env.Env)) {
	r.Helper()
	require.Nil(r, r.loop, "the node runs")
	r.loop = realnet.NewLoop()
	log := realnet.NewLog(io.Discard, slog.LevelDebug)
	m, err := Open(Options{Dir: r.dir, Post: r.loop.Post, Log: log, Dial: r.dial, CallMax: r.callMax})
	require.NoError(r, err)
	r.manager, r.journal = m, journal.New(journal.Options{Post: r.loop.Post})
	go r.loop.Run(func() {})
	r.Do(func() { fn(&env.Env{Clock: r.loop, Systemd: m, Journal: r.journal, Log: log}) })
}

func (r *rig) dial() (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		return nil, errors.New("cut off")
	}
	c, err := net.Dial("unix", "/run/systemd/private")
	if err != nil {
		return nil, err
	}
	r.conns = append(r.conns, c)
	return deafConn{c, &r.deaf}, nil
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
	r.journal.Close()
	r.loop = nil
}

// RunOf implements envtest.UnitRig.
func (r *rig) RunOf(name string) string {
	p, err := r.conn.GetServicePropertyContext(context.Background(), name, "MainPID")
	require.NoError(r, err)
	if pid := p.Value.Value().(uint32); pid != 0 {
		return strconv.Itoa(int(pid))
	}
	return ""
}

// units are those whose files are there.
func (r *rig) units() (names []string) {
	entries, _ := os.ReadDir(r.dir)
	for _, e := range entries {
		if checkName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names
}

// forget has systemd know nothing more of the units, and nothing of them run.
func (r *rig) forget() {
	ctx := context.Background()
	for _, name := range r.units() {
		ended := make(chan string, 1)
		if _, err := r.conn.StopUnitContext(ctx, name, "replace", ended); err == nil {
			<-ended
		}
		r.conn.DisableUnitFilesContext(ctx, []string{name}, true)
		r.conn.ResetFailedUnitContext(ctx, name)
	}
	require.NoError(r, r.conn.ReloadContext(ctx))
}

func (r *rig) clear() {
	r.forget()
	require.NoError(r, os.RemoveAll(filepath.Dir(r.dir)))
	require.NoError(r, r.conn.ReloadContext(context.Background()))
}

// Reboot implements envtest.Rebooter: nothing but the files is left.
func (r *rig) Reboot() {
	r.Kill()
	r.forget()
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

// A unit of the machine's own is neither taken for the cluster's of that name nor stopped.
func TestAUnitOfTheMachine(t *testing.T) {
	inside(t)
	own := "/etc/systemd/system/own.service"
	require.NoError(t, os.WriteFile(own, []byte("[Service]\nExecStart=/bin/sleep 1000\n"), 0o644))
	r := newRig(t)
	ctx := context.Background()
	t.Cleanup(func() {
		r.conn.StopUnitContext(ctx, "own.service", "replace", nil)
		os.Remove(own)
	})
	require.NoError(t, r.conn.ReloadContext(ctx))
	ended := make(chan string, 1)
	_, err := r.conn.StartUnitContext(ctx, "own.service", "replace", ended)
	require.NoError(t, err)
	require.Equal(t, "done", <-ended)
	pid := r.RunOf("own.service")
	var e *env.Env
	r.Start(func(x *env.Env) { e = x })
	change := func(c env.UnitChange) (failed []env.UnitError) {
		done := make(chan []env.UnitError, 1)
		r.Do(func() { e.Systemd.Change(c, func(f []env.UnitError, _ error) { done <- f }) })
		return <-done
	}
	text := env.UnitText{Name: "own.service", Text: "[Service]\nExecStart=/bin/sleep 2000\n"}
	failed := change(env.UnitChange{Write: []env.UnitText{text}})
	require.Len(t, failed, 1)
	require.ErrorContains(t, failed[0].Err, own)
	require.Empty(t, r.units())
	require.Empty(t, change(env.UnitChange{Remove: []string{"own.service"}}))
	require.Equal(t, pid, r.RunOf("own.service"))
	require.FileExists(t, own)

	require.NoError(t, os.Remove(own))
	require.Empty(t, change(env.UnitChange{Write: []env.UnitText{text}}))
	require.Equal(t, []string{"own.service"}, r.units())
}

// A systemd that does not answer is as one that is away, until it answers again.
func TestSystemdThatHangs(t *testing.T) {
	inside(t)
	r := newRig(t)
	r.callMax = 500 * time.Millisecond
	require.NoError(t, os.MkdirAll(r.dir, 0o755)) // without units there is nothing to ask
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "a.service"), []byte("[Service]\nExecStart=/bin/true\n"), 0o644))
	told := make(chan error, 100)
	var e *env.Env
	r.Start(func(x *env.Env) {
		e = x
		e.Systemd.Follow(func(_ []env.UnitStatus, err error) { told <- err })
	})
	require.NoError(t, <-told)
	r.deaf.Store(true)
	asked := make(chan error, 1)
	r.Do(func() { e.Systemd.Units(func(_ []env.UnitStatus, err error) { asked <- err }) })
	err := <-asked
	require.Error(t, err)
	require.NotErrorIs(t, err, env.ErrUnsent)
	for <-told == nil { // what was told before
	}
	r.Do(func() { e.Systemd.Units(func(_ []env.UnitStatus, err error) { asked <- err }) })
	require.ErrorIs(t, <-asked, env.ErrUnsent)
	r.deaf.Store(false)
	require.NoError(t, <-told)
	r.Do(func() { e.Systemd.Units(func(_ []env.UnitStatus, err error) { asked <- err }) })
	require.NoError(t, <-asked)
}
