package node

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/replica"
	"github.com/keelson/keelson/core/store"
)

const membersKey = gateway.MembersKey

// attributes is what a member says about itself.
type attributes struct {
	Name       string   `json:"name"` // empty until it has started
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
	// Replaces is the ID of the member in whose place it was added. It means
	// nothing any more when that one has left.
	Replaces string `json:"replaces,omitempty"`
	// Batch is the newest format of batches that the member reads; see formats.
	Batch int `json:"batch,omitempty"`
}

func (a *attributes) text() string {
	text, err := json.Marshal(a)
	if err != nil { // strings and slices of strings always encode
		panic(err)
	}
	return string(text)
}

// attributesOf reads the record of a member. Whoever wrote what cannot be read was
// none.
func attributesOf(text string) (a attributes, ok bool) {
	err := json.Unmarshal([]byte(text), &a)
	return a, err == nil
}

func memberKey(id env.NodeID) string { return membersKey + "/" + id.String() }

// memberOf is the member whose record is at key.
func memberOf(key string) (id env.NodeID, ok bool) {
	name, ok := strings.CutPrefix(key, membersKey+"/")
	id = parseID(name)
	return id, ok && id != 0
}

// parseID reads an ID as people write it; what is none is nobody.
func parseID(s string) env.NodeID {
	id, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return 0
	}
	return env.NodeID(id)
}

// publisher writes this node's attributes where they are missing or different,
// once in each life.
type publisher struct {
	n     *Node
	round *control.Round
	ended bool
	begun bool
}

func newPublisher(n *Node) *publisher {
	p := &publisher{n: n}
	p.round = control.NewRound(n.env, p.publish)
	return p
}

// look begins as soon as there is a leader to ask.
func (p *publisher) look() {
	if p.ended || p.begun || p.n.inert() || !p.n.replica.Ready() {
		return
	}
	if leader, _ := p.n.replica.Leader(); leader != 0 {
		p.begun = true
		p.publish()
	}
}

// publish compares what the cluster knows with what it should. It reads
// linearizably first: this node may just not have caught up.
func (p *publisher) publish() {
	if p.ended || p.n.inert() || !p.round.Begin() {
		return
	}
	p.n.ReadIndex(func(err *store.Error) {
		switch {
		case p.ended:
		case err != nil:
			p.round.Fail(err)
		case p.published():
			p.done()
		default:
			p.n.Propose(p.command(), func(res store.Result) {
				if p.ended {
					return
				}
				if res.Err != nil {
					p.round.Fail(res.Err)
					return
				}
				p.done()
			})
		}
	})
}

func (p *publisher) done() {
	p.ended = true
	p.round.End()
}

func (p *publisher) stop() {
	p.ended = true
	p.round.Stop()
}

func (p *publisher) key() string { return memberKey(p.n.cfg.ID) }

// want is what the record should say. Where the member is found by others is the
// cluster's word as soon as it has said anything.
func (p *publisher) want(have *store.Node) string {
	a := attributes{PeerURLs: []string{}}
	for _, m := range p.n.cfg.Members {
		if m.ID == p.n.cfg.ID {
			a.PeerURLs = append(a.PeerURLs, m.PeerURLs...)
		}
	}
	if have != nil {
		if known, ok := attributesOf(have.Value); ok {
			a = known
		}
	}
	a.Name, a.ClientURLs, a.Batch = p.n.cfg.Name, append([]string{}, p.n.cfg.ClientURLs...), p.n.offers()
	return a.text()
}

// command writes the record, unless it was changed or, with the member itself, removed
// meanwhile.
func (p *publisher) command() store.Command {
	have, missing := p.n.View().Get(p.key(), false)
	if missing != nil {
		return store.Command{Op: store.OpCreate, Key: p.key(), Value: p.want(nil)}
	}
	return store.Command{Op: store.OpCompareAndSwap, Key: p.key(), Value: p.want(have), PrevIndex: have.Modified}
}

func (p *publisher) published() bool {
	have, missing := p.n.View().Get(p.key(), false)
	return missing == nil && have.Value == p.want(have)
}

// infoCache keeps what Info says between changes of it.
type infoCache struct {
	made   *gateway.Info
	madeAt env.Instant

	members []gateway.Member
	stale   bool           // the store says something else about members
	group   *replica.Group // members was made for it

	started     int64
	leader      env.NodeID
	term        uint64
	changes     uint64 // leaders lost
	leaderSince int64
	leaderAt    env.Instant
}

// saw follows an event of the store, and says whether it concerns members.
func (i *infoCache) saw(e *store.Event) bool {
	if !strings.HasPrefix(e.Node.Key, membersKey) && !strings.HasPrefix(membersKey, e.Node.Key) {
		return false
	}
	i.stale = true
	return true
}

// leads follows the leader.
func (i *infoCache) leads(n *Node, leader env.NodeID, term uint64) {
	if i.leader == leader && i.term == term {
		return
	}
	if i.leader != 0 {
		i.changes++
	}
	i.leader, i.term = leader, term
	i.leaderSince, i.leaderAt = n.env.Clock.Wall().UnixNano(), n.env.Clock.Now()
}

// Info describes this member and its cluster; see gateway.Backend. Within a turn
// it is made once for each entry applied.
func (n *Node) Info() *gateway.Info {
	leader, term := n.replica.Leader()
	n.info.leads(n, leader, term)
	now, applied := n.env.Clock.Now(), n.replica.Applied()
	if i := n.info.made; i != nil && !n.info.stale && n.info.madeAt == now &&
		i.RaftIndex == applied && i.Term == term && i.Leader == leader {
		return i
	}
	members := n.members()
	info := &gateway.Info{
		ClusterID: n.cfg.Cluster, Self: n.cfg.ID, Name: n.cfg.Name,
		Leader: leader, Term: term, RaftIndex: applied, Role: role(n.replica.Role()),
		Members: members, Removed: n.left, Started: n.info.started, Store: n.store.Stats(), Watchers: uint64(n.watchers.Len()),
	}
	if leader != 0 {
		info.LeaderSince, info.LeaderUptime = n.info.leaderSince, now.Sub(n.info.leaderAt)
	}
	n.info.made, n.info.madeAt = info, now
	return info
}

// Traffic implements gateway.Counter.
func (n *Node) Traffic() *gateway.Traffic {
	counted := n.replica.Traffic()
	t := &gateway.Traffic{Received: flow(counted.Received), Sent: flow(counted.Sent)}
	for _, l := range counted.Followers {
		t.Followers = append(t.Followers, gateway.Progress{
			ID: l.ID, Current: l.Current, Average: l.Average, Deviation: l.Deviation, Minimum: l.Minimum, Maximum: l.Maximum,
			Failed: l.Failed, Succeeded: l.Answered,
		})
	}
	return t
}

func flow(f replica.Flow) gateway.Flow {
	return gateway.Flow{Messages: f.Messages, Recent: f.Recent, RecentBytes: f.RecentBytes, Span: f.Span}
}

// members lists the voters and learners with what they say about themselves. It is
// made anew only when something changed, and the caller must not change it.
func (n *Node) members() []gateway.Member {
	group := n.replica.Group()
	if n.info.members != nil && !n.info.stale && n.info.group == group {
		return n.info.members
	}
	n.info.members, n.info.stale, n.info.group = nil, false, group
	for _, id := range group.Voters {
		n.info.members = append(n.info.members, n.member(id))
	}
	for _, id := range group.Learners {
		m := n.member(id)
		m.Learner = true
		n.info.members = append(n.info.members, m)
	}
	return n.info.members
}

func (n *Node) member(id env.NodeID) gateway.Member {
	m := gateway.Member{ID: id}
	for _, told := range n.cfg.Members {
		if told.ID == id {
			m.PeerURLs = told.PeerURLs
		}
	}
	node, missing := n.View().Get(memberKey(id), false)
	if missing != nil {
		return m
	}
	a, ok := attributesOf(node.Value)
	if !ok {
		return m
	}
	return gateway.Member{ID: id, Name: a.Name, PeerURLs: a.PeerURLs, ClientURLs: a.ClientURLs, Started: a.Name != ""}
}
