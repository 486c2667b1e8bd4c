package realnet_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/env/envtest"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/realnet"
	"github.com/keelson/keelson/realnet/disk"
	"github.com/keelson/keelson/realnet/httpd"
	"github.com/keelson/keelson/realnet/names"
	"github.com/keelson/keelson/realnet/transport"
	"github.com/keelson/keelson/realnet/web"
)

// TestPromises holds the real machine to what package env says.
func TestPromises(t *testing.T) {
	envtest.Suite(t, func(t *testing.T) envtest.Rig {
		r := &rig{T: t, zone: newZone(t)}
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
	zone     *zone
}

type machine struct {
	dir, address string
	loop         *realnet.Loop // nil while it is down
	disk         *disk.Disk
	net          *transport.Transport
	http         *httpd.Server
	web          *web.Requests
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
	http := httpd.New(httpd.Options{
		Post: loop.Post, Log: log, Peer: true,
		Serve: func(q *gateway.Request, a gateway.Responder) func() { return serve(n, q, a) },
	})
	tr := transport.New(transport.Options{
		Post: loop.Post, Log: log,
		RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond,
		Receive: func(from env.NodeID, frame []byte) {
			if n.Receive != nil {
				n.Receive(from, frame)
			}
		},
		Other: http.Take,
	})
	requests := web.NewRequests(web.RequestsOptions{Post: loop.Post})
	l, err := net.Listen("tcp", m.address)
	require.NoError(r, err)
	tr.Serve(l)
	m.loop, m.disk, m.net, m.http, m.web = loop, d, tr, http, requests
	flush := n.Flush
	if flush == nil {
		flush = func() {}
	}
	go loop.Run(func() {
		flush()
		http.AfterTurn()
		d.AfterTurn()
	})
	r.Do(i, func() {
		if n.Start != nil {
			n.Start(&env.Env{
				Clock: loop, Disk: d, Net: tr, Web: requests, Names: names.New(loop.Post, r.zone.resolver()),
				Work: realnet.NewWork(loop.Post), Log: log, Rare: realnet.Rare{}, Rand: realnet.Rand(),
			})
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
	m.http.Close() // first: a killed process does not say that it stops
	m.loop.Stop()
	<-m.loop.Stopped()
	m.net.Close()
	m.web.Close()
	m.disk.Close()
	m.loop = nil
}

// serve hands a request to a node of the suite.
func serve(n envtest.Node, q *gateway.Request, a gateway.Responder) func() {
	asked := &envtest.Request{Method: q.Method, Path: q.Path, Query: q.Query, Body: q.Body, Peer: q.Peer}
	for _, h := range q.Header {
		asked.Header = append(asked.Header, env.WebHeader(h))
	}
	if n.Serve != nil {
		if cancel := n.Serve(asked, answerer{a}); cancel != nil {
			return cancel
		}
	}
	return func() {}
}

type answerer struct{ gateway.Responder }

// Reply implements envtest.Answer.
func (a answerer) Reply(status int, header []env.WebHeader, body []byte, more bool) {
	reply := &gateway.Reply{Status: status, Body: body, More: more}
	for _, h := range header {
		reply.Header = append(reply.Header, gateway.Header(h))
	}
	a.Responder.Reply(reply)
}

// PeerURLs implements envtest.Finder.
func (r *rig) PeerURLs(i int) []string { return []string{r.URL(i)} }

// URL implements envtest.Caller.
func (r *rig) URL(i int) string { return "http://" + r.machines[i].address }

// SetServices implements envtest.Zoner.
func (r *rig) SetServices(name string, records ...env.Service) { r.zone.setServices(name, records) }

// SetAddresses implements envtest.Zoner.
func (r *rig) SetAddresses(host string, addresses ...netip.Addr) {
	r.zone.setAddresses(host, addresses)
}
