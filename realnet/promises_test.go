package realnet_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/env/envtest"
	"github.com/keelson/keelson/realnet"
	"github.com/keelson/keelson/realnet/disk"
	"github.com/keelson/keelson/realnet/transport"
)

// TestPromises holds the real machine to what package env says.
func TestPromises(t *testing.T) {
	envtest.Suite(t, func(t *testing.T) envtest.Rig {
		r := &rig{T: t}
		if canMount(t) {
			for i := range r.machines {
				r.machines[i].dir = smallDisk(t)
			}
			r.start(t)
			return fillable{r}
		}
		for i := range r.machines {
			r.machines[i].dir = t.TempDir()
		}
		r.start(t)
		return r
	})
}

// start gives each machine an address.
func (r *rig) start(t *testing.T) {
	for i := range r.machines {
		m := &r.machines[i]
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		m.address = l.Addr().String()
		l.Close()
		t.Cleanup(func() { r.Kill(i) })
	}
}

// smallSize is the size of a disk that can be filled in a moment, in bytes.
const smallSize = 96 << 20

// canMount reports whether this process may make a disk of that size.
func canMount(t *testing.T) bool {
	dir := t.TempDir()
	if syscall.Mount("keelson", dir, "tmpfs", 0, "size=1m") != nil {
		return false
	}
	return syscall.Unmount(dir, 0) == nil
}

func smallDisk(t *testing.T) string {
	dir := t.TempDir()
	require.NoError(t, syscall.Mount("keelson", dir, "tmpfs", 0, fmt.Sprintf("size=%d", smallSize)))
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fillable is a rig whose disks can be full.
type fillable struct{ *rig }

// Fill implements envtest.Filler.
func (r fillable) Fill(i, left int) {
	r.Helper()
	path := filepath.Join(r.machines[i].dir, "others", "deeper", "ballast")
	if left < 0 {
		require.NoError(r, os.RemoveAll(filepath.Dir(path)))
		return
	}
	require.NoError(r, os.MkdirAll(filepath.Dir(path), 0o700))
	f, err := os.Create(path)
	require.NoError(r, err)
	defer f.Close()
	var s syscall.Statfs_t
	require.NoError(r, syscall.Statfs(r.machines[i].dir, &s))
	size := int64(s.Bavail)*int64(s.Bsize) - int64(left)
	require.NoError(r, syscall.Fallocate(int(f.Fd()), 0, 0, size))
}

// rig is two machines with a directory and an address each.
type rig struct {
	*testing.T
	machines [2]machine
}

type machine struct {
	dir, address string
	loop         *realnet.Loop // nil while it is down
	disk         *disk.Disk
	net          *transport.Transport
}

// ID implements envtest.Rig.
func (r *rig) ID(i int) env.NodeID { return env.NodeID(i + 1) }

// Start implements envtest.Rig.
func (r *rig) Start(i int, n envtest.Node) {
	r.Helper()
	m := &r.machines[i]
	require.Nil(r, m.loop, "the machine runs")
	loop := realnet.NewLoop()
	log := realnet.NewLog(io.Discard, slog.LevelDebug)
	d, err := disk.Open(m.dir, loop.Post, disk.Options{Idle: loop.Idle})
	require.NoError(r, err)
	tr := transport.New(transport.Options{
		Cluster: 1, Self: r.ID(i), Post: loop.Post, Log: log,
		RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond,
		Receive: func(from env.NodeID, frame []byte) {
			if n.Receive != nil {
				n.Receive(from, frame)
			}
		},
	})
	l, err := net.Listen("tcp", m.address)
	require.NoError(r, err)
	tr.Serve(l)
	peers := make(map[env.NodeID][]string)
	for j := range r.machines {
		peers[r.ID(j)] = []string{fmt.Sprintf("http://%s", r.machines[j].address)}
	}
	require.NoError(r, tr.SetPeers(peers))
	m.loop, m.disk, m.net = loop, d, tr
	flush := n.Flush
	if flush == nil {
		flush = func() {}
	}
	go loop.Run(func() {
		flush()
		d.AfterTurn()
	})
	r.Do(i, func() {
		if n.Start != nil {
			n.Start(&env.Env{Clock: loop, Disk: d, Net: tr, Log: log, Rare: realnet.Rare{}, Rand: realnet.Rand()})
		}
	})
}

// Do implements envtest.Rig.
func (r *rig) Do(i int, fn func()) {
	r.Helper()
	done := make(chan struct{})
	require.True(r, r.machines[i].loop.Post(func() { fn(); close(done) }), "the machine is down")
	<-done
}

// Wait implements envtest.Rig.
func (r *rig) Wait(d time.Duration) { time.Sleep(d) }

// Kill implements envtest.Rig. What the disk has under way is finished, as it is
// by the kernel when a process is killed in the middle of a call.
func (r *rig) Kill(i int) {
	m := &r.machines[i]
	if m.loop == nil {
		return
	}
	m.loop.Stop()
	<-m.loop.Stopped()
	m.net.Close()
	m.disk.Close()
	m.loop = nil
}
