package bootstrap

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/env"
)

const host = "http://disc:8087"

func byToken(n int, token string) Config {
	return Config{Name: fmt.Sprintf("m%d", n), PeerURLs: []string{fmt.Sprintf("http://10.0.0.%d:2380", n)}, Discovery: token, Token: "t"}
}

// grants makes everybody a founder who grants places.
func grants(w *world, n int) {
	for i := 1; i <= n; i++ {
		w.hosts[fmt.Sprintf("http://10.0.0.%d:2380", i)] = granter{}.serve
	}
}

func TestATokenMakesACluster(t *testing.T) {
	w := newWorld()
	s := newService(w, host)
	token := s.token(t, 3)
	grants(w, 3)
	a := start(w, byToken(1, token), nil)
	w.run(time.Second)
	b := start(w, byToken(2, token), nil)
	w.run(time.Second)
	assert.False(t, a.done() || b.done())
	assert.True(t, w.said("found 2 peer(s), waiting for 1 more"))
	assert.Contains(t, a.b.Waiting(), "waiting for 1 more of 3 members")
	c := start(w, byToken(3, token), nil)
	w.run(time.Second)
	for _, p := range []*boot{a, b, c} {
		require.NoError(t, p.err)
		require.NotNil(t, p.outcome)
		assert.Equal(t, a.outcome.Identity.Cluster, p.outcome.Identity.Cluster)
	}
	assert.True(t, w.said("found 3 needed peer(s)"))
	assert.True(t, w.said("found self "+a.outcome.Identity.ID.String()+" in the cluster"))
	assert.True(t, w.said("found peer "+a.outcome.Identity.ID.String()+" in the cluster"))
	assert.Equal(t, MemberID([]string{"http://10.0.0.1:2380"}, token), a.outcome.Identity.ID)

	before := len(s.requests)
	again := start(w, byToken(1, token), a.note)
	w.run(time.Second)
	assert.NotNil(t, again.outcome)
	assert.Len(t, s.requests, before, "once the list is known the service is not used again")
}

func TestThereIsNoFourthPlace(t *testing.T) {
	w := newWorld()
	s := newService(w, host)
	token := s.token(t, 1)
	start(w, byToken(1, token), nil)
	w.run(time.Second)

	late := start(w, byToken(2, token), nil)
	w.run(time.Second)
	require.NoError(t, late.err)
	assert.Equal(t, []string{"http://10.0.0.1:2380"}, late.outcome.Proxy.PeerURLs)
	assert.False(t, late.outcome.Proxy.ReadOnly)

	conf := byToken(3, token)
	conf.Fallback = FallbackExit
	late = start(w, conf, nil)
	w.run(time.Second)
	assert.ErrorContains(t, late.err, "discovery: cluster is full")
	assert.ErrorContains(t, late.err, "discovery token "+token+" was used, but failed to bootstrap the cluster.")
	assert.ErrorContains(t, late.err, "please generate a new discovery token and try to bootstrap again.")

	for _, r := range s.requests {
		assert.False(t, strings.HasPrefix(r, "PUT") && !strings.Contains(r, MemberID([]string{"http://10.0.0.1:2380"}, token).String()), "extra machines leave no trace: %s", r)
	}
}

func TestWhoWasKilledWhileItWaitedGoesOn(t *testing.T) {
	w := newWorld()
	s := newService(w, host)
	token := s.token(t, 2)
	grants(w, 2)
	a := start(w, byToken(1, token), nil)
	w.run(time.Second)
	a.b.Stop() // killed

	wiped := start(w, byToken(1, token), nil)
	w.run(time.Second)
	assert.ErrorContains(t, wiped.err, `member "m1" has previously registered with discovery service token (`+token+`).`)
	assert.Nil(t, wiped.note, "a restart of it is refused, too")

	again := start(w, byToken(1, token), a.note)
	w.run(time.Second)
	assert.NoError(t, again.err)
	start(w, byToken(2, token), nil)
	w.run(time.Second)
	assert.NotNil(t, again.outcome)
}

// A registration whose answer was lost is its own.
func TestALostAnswerIsNoDuplicate(t *testing.T) {
	w := newWorld()
	s := newService(w, host)
	token := s.token(t, 1)
	s.lose = 1
	p := start(w, byToken(1, token), nil)
	w.run(10 * time.Second)
	require.NoError(t, p.err)
	assert.NotNil(t, p.outcome.Identity)
}

func TestTheServiceIsAskedForEver(t *testing.T) {
	w := newWorld()
	p := start(w, byToken(1, host+"/00000000000000000000000000000000"), nil)
	w.run(20 * time.Second)
	assert.False(t, p.done())
	for _, pause := range []string{"2s", "4s", "8s"} {
		assert.True(t, w.said("error connecting to "+host+"/00000000000000000000000000000000, retrying in "+pause), pause)
	}
	s := newService(w, host)
	s.do("PUT", "/00000000000000000000000000000000", "dir=true")
	s.mux.Serve(sizeRequest("1"), &answers{})
	w.run(time.Minute)
	require.NoError(t, p.err)
	assert.NotNil(t, p.outcome)
}

func TestBadTokensAreRefused(t *testing.T) {
	const name = "/00000000000000000000000000000000"
	w := newWorld()
	s := newService(w, host)
	try := func() error {
		p := start(w, byToken(1, host+name), nil)
		w.run(time.Second)
		return p.err
	}
	assert.ErrorContains(t, try(), "(100: Key not found (/_etcd) [0])")
	assert.True(t, w.said("failed to join discovery cluster (100: Key not found"))
	s.mux.Serve(sizeRequest("many"), &answers{})
	assert.ErrorContains(t, try(), "discovery: size key is bad")
	w.hosts[host] = says(200, 0, "<html>")
	assert.ErrorContains(t, try(), "discovery: bad discovery endpoint")
}

func TestRegistrationsThatMakeNoClusterAreRefused(t *testing.T) {
	for _, c := range []struct{ value, err string }{
		{"m2=10.0.0.2", `discovery: invalid URL: "ffff" has registered "m2=10.0.0.2", want NAME=URL`},
		{"m1=http://10.0.0.2:2380", "member with duplicated name has registered with discovery service token("},
		{"m2=http://10.0.0.1:2380", "has duplicate url"},
	} {
		w := newWorld()
		s := newService(w, host)
		token := s.token(t, 2)
		s.do("PUT", strings.TrimPrefix(token, host)+"/ffff", "value="+c.value)
		p := start(w, byToken(1, token), nil)
		w.run(5 * time.Second)
		assert.ErrorContains(t, p.err, c.err, c.value)
	}
}

// Whoever is released while it waits is told, and may register again.
func TestARemovedRegistrationEndsTheWait(t *testing.T) {
	w := newWorld()
	s := newService(w, host)
	token := s.token(t, 2)
	p := start(w, byToken(1, token), nil)
	w.run(time.Second)
	s.do("DELETE", strings.TrimPrefix(token, host)+"/"+p.note.ID.String(), "")
	w.run(time.Second)
	assert.ErrorContains(t, p.err, "the registration of this machine was removed")
	again := start(w, byToken(1, token), p.note)
	w.run(time.Second)
	assert.False(t, again.done())
}

// A watch that is never answered is not trusted for long.
func TestASilentWatchIsNotTheEnd(t *testing.T) {
	w := newWorld()
	s := newService(w, host)
	token := s.token(t, 2)
	grants(w, 2)
	serve := w.hosts[host]
	w.hosts[host] = func(req *env.WebRequest, r env.WebReceiver) {
		if req.Stream {
			return // the connection is gone and nobody says so
		}
		serve(req, r)
	}
	p := start(w, byToken(1, token), nil)
	w.run(time.Second)
	start(w, byToken(2, token), nil)
	w.run(time.Second)
	assert.False(t, p.done())
	w.run(relook)
	require.NoError(t, p.err)
	assert.NotNil(t, p.outcome)
}

// However many race, and whenever they are killed or wiped: a token makes one
// cluster, of exactly its size, and everybody else is a proxy or refused.
func TestOneTokenOneCluster(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		s := newService(w, host)
		size := rapid.IntRange(1, 5).Draw(t, "size")
		machines := rapid.IntRange(size, 8).Draw(t, "machines")
		token := s.do("GET", fmt.Sprintf("/new?size=%d", size), "").body.String()
		grants(w, machines)
		boots := make([]*boot, machines)
		members := make(map[int]uint64) // machine to cluster
		note := func() {
			for i, p := range boots {
				if p == nil || p.outcome == nil || p.outcome.Identity == nil {
					continue
				}
				members[i] = p.outcome.Identity.Cluster
			}
		}
		for range rapid.IntRange(machines, 30).Draw(t, "steps") {
			i := rapid.IntRange(0, machines-1).Draw(t, "machine")
			switch p := boots[i]; {
			case p == nil:
				boots[i] = start(w, byToken(i+1, token), nil)
			case rapid.Bool().Draw(t, "kill") && p.outcome == nil:
				p.b.Stop()
				boots[i] = start(w, byToken(i+1, token), p.note)
			case rapid.Bool().Draw(t, "lose"):
				s.lose++
			}
			w.run(time.Duration(rapid.IntRange(0, 20).Draw(t, "ms")) * time.Millisecond)
			note()
		}
		s.lose = 0
		for i, p := range boots {
			if p == nil {
				boots[i] = start(w, byToken(i+1, token), nil)
			}
		}
		w.run(5 * time.Minute)
		note()
		if len(members) != size {
			t.Fatalf("%d members of a token for %d", len(members), size)
		}
		var cluster uint64
		for _, c := range members {
			if cluster != 0 && c != cluster {
				t.Fatalf("two clusters of one token: %x and %x", cluster, c)
			}
			cluster = c
		}
		for i, p := range boots {
			if _, member := members[i]; !member && (p.outcome == nil || p.outcome.Proxy == nil) {
				t.Fatalf("machine %d is neither member nor proxy: %v", i+1, p.err)
			}
		}
	})
}

func FuzzDirectory(f *testing.F) {
	f.Add(200, []byte(`{"action":"get","node":{"key":"/t","dir":true,"nodes":[{"key":"/t/1","value":"a=http://x:1","createdIndex":4}]}}`), 3)
	f.Add(404, []byte(`{"errorCode":100,"message":"Key not found","cause":"/t","index":7}`), 1)
	f.Add(200, []byte(`{"node":{"value":"3"}}`), 1)
	f.Fuzz(func(t *testing.T, status int, body []byte, size int) {
		a := &answer{status: status, body: body}
		if n, err := parseSize(a); err == nil && (n < 1 || n > sizeMax) {
			t.Fatalf("a size of %d", n)
		}
		l, err := parseDirectory(a)
		if err != nil {
			return
		}
		for i := 1; i < len(l.members); i++ {
			if l.members[i].created < l.members[i-1].created {
				t.Fatal("out of order")
			}
		}
		if size < 1 || len(l.members) < size {
			return
		}
		d := &discovery{b: &Bootstrap{cfg: Config{Discovery: "http://d/t"}}}
		members, err := d.cluster(size, l.members[:size])
		if err != nil {
			return
		}
		seen := make(map[env.NodeID]bool)
		for _, m := range members {
			if seen[m.ID] || m.Name == "" || len(m.PeerURLs) == 0 {
				t.Fatalf("not a cluster: %v", members)
			}
			seen[m.ID] = true
		}
	})
}

func FuzzListing(f *testing.F) {
	f.Add("9", []byte(`[{"id":5,"peerURLs":["http://10.0.0.2:2380"],"name":"e2","clientURLs":[]}]`))
	f.Fuzz(func(t *testing.T, cluster string, body []byte) {
		l, err := parseListing(&answer{status: 200, header: []env.WebHeader{{Name: "X-Etcd-Cluster-Id", Value: cluster}}, body: body})
		if err != nil {
			return
		}
		for _, m := range l.memberList() {
			if m.ID == 0 || len(m.PeerURLs) == 0 {
				t.Fatalf("not a member: %v", m)
			}
		}
		l.meant([]string{"http://10.0.0.2:2380"}, 0)
		_ = l.String()
	})
}
