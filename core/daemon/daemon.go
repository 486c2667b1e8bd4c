package daemon

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/discovery"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/fleet"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/mirror"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/core/proxy"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/retry"
)

// Config is what a process is told at start.
type Config struct {
	Bootstrap bootstrap.Config
	// Node is how a member behaves. Its Name, ID, Cluster, Members, Join and Fatal
	// are filled in.
	Node node.Config
	// Proxy is how a proxy behaves. Its PeerURLs and ReadOnly are filled in.
	Proxy proxy.Config
	// Mirror lists prefixes that a proxy keeps a copy of, for controllers: see View.
	Mirror []string
	// ForceNewCluster has a member that has data go on as a cluster of its own, with new
	// IDs: for a majority that is lost for good. What was done is not done again.
	ForceNewCluster bool
	// Fleet is this machine's part in running units; nil: it has none.
	Fleet *fleet.Config
	// Discovery is how a member serves discovery tokens. Without a Host, URLs of
	// tokens begin with the first of the node's client URLs.
	Discovery discovery.Options
	// Fatal is called once when the process can do nothing more. Whoever drives the
	// daemon drops it then.
	Fatal func(error)
}

// Names of files.
const (
	identityFile = "identity"
	admittedFile = "admitted"
	memberDir    = "member"
	proxyDir     = "proxy"
	unitsDir     = "units"
)

// Daemon is one process. Its methods are called on the loop.
type Daemon struct {
	cfg    Config
	env    *env.Env
	boot   *bootstrap.Bootstrap // until it is known what the process is
	id     *bootstrap.Identity
	node   *node.Node
	proxy  *proxy.Proxy
	mirror *mirror.Mirror // of a proxy
	tokens *discovery.Service
	units  *fleet.Fleet // this machine's part in running units, or nil
	source source       // of units, on a member
	notes  *notes       // of units
	claims claims
	heals  heals

	writing bool // the identity
	stopped bool
	dead    bool
}

// Open brings a process up from what its disk holds, or begins to find out what it
// is to be.
func Open(cfg Config, e *env.Env) (*Daemon, error) {
	d := &Daemon{cfg: cfg, env: e}
	d.source.env = e
	files, err := e.Disk.Names()
	if err != nil {
		return nil, fmt.Errorf("daemon: list the data directory: %w", err)
	}
	d.remark(files)
	if cfg.Fleet != nil {
		d.notes = readNotes(e.Disk, below(files, unitsDir))
	}
	log, proxy := within(files, memberDir), within(files, proxyDir)
	if log && proxy {
		return nil, errors.New("invalid datadir. Both member and proxy directories exist. Remove " + proxyDir + " to go on as the member, or " + memberDir + " and " + identityFile + " to go on as the proxy") // the original's words
	}
	if proxy {
		return d, d.again()
	}
	if going, err := d.resumeForcing(files); going || err != nil {
		return d, err
	}
	if d.id, err = loadIdentity(e.Disk); err != nil {
		return nil, err
	}
	if d.claims.admitted, err = loadAdmitted(e.Disk); err != nil {
		return nil, err
	}
	if d.heals, err = loadHeals(e.Disk, files); err != nil {
		return nil, err
	}
	if going, err := d.beginForcing(files); going || err != nil {
		return d, err
	}
	if d.resumeHealing() {
		return d, nil
	}
	switch {
	case d.id == nil && log:
		return nil, fmt.Errorf("%s holds a log, but %s is missing, which says whose: put it back, or clear the data directory and have the member replaced", memberDir, identityFile)
	case d.id != nil && d.id.Begun && !log:
		return nil, errLogLost(d.id)
	case d.id != nil && (log || !d.id.Waiting):
		d.ignored()
		return d, d.openOrHeal()
	}
	if err := cfg.Bootstrap.Check(); err != nil {
		return nil, err
	}
	prior := d.id
	d.id = nil
	d.boot = bootstrap.Begin(cfg.Bootstrap, prior, e, host{d})
	return d, nil
}

// remark names what does not belong into the data directory.
func (d *Daemon) remark(files []string) {
	for _, f := range files {
		top, _, _ := strings.Cut(f, "/")
		switch top {
		case identityFile, admittedFile, healFile, memberDir, proxyDir, forcedDir, unitsDir:
		default:
			d.env.Log.Log(env.Warn, "found an unknown file in the data directory; it is left alone", "name", f)
		}
	}
}

// ignored says which options have no effect, because the disk has decided.
func (d *Daemon) ignored() {
	b := &d.cfg.Bootstrap
	for _, o := range []struct{ name, value string }{{"discovery", b.Discovery}, {"discovery-srv", b.DiscoverySRV}} {
		if o.value != "" {
			d.env.Log.Log(env.Warn, "--"+o.name+" is ignored: the data directory says what this machine is", o.name, o.value)
		}
	}
}

func within(files []string, directory string) bool {
	for _, f := range files {
		if strings.HasPrefix(f, directory+"/") {
			return true
		}
	}
	return false
}

// host is the daemon as its bootstrap sees it.
type host struct{ *Daemon }

func (h host) Keep(note *bootstrap.Identity, then func()) { h.keep(note, then) }

func (h host) Forget(then func()) {
	h.env.Disk.Remove(identityFile, func(err error) {
		switch {
		case h.inert():
		case err != nil:
			h.die(fmt.Errorf("remove %s: %w", identityFile, err))
		default:
			then()
		}
	})
}

// Done takes what the bootstrap came to.
func (h host) Done(o *bootstrap.Outcome, err error) {
	d := h.Daemon
	if d.inert() {
		return
	}
	d.boot = nil
	switch {
	case err != nil:
		d.die(err)
	case o.Proxy != nil:
		if err := d.pass(nothing{d.env.Disk}, o.Proxy); err != nil {
			d.die(err)
		}
	default:
		d.keep(o.Identity, func() {
			d.id = o.Identity
			if err := d.open(nothing{d.env.Disk}); err != nil {
				d.die(err)
			}
		})
	}
}

// nothing is a disk that holds nothing of a log yet: it is not read again after the
// start.
type nothing struct{ env.Disk }

func (nothing) Names() ([]string, error) { return nil, nil }

func (nothing) Load(name string) ([]byte, error) {
	return nil, &fs.PathError{Op: "load", Path: name, Err: fs.ErrNotExist}
}

// open makes this process a member.
func (d *Daemon) open(disk env.Disk) error {
	e := *d.env
	e.Disk = env.In(disk, memberDir)
	conf := d.cfg.Node
	conf.Name, conf.Fatal = d.cfg.Bootstrap.Name, d.broken
	conf.ID, conf.Cluster, conf.Members, conf.Join = d.id.ID, d.id.Cluster, d.id.Members, d.id.Join
	d.env.Log.Log(env.Info, "starting as a member", "name", conf.Name, "id", conf.ID, "cluster", env.NodeID(conf.Cluster), "members", len(conf.Members))
	n, err := node.Open(conf, &e)
	if err != nil {
		return err
	}
	d.node = n
	o := d.cfg.Discovery
	if o.Host == "" && len(conf.ClientURLs) > 0 {
		o.Host = strings.TrimSuffix(conf.ClientURLs[0], "/")
	}
	d.tokens = discovery.New(n, d.env.Rand, o)
	d.env.Clock.After(followEvery, func() { d.follow(n) })
	d.recovered()
	d.source.attach(n, n.Source())
	return d.openUnits(fleet.Host{Source: &d.source, Member: true, Lead: d.leads, Gate: &d.source})
}

// openUnits begins this machine's part in running units, unless it has begun: it goes on
// while a member is rebuilt.
func (d *Daemon) openUnits(h fleet.Host) (err error) {
	if d.cfg.Fleet == nil || d.units != nil {
		return nil
	}
	e := *d.env
	e.Disk = d.notes
	d.units, err = fleet.Open(*d.cfg.Fleet, &e, h)
	return err
}

func (d *Daemon) leads() bool { return d.node != nil && d.node.Leading() }

// again makes this process the proxy that it was.
func (d *Daemon) again() error {
	d.ignored()
	return d.pass(d.env.Disk, &bootstrap.ProxyTo{ReadOnly: d.cfg.Bootstrap.Proxy == bootstrap.ReadOnly})
}

// pass makes this process a proxy.
func (d *Daemon) pass(disk env.Disk, to *bootstrap.ProxyTo) error {
	e := *d.env
	e.Disk = env.In(disk, proxyDir)
	conf := d.cfg.Proxy
	conf.PeerURLs, conf.ReadOnly = to.PeerURLs, to.ReadOnly
	d.env.Log.Log(env.Info, "starting as a proxy", "readonly", to.ReadOnly, "members", strings.Join(to.PeerURLs, ","))
	p, err := proxy.Open(conf, &e)
	if err != nil {
		return err
	}
	d.proxy = p
	prefixes := slices.Clone(d.cfg.Mirror)
	if d.runsUnits() {
		keys := registry.Keys{Prefix: cmp.Or(d.cfg.Fleet.Prefix, registry.DefaultPrefix)}
		prefixes = append(prefixes, keys.Worker(d.cfg.Fleet.Machine)...)
	}
	if len(prefixes) == 0 {
		return nil
	}
	d.mirror, err = mirror.Open(mirror.Config{Prefixes: prefixes, Endpoints: p.Endpoints, Header: d.proof()}, d.env)
	if err != nil || !d.runsUnits() {
		return err
	}
	return d.openUnits(fleet.Host{Source: d.mirror, Members: p.Endpoints})
}

// proof says in requests to members as whom this machine's controllers ask.
func (d *Daemon) proof() []env.WebHeader {
	if d.cfg.Fleet == nil || d.cfg.Fleet.User == "" {
		return nil
	}
	who := base64.StdEncoding.EncodeToString([]byte(d.cfg.Fleet.User + ":" + d.cfg.Fleet.Password))
	return []env.WebHeader{{Name: "Authorization", Value: "Basic " + who}}
}

func (d *Daemon) runsUnits() bool { return d.cfg.Fleet != nil && !d.cfg.Fleet.NoAgent }

// Receive takes a frame that another node sent.
func (d *Daemon) Receive(from env.NodeID, frame []byte) {
	if d.node != nil && !d.inert() {
		d.node.Receive(from, frame)
	}
}

// Serve answers one request, as gateway.Mux.Serve does.
func (d *Daemon) Serve(req *gateway.Request, r gateway.Responder) (cancel func()) {
	if d.cfg.Fleet != nil {
		if reply := fleet.Always(d.cfg.Fleet, req); reply != nil {
			r.Reply(reply)
			return func() {}
		}
	}
	switch {
	case req.Peer && isClaim(req.Path):
		return d.claim(req, r)
	case d.units != nil && d.units.Handles(req):
		return d.units.Serve(req, r)
	case d.node != nil && d.tokens.Handles(req):
		return d.tokens.Serve(req, r)
	case d.node != nil:
		return d.node.Serve(req, r)
	case d.proxy != nil:
		return d.proxy.Serve(req, r)
	}
	r.Reply(d.notYet(req))
	return func() {}
}

// notYet is the answer of a process that is looking for its cluster.
func (d *Daemon) notYet(req *gateway.Request) *gateway.Reply {
	if d.cfg.Fleet != nil {
		if r := fleet.NotYet(d.cfg.Fleet, req); r != nil {
			return r
		}
	}
	why := "stopping"
	if d.boot != nil {
		why = d.boot.Waiting()
	}
	why = "this server is not a member yet: " + why
	body := map[string]string{"message": why}
	if req.Path == "/health" {
		body = map[string]string{"health": "false", "reason": why}
	}
	r := jsonReply(503, body)
	r.Header = append(r.Header, gateway.Header{Name: retry.Header, Value: retry.Unsent}) // another server may be asked the same
	return r
}

// Flush ends a turn.
func (d *Daemon) Flush() {
	if d.units != nil && !d.inert() {
		d.units.Flush()
	}
	switch {
	case d.inert():
	case d.proxy != nil:
		d.proxy.Flush()
	case d.node != nil:
		d.node.Flush()
		if d.node != nil && !d.id.Begun && !d.writing && !d.inert() && d.node.Replica().Ready() {
			begun := *d.id
			begun.Begun = true
			d.rewrite(&begun)
		}
	}
}

// followEvery is how often the members are compared with what is written down.
const followEvery = time.Second

// follow keeps the identity in step with the members that n knows, so that a restart
// finds those that there are.
func (d *Daemon) follow(n *node.Node) {
	if d.inert() || d.node != n {
		return
	}
	if now := n.Info().Members; d.id.Begun && !d.writing && located(now) && includes(now, d.id.ID) {
		next := *d.id
		next.Members, next.Forced = now, d.id.Forced && d.cfg.ForceNewCluster
		if next.Forced != d.id.Forced || !sameMembers(now, d.id.Members) {
			d.rewrite(&next)
		}
	}
	d.env.Clock.After(followEvery, func() { d.follow(n) })
}

func includes(members []gateway.Member, id env.NodeID) bool {
	return slices.ContainsFunc(members, func(m gateway.Member) bool { return m.ID == id })
}

// rewrite replaces the identity beside the node's work. A full disk is tried again.
func (d *Daemon) rewrite(id *bootstrap.Identity) {
	d.writing = true
	d.env.Disk.Replace(identityFile, encode(id), func(err error) {
		d.writing = false
		switch {
		case d.inert():
		case errors.Is(err, env.ErrFull):
		case err != nil:
			d.die(fmt.Errorf("write %s: %w", identityFile, err))
		default:
			d.id = id
		}
	})
}

// Stop ends the process in order and calls done in this or a later turn. The driver
// keeps calling the daemon until then.
func (d *Daemon) Stop(done func()) {
	if u := d.units; u != nil && !d.inert() {
		u.Stop(func() {
			if d.units = nil; !d.inert() {
				d.stop(done)
			}
		})
		return
	}
	d.stop(done)
}

func (d *Daemon) stop(done func()) {
	ended := func() {
		d.stopped = true
		done()
	}
	switch {
	case d.node != nil:
		d.node.Stop(ended)
	case d.proxy != nil:
		if d.mirror != nil {
			d.mirror.Stop()
		}
		d.proxy.Stop(ended)
	default:
		if d.boot != nil {
			d.boot.Stop()
		}
		ended()
	}
}

func (d *Daemon) die(err error) {
	if !d.dead {
		d.dead = true
		d.cfg.Fatal(err)
	}
}

func (d *Daemon) inert() bool { return d.stopped || d.dead }

// Member is the member that this process is, or nil.
func (d *Daemon) Member() *node.Node { return d.node }

// Proxy is the proxy that this process is, or nil.
func (d *Daemon) Proxy() *proxy.Proxy { return d.proxy }

// Units is this machine's part in running units, or nil.
func (d *Daemon) Units() *fleet.Fleet { return d.units }

// Waiting says what keeps this process from being something, or "".
func (d *Daemon) Waiting() string {
	if d.boot == nil {
		return ""
	}
	return d.boot.Waiting()
}

// Mirror is what a proxy copies, or nil.
func (d *Daemon) Mirror() *mirror.Mirror { return d.mirror }

// View is what controllers read, or nil while nothing is known: a member's own state,
// or what a proxy has copied of the members'.
func (d *Daemon) View() control.View {
	switch {
	case d.node != nil:
		return d.node.View()
	case d.mirror != nil:
		return d.mirror.View()
	}
	return nil
}
