package bootstrap

import (
	"fmt"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// Host is whoever runs a bootstrap. Its methods are called on the loop; what they
// are given to call is called in a later turn.
type Host interface {
	// Keep makes a note durable.
	Keep(note *Identity, then func())
	// Forget removes the note, if there is one.
	Forget(then func())
	// Done ends the bootstrap. An error is one that trying again would not mend.
	Done(o *Outcome, err error)
}

// Bootstrap is one way from a Config to an Outcome.
type Bootstrap struct {
	cfg   Config
	env   *env.Env
	host  Host
	prior *Identity // the note of an earlier life of this disk, or nil
	life  string

	over    bool
	founder *Identity // what this node is about to be, once its list is known
	why     string    // what it waits for, for people
	cancel  func()    // of the request under way that may take for ever
}

// Begin starts looking; prior is the note that was kept, if any. The host hears of
// the end once, in a later turn, unless Stop was called before.
func Begin(cfg Config, prior *Identity, e *env.Env, h Host) *Bootstrap {
	b := &Bootstrap{cfg: cfg, env: e, host: h, prior: prior, why: "finding its cluster", cancel: func() {}}
	if prior != nil {
		b.life = prior.Life
	}
	if b.life == "" {
		b.life = fmt.Sprintf("%016x", e.Rand.Uint64())
	}
	b.later(b.start)
	return b
}

// Stop gives up.
func (b *Bootstrap) Stop() {
	b.over = true
	b.cancel()
}

// Waiting says in a few words what keeps the node from being something.
func (b *Bootstrap) Waiting() string { return b.why }

// Founder is the member that this node is about to be, once its list is known, and
// nil before.
func (b *Bootstrap) Founder() *Identity { return b.founder }

func (b *Bootstrap) start() {
	if err := b.cfg.choice(); err != nil {
		b.fail(err)
		return
	}
	switch {
	case b.cfg.Discovery != "":
		b.discover()
	case b.cfg.DiscoverySRV != "":
		b.services(b.listed)
	default:
		members, err := b.cfg.list()
		if err != nil {
			b.fail(err)
			return
		}
		b.listed(members)
	}
}

// listed goes on with a list of members.
func (b *Bootstrap) listed(members []gateway.Member) {
	if b.cfg.proxies() {
		b.proxy(members, b.cfg.Proxy == ReadOnly)
		return
	}
	b.found(members)
}

// proxy ends as one.
func (b *Bootstrap) proxy(members []gateway.Member, readOnly bool) {
	to := &ProxyTo{ReadOnly: readOnly}
	for _, m := range members {
		to.PeerURLs = append(to.PeerURLs, m.PeerURLs...)
	}
	b.host.Forget(func() { b.end(&Outcome{Proxy: to}) })
}

func (b *Bootstrap) end(o *Outcome) {
	if !b.over {
		b.over = true
		b.host.Done(o, nil)
	}
}

func (b *Bootstrap) fail(err error) {
	if !b.over {
		b.over = true
		b.cancel()
		b.host.Done(nil, err)
	}
}

// later runs fn in a later turn.
func (b *Bootstrap) later(fn func()) { b.after(0, fn) }

func (b *Bootstrap) after(d time.Duration, fn func()) {
	b.env.Clock.After(d, func() {
		if !b.over {
			fn()
		}
	})
}

// keep makes a note durable and goes on.
func (b *Bootstrap) keep(note *Identity, then func()) {
	note.Life, note.Waiting = b.life, true
	b.prior = note
	b.host.Keep(note, func() {
		if !b.over {
			then()
		}
	})
}

func (b *Bootstrap) say(msg string, kv ...any) { b.env.Log.Log(env.Info, msg, kv...) }

// waits says what is waited for; the log hears of it when it changes.
func (b *Bootstrap) waits(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	if why != b.why {
		b.why = why
		b.say(why)
	}
}
