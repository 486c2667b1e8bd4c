package bootstrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// bodyMax bounds what another may answer.
const bodyMax = 1 << 20

// answer is one whole answer.
type answer struct {
	status int
	header []env.WebHeader
	body   []byte
}

func (a *answer) get(name string) string {
	for _, h := range a.header {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

// collector gathers an answer.
type collector struct {
	b    *Bootstrap
	a    answer
	big  bool
	done func(*answer, error)
}

func (c *collector) Head(status int, header []env.WebHeader) { c.a.status, c.a.header = status, header }

func (c *collector) Chunk(p []byte) {
	if len(c.a.body)+len(p) > bodyMax {
		c.big = true
		return
	}
	c.a.body = append(c.a.body, p...)
}

func (c *collector) End(err error) {
	switch {
	case c.b.over:
	case err != nil:
		c.done(nil, err)
	case c.a.status == 0:
		c.done(nil, errors.New("no answer"))
	case c.big:
		c.done(nil, fmt.Errorf("an answer of more than %d bytes", bodyMax))
	default:
		c.done(&c.a, nil)
	}
}

// ask sends a request and gathers the answer.
func (b *Bootstrap) ask(req *env.WebRequest, done func(*answer, error)) (cancel func()) {
	return b.env.Web.Do(req, &collector{b: b, done: done})
}

// peerTimeout is how long a peer may take to answer.
const peerTimeout = time.Second

// anyOf asks the URLs of one peer in turn until one answers.
func (b *Bootstrap) anyOf(urls []string, method, path string, done func(url string, a *answer, err error)) {
	if len(urls) == 0 {
		b.later(func() { done("", nil, errors.New("no URL")) })
		return
	}
	base := strings.TrimSuffix(urls[0], "/")
	b.ask(&env.WebRequest{Method: method, URL: base + path, Timeout: peerTimeout}, func(a *answer, err error) {
		if err != nil && len(urls) > 1 {
			b.anyOf(urls[1:], method, path, done)
			return
		}
		done(base, a, err)
	})
}

// listing is what a peer says about its cluster.
type listing struct {
	cluster uint64
	members []listed
}

type listed struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	Name       string   `json:"name"`
	ClientURLs []string `json:"clientURLs"`
	Started    *bool    `json:"started"`
	Learner    bool     `json:"learner"`
}

// started tells whether the member has published itself. Peers of the original do
// not say so, but a name is published with the rest.
func (m *listed) started() bool {
	if m.Started != nil {
		return *m.Started
	}
	return m.Name != "" || len(m.ClientURLs) > 0
}

// parseListing reads the members page of a peer.
func parseListing(a *answer) (*listing, error) {
	if a.status != 200 {
		return nil, fmt.Errorf("status %d: %s", a.status, firstLine(a.body))
	}
	cluster, err := strconv.ParseUint(a.get("X-Etcd-Cluster-ID"), 16, 64)
	if err != nil {
		return nil, errors.New("no cluster ID in the answer")
	}
	l := &listing{cluster: cluster}
	if err := json.Unmarshal(a.body, &l.members); err != nil {
		return nil, fmt.Errorf("members: %w", err)
	}
	seen := make(map[uint64]bool)
	for _, m := range l.members {
		if m.ID == 0 || seen[m.ID] || len(m.PeerURLs) == 0 {
			return nil, fmt.Errorf("members: %x is not a member with an ID and URLs of its own", m.ID)
		}
		seen[m.ID] = true
	}
	return l, nil
}

func firstLine(body []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	return line[:min(len(line), 200)]
}

// memberList gives a listing as members, sorted by ID.
func (l *listing) memberList() []gateway.Member {
	var members []gateway.Member
	for _, m := range l.members {
		members = append(members, gateway.Member{ID: env.NodeID(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs})
	}
	slices.SortStableFunc(members, func(a, b gateway.Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return members
}

// meant finds a member that was added at exactly these URLs and has not started: a
// place that was made for whoever asks. Founders who have not started vote, and are
// no such place: a machine that was told another list or token is not one of them.
// There may be several, where one was lost before it had started; not is the place
// that was refused already, or 0.
func (l *listing) meant(urls []string, not env.NodeID) *listed {
	for i := range l.members {
		if m := &l.members[i]; env.NodeID(m.ID) != not && m.Learner && !m.started() && sameURLs(m.PeerURLs, urls) {
			return m
		}
	}
	return nil
}

// identity is that of one of the members of a running cluster.
func (l *listing) identity(id uint64) *Identity {
	return &Identity{ID: env.NodeID(id), Cluster: l.cluster, Members: l.memberList(), Join: true}
}

// askList asks peers in turn for the members until one tells. Whoever is still
// looking for its cluster does not.
func (b *Bootstrap) askList(urls []string, done func(*listing, error)) {
	if len(urls) == 0 {
		b.later(func() { done(nil, errNoList) })
		return
	}
	b.anyOf(urls[:1], "GET", "/members", func(_ string, a *answer, err error) {
		var l *listing
		if err == nil {
			l, err = parseListing(a)
		}
		if err != nil {
			b.env.Log.Log(env.Warn, "could not get cluster response", "from", urls[0], "error", err)
			b.askList(urls[1:], done)
			return
		}
		done(l, nil)
	})
}

var errNoList = errors.New("could not retrieve cluster information from the given urls")
