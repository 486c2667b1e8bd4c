package bootstrap

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/planted"
)

const three = "e1=http://10.0.0.1:2380,e2=http://10.0.0.2:2380,e3=http://10.0.0.3:2380"

func member1() Config {
	return Config{Name: "e1", PeerURLs: []string{"http://10.0.0.1:2380"}, InitialCluster: three, Token: "t"}
}

func TestConfigurationsThatMeanNothingAreRefused(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		err    string
	}{
		{func(c *Config) { c.Name = "e4" }, `couldn't find local name "e4" in the initial cluster configuration`},
		{
			func(c *Config) { c.PeerURLs = []string{"http://10.0.0.9:2380"} },
			"--initial-cluster must include e1=http://10.0.0.9:2380 given --initial-advertise-peer-urls=http://10.0.0.9:2380",
		},
		{func(c *Config) { c.InitialCluster += ",e4=http://10.0.0.1:2380" }, "has duplicate url"},
		{func(c *Config) { c.InitialCluster = "e1" }, "want NAME=URL"},
		{func(c *Config) { c.InitialCluster = "e1=ftp://10.0.0.1:1" }, "want http://host:port"},
		{func(c *Config) { c.Discovery = "http://d/1" }, `multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery" or "discovery-srv"`},
		{func(c *Config) { c.InitialCluster, c.Discovery, c.State = "", "http://d/1", Existing }, "discovery URL should not be set when joining existing initial cluster"},
		{func(c *Config) { c.InitialCluster, c.Discovery = "", "d/1" }, "want http://host/TOKEN"},
		{func(c *Config) { c.InitialCluster, c.State = "", Existing }, "must be listed"},
		{func(c *Config) { c.State = "later" }, "want new or existing"},
	} {
		conf := member1()
		c.change(&conf)
		assert.ErrorContains(t, conf.Check(), c.err)
	}
}

func TestOneMemberNeedsNobody(t *testing.T) {
	w := newWorld()
	p := start(w, Config{Name: "e1", PeerURLs: []string{"http://10.0.0.1:2380"}, Token: "t"}, nil)
	w.run(time.Second)
	require.NoError(t, p.err)
	assert.Len(t, p.outcome.Identity.Members, 1)
	assert.False(t, p.outcome.Identity.Waiting)
}

// The URLs of the list and of the flag may be the same by name.
func TestNamesStandForAddresses(t *testing.T) {
	w := newWorld()
	conf := member1()
	conf.InitialCluster = strings.Replace(three, "10.0.0.1", "one.example", 1)
	w.hosts["http://10.0.0.2:2380"] = granter{}.serve
	p := start(w, conf, nil)
	w.run(5 * time.Second)
	assert.ErrorContains(t, p.err, "--initial-cluster must include e1=http://10.0.0.1:2380 given")

	w.names["one.example"] = "10.0.0.1"
	p = start(w, conf, nil)
	w.run(5 * time.Second)
	require.NoError(t, p.err)
	assert.NotNil(t, p.outcome.Identity)
}

func TestAFounderWaitsForAMajority(t *testing.T) {
	w := newWorld()
	p := start(w, member1(), nil)
	w.run(time.Minute)
	assert.False(t, p.done())
	assert.True(t, p.note.Waiting, "a killed process goes on under the same life")
	assert.Equal(t, "waiting for 1 more of the other 2 members to start", p.b.Waiting())
	w.hosts["http://10.0.0.3:2380"] = granter{}.serve
	w.run(3 * time.Second)
	require.NoError(t, p.err)
	assert.Equal(t, p.note.Life, p.outcome.Identity.Life)
	assert.False(t, p.outcome.Identity.Waiting)
}

func TestAKilledFounderGoesOnAndAWipedOneDoesNot(t *testing.T) {
	if planted.On(planted.WipedMemberAccepted) {
		t.Skip("the planted bug accepts it")
	}
	w := newWorld()
	g := granter{}
	w.hosts["http://10.0.0.2:2380"] = g.serve
	p := start(w, member1(), nil)
	w.run(time.Second)
	require.NotNil(t, p.outcome)

	again := start(w, member1(), p.note)
	w.run(time.Second)
	assert.NotNil(t, again.outcome, "the same life")

	wiped := start(w, member1(), nil)
	w.run(time.Second)
	assert.ErrorContains(t, wiped.err, "member "+p.outcome.Identity.ID.String()+" has already been bootstrapped")
}

// One who knows better is heard, although enough of the others would let it in.
func TestAnObjectionOutweighsAMajority(t *testing.T) {
	if planted.On(planted.WipedMemberAccepted) {
		t.Skip("the planted bug accepts it")
	}
	w := newWorld()
	w.hosts["http://10.0.0.2:2380"] = granter{}.serve
	w.hosts["http://10.0.0.3:2380"] = func(req *env.WebRequest, r env.WebReceiver) {
		w.After(900*time.Millisecond, func() { reply(r, 409, 0, "{}") })
	}
	p := start(w, member1(), nil)
	w.run(3 * time.Second)
	assert.ErrorContains(t, p.err, "has already been bootstrapped")
}

func TestAReplacedMachineTakesItsNewPlace(t *testing.T) {
	w := newWorld()
	conf := member1()
	old := MemberID(conf.PeerURLs, "t")
	members := `[{"id":` + decimal(uint64(old)) + `,"peerURLs":["http://10.0.0.1:2380"],"name":"e1","clientURLs":["http://10.0.0.1:2379"],"started":true},
		{"id":77,"peerURLs":["http://10.0.0.1:2380"],"name":"","clientURLs":[],"started":false,"learner":true},
		{"id":5,"peerURLs":["http://10.0.0.2:2380"],"name":"e2","clientURLs":["http://10.0.0.2:2379"],"started":true}]`
	w.hosts["http://10.0.0.2:2380"] = func(req *env.WebRequest, r env.WebReceiver) {
		switch {
		case strings.Contains(req.URL, "/4d/claim"):
			reply(r, 200, 9, `{"sure":true}`)
		case strings.Contains(req.URL, "/claim"):
			reply(r, 409, 9, "{}")
		default:
			reply(r, 200, 9, members)
		}
	}
	p := start(w, conf, nil)
	w.run(5 * time.Second)
	require.NoError(t, p.err)
	id := p.outcome.Identity
	assert.Equal(t, "4d", id.ID.String())
	assert.True(t, id.Join)
	assert.EqualValues(t, 9, id.Cluster)
	assert.Len(t, id.Members, 3)
}

func TestARemovedMemberIsToldSo(t *testing.T) {
	if planted.On(planted.WipedMemberAccepted) {
		t.Skip("the planted bug accepts it")
	}
	w := newWorld()
	w.hosts["http://10.0.0.2:2380"] = peer(404, "{}", 9, `[{"id":5,"peerURLs":["http://10.0.0.2:2380"],"name":"e2","clientURLs":["http://c"],"started":true}]`)
	p := start(w, member1(), nil)
	w.run(5 * time.Second)
	assert.ErrorContains(t, p.err, "it was removed")
}

// As the original: a process with another token stays up, and says why.
func TestAnotherTokenWaitsForEver(t *testing.T) {
	w := newWorld()
	other := peer(412, `{"message":"request cluster ID mismatch (got 1 want 2)"}`, 2, `[{"id":5,"peerURLs":["http://10.0.0.2:2380"],"name":"e2","clientURLs":["http://c"]},
		{"id":6,"peerURLs":["http://10.0.0.1:2380"],"name":"","clientURLs":[],"started":false}]`)
	w.hosts["http://10.0.0.2:2380"], w.hosts["http://10.0.0.3:2380"] = other, other
	p := start(w, member1(), nil)
	w.run(time.Minute)
	if planted.On(planted.WipedMemberAccepted) {
		t.Skip("the planted bug accepts it")
	}
	assert.False(t, p.done())
	assert.True(t, w.said("request cluster ID mismatch (got 1 want 2)"))
}

func TestJoiningARunningCluster(t *testing.T) {
	real := `[{"id":5,"peerURLs":["http://10.0.0.2:2380"],"name":"anna","clientURLs":["http://c"],"started":true},
		{"id":6,"peerURLs":["http://10.0.0.1:2380"],"name":"","clientURLs":[],"started":false},
		{"id":7,"peerURLs":["http://10.0.0.3:2380"],"name":"carl","clientURLs":["http://c"],"started":true}]`
	conf := member1()
	conf.State = Existing

	w := newWorld()
	p := start(w, conf, nil)
	w.run(5 * time.Second)
	assert.ErrorContains(t, p.err, "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given urls")

	w.hosts["http://10.0.0.3:2380"] = peer(200, `{"sure":false}`, 9, real)
	p = start(w, conf, nil)
	w.run(5 * time.Second)
	assert.False(t, p.done(), "one member alone lets nobody join")
	w.hosts["http://10.0.0.3:2380"] = peer(200, `{"sure":true}`, 9, real)
	w.run(5 * time.Second)
	require.NoError(t, p.err)
	assert.Equal(t, "6", p.outcome.Identity.ID.String())
	assert.True(t, p.outcome.Identity.Join)

	conf.InitialCluster = "e1=http://10.0.0.1:2380,e3=http://10.0.0.3:2380"
	p = start(w, conf, nil)
	w.run(5 * time.Second)
	assert.ErrorContains(t, p.err, "error validating peerURLs ")
	assert.ErrorContains(t, p.err, "member count is unequal")

	conf.InitialCluster = "e1=http://10.0.0.1:2380,e3=http://10.0.0.3:2380,e2=http://10.0.0.4:2380"
	p = start(w, conf, nil)
	w.run(5 * time.Second)
	assert.ErrorContains(t, p.err, "unmatched member while checking PeerURLs")
}

func TestTheOldestWayNamesPeersByAddress(t *testing.T) {
	conf := Config{Name: "core-01", PeerURLs: []string{"http://172.16.8.101:7001"}, Peers: []string{"172.16.8.102:7001", "172.16.8.103:7001", "172.16.8.101:7001"}, Token: "t"}
	other := Config{Name: "core-02", PeerURLs: []string{"http://172.16.8.102:7001"}, Peers: []string{"172.16.8.101:7001", "172.16.8.103:7001"}, Token: "t"}
	a, err := conf.list()
	require.NoError(t, err)
	b, err := other.list()
	require.NoError(t, err)
	assert.Len(t, a, 3)
	assert.Equal(t, clusterID(a), clusterID(b), "who names the same machines means the same cluster")

	w := newWorld()
	w.hosts["http://172.16.8.102:7001"] = peer(412, "{}", 9, `[{"id":5,"peerURLs":["http://172.16.8.102:7001"],"name":"x","clientURLs":["http://c"]}]`)
	p := start(w, conf, nil)
	w.run(5 * time.Second)
	if planted.On(planted.WipedMemberAccepted) {
		t.Skip("the planted bug accepts it")
	}
	assert.ErrorContains(t, p.err, "keelson member add core-01 http://172.16.8.101:7001")
}

func TestProxiesTakeAnyList(t *testing.T) {
	w := newWorld()
	conf := member1()
	conf.Name, conf.Proxy = "worker", ReadOnly
	p := start(w, conf, nil)
	w.run(time.Second)
	require.NoError(t, p.err)
	assert.True(t, p.outcome.Proxy.ReadOnly)
	assert.Equal(t, []string{"http://10.0.0.1:2380", "http://10.0.0.2:2380", "http://10.0.0.3:2380"}, sorted(p.outcome.Proxy.PeerURLs))
}

// etcdctl lists members that have not started without their names, each as it stands.
func TestMembersWithoutAName(t *testing.T) {
	members, err := readCluster("=http://d:1,a=http://a:1,=http://c:1")
	require.NoError(t, err)
	var names []string
	for _, m := range members {
		names = append(names, m.Name)
		assert.Len(t, m.PeerURLs, 1)
	}
	assert.Equal(t, []string{"a", "http://c:1", "http://d:1"}, names)
}
