package bootstrap

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// Errors of discovery, in the words of the original.
var (
	errSizeNotFound  = errors.New("discovery: size key not found")
	errBadSize       = errors.New("discovery: size key is bad")
	errBadEndpoint   = errors.New("discovery: bad discovery endpoint")
	errFull          = errors.New("discovery: cluster is full")
	errInvalidURL    = errors.New("discovery: invalid URL")
	errDuplicateName = errors.New("discovery: found duplicate name")
)

// discovery is the way by a token, a directory of a service in which the members
// meet.
//
//	look: size, then the directory ──▶ full, not among the first: proxy or exit
//	  ▲         │        │     └─ not there, a place left ─▶ note ─▶ register ─┐
//	  │         │        └─ full, among the first: that is the cluster         │
//	  │         └─ there, but never written down here: a duplicate             │
//	  ├─────────── something changed ◀── wait ◀── there, not full yet          │
//	  └────────────────────────────────────────────────────────────────────────┘
//
// Every step may be taken again: who looks twice sees what is, so a step whose
// answer was lost is simply followed by another look.
type discovery struct {
	b     *Bootstrap
	base  string // URL of the token, without a slash at the end
	id    env.NodeID
	value string // what this member registers
	// mine says that a registration under this member's ID is its own: it was
	// written down, or sent, before.
	mine  bool
	made  uint64 // index at which it was registered in this life
	fails int    // in a row
	seen  []string
	said  string
}

// The waits of discovery.
const (
	discoveryTimeout = 5 * time.Second
	// backoffMax bounds the doubling of waits, as a number of doublings.
	backoffMax = 5
	// relook bounds how long a silent watch is trusted.
	relook = 30 * time.Second
)

func (b *Bootstrap) discover() {
	if _, err := parseToken(b.cfg.Discovery); err != nil {
		b.fail(err)
		return
	}
	sorted := slices.Sorted(slices.Values(b.cfg.PeerURLs))
	d := &discovery{
		b: b, base: strings.TrimSuffix(b.cfg.Discovery, "/"),
		id: MemberID(sorted, b.cfg.Discovery), value: namedList(b.cfg.Name, sorted),
	}
	if p := b.prior; p != nil && p.Discovery == b.cfg.Discovery && p.ID == d.id && !b.cfg.proxies() {
		if len(p.Members) > 0 {
			b.found(p.Members)
			return
		}
		d.mine = true
	}
	b.waits("asking the discovery service at %s", d.base)
	d.look()
}

// request asks the service for something below the token. Where it cannot be
// reached, or is not able to answer, it is asked again for ever.
func (d *discovery) request(method, path, body string, done func(*answer)) {
	req := &env.WebRequest{Method: method, URL: d.base + path, Timeout: discoveryTimeout, Proxy: d.b.cfg.DiscoveryProxy}
	if body != "" {
		req.Body = []byte(body)
		req.Header = []env.WebHeader{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}
	}
	d.b.ask(req, func(a *answer, err error) {
		if err == nil && a.status >= 500 {
			err = fmt.Errorf("status %d: %s", a.status, firstLine(a.body))
		}
		if err != nil {
			d.again(err, func() { d.request(method, path, body, done) })
			return
		}
		d.fails = 0
		done(a)
	})
}

// again waits 2 s, 4 s, 8 s… and then calls retry.
func (d *discovery) again(err error, retry func()) {
	d.fails = min(d.fails+1, backoffMax)
	pause := time.Second << d.fails
	d.b.env.Log.Log(env.Warn, fmt.Sprintf("%v: error connecting to %s, retrying in %v", d.id, d.base, pause), "error", err)
	d.b.after(pause, retry)
}

// fail ends it for good.
func (d *discovery) fail(err error) {
	d.b.env.Log.Log(env.Error, fmt.Sprintf("failed to join discovery cluster (%v)", err))
	d.b.fail(fmt.Errorf("discovery token %s was used, but failed to bootstrap the cluster. please generate a new discovery token and try to bootstrap again. (%w)", d.b.cfg.Discovery, err))
}

// look asks for the size and then for the members.
func (d *discovery) look() {
	d.request("GET", "/_config/size", "", func(a *answer) {
		size, err := parseSize(a)
		if err != nil {
			d.fail(err)
			return
		}
		d.request("GET", "", "", func(a *answer) {
			l, err := parseDirectory(a)
			if err != nil {
				d.fail(err)
				return
			}
			d.judge(size, l)
		})
	})
}

// judge goes on from what the directory holds.
func (d *discovery) judge(size int, l *directory) {
	d.tell(size, l)
	first := l.members[:min(size, len(l.members))]
	full := len(first) == size
	if d.b.cfg.proxies() {
		if full {
			d.become(first)
		} else {
			d.wait(l.index)
		}
		return
	}
	at := slices.IndexFunc(l.members, func(r registration) bool { return r.id == d.id.String() })
	switch {
	case at >= 0 && !d.mine:
		d.duplicate()
	case at < 0 && d.made > 0 && l.index < d.made:
		d.wait(l.index) // this endpoint is behind
	case at < 0 && d.made > 0:
		d.fail(errors.New("discovery: the registration of this machine was removed"))
	case full && (at < 0 || at >= size):
		d.tooLate(first)
	case at < 0:
		d.register()
	case full:
		d.complete(size, first)
	default:
		d.wait(l.index)
	}
}

// tell logs who has come, once each.
func (d *discovery) tell(size int, l *directory) {
	for _, r := range l.members[:min(size, len(l.members))] {
		if slices.Contains(d.seen, r.id) {
			continue
		}
		d.seen = append(d.seen, r.id)
		who := "peer"
		if r.id == d.id.String() {
			who = "self"
		}
		d.b.say(fmt.Sprintf("found %s %s in the cluster", who, r.id))
	}
	said := fmt.Sprintf("found %d needed peer(s)", size)
	if n := len(l.members); n < size {
		said = fmt.Sprintf("found %d peer(s), waiting for %d more", n, size-n)
		d.b.why = fmt.Sprintf("waiting for %d more of %d members to use the discovery token %s", size-n, size, d.base)
	}
	if said != d.said {
		d.said = said
		d.b.say(said)
	}
}

// register notes first that it is about to, so that a restart knows the registration
// for its own.
func (d *discovery) register() {
	note := &Identity{ID: d.id, Discovery: d.b.cfg.Discovery}
	d.b.keep(note, d.put)
}

func (d *discovery) put() {
	form := "value=" + url.QueryEscape(d.value)
	req := &env.WebRequest{
		Method: "PUT", URL: d.base + "/" + d.id.String() + "?prevExist=false", Timeout: discoveryTimeout, Body: []byte(form),
		Header: []env.WebHeader{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}, Proxy: d.b.cfg.DiscoveryProxy,
	}
	d.b.ask(req, func(a *answer, err error) {
		if err == nil && a.status >= 500 {
			err = fmt.Errorf("status %d: %s", a.status, firstLine(a.body))
		}
		if err != nil {
			d.mine = d.mine || !errors.Is(err, env.ErrUnsent) // it may have got there
			d.again(err, d.look)
			return
		}
		d.fails = 0
		d.registered(a)
	})
}

func (d *discovery) registered(a *answer) {
	node, err := parseNode(a)
	var no *serviceError
	switch {
	case err == nil:
		d.mine, d.made = true, node.Created
		d.look()
	case errors.As(err, &no) && no.Code == 105 && d.mine:
		d.look()
	case errors.As(err, &no) && no.Code == 105:
		d.duplicate()
	default:
		d.fail(err)
	}
}

// duplicate refuses a machine whose registration it has not made, or does not
// remember.
func (d *discovery) duplicate() {
	d.b.host.Forget(func() {
		d.b.fail(fmt.Errorf("member %q has previously registered with discovery service token (%s). its data directory holds nothing of that: put it back, have the member replaced (keelson member replace) if the cluster runs, or release the place if it does not (keelson discovery release)",
			d.b.cfg.Name, d.b.cfg.Discovery))
	})
}

// tooLate is for a machine for which there is no place.
func (d *discovery) tooLate(first []registration) {
	if d.b.cfg.Fallback == FallbackExit {
		d.b.host.Forget(func() { d.fail(errFull) })
		return
	}
	d.b.say(errFull.Error() + ", falling back to proxy")
	d.become(first)
}

// become ends as a proxy before these members.
func (d *discovery) become(first []registration) {
	members, err := readCluster(joined(first))
	if err != nil {
		d.fail(invalid(first))
		return
	}
	d.b.proxy(members, d.b.cfg.Proxy == ReadOnly)
}

// complete goes on with the cluster that the token has made.
func (d *discovery) complete(size int, first []registration) {
	members, err := d.cluster(size, first)
	switch {
	case errors.Is(err, errDuplicateName):
		d.b.env.Log.Log(env.Error, err.Error())
		d.b.fail(fmt.Errorf("member with duplicated name has registered with discovery service token(%s): %s; make a new token (keelson discovery new) and give each machine its own name", d.b.cfg.Discovery, joined(first)))
	case err != nil:
		d.fail(err)
	default:
		d.b.found(members)
	}
}

func (d *discovery) cluster(size int, first []registration) ([]gateway.Member, error) {
	members, err := readCluster(joined(first))
	if err != nil {
		return nil, invalid(first)
	}
	if len(members) < size {
		return nil, errDuplicateName
	}
	if u := duplicate(members); u != "" {
		return nil, fmt.Errorf("discovery cluster %s has duplicate url %s", joined(first), u)
	}
	return identify(members, d.b.cfg.Discovery), nil
}

// invalid names the registration that is no member.
func invalid(all []registration) error {
	for _, r := range all {
		if _, err := readCluster(r.value); err != nil {
			return fmt.Errorf("%w: %.40q has registered %.100q, want NAME=URL", errInvalidURL, r.id, r.value)
		}
	}
	return errInvalidURL
}

func joined(all []registration) string {
	var values []string
	for _, r := range all {
		values = append(values, r.value)
	}
	return strings.Join(values, ",")
}

// wait looks again once something below the token changes, and now and then in any
// case.
func (d *discovery) wait(index uint64) {
	var cancel func()
	ended := false
	next := func(pause time.Duration) {
		if !ended {
			ended = true
			d.b.cancel = func() {}
			cancel()
			d.b.after(pause, d.look)
		}
	}
	req := &env.WebRequest{
		Method: "GET", URL: d.base + "?recursive=true&wait=true&waitIndex=" + strconv.FormatUint(index+1, 10), Timeout: discoveryTimeout,
		Stream: true, Proxy: d.b.cfg.DiscoveryProxy,
	}
	cancel = d.b.ask(req, func(a *answer, err error) {
		switch {
		case ended:
		case err != nil:
			ended = true
			d.b.cancel = func() {}
			d.again(err, d.look)
		case a.status != 200 || len(a.body) == 0:
			next(time.Second)
		default:
			next(0)
		}
	})
	d.b.cancel = cancel
	d.b.after(relook, func() { next(0) })
}
