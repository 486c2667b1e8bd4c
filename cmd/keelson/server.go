package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"time"

	"github.com/keelson/keelson/cmd/cli/options"
	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/daemon"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/core/retry"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/realnet"
	"github.com/keelson/keelson/realnet/disk"
	"github.com/keelson/keelson/realnet/httpd"
	"github.com/keelson/keelson/realnet/metrics"
	"github.com/keelson/keelson/realnet/names"
	"github.com/keelson/keelson/realnet/transport"
	"github.com/keelson/keelson/realnet/web"
)

// server is one daemon on a real machine, with everything around it.
type server struct {
	log       realnet.Log
	security  *security
	loop      *realnet.Loop
	disk      *disk.Disk
	net       *transport.Transport
	web       *web.Requests
	http      *httpd.Server // for clients
	peerHTTP  *httpd.Server // for members that ask instead of sending frames
	metrics   *metrics.Metrics
	listening []net.Listener // for members
	systemd   *supervisor
	units     *unitsPart
	tokens    bool       // serves nothing but discovery tokens
	failed    chan error // gets one error when the daemon can do nothing more

	// The loop's own.
	daemon  *daemon.Daemon
	node    *node.Node // that the daemon is, as of the last turn
	proxies bool       // the daemon passes requests on
	leader  env.NodeID
	changes uint64 // of the leader
	view    *store.View
	info    gateway.Info // as last published, what local reads need of it
}

// startServer starts a server, or starts nothing and says why.
func startServer(o *options.Serve, log realnet.Log) (p *server, err error) {
	if err := judge(o); err != nil {
		return nil, err
	}
	p = &server{log: log, tokens: o.Daemon.Discovery.Alone, loop: realnet.NewLoop(), systemd: newSupervisor(log), failed: make(chan error, 1)}
	if p.security, err = openSecurity(o, log); err != nil {
		return nil, err
	}
	if !onlyProxy(o) {
		p.listening, err = listenAll(o.ListenPeer, options.DefaultPeerURLs, p.security.peers, log)
	}
	if err != nil {
		p.security.close()
		return nil, fmt.Errorf("--listen-peer-urls: %w", err)
	}
	clients, err := listenAll(o.ListenClient, options.DefaultClientURLs, p.security.clients, log)
	if err != nil {
		err = fmt.Errorf("--listen-client-urls: %w", err)
	} else {
		var local []net.Listener
		if local, err = listenUnits(o, log); err == nil {
			clients = append(clients, local...)
			err = p.open(o)
		}
	}
	if err != nil {
		p.security.close()
		closeAll(p.listening)
		closeAll(clients)
		return nil, err
	}
	for _, l := range p.listening {
		p.net.Serve(l)
		log.Log(env.Info, "serving peers", "address", l.Addr())
	}
	for _, l := range clients {
		p.http.Serve(l)
		log.Log(env.Info, "serving clients", "address", l.Addr())
	}
	return p, nil
}

// identityFile is where the daemon writes down who it is.
const identityFile = "identity"

// judge refuses options from which nothing can come, before anything is written.
func judge(o *options.Serve) error {
	if there(o, identityFile) {
		return nil
	}
	for _, name := range []string{"member/wal", "member/snap"} {
		if info, err := os.Stat(filepath.Join(o.DataDir, name)); err == nil && info.IsDir() {
			return fmt.Errorf("data directory %s: %s is of etcd, whose files keelson does not read: name another --data-dir, or move this one away", o.DataDir, name)
		}
	}
	if there(o, "member") || there(o, "proxy") {
		return nil // the data decide
	}
	return o.Daemon.Bootstrap.Check()
}

// there tells whether the data directory has an entry of this name.
func there(o *options.Serve, name string) bool {
	_, err := os.Lstat(filepath.Join(o.DataDir, name))
	return !errors.Is(err, fs.ErrNotExist)
}

// onlyProxy tells whether nothing but a proxy can come of this process. Members have
// no business with one, so it leaves the peer URLs to others.
func onlyProxy(o *options.Serve) bool {
	if there(o, identityFile) || there(o, "member") {
		return false // what it was about to be, or is, may have been decided
	}
	mode := o.Daemon.Bootstrap.Proxy
	return there(o, "proxy") || mode == bootstrap.On || mode == bootstrap.ReadOnly
}

// open brings the daemon up from its data. The loop runs when it returns nil.
func (p *server) open(o *options.Serve) (err error) {
	p.metrics = metrics.New(metrics.Source{Node: p.figures, Peers: p.peers, Certificates: p.security.certificates})
	p.disk, err = disk.Open(o.DataDir, p.loop.Post, disk.Options{Observe: p.metrics.Write, Idle: p.loop.Idle, Apart: apart(o)})
	if err != nil {
		return err
	}
	if p.units, err = openUnits(o, p.loop, p.log); err != nil {
		p.disk.Close()
		return err
	}
	p.peerHTTP = httpd.New(httpd.Options{Post: p.loop.Post, Serve: p.serve, Log: p.log, Peer: true})
	p.net = transport.New(transport.Options{
		Post: p.loop.Post, Log: p.log, Dial: p.security.dial, Admit: p.security.admit, Other: p.peerHTTP.Take,
		Receive: func(from env.NodeID, frame []byte) { p.daemon.Receive(from, frame) },
	})
	p.web = web.NewRequests(web.RequestsOptions{Post: p.loop.Post, TLS: p.security.web})
	p.http = httpd.New(httpd.Options{
		Post: p.loop.Post, Serve: p.serve, Do: p.do, Log: p.log,
		ReadDefaultLocal: o.Daemon.Node.ReadDefaultLocal, CORS: o.CORS,
		Pages: pages(o, p.metrics), Observe: p.metrics.Request,
		Stranger: p.security.stranger, Welcome: p.security.welcome,
	})
	p.http.SetMode(httpd.Starting)
	opened := make(chan error, 1)
	p.loop.Post(func() { opened <- p.openDaemon(o) })
	go p.loop.Run(p.flush)
	if err := <-opened; err != nil {
		p.kill()
		if o.Daemon.Bootstrap.Check() == nil { // then it is not about the options
			err = fmt.Errorf("data directory %s: %w", o.DataDir, err)
		}
		return err
	}
	return nil
}

// apart is where the log is, if not within the data directory.
func apart(o *options.Serve) map[string]string {
	if o.WALDir == "" {
		return nil
	}
	return map[string]string{"member/wal-": o.WALDir}
}

func pages(o *options.Serve, m *metrics.Metrics) map[string]http.Handler {
	all := map[string]http.Handler{"/metrics": m.Handler()}
	if o.Pprof {
		all["/debug/pprof/"] = http.HandlerFunc(pprof.Index)
		all["/debug/pprof/profile"] = http.HandlerFunc(pprof.Profile)
		all["/debug/pprof/trace"] = http.HandlerFunc(pprof.Trace)
		for _, name := range []string{"heap", "allocs", "goroutine", "block", "mutex"} {
			all["/debug/pprof/"+name] = pprof.Handler(name)
		}
	}
	return all
}

// openDaemon runs on the loop.
func (p *server) openDaemon(o *options.Serve) error {
	c := o.Daemon
	c.Fatal, c.Node.Version, c.Fleet = p.fatal, version(), p.units.config
	d, err := daemon.Open(c, &env.Env{
		Clock: p.loop, Disk: p.disk, Net: p.net, Web: p.web, Names: names.New(p.loop.Post, nil),
		Work: realnet.NewWork(p.loop.Post), Systemd: p.units.systemd, Journal: p.units.journal,
		Log: p.log, Rare: realnet.Rare{}, Rand: realnet.Rand(),
	})
	if err != nil {
		return err
	}
	p.daemon = d
	p.systemd.watch(p.loop)
	return nil
}

// fatal is told by the daemon that it can do nothing more.
func (p *server) fatal(err error) {
	select {
	case p.failed <- err:
	default:
	}
}

// serve answers a request, on the loop.
func (p *server) serve(req *gateway.Request, r gateway.Responder) func() {
	return p.daemon.Serve(req, r)
}

// do answers a request that was parsed already: only a member is handed any.
func (p *server) do(op *gateway.Operation, r gateway.Responder) func() {
	n := p.daemon.Member()
	if n == nil { // it has just ceased to be one
		r.Reply(&gateway.Reply{
			Status: http.StatusServiceUnavailable, Body: []byte(`{"message":"this server is not a member any more"}`),
			Header: []gateway.Header{{Name: "Content-Type", Value: "application/json"}, {Name: retry.Header, Value: retry.Unsent}},
		})
		return func() {}
	}
	return n.Do(op, r)
}

// flush ends a turn: what local reads see is published before answers leave.
func (p *server) flush() {
	defer p.disk.AfterTurn() // last: answers and frames do not wait for it
	if p.daemon == nil {
		return
	}
	p.daemon.Flush()
	if n := p.daemon.Member(); n != p.node {
		p.become(n)
	}
	switch {
	case p.node != nil:
		p.publish()
	case !p.proxies && p.daemon.Proxy() != nil:
		p.proxies = true
		closeAll(p.listening) // members have no business with a proxy
		p.http.SetMode(httpd.Whole)
		p.systemd.ready()
	}
	p.http.AfterTurn()
	p.peerHTTP.AfterTurn()
}

// become follows the daemon, which is another member from now on, or none: it may be
// looking for its cluster again.
func (p *server) become(n *node.Node) {
	p.node, p.view = n, nil
	if n == nil {
		p.http.SetMode(httpd.Starting)
		p.http.Publish(nil, nil)
		return
	}
	i := n.Info()
	p.info = gateway.Info{ClusterID: i.ClusterID, Self: i.Self}
	if !p.tokens { // those are all that there is, then
		p.http.SetMode(httpd.Parsed)
	} else {
		p.http.SetMode(httpd.Whole)
	}
	p.systemd.ready()
}

// publish lets local reads see what the member has applied.
func (p *server) publish() {
	n := p.node
	leader, term := n.Replica().Leader()
	if leader != p.leader {
		p.leader = leader
		p.changes++
	}
	view, applied := n.View(), n.Replica().Applied()
	removed := n.Left()
	if view == p.view && term == p.info.Term && applied == p.info.RaftIndex && removed == p.info.Removed {
		return
	}
	p.view, p.info.Removed = view, removed
	p.info.Leader, p.info.Term, p.info.RaftIndex = leader, term, applied
	info := p.info
	p.http.Publish(view, &info)
}

// Bounds of the steps of an orderly stop.
const (
	drainMax = 10 * time.Second
	stopMax  = 5 * time.Second
)

// stop ends the process in order: clients first, then leadership, then the rest.
func (p *server) stop() {
	p.systemd.stopping()
	ctx, cancel := context.WithTimeout(context.Background(), drainMax)
	defer cancel()
	if err := p.http.Drain(ctx); err != nil {
		p.log.Log(env.Warn, "requests were cut off", "error", err)
	}
	handed := make(chan struct{})
	p.loop.Post(func() { p.daemon.Stop(func() { close(handed) }) })
	select {
	case <-handed:
	case <-p.loop.Stopped():
	case <-time.After(stopMax):
		p.log.Log(env.Warn, "leadership was not handed over in time")
	}
	p.kill()
}

// kill ends the loop and what feeds it, without a word to anybody.
func (p *server) kill() {
	p.loop.Stop()
	<-p.loop.Stopped()
	p.net.Close()
	p.web.Close()
	p.units.close()
	p.http.Close()
	p.peerHTTP.Close()
	p.security.close()
	if err := p.disk.Close(); err != nil {
		p.log.Log(env.Warn, "close data directory", "error", err)
	}
}

// figuresMax bounds how long a scrape waits for the loop.
const figuresMax = time.Second

// figures asks the node, on the loop, for what metrics show.
func (p *server) figures() (metrics.Node, bool) {
	return ask(p, func() (metrics.Node, bool) {
		if p.node == nil {
			return metrics.Node{}, false
		}
		return p.nodeFigures(p.node), true
	})
}

// ask runs fn on the loop. False is no answer in time.
func ask[T any](p *server, fn func() (T, bool)) (answer T, ok bool) {
	type both struct {
		v  T
		ok bool
	}
	got := make(chan both, 1)
	p.loop.Post(func() {
		v, ok := fn()
		got <- both{v, ok}
	})
	select {
	case b := <-got:
		return b.v, b.ok
	case <-time.After(figuresMax):
		return answer, false
	}
}

func (p *server) nodeFigures(n *node.Node) metrics.Node {
	s, st := n.Status(), n.Store().Stats()
	return metrics.Node{
		Leader: s.Leader == s.ID, HasLeader: s.Leader != 0, Term: s.Term, Commit: s.Commit, Applied: s.Applied,
		Index: uint64(s.Index), LeaderChanges: p.changes, Pending: s.Pending, Reads: s.Reads,
		Watchers: p.http.Watchers(), Full: s.Full, Compared: s.Compared, Differing: s.Differing,
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

// peers gives the traffic with each member by its name.
func (p *server) peers() (all []metrics.Peer) {
	names, _ := ask(p, func() (map[env.NodeID]string, bool) {
		names := make(map[env.NodeID]string)
		if p.node != nil {
			for _, m := range p.node.Info().Members {
				names[m.ID] = m.Name
			}
		}
		return names, true
	})
	for _, s := range p.net.Stats() {
		name := names[s.Peer]
		if name == "" {
			name = s.Peer.String()
		}
		all = append(all, metrics.Peer{Name: name, Up: s.Up, Sent: s.SentBytes, Received: s.ReceivedBytes, Dropped: s.DroppedFrames, Queued: s.QueuedBytes})
	}
	return all
}
