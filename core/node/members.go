package node

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/replica"
	"github.com/keelson/keelson/core/store"
)

// membersKey is the hidden directory in which members say who they are, one file
// for each, named with its ID.
const membersKey = "/_etcd/members"

// attributes is what a member says about itself.
type attributes struct {
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
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
	want := p.want()
	p.n.ReadIndex(func(err *store.Error) {
		switch {
		case p.ended:
		case err != nil:
			p.round.Fail(err)
		case p.published(want):
			p.done()
		default:
			p.n.Propose(store.Command{Op: store.OpSet, Key: p.key(), Value: want}, func(res store.Result) {
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

func (p *publisher) key() string { return membersKey + "/" + p.n.cfg.ID.String() }

func (p *publisher) want() string {
	a := attributes{Name: p.n.cfg.Name, PeerURLs: []string{}, ClientURLs: append([]string{}, p.n.cfg.ClientURLs...)}
	for _, m := range p.n.cfg.Members {
		if m.ID == p.n.cfg.ID {
			a.PeerURLs = append(a.PeerURLs, m.PeerURLs...)
		}
	}
	text, err := json.Marshal(&a)
	if err != nil { // strings and slices of strings always encode
		panic(err)
	}
	return string(text)
}

func (p *publisher) published(want string) bool {
	node, err := p.n.View().Get(p.key(), false)
	return err == nil && node.Value == want
}

// infoCache keeps what Info says between changes of it.
type infoCache struct {
	made   *gateway.Info
	madeAt env.Instant

	members []gateway.Member
	stale   bool // the store says something else about members
	voters  []env.NodeID

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
		Members: members, Started: n.info.started, Store: n.store.Stats(), Watchers: uint64(n.watchers.Len()),
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

// members lists the voters with what they say about themselves. It is made anew
// only when something changed, and the caller must not change it.
func (n *Node) members() []gateway.Member {
	voters := n.replica.Voters()
	if n.info.members != nil && !n.info.stale && slices.Equal(n.info.voters, voters) {
		return n.info.members
	}
	n.info.members, n.info.stale, n.info.voters = nil, false, voters
	for _, id := range voters {
		n.info.members = append(n.info.members, n.member(id))
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
	node, missing := n.View().Get(membersKey+"/"+id.String(), false)
	if missing != nil {
		return m
	}
	var a attributes
	if err := json.Unmarshal([]byte(node.Value), &a); err != nil {
		return m // whoever wrote it was no member
	}
	return gateway.Member{ID: id, Name: a.Name, PeerURLs: a.PeerURLs, ClientURLs: a.ClientURLs, Started: true}
}
