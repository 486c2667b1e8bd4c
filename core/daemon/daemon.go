package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/node"
)

// Config is what a process is told at start.
type Config struct {
	Bootstrap bootstrap.Config
	// Node is how a member behaves. Its Name, ID, Cluster, Members, Join and Fatal
	// are filled in.
	Node node.Config
	// Fatal is called once when the process can do nothing more. Whoever drives the
	// daemon drops it then.
	Fatal func(error)
}

// Names of files.
const (
	identityFile = "identity"
	memberDir    = "member"
	proxyDir     = "proxy"
)

// Daemon is one process. Its methods are called on the loop.
type Daemon struct {
	cfg  Config
	env  *env.Env
	boot *bootstrap.Bootstrap // until it is known what the process is
	id   *bootstrap.Identity
	node *node.Node

	writing bool // the identity
	stopped bool
	dead    bool
}

// Open brings a process up from what its disk holds, or begins to find out what it
// is to be.
func Open(cfg Config, e *env.Env) (*Daemon, error) {
	d := &Daemon{cfg: cfg, env: e}
	files, err := e.Disk.Names()
	if err != nil {
		return nil, fmt.Errorf("daemon: list the data directory: %w", err)
	}
	log, proxy := within(files, memberDir), within(files, proxyDir)
	if log && proxy {
		return nil, errors.New("invalid datadir. Both member and proxy directories exist")
	}
	if d.id, err = loadIdentity(e.Disk); err != nil {
		return nil, err
	}
	switch {
	case d.id != nil && d.id.Begun && !log:
		return nil, errLogLost(d.id)
	case d.id != nil:
		return d, d.open(e.Disk)
	}
	if err := cfg.Bootstrap.Check(); err != nil {
		return nil, err
	}
	d.boot = bootstrap.Begin(cfg.Bootstrap, e, d.found)
	return d, nil
}

func within(files []string, directory string) bool {
	for _, f := range files {
		if strings.HasPrefix(f, directory+"/") {
			return true
		}
	}
	return false
}

// loadIdentity gives nil where none was written.
func loadIdentity(d env.Disk) (*bootstrap.Identity, error) {
	text, err := d.Load(identityFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	id := &bootstrap.Identity{}
	if err := json.Unmarshal(bytes.TrimRight(text, "\x00"), id); err != nil {
		return nil, fmt.Errorf("%s: %w", identityFile, err)
	}
	if id.ID == 0 {
		return nil, fmt.Errorf("%s: names no member", identityFile)
	}
	return id, nil
}

// errLogLost is the refusal of a member whose log is gone: with an empty one it
// could vote against what it has acknowledged.
func errLogLost(id *bootstrap.Identity) error {
	return fmt.Errorf("%s says that this is member %v, which has taken part in its cluster, but there is no log in %s: put the log back, or clear the data directory and have the member replaced",
		identityFile, id.ID, memberDir)
}

// found takes what the bootstrap came to.
func (d *Daemon) found(o *bootstrap.Outcome, err error) {
	if d.inert() {
		return
	}
	d.boot = nil
	if err != nil {
		d.die(err)
		return
	}
	d.id = o.Identity
	d.keep(func() {
		if err := d.open(nothing{d.env.Disk}); err != nil {
			d.die(err)
		}
	})
}

// nothing is a disk that holds nothing of a log yet: it is not read again after the
// start.
type nothing struct{ env.Disk }

func (nothing) Names() ([]string, error) { return nil, nil }

// keep writes the identity down and goes on with then.
func (d *Daemon) keep(then func()) {
	text, err := json.MarshalIndent(d.id, "", "\t")
	if err != nil {
		d.die(err)
		return
	}
	d.writing = true
	d.env.Disk.Replace(identityFile, bytes.NewReader(append(text, '\n')), func(err error) {
		d.writing = false
		switch {
		case d.inert():
		case err != nil:
			d.die(fmt.Errorf("write %s: %w", identityFile, err))
		default:
			then()
		}
	})
}

// open makes this process a member.
func (d *Daemon) open(disk env.Disk) error {
	e := *d.env
	e.Disk = env.In(disk, memberDir)
	conf := d.cfg.Node
	conf.Name, conf.Fatal = d.cfg.Bootstrap.Name, d.die
	conf.ID, conf.Cluster, conf.Members, conf.Join = d.id.ID, d.id.Cluster, d.id.Members, d.id.Join
	n, err := node.Open(conf, &e)
	if err != nil {
		return err
	}
	d.node = n
	return nil
}

// Receive takes a frame that another node sent.
func (d *Daemon) Receive(from env.NodeID, frame []byte) {
	if d.node != nil && !d.inert() {
		d.node.Receive(from, frame)
	}
}

// Serve answers one request, as gateway.Mux.Serve does.
func (d *Daemon) Serve(req *gateway.Request, r gateway.Responder) (cancel func()) {
	if d.node != nil {
		return d.node.Serve(req, r)
	}
	r.Reply(&gateway.Reply{Status: 503, Body: []byte(`{"message":"this server is looking for its cluster"}`)})
	return func() {}
}

// Flush ends a turn.
func (d *Daemon) Flush() {
	if d.node == nil || d.inert() {
		return
	}
	d.node.Flush()
	if !d.id.Begun && !d.writing && !d.inert() && d.node.Replica().Ready() {
		d.id.Begun = true
		d.keep(func() {})
	}
}

// Stop ends the process in order and calls done in this or a later turn. The driver
// keeps calling the daemon until then.
func (d *Daemon) Stop(done func()) {
	if d.boot != nil {
		d.boot.Stop()
	}
	if d.node == nil {
		d.stopped = true
		done()
		return
	}
	d.node.Stop(func() {
		d.stopped = true
		done()
	})
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
