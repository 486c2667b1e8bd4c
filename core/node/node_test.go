package node_test

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/core/store"
)

// machine is a node on a host.
type machine struct {
	*host
	*node.Node
	cfg node.Config
}

// cluster is some nodes in one world.
type cluster struct {
	*world
	t        *testing.T
	machines []*machine
}

func newCluster(t *testing.T, seed uint64, n int, change func(*node.Config)) *cluster {
	c := &cluster{world: newWorld(seed), t: t}
	var members []gateway.Member
	for i := range n {
		members = append(members, gateway.Member{ID: env.NodeID(i + 1), PeerURLs: []string{fmt.Sprintf("http://10.0.0.%d:2380", i+1)}})
	}
	for i := range n {
		cfg := node.Config{
			Name: fmt.Sprintf("n%d", i+1), ID: env.NodeID(i + 1), Cluster: 9, Members: members,
			ClientURLs: []string{fmt.Sprintf("http://10.0.0.%d:2379", i+1)},
		}
		if change != nil {
			change(&cfg)
		}
		m := &machine{host: c.world.host(cfg.ID), cfg: cfg}
		m.cfg.Fatal = func(err error) { m.fatal = err }
		c.machines = append(c.machines, m)
		c.on(m)
	}
	return c
}

func (c *cluster) on(m *machine) {
	c.t.Helper()
	m.fatal = nil
	n, err := node.Open(m.cfg, m.host.env())
	require.NoError(c.t, err)
	m.Node, m.body, m.up = n, n, true
	m.turn(func() {})
}

// answer is what a client got.
type answer struct {
	at     time.Duration
	reply  *gateway.Reply
	chunks []string
	ended  bool
}

func (a *answer) Reply(r *gateway.Reply) { a.reply = r }
func (a *answer) Chunk(p []byte) bool    { a.chunks = append(a.chunks, string(p)); return true }
func (a *answer) End()                   { a.ended = true }

// ask sends a request to one machine.
func (c *cluster) ask(m *machine, method, path, body string) *answer {
	a := &answer{}
	m.turn(func() {
		path, query, _ := strings.Cut(path, "?")
		m.Serve(&gateway.Request{Method: method, Path: path, Query: query, Body: []byte(body), ContentType: "application/x-www-form-urlencoded"}, a)
	})
	return a
}

// do asks and waits for the answer.
func (c *cluster) do(m *machine, method, path, body string) (status int, text string) {
	c.t.Helper()
	a := c.ask(m, method, path, body)
	require.True(c.t, c.until(20*time.Second, func() bool { return a.reply != nil }), "%s %s: no answer", method, path)
	return a.reply.Status, string(a.reply.Body)
}

func (c *cluster) set(m *machine, key, value string) int {
	c.t.Helper()
	status, _ := c.do(m, "PUT", "/v2/keys"+key, "value="+url.QueryEscape(value))
	return status
}

func (c *cluster) get(m *machine, key string) string {
	c.t.Helper()
	_, text := c.do(m, "GET", "/v2/keys"+key, "")
	_, rest, found := strings.Cut(text, `"value":"`)
	if !found {
		return text
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

func (c *cluster) leader() *machine {
	c.t.Helper()
	var found *machine
	require.True(c.t, c.until(20*time.Second, func() bool {
		for _, m := range c.machines {
			if m.up && m.fatal == nil {
				if _, ok := m.Replica().Leading(); ok {
					found = m
					return true
				}
			}
		}
		return false
	}), "no leader")
	return found
}

func (c *cluster) follower() *machine {
	l := c.leader()
	for _, m := range c.machines {
		if m.up && m != l {
			return m
		}
	}
	return nil
}

// same waits until all have applied as much, and compares their states.
func (c *cluster) same() {
	c.t.Helper()
	l := c.leader()
	ok := c.until(20*time.Second, func() bool {
		for _, m := range c.machines {
			if m.up && m.fatal == nil && m.Status().Applied != l.Status().Applied {
				return false
			}
		}
		return true
	})
	require.True(c.t, ok, "nodes did not catch up")
	for _, m := range c.machines {
		if m.up && m.fatal == nil {
			assert.Equal(c.t, l.Chain(), m.Chain(), "node %v", m.cfg.ID)
			assert.Equal(c.t, l.View().Hash(), m.View().Hash(), "node %v", m.cfg.ID)
		}
	}
}

func TestOneNode(t *testing.T) {
	c := newCluster(t, 1, 1, nil)
	m := c.machines[0]
	assert.Equal(t, 201, c.set(m, "/a", "1"))
	assert.Equal(t, "1", c.get(m, "/a"))
	m.powerOff()
	c.on(m)
	assert.Equal(t, "1", c.get(m, "/a"))
}

func TestWritesOnAnyNode(t *testing.T) {
	c := newCluster(t, 2, 3, nil)
	for i, m := range c.machines {
		assert.Equal(t, 201, c.set(m, fmt.Sprint("/k", i), "v"))
		for _, other := range c.machines {
			assert.Equal(t, "v", c.get(other, fmt.Sprint("/k", i)))
		}
	}
	c.same()
}

func TestMembersSayWhoTheyAre(t *testing.T) {
	c := newCluster(t, 3, 3, nil)
	c.leader()
	c.run(time.Second)
	for _, m := range c.machines {
		members := m.Info().Members
		require.Len(t, members, 3)
		for i, x := range members {
			assert.Equal(t, gateway.Member{
				ID: env.NodeID(i + 1), Name: fmt.Sprintf("n%d", i+1),
				PeerURLs:   []string{fmt.Sprintf("http://10.0.0.%d:2380", i+1)},
				ClientURLs: []string{fmt.Sprintf("http://10.0.0.%d:2379", i+1)}, Started: true,
			}, x)
		}
	}
	index := c.machines[0].View().Index()
	c.machines[0].powerOff()
	c.on(c.machines[0])
	c.leader()
	c.run(10 * time.Second)
	assert.Equal(t, index, c.leader().View().Index(), "what is said already is not said again")
}

func TestStatsCountTraffic(t *testing.T) {
	c := newCluster(t, 3, 3, nil)
	l, f := c.leader(), c.follower()
	for range 10 {
		c.set(f, "/a", "1")
	}
	c.run(200 * time.Millisecond)
	_, text := c.do(l, "GET", "/v2/stats/leader", "")
	assert.Regexp(t, `"latency":{"current":[1-9]\d*\.\d+,"average":[1-9][\d.]*,"standardDeviation":[\d.]+,"minimum":[1-9][\d.]*,"maximum":[1-9][\d.]*},"counts":{"fail":0,"success":[1-9]\d+}}`, text)
	_, text = c.do(l, "GET", "/v2/stats/self", "")
	assert.Regexp(t, `"recvAppendRequestCnt":0,"sendAppendRequestCnt":[1-9]\d+`, text)
	_, text = c.do(f, "GET", "/v2/stats/self", "")
	assert.Regexp(t, `"recvAppendRequestCnt":[1-9]\d+,.*"sendAppendRequestCnt":0`, text)
}

func TestIdleClusterWritesNothing(t *testing.T) {
	c := newCluster(t, 4, 3, nil)
	c.set(c.machines[0], "/a", "1")
	c.run(time.Second)
	applied, syncs := c.leader().Status().Applied, 0
	for _, m := range c.machines {
		syncs += m.disk.syncs
	}
	c.run(time.Minute)
	assert.Equal(t, applied, c.leader().Status().Applied)
	for _, m := range c.machines {
		syncs -= m.disk.syncs
	}
	assert.Zero(t, syncs)
}

func TestLeaderDiesUnderWrites(t *testing.T) {
	for seed := range uint64(15) {
		c := newCluster(t, seed, 3, nil)
		c.loss = float64(seed%3) * 0.05
		for round := range 3 {
			l := c.leader()
			f := c.follower()
			var answers []*answer
			for i := range 20 {
				answers = append(answers, c.ask(f, "POST", "/v2/keys/queue", fmt.Sprintf("value=%d.%d", round, i)))
				c.run(time.Duration(c.rng.Int64N(int64(500 * time.Microsecond))))
			}
			l.powerOff()
			began := c.now
			for i, a := range answers {
				require.True(t, c.until(20*time.Second, func() bool { return a.reply != nil }))
				assert.Equal(t, 201, a.reply.Status, "seed %d, write %d: %s", seed, i, a.reply.Body)
			}
			if c.loss == 0 {
				assert.Less(t, c.now-began, 3*time.Second, "kept and sent to the next leader")
			}
			c.on(l)
		}
		c.loss = 0
		c.same()
		node, err := c.leader().View().Get("/queue", false)
		require.Nil(t, err)
		seen := map[string]bool{}
		for _, x := range node.Nodes {
			assert.False(t, seen[x.Value], "seed %d: %s applied twice", seed, x.Value)
			seen[x.Value] = true
		}
		assert.Len(t, seen, 60)
	}
}

func TestNothingIsAppliedTwiceOnLossyLinks(t *testing.T) {
	for seed := range uint64(10) {
		c := newCluster(t, seed, 3, func(cfg *node.Config) { cfg.SnapshotEntries = 20; cfg.TailEntries = 5 })
		c.leader()
		c.loss = 0.3
		sent := map[string]*answer{}
		for i := range 60 {
			v := strconv.Itoa(i)
			sent[v] = c.ask(c.machines[i%3], "POST", "/v2/keys/queue", "value="+v)
			c.run(time.Duration(c.rng.Int64N(int64(50 * time.Millisecond))))
		}
		c.run(20 * time.Second)
		c.loss = 0
		c.same()
		node, err := c.leader().View().Get("/queue", false)
		require.Nil(t, err)
		count := map[string]int{}
		for _, x := range node.Nodes {
			count[x.Value]++
		}
		for v, a := range sent {
			require.NotNil(t, a.reply, "every request is answered")
			if a.reply.Status == 201 {
				assert.Equal(t, 1, count[v], "seed %d, value %s", seed, v)
			}
			assert.LessOrEqual(t, count[v], 1)
		}
	}
}

func TestNoQuorumAnswersInTime(t *testing.T) {
	c := newCluster(t, 5, 3, nil)
	c.set(c.machines[0], "/a", "1")
	l := c.leader()
	for _, m := range c.machines {
		if m != l {
			m.powerOff()
		}
	}
	began := c.now
	write := c.ask(l, "PUT", "/v2/keys/a", "value=2")
	read := c.ask(l, "GET", "/v2/keys/a", "")
	local := c.ask(l, "GET", "/v2/keys/a?quorum=false", "")
	c.until(20*time.Second, func() bool { return write.reply != nil && read.reply != nil })
	assert.Equal(t, 200, local.reply.Status)
	assert.Equal(t, 500, write.reply.Status)
	assert.Equal(t, 500, read.reply.Status)
	assert.Contains(t, string(write.reply.Body), `"errorCode":300,"message":"Raft Internal Error","cause":"etcdserver: request timed out`)
	assert.InDelta(t, 7*time.Second, c.now-began, float64(50*time.Millisecond))
}

func TestTooManyRequests(t *testing.T) {
	c := newCluster(t, 6, 3, func(cfg *node.Config) { cfg.PendingMax = 3 })
	m := c.leader()
	c.run(time.Second)
	c.cut = func(env.NodeID, env.NodeID) bool { return true }
	for range 3 {
		assert.Nil(t, c.ask(m, "PUT", "/v2/keys/a", "value=1").reply)
	}
	a := c.ask(m, "PUT", "/v2/keys/a", "value=1")
	require.NotNil(t, a.reply)
	assert.Contains(t, string(a.reply.Body), "too many requests")
}

func TestWatchSeesEveryEventOnce(t *testing.T) {
	for seed := range uint64(6) {
		c := newCluster(t, seed, 3, func(cfg *node.Config) { cfg.SnapshotEntries, cfg.TailEntries, cfg.ChunkBytes = 10, 2, 200 })
		c.leader()
		f := c.follower()
		c.run(time.Second)
		w := c.ask(f, "GET", "/v2/keys/a?wait=true&stream=true&recursive=true", "")
		for i := range 20 {
			require.Equal(t, 201, c.set(c.machines[i%3], "/a/"+strconv.Itoa(i), "x"))
		}
		c.cut = func(from, to env.NodeID) bool { return (from == f.cfg.ID) != (to == f.cfg.ID) }
		c.run(2 * time.Second)
		l := c.leader()
		for l == f {
			c.run(time.Second)
			l = c.leader()
		}
		for i := 20; i < 60; i++ {
			require.Equal(t, 201, c.set(l, "/a/"+strconv.Itoa(i), "x"))
		}
		c.cut = func(env.NodeID, env.NodeID) bool { return false }
		c.same()
		c.run(100 * time.Millisecond)
		require.Len(t, w.chunks, 60, "a state from the leader hides no event")
		for i, text := range w.chunks {
			assert.Contains(t, text, fmt.Sprintf(`"/a/%d"`, i))
		}
	}
}

func TestKeysExpireByLogTime(t *testing.T) {
	for seed := range uint64(8) {
		c := newCluster(t, seed, 3, nil)
		c.leader()
		for _, m := range c.machines {
			m.wall = time.Duration(c.rng.Int64N(int64(48*time.Hour))) - 24*time.Hour
		}
		status, _ := c.do(c.machines[0], "PUT", "/v2/keys/a", "value=1&ttl=5")
		require.Equal(t, 201, status)
		set := c.now
		for _, m := range c.machines {
			m.wall += time.Duration(c.rng.Int64N(int64(48*time.Hour))) - 24*time.Hour
		}
		c.same()
		gone := func() bool {
			for _, m := range c.machines {
				if m.up {
					if _, err := m.View().Get("/a", false); err != nil {
						return true
					}
				}
			}
			return false
		}
		bound := 5*time.Second + 20*time.Millisecond
		if seed%2 == 1 {
			c.run(2 * time.Second)
			c.leader().powerOff()
			bound += 3 * time.Second // one election, and half a second of time not counted
		}
		require.True(t, c.until(20*time.Second, gone))
		assert.GreaterOrEqual(t, c.now-set, 5*time.Second-5*time.Millisecond, "never early")
		assert.LessOrEqual(t, c.now-set, bound)
		c.run(time.Second)
		c.same()
	}
}

func TestKeeperRestsWithoutDeadlines(t *testing.T) {
	c := newCluster(t, 3, 3, nil)
	c.leader()
	c.run(time.Second)
	c.do(c.machines[0], "PUT", "/v2/keys/a", "value=1&ttl=3")
	before := c.leader().Status().Applied
	c.run(2900 * time.Millisecond)
	moved := c.leader().Status().Applied - before
	assert.InDelta(t, 5, moved, 2, "time moves on each half second")
	c.run(time.Second)
	before = c.leader().Status().Applied
	c.run(time.Minute)
	assert.Equal(t, before, c.leader().Status().Applied)
}

func TestStopAnswersAndHandsOver(t *testing.T) {
	c := newCluster(t, 7, 3, nil)
	l := c.leader()
	c.run(time.Second)
	watch := c.ask(l, "GET", "/v2/keys/a?wait=true", "")
	stopped := false
	began := c.now
	l.turn(func() { l.Stop(func() { stopped = true }) })
	require.True(t, c.until(3*time.Second, func() bool { return stopped }))
	assert.Less(t, c.now-began, 30*time.Millisecond)
	assert.True(t, watch.ended)
	late := c.ask(l, "PUT", "/v2/keys/a", "value=1")
	require.NotNil(t, late.reply)
	assert.Contains(t, string(late.reply.Body), "server stopped")
	l.powerOff()
	assert.Equal(t, 201, c.set(c.leader(), "/b", "1"))
	assert.Less(t, c.now-began, 100*time.Millisecond)
}

func TestCommandsShareEntries(t *testing.T) {
	c := newCluster(t, 8, 3, nil)
	l := c.leader()
	c.run(time.Second)
	before := l.Status().Last
	done := 0
	l.turn(func() {
		for i := range 64 {
			l.Propose(store.Command{Op: store.OpSet, Key: fmt.Sprint("/k", i), Value: "v"}, func(r store.Result) {
				assert.Nil(t, r.Err)
				done++
			})
		}
	})
	require.True(t, c.until(time.Second, func() bool { return done == 64 }))
	assert.Equal(t, before+1, l.Status().Last)
}

func TestFullDiskRefusesWritesAndServesReads(t *testing.T) {
	c := newCluster(t, 9, 1, nil)
	m := c.machines[0]
	c.set(m, "/a", "1")
	c.run(time.Second)
	m.disk.full = true
	first := c.ask(m, "PUT", "/v2/keys/a", "value=2")
	c.run(100 * time.Millisecond)
	second := c.ask(m, "PUT", "/v2/keys/a", "value=3")
	require.NotNil(t, second.reply)
	assert.Contains(t, string(second.reply.Body), "no space")
	assert.Equal(t, "1", c.get(m, "/a"))
	m.disk.full = false
	require.True(t, c.until(5*time.Second, func() bool { return first.reply != nil }))
	assert.Equal(t, 200, first.reply.Status)
	assert.Equal(t, "2", c.get(m, "/a"))
	assert.Equal(t, 200, c.set(m, "/a", "4"))
}
