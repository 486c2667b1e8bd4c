package bootstrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/planted"
)

// admission is a member's way in: the others are asked in rounds until enough of
// them grant its place. The package comment has the rule and why it is safe.
type admission struct {
	b       *Bootstrap
	id      *Identity
	granted map[env.NodeID]bool
	refused []refusal // in this round, by the order of members
	sure    bool      // granted by a cluster that has a leader
	waiting int       // answers of this round
	pause   time.Duration
	warned  map[env.NodeID]bool
}

// ErrRemoved is wrapped by the error of a member that was taken out of its cluster
// before it had begun.
var ErrRemoved = errors.New("it was removed")

// refusal is the answer of a member that does not let this one in.
type refusal struct {
	by     gateway.Member
	status int
	text   string
}

// The waits between rounds.
const (
	pauseFirst = 200 * time.Millisecond
	pauseMax   = 2 * time.Second
)

// admit notes who this member is to be and goes on until it is let in.
func (b *Bootstrap) admit(id *Identity) {
	if len(id.Members) == 1 && !id.Join {
		b.end(&Outcome{Identity: &Identity{ID: id.ID, Cluster: id.Cluster, Members: id.Members, Life: b.life}})
		return
	}
	if b.prior != nil {
		id.Discovery = b.prior.Discovery
	}
	b.keep(id, func() {
		b.founder = id
		a := &admission{b: b, id: id, granted: make(map[env.NodeID]bool), warned: make(map[env.NodeID]bool), pause: pauseFirst}
		a.round()
	})
}

// round asks everybody who has not granted yet.
func (a *admission) round() {
	a.refused, a.waiting = nil, 0
	for _, m := range a.id.Members {
		if m.ID != a.id.ID && !a.granted[m.ID] && len(m.PeerURLs) > 0 {
			a.waiting++
		}
	}
	if a.waiting == 0 {
		a.judge()
		return
	}
	path := ClaimPath(a.id.ID, a.id.Cluster, a.b.life, a.id.Join)
	for _, m := range a.id.Members {
		if m.ID == a.id.ID || a.granted[m.ID] || len(m.PeerURLs) == 0 {
			continue
		}
		a.b.anyOf(m.PeerURLs, "PUT", path, func(_ string, answer *answer, err error) {
			a.take(m, answer, err)
			if a.waiting--; a.waiting == 0 {
				a.judge()
			}
		})
	}
}

// ClaimPath is where a member asks another to grant a place to a life.
func ClaimPath(id env.NodeID, cluster uint64, life string, join bool) string {
	path := "/members/" + id.String() + "/claim?cluster=" + strconv.FormatUint(cluster, 16) + "&life=" + life
	if join {
		path += "&join=true"
	}
	return path
}

// Grant is the body of an answer that grants a place.
type Grant struct {
	// Sure says that the whole cluster has granted it, and not one member alone.
	Sure bool `json:"sure"`
}

func (a *admission) take(m gateway.Member, answer *answer, err error) {
	if err != nil {
		return // asked again in the next round
	}
	switch answer.status {
	case 200:
		var g Grant
		if json.Unmarshal(answer.body, &g) == nil && (g.Sure || !a.id.Join) {
			a.granted[m.ID] = true
			a.sure = a.sure || g.Sure
		}
	case 404, 409, 412:
		a.refused = append(a.refused, refusal{m, answer.status, firstLine(answer.body)})
	}
}

// judge ends a round.
func (a *admission) judge() {
	if planted.On(planted.WipedMemberAccepted) {
		for _, r := range a.refused {
			a.granted[r.by.ID] = true
		}
		a.refused = nil
	}
	switch {
	case len(a.refused) > 0:
		a.objected(0)
	case a.enough():
		a.in()
	default:
		a.again()
	}
}

func (a *admission) enough() bool {
	if a.id.Join {
		return a.sure
	}
	return a.sure || len(a.granted) >= len(a.id.Members)/2
}

func (a *admission) in() {
	id := *a.id
	id.Life, id.Waiting, id.Discovery = a.b.life, false, ""
	a.b.end(&Outcome{Identity: &id})
}

func (a *admission) again() {
	if a.id.Join {
		a.b.waits("waiting for a leader of the cluster to let this member in")
	} else {
		a.b.waits("waiting for %d more of the other %d members to start", len(a.id.Members)/2-len(a.granted), len(a.id.Members)-1)
	}
	a.b.after(a.pause, a.round)
	a.pause = min(2*a.pause, pauseMax)
}

// objected hears those who refused, from the i-th on. One may have a place made for
// this machine, as after a replacement; otherwise a refusal ends it, unless it is
// that of another cluster.
func (a *admission) objected(i int) {
	if i == len(a.refused) {
		a.refused = nil
		a.judge()
		return
	}
	r := a.refused[i]
	a.b.askList(r.by.PeerURLs, func(l *listing, err error) {
		if err == nil {
			if m := l.meant(a.b.cfg.PeerURLs, a.id.ID); m != nil {
				a.b.say("this machine has a new place in the cluster", "id", env.NodeID(m.ID), "instead of", a.id.ID)
				a.b.admit(l.identity(m.ID))
				return
			}
		}
		switch r.status {
		case 409:
			a.b.fail(fmt.Errorf("member %v has already been bootstrapped: the data of this machine is gone or was begun elsewhere; have it replaced (keelson member replace %s) and start it again", a.id.ID, a.b.cfg.Name))
		case 404:
			a.b.fail(fmt.Errorf("member %v is not in the cluster that %s belongs to: %w; add it again (keelson member add) and start it with an empty data directory", a.id.ID, r.by.Name, ErrRemoved))
		default:
			a.mismatch(r, l)
			a.objected(i + 1)
		}
	})
}

// mismatch is a member of another cluster at the URLs of one of this.
func (a *admission) mismatch(r refusal, l *listing) {
	if len(a.b.cfg.Peers) > 0 && l != nil {
		a.b.fail(fmt.Errorf("the cluster at %s runs already and does not know this machine: add it (keelson member add %s %s) and start it with the variables that this prints", r.by.Name, a.b.cfg.Name, a.b.cfg.PeerURLs[0]))
		return
	}
	if !a.warned[r.by.ID] {
		a.warned[r.by.ID] = true
		a.b.env.Log.Log(env.Error, "request cluster ID mismatch: lists or tokens differ", "peer", r.by.Name, "answer", r.text)
	}
}
