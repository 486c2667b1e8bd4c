package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/realnet"
	"github.com/keelson/keelson/realnet/disk"
	"github.com/keelson/keelson/realnet/httpd"
	"github.com/keelson/keelson/realnet/metrics"
	"github.com/keelson/keelson/realnet/transport"
)

// member is one node on a real machine, with everything around it.
type member struct {
	log     realnet.Log
	id      *Identity
	loop    *realnet.Loop
	disk    *disk.Disk
	net     *transport.Transport
	http    *httpd.Server
	metrics *metrics.Metrics
	failed  chan error // gets one error when the node can do nothing more

	unwritten string // the path of an identity that is not written down yet

	// The loop's own.
	node    *node.Node
	leader  env.NodeID
	changes uint64 // of the leader
	view    *store.View
	info    gateway.Info // as last published, what local reads need of it
}

// startMember starts a member, or starts nothing and says why.
func startMember(o *serveOptions, log realnet.Log) (*member, error) {
	m := &member{log: log, loop: realnet.NewLoop(), failed: make(chan error, 1)}
	if err := o.judge(); err != nil {
		return nil, err
	}
	peers, err := listenAll(o.listenPeer, defaultPeerURLs, log)
	if err != nil {
		return nil, fmt.Errorf("--listen-peer-urls: %w", err)
	}
	clients, err := listenAll(o.listenClient, defaultClientURLs, log)
	if err != nil {
		closeAll(peers)
		return nil, fmt.Errorf("--listen-client-urls: %w", err)
	}
	if err := m.open(o); err != nil {
		closeAll(peers)
		closeAll(clients)
		return nil, err
	}
	for _, l := range peers {
		m.net.Serve(l)
		log.Log(env.Info, "serving peers", "address", l.Addr())
	}
	for _, l := range clients {
		m.http.Serve(l)
		log.Log(env.Info, "serving clients", "address", l.Addr())
	}
	return m, nil
}

// listenAll opens a listener for each URL. Where none is given the defaults are
// tried, and the second of them may be taken by somebody else.
func listenAll(given []string, defaults string, log realnet.Log) (all []net.Listener, err error) {
	urls := given
	if urls == nil {
		urls = strings.Split(defaults, ",")
	}
	for i, raw := range urls {
		u, err := parseURL(raw)
		if err != nil {
			return nil, err
		}
		host := u.Hostname()
		if host == "localhost" {
			host = "127.0.0.1"
		}
		l, err := net.Listen("tcp", net.JoinHostPort(host, u.Port()))
		if err != nil && given == nil && i > 0 && errors.Is(err, syscall.EADDRINUSE) {
			log.Log(env.Warn, "default address is in use, going on without", "url", raw)
			continue
		}
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("%s: %w", raw, err)
		}
		all = append(all, l)
	}
	return all, nil
}

func closeAll(ls []net.Listener) {
	for _, l := range ls {
		l.Close()
	}
}

// open brings the node up from its data. The loop runs when it returns nil.
func (m *member) open(o *serveOptions) (err error) {
	m.metrics = metrics.New(metrics.Source{Node: m.figures, Peers: m.peers})
	m.disk, err = disk.Open(filepath.Join(o.dataDir, "member"), m.loop.Post, disk.Options{Observe: m.metrics.Write, Idle: m.loop.Idle})
	if err != nil {
		return err
	}
	if err = m.identify(o); err != nil {
		m.disk.Close()
		return err
	}
	m.net = transport.New(transport.Options{
		Cluster: m.id.Cluster, Self: m.id.ID, Post: m.loop.Post, Log: m.log,
		Receive: func(from env.NodeID, frame []byte) { m.node.Receive(from, frame) },
	})
	m.http = httpd.New(httpd.Options{
		Post:             m.loop.Post,
		Serve:            func(req *gateway.Request, r gateway.Responder) func() { return m.node.Serve(req, r) },
		Do:               func(op *gateway.Operation, r gateway.Responder) func() { return m.node.Mux().Do(op, r) },
		Log:              m.log,
		ReadDefaultLocal: o.readDefaultLocal,
		Pages:            pages(o, m.metrics),
		Observe:          m.metrics.Request,
	})
	opened := make(chan error, 1)
	m.loop.Post(func() { opened <- m.openNode(o) })
	go m.loop.Run(m.flush)
	if err := <-opened; err != nil {
		m.kill()
		m.http.Close()
		m.disk.Close()
		return err
	}
	addresses := make(map[env.NodeID][]string)
	for _, p := range m.id.Members {
		addresses[p.ID] = p.PeerURLs
	}
	return m.net.SetPeers(addresses)
}

// identify finds out who this member is, and refuses one that has lost its log.
func (m *member) identify(o *serveOptions) error {
	id, fresh, err := o.identity()
	if err != nil {
		return err
	}
	files, err := m.disk.Names()
	if err != nil {
		return err
	}
	if !fresh && len(files) == 0 {
		return o.errLogLost(id)
	}
	m.id = id
	if fresh {
		m.unwritten = filepath.Join(o.dataDir, identityFile)
	}
	return nil
}

// settle writes down who this member is once its log has begun.
func (m *member) settle() {
	if m.unwritten == "" || !m.node.Replica().Ready() {
		return
	}
	if err := writeDurably(m.unwritten, m.id); err != nil {
		m.fatal(err)
	}
	m.unwritten = ""
}

func pages(o *serveOptions, m *metrics.Metrics) map[string]http.Handler {
	all := map[string]http.Handler{"/metrics": m.Handler()}
	if o.pprof {
		all["/debug/pprof/"] = http.HandlerFunc(pprof.Index)
		all["/debug/pprof/profile"] = http.HandlerFunc(pprof.Profile)
		all["/debug/pprof/trace"] = http.HandlerFunc(pprof.Trace)
		for _, name := range []string{"heap", "allocs", "goroutine", "block", "mutex"} {
			all["/debug/pprof/"+name] = pprof.Handler(name)
		}
	}
	return all
}

// openNode runs on the loop.
func (m *member) openNode(o *serveOptions) error {
	n, err := node.Open(node.Config{
		Name: o.name, ID: m.id.ID, Cluster: m.id.Cluster, Members: m.id.Members,
		ClientURLs: o.advertiseClient, ReadDefaultLocal: o.readDefaultLocal, Version: version(),
		Tick: o.heartbeat, ElectionTicks: int(o.election / o.heartbeat),
		SnapshotEntries: o.snapshotCount, Fatal: m.fatal,
	}, &env.Env{Clock: m.loop, Disk: m.disk, Net: m.net, Log: m.log, Rare: realnet.Rare{}, Rand: realnet.Rand()})
	if err != nil {
		return err
	}
	m.node = n
	return nil
}

// fatal is told by the node that it can do nothing more.
func (m *member) fatal(err error) {
	select {
	case m.failed <- err:
	default:
	}
}

// flush ends a turn: what local reads see is published before answers leave.
func (m *member) flush() {
	defer m.disk.AfterTurn() // last: answers and frames do not wait for it
	if m.node == nil {
		return
	}
	m.settle()
	m.node.Flush()
	leader, term := m.node.Replica().Leader()
	if leader != m.leader {
		m.leader = leader
		m.changes++
	}
	view, applied := m.node.View(), m.node.Replica().Applied()
	if view != m.view || term != m.info.Term || applied != m.info.RaftIndex {
		m.view = view
		m.info = gateway.Info{ClusterID: m.id.Cluster, Self: m.id.ID, Leader: leader, Term: term, RaftIndex: applied}
		info := m.info
		m.http.Publish(view, &info)
	}
	m.http.AfterTurn()
}

// Bounds of the steps of an orderly stop.
const (
	drainMax = 10 * time.Second
	stopMax  = 5 * time.Second
)

// stop ends the member in order: clients first, then leadership, then the rest.
func (m *member) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), drainMax)
	defer cancel()
	if err := m.http.Drain(ctx); err != nil {
		m.log.Log(env.Warn, "requests were cut off", "error", err)
	}
	handed := make(chan struct{})
	m.loop.Post(func() { m.node.Stop(func() { close(handed) }) })
	select {
	case <-handed:
	case <-m.loop.Stopped():
	case <-time.After(stopMax):
		m.log.Log(env.Warn, "leadership was not handed over in time")
	}
	m.kill()
	m.http.Close()
	if err := m.disk.Close(); err != nil {
		m.log.Log(env.Warn, "close data directory", "error", err)
	}
}

// kill ends the loop and what feeds it, without a word to anybody.
func (m *member) kill() {
	m.loop.Stop()
	<-m.loop.Stopped()
	m.net.Close()
}

// figuresMax bounds how long a scrape waits for the loop.
const figuresMax = time.Second

// figures asks the node, on the loop, for what metrics show.
func (m *member) figures() (metrics.Node, bool) {
	got := make(chan metrics.Node, 1)
	m.loop.Post(func() {
		if m.node != nil {
			got <- m.nodeFigures()
		}
	})
	select {
	case n := <-got:
		return n, true
	case <-time.After(figuresMax):
		return metrics.Node{}, false
	}
}

func (m *member) nodeFigures() metrics.Node {
	s, st := m.node.Status(), m.node.Store().Stats()
	return metrics.Node{
		Leader: s.Leader == m.id.ID, HasLeader: s.Leader != 0, Term: s.Term, Commit: s.Commit, Applied: s.Applied,
		Index: uint64(s.Index), LeaderChanges: m.changes, Pending: s.Pending, Reads: s.Reads,
		Watchers: m.http.Watchers(), Full: s.Full,
		Succeeded: map[string]uint64{
			"set": st.SetsSuccess, "delete": st.DeleteSuccess, "update": st.UpdateSuccess, "create": st.CreateSuccess,
			"compareAndSwap": st.CompareAndSwapSuccess, "compareAndDelete": st.CompareAndDeleteSuccess, "expire": st.ExpireCount,
		},
		Failed: map[string]uint64{
			"set": st.SetsFail, "delete": st.DeleteFail, "update": st.UpdateFail, "create": st.CreateFail,
			"compareAndSwap": st.CompareAndSwapFail, "compareAndDelete": st.CompareAndDeleteFail,
		},
	}
}

func (m *member) peers() (all []metrics.Peer) {
	names := make(map[env.NodeID]string)
	for _, p := range m.id.Members {
		names[p.ID] = p.Name
	}
	for _, s := range m.net.Stats() {
		all = append(all, metrics.Peer{Name: names[s.Peer], Up: s.Up, Sent: s.SentBytes, Received: s.ReceivedBytes, Dropped: s.DroppedFrames, Queued: s.QueuedBytes})
	}
	return all
}
