package bootstrap

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// Rebuild has a member of a running cluster replaced by a new one on the same
// machine, because what the old one holds must not be used any more. It asks the
// others to make a place at the same URLs, which they do only if a majority commits
// it; then it has clear forget the old member's log, and joins as the new one. As
// long as no majority answers it waits, and nothing is cleared.
//
// Every step may be taken again after a crash: prior is the note of a place that was
// found already, or nil.
func Rebuild(name string, old, prior *Identity, e *env.Env, h Host, clear func(then func())) *Bootstrap {
	b := &Bootstrap{env: e, host: h, prior: prior, why: "asking the others to rebuild this member", cancel: func() {}}
	b.cfg = Config{Name: name, State: Existing}
	r := &rebuild{b: b, old: old, clear: clear, pause: rebuildFirst}
	for _, m := range old.Members {
		if m.ID == old.ID {
			b.cfg.PeerURLs = m.PeerURLs
		} else {
			r.others = append(r.others, m)
		}
	}
	b.life = fmt.Sprintf("%016x", e.Rand.Uint64())
	if prior != nil {
		b.life = prior.Life
	}
	b.later(r.look)
	return b
}

// The waits between rounds.
const (
	rebuildFirst = time.Second
	rebuildMax   = 5 * time.Second
	// rebuildTimeout is how long a change of members may take.
	rebuildTimeout = 10 * time.Second
)

type rebuild struct {
	b      *Bootstrap
	old    *Identity
	others []gateway.Member
	clear  func(then func())
	pause  time.Duration
}

// look asks what the cluster knows of this machine.
func (r *rebuild) look() {
	var urls []string
	for _, m := range r.others {
		urls = append(urls, m.PeerURLs...)
	}
	r.b.askList(urls, func(l *listing, err error) {
		switch {
		case err != nil:
			r.again("no other member answers")
		case l.cluster != r.old.Cluster:
			r.b.fail(fmt.Errorf("rebuild member %v: the machines at the URLs of the other members are of cluster %x, and this one is of %x: clear the data directory and add this machine anew", r.old.ID, l.cluster, r.old.Cluster))
		default:
			r.known(l)
		}
	})
}

// known goes on with what the cluster says.
func (r *rebuild) known(l *listing) {
	if place := r.place(l); place != 0 {
		r.b.say("the others have made a new place for this machine", "id", env.NodeID(place), "instead of", r.old.ID)
		r.clear(func() { r.b.admit(l.identity(place)) })
		return
	}
	if !slices.ContainsFunc(l.members, func(m listed) bool { return env.NodeID(m.ID) == r.old.ID }) {
		r.b.fail(fmt.Errorf("rebuild member %v: %w from the cluster: clear the data directory, and add this machine anew if it is to return", r.old.ID, ErrRemoved))
		return
	}
	r.ask(0, errors.New("no other member answers"))
}

// place finds the new place: one that has not started, or that this disk had begun to
// take.
func (r *rebuild) place(l *listing) uint64 {
	if p := r.b.prior; p != nil && p.ID != r.old.ID {
		for i := range l.members {
			if env.NodeID(l.members[i].ID) == p.ID {
				return l.members[i].ID
			}
		}
	}
	for i := range l.members {
		m := &l.members[i]
		if env.NodeID(m.ID) != r.old.ID && !m.started() && sameURLs(m.PeerURLs, r.b.cfg.PeerURLs) {
			return m.ID
		}
	}
	return 0
}

// ask asks the others in turn, from the i-th on, for the replacement.
func (r *rebuild) ask(i int, last error) {
	if i == len(r.others) {
		r.again(last.Error())
		return
	}
	m := r.others[i]
	if len(m.PeerURLs) == 0 {
		r.ask(i+1, last)
		return
	}
	r.b.waits("asking the others to rebuild this member")
	req := &env.WebRequest{Method: "POST", URL: m.PeerURLs[0] + "/members/" + r.old.ID.String() + "/replace", Timeout: rebuildTimeout, Connect: peerTimeout}
	r.b.ask(req, func(a *answer, err error) {
		switch {
		case err != nil:
			r.ask(i+1, err)
		case a.status == 201:
			r.look()
		default:
			r.ask(i+1, fmt.Errorf("%s answers %d: %s", m.PeerURLs[0], a.status, firstLine(a.body)))
		}
	})
}

func (r *rebuild) again(why string) {
	r.b.waits("cannot be rebuilt from the others yet: %s", why)
	r.b.after(r.pause, r.look)
	r.pause = min(2*r.pause, rebuildMax)
}
