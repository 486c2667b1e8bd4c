package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"

	"github.com/keelson/keelson/core/env"
)

// endpoint is a member where clients ask.
type endpoint struct {
	url   string
	until env.Instant // it is left alone until then
	down  bool        // it failed and has not answered since
	loops bool        // what was sent there last came back to a proxy it had passed
	// owes says that a request went out at since and nothing has come back from the
	// member after it.
	owes  bool
	since env.Instant
}

// usable gives the members to ask, in order: those that failed a moment ago are left
// out, those that keep others waiting come last.
func (p *Proxy) usable() (list []*endpoint) {
	now := p.env.Clock.Now()
	var slow []*endpoint
	for _, at := range p.eps {
		switch {
		case at.until > now:
		case at.owes && now.Sub(at.since) >= silenceMax:
			slow = append(slow, at)
		default:
			list = append(list, at)
		}
	}
	return append(list, slow...)
}

// failed leaves a member alone for a while.
func (p *Proxy) failed(at *endpoint, why string) {
	at.until = p.env.Clock.Now().Add(p.cfg.FailureWait)
	at.owes = false
	if !at.down {
		at.down = true
		p.env.Log.Log(env.Warn, "proxy: endpoint unavailable", "endpoint", at.url, "reason", why)
	}
}

func (at *endpoint) heard() { at.down, at.loops, at.owes, at.until = false, false, false, 0 }

// leadsBack says that an endpoint is left alone because it leads back to a proxy.
func (p *Proxy) leadsBack() bool {
	return slices.ContainsFunc(p.eps, func(at *endpoint) bool { return at.loops })
}

// search asks one place after the other for the list of members.
type search struct {
	p      *Proxy
	left   []string
	at     string
	page   page
	other  *list // of another cluster than before
	cancel func()
}

// page collects an answer. It implements env.WebReceiver.
type page struct {
	s       *search
	status  int
	cluster string
	body    []byte
}

// look begins a search.
func (p *Proxy) look() {
	p.timer = nil
	if p.search != nil || p.stopped {
		return
	}
	p.search = &search{p: p, left: p.peers}
	p.search.next()
}

func (s *search) next() {
	if len(s.left) == 0 {
		s.p.searched(s.other)
		return
	}
	s.at, s.left = s.left[0], s.left[1:]
	answer := &page{s: s}
	s.cancel = s.p.env.Web.Do(&env.WebRequest{
		Method: "GET", URL: strings.TrimSuffix(s.at, "/") + "/members",
		Timeout: refreshMax, Connect: s.p.cfg.DialTimeout,
	}, answer)
}

func (g *page) Head(status int, header []env.WebHeader) {
	g.status = status
	for _, h := range header {
		if strings.EqualFold(h.Name, "X-Etcd-Cluster-Id") {
			g.cluster = h.Value
		}
	}
}

func (g *page) Chunk(b []byte) {
	if len(g.body)+len(b) > listMax {
		g.status = 0
		return
	}
	g.body = append(g.body, b...)
}

func (g *page) End(err error) {
	s := g.s
	if err != nil || g.status != 200 {
		s.next()
		return
	}
	l, err := parseList(g.body)
	if err != nil {
		s.p.env.Log.Log(env.Warn, "proxy: list of members makes no sense", "peer", s.at, "reason", err)
		s.next()
		return
	}
	l.cluster = g.cluster
	if s.p.cluster != "" && l.cluster != s.p.cluster {
		s.other = l // others may still know the one we stand before
		s.next()
		return
	}
	s.p.searched(l)
}

// list is what a member says about its cluster.
type list struct {
	cluster    string
	peers, eps []string // sorted
}

// parseList reads the page /members of a peer.
func parseList(text []byte) (*list, error) {
	var members []struct {
		PeerURLs   []string `json:"peerURLs"`
		ClientURLs []string `json:"clientURLs"`
	}
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, err
	}
	l := &list{}
	for _, m := range members {
		l.peers = append(l.peers, sound(m.PeerURLs)...)
		l.eps = append(l.eps, sound(m.ClientURLs)...)
	}
	if len(l.peers) == 0 {
		return nil, errors.New("no member with a peer URL")
	}
	l.peers, l.eps = set(l.peers), set(l.eps)
	return l, nil
}

// sound gives the URLs that can be asked.
func sound(urls []string) (good []string) {
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.RawQuery == "" && u.Fragment == "" {
			good = append(good, strings.TrimSuffix(raw, "/"))
		}
	}
	return good
}

func set(urls []string) []string {
	slices.Sort(urls)
	return slices.Compact(urls)
}

// plain is a URL in the form in which it is compared.
func plain(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return strings.ToLower(u.Scheme+"://"+u.Hostname()) + ":" + port
}

// searched ends a search. Nil says that nobody answered: the members known so far
// stay, since what cannot be reached at their peer URLs may still answer clients.
func (p *Proxy) searched(l *list) {
	p.search = nil
	p.looked = p.env.Clock.Now()
	if l != nil {
		p.learn(l)
	}
	if failing := l == nil; failing != p.failing {
		p.failing = failing
		if failing {
			p.env.Log.Log(env.Warn, "proxy: no member answers at its peer URLs", "peers", strings.Join(p.peers, ","))
		}
	}
	wait := p.cfg.RefreshInterval
	if p.failing || len(p.eps) == 0 {
		wait = min(wait, refreshHurry)
	}
	p.timer = p.env.Clock.After(wait, p.look)
}

// hurry brings the next search forward, because no member could be asked.
func (p *Proxy) hurry() {
	if p.search != nil || p.stopped || p.env.Clock.Now().Sub(p.looked) < refreshHurry {
		return
	}
	if p.timer != nil {
		p.timer.Stop()
	}
	p.timer = p.env.Clock.After(0, p.look)
}

// learn takes a list of members as what there is.
func (p *Proxy) learn(l *list) {
	if p.cluster != "" && l.cluster != p.cluster {
		p.env.Rare.Mark("proxy: another cluster")
		p.env.Log.Log(env.Warn, "proxy: another cluster answers where the members were, and is followed", "was", p.cluster, "is", l.cluster)
	}
	p.cluster = l.cluster
	if !slices.Equal(p.peers, l.peers) || p.note.again {
		p.peers = l.peers
		p.note.wanted = true
	}
	was := p.urls()
	p.eps = p.endpoints(l.eps)
	if now := p.urls(); !slices.Equal(was, now) {
		p.env.Log.Log(env.Info, "proxy: endpoints found", "endpoints", strings.Join(now, ","))
	}
	p.env.Rand.Shuffle(len(p.eps), func(i, j int) { p.eps[i], p.eps[j] = p.eps[j], p.eps[i] })
}

// endpoints keeps what is known about those that stay, and leaves out this proxy.
func (p *Proxy) endpoints(urls []string) (eps []*endpoint) {
	known := make(map[string]*endpoint)
	for _, at := range p.eps {
		known[at.url] = at
	}
	for _, u := range urls {
		switch {
		case p.own[plain(u)]:
			p.env.Log.Log(env.Warn, "proxy: a member advertises this proxy's own URL to clients; correct its advertise-client-urls", "url", u)
		case known[u] != nil:
			eps = append(eps, known[u])
		default:
			eps = append(eps, &endpoint{url: u})
		}
	}
	return eps
}

func (p *Proxy) urls() (urls []string) {
	for _, at := range p.eps {
		urls = append(urls, at.url)
	}
	slices.Sort(urls)
	return urls
}

// noteFile is where the members have last been seen.
const noteFile = "cluster"

// note is the state of the file.
type note struct {
	wanted  bool // what is known differs from what was last written
	writing bool
	again   bool // there was no room for it
	broken  bool // the disk failed: it is not written any more in this life
	idle    func()
}

type noted struct {
	PeerURLs []string `json:"PeerURLs"`
}

// recall finds out where to look: what was noted wins over what the process was told.
func (p *Proxy) recall() error {
	p.peers = set(sound(slices.Clone(p.cfg.PeerURLs)))
	text, err := p.env.Disk.Load(noteFile)
	if errors.Is(err, fs.ErrNotExist) {
		p.note.wanted = len(p.peers) > 0
		return p.somewhere("")
	}
	if err != nil {
		return fmt.Errorf("proxy: read %s: %w", noteFile, err)
	}
	peers, err := parseNote(text)
	if err == nil {
		p.peers = peers
		return nil
	}
	p.env.Log.Log(env.Warn, "proxy: the note of the members is of no use", "file", noteFile, "reason", err)
	p.note.wanted = true
	return p.somewhere(fmt.Sprintf(" and the file proxy/%s is of no use (%v): remove it", noteFile, err))
}

func (p *Proxy) somewhere(besides string) error {
	if len(p.peers) == 0 {
		return fmt.Errorf("proxy: no peer URL of a member is known%s; name the members with initial-cluster, discovery or discovery-srv", besides)
	}
	return nil
}

func parseNote(text []byte) ([]string, error) {
	var n noted
	if err := json.Unmarshal(bytes.TrimRight(text, "\x00"), &n); err != nil {
		return nil, err
	}
	peers := set(sound(n.PeerURLs))
	if len(peers) == 0 {
		return nil, errors.New("no peer URL in it")
	}
	return peers, nil
}

// write notes where the members are. The proxy works without it.
func (p *Proxy) write() {
	if !p.note.wanted || p.note.writing || p.note.broken || p.stopped {
		return
	}
	p.note.wanted, p.note.again, p.note.writing = false, false, true
	p.env.Disk.Replace(noteFile, bytes.NewReader(encode(noted{p.peers})), p.wrote)
}

func (p *Proxy) wrote(err error) {
	p.note.writing = false
	if err != nil {
		p.note.again = errors.Is(err, env.ErrFull)
		p.note.broken = !p.note.again
		p.env.Log.Log(env.Warn, "proxy: where the members are could not be noted", "file", noteFile, "reason", err)
	}
	if p.note.idle != nil {
		p.note.idle()
	}
}
