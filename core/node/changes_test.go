package node_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/core/replica"
)

// members sends a request about the members and waits for the answer.
func (c *cluster) members(m *machine, method, path, body string) (status int, text string) {
	c.t.Helper()
	a := &answer{}
	m.turn(func() {
		m.Serve(&gateway.Request{Method: method, Path: "/v2/members" + path, Body: []byte(body), ContentType: "application/json"}, a)
	})
	require.True(c.t, c.until(20*time.Second, func() bool { return a.reply != nil }), "%s %s: no answer", method, path)
	return a.reply.Status, string(a.reply.Body)
}

type listed struct {
	ID         string
	Name       string
	PeerURLs   []string
	ClientURLs []string
	IsLearner  bool
}

func (c *cluster) list(m *machine) (all []listed) {
	c.t.Helper()
	_, text := c.members(m, "GET", "", "")
	var body struct{ Members []listed }
	require.NoError(c.t, json.Unmarshal([]byte(text), &body))
	return body.Members
}

func parse(t *testing.T, text string) (l listed) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &l), text)
	return l
}

func number(t *testing.T, id string) env.NodeID {
	t.Helper()
	n, err := strconv.ParseUint(id, 16, 64)
	require.NoError(t, err)
	return env.NodeID(n)
}

// start starts a member that was added.
func (c *cluster) start(id string, name string) *machine {
	c.t.Helper()
	cfg := node.Config{
		Name: name, ID: number(c.t, id), Cluster: 9, Join: true, Members: c.machines[0].cfg.Members,
		ClientURLs: []string{"http://" + name + ":2379"},
	}
	m := &machine{host: c.world.host(cfg.ID), cfg: cfg}
	m.cfg.Fatal = func(err error) { m.fatal = err }
	c.machines = append(c.machines, m)
	c.on(m)
	return m
}

func (c *cluster) voters(n int) {
	c.t.Helper()
	require.True(c.t, c.until(30*time.Second, func() bool {
		for _, m := range c.machines {
			if m.up && m.fatal == nil && (len(m.Status().Voters) != n || len(m.Status().Learners) > 0) {
				return false
			}
		}
		return true
	}), "no %d voters: %v %v", n, c.leader().Status().Voters, c.leader().Status().Learners)
}

func (c *cluster) other(m *machine) *machine {
	for _, o := range c.machines {
		if o != m && o.up && o.fatal == nil {
			return o
		}
	}
	return nil
}

func TestGrowAndShrink(t *testing.T) {
	c := newCluster(t, 1, 1, nil)
	l := c.leader()
	require.Equal(t, 201, c.set(l, "/a", "1"))
	for i := 2; i <= 5; i++ {
		asked := c.machines[i/2-1]
		status, text := c.members(asked, "POST", "", fmt.Sprintf(`{"peerURLs":["http://10.0.0.%d:2380"]}`, i))
		require.Equal(t, 201, status, text)
		added := parse(t, text)
		assert.Equal(t, listed{ID: added.ID, PeerURLs: []string{fmt.Sprintf("http://10.0.0.%d:2380", i)}, ClientURLs: []string{}}, added)
		status, text = c.members(asked, "POST", "", fmt.Sprintf(`{"peerURLs":["http://10.0.0.%d:2380"]}`, i))
		assert.Equal(t, 409, status)
		assert.Equal(t, `{"message":"etcdserver: peerURL exists"}`, text)
		c.start(added.ID, fmt.Sprintf("n%d", i))
		c.voters(i)
		require.Equal(t, 200, c.set(c.other(c.leader()), "/a", fmt.Sprint(i)))
	}
	assert.Len(t, c.list(c.machines[4]), 5)
	for len(c.leader().Status().Voters) > 1 {
		l := c.leader()
		before := len(l.Status().Voters)
		status, text := c.members(c.other(l), "DELETE", "/"+l.ID().String(), "") // the leader itself
		require.Equal(t, 204, status, text)
		c.run(5 * time.Second)
		require.ErrorIs(t, l.fatal, replica.ErrRemoved)
		c.voters(before - 1)
		status, text = c.members(c.leader(), "DELETE", "/"+l.ID().String(), "")
		assert.Equal(t, 410, status)
		assert.Equal(t, `{"message":"Member permanently removed: `+l.ID().String()+`"}`, text)
	}
	assert.Equal(t, "5", c.get(c.leader(), "/a"))
	status, text := c.members(c.leader(), "DELETE", "/"+c.leader().ID().String(), "")
	assert.Equal(t, 409, status)
	assert.Equal(t, `{"message":"cannot remove member `+c.leader().ID().String()+`: is the last voter"}`, text)
}

func TestMemberRemovesItself(t *testing.T) {
	for seed := range uint64(5) {
		c := newCluster(t, seed, 3, nil)
		gone := c.machines[seed%3]
		c.leader()
		status, text := c.members(gone, "DELETE", "/"+gone.ID().String(), "")
		assert.Equal(t, 204, status, text)
		c.run(3 * time.Second)
		require.ErrorIs(t, gone.fatal, replica.ErrRemoved)
		c.voters(2)
	}
}

func TestReplace(t *testing.T) {
	for seed := range uint64(6) {
		c := newCluster(t, seed, 3, nil)
		l := c.leader()
		require.Equal(t, 201, c.set(l, "/a", "1"))
		old := c.machines[seed%3] // once in a while the leader
		path := "/" + old.ID().String() + "/replace"
		if seed > 2 {
			c.until(5*time.Second, func() bool { return len(c.list(l)) == 3 && c.list(l)[seed%3].Name != "" })
			path = "/" + old.cfg.Name + "/replace"
		}
		status, text := c.members(c.other(old), "POST", path, "")
		require.Equal(t, 201, status, text)
		fresh := parse(t, text)
		assert.Equal(t, old.cfg.Members[seed%3].PeerURLs, fresh.PeerURLs)
		status, text = c.members(c.other(old), "POST", path, "")
		assert.Equal(t, 409, status, text)
		if seed%2 == 0 {
			old.powerOff() // its disk is gone
		}
		m := c.start(fresh.ID, "again")
		require.True(t, c.until(30*time.Second, func() bool {
			x := c.leader().Status()
			return len(x.Voters) == 3 && len(x.Learners) == 0 && c.leader().Replica().Left(old.ID())
		}), "seed %d", seed)
		assert.Equal(t, "1", c.get(m, "/a"))
		c.run(5 * time.Second)
		if old.up {
			require.ErrorIs(t, old.fatal, replica.ErrRemoved)
		}
	}
}

func TestReplaceAReplacement(t *testing.T) {
	for _, lives := range []bool{false, true} {
		c := newCluster(t, 4, 3, nil)
		require.Equal(t, 201, c.set(c.leader(), "/a", "1"))
		old := c.other(c.leader())
		old.powerOff() // its disk is gone
		var last *machine
		for i := range 3 { // and so are those of the next two, while they catch up
			status, text := c.members(c.leader(), "POST", "/"+old.ID().String()+"/replace", "")
			require.Equal(t, 201, status, text)
			last = c.start(parse(t, text).ID, "again")
			if old = last; i < 2 && !lives {
				last.powerOff()
			}
			assert.Len(t, c.leader().Status().Voters, 3)
		}
		require.True(t, c.until(60*time.Second, func() bool {
			x := c.leader().Status()
			return len(x.Voters) == 3 && len(x.Learners) == 0
		}), "%v %v", c.leader().Status().Voters, c.leader().Status().Learners)
		assert.Contains(t, c.leader().Status().Voters, last.ID())
		assert.Equal(t, "1", c.get(last, "/a"))
	}
}

func TestReplaceTheOnlyMember(t *testing.T) {
	c := newCluster(t, 3, 1, nil)
	old := c.leader()
	require.Equal(t, 201, c.set(old, "/a", "1"))
	status, text := c.members(old, "POST", "/1/replace", `{"peerURLs":["http://10.0.0.9:2380"]}`)
	require.Equal(t, 201, status, text)
	m := c.start(parse(t, text).ID, "n9")
	require.True(t, c.until(30*time.Second, func() bool { return old.fatal != nil }))
	c.voters(1)
	assert.Equal(t, "1", c.get(m, "/a"))
}

func TestUpdate(t *testing.T) {
	c := newCluster(t, 1, 3, nil)
	l := c.leader()
	c.run(2 * time.Second)
	status, text := c.members(c.other(l), "PUT", "/2", `{"peerURLs":["http://10.0.0.22:2380"]}`)
	require.Equal(t, 204, status, text)
	assert.Equal(t, listed{ID: "2", Name: "n2", PeerURLs: []string{"http://10.0.0.22:2380"}, ClientURLs: []string{"http://10.0.0.2:2379"}}, c.list(l)[1])
	status, _ = c.members(l, "PUT", "/2", `{"peerURLs":["http://10.0.0.3:2380"]}`)
	assert.Equal(t, 409, status)
	status, text = c.members(l, "PUT", "/77", `{"peerURLs":["http://10.0.0.77:2380"]}`)
	assert.Equal(t, 404, status)
	assert.Equal(t, `{"message":"No such member: 77"}`, text)
	m := c.machines[1] // a restart changes nothing
	m.powerOff()
	c.on(m)
	c.run(3 * time.Second)
	assert.Equal(t, []string{"http://10.0.0.22:2380"}, c.list(l)[1].PeerURLs)
}

func TestChangesWithoutQuorum(t *testing.T) {
	c := newCluster(t, 2, 3, nil)
	l := c.leader()
	c.run(2 * time.Second)
	a := c.other(l)
	var dead *machine
	for _, m := range c.machines {
		if m != l && m != a {
			dead = m
		}
	}
	dead.powerOff()
	c.run(2 * time.Second)
	status, text := c.members(l, "DELETE", "/"+a.ID().String(), "")
	assert.Equal(t, 409, status)
	assert.Equal(t, fmt.Sprintf(`{"message":"cannot remove member %v: would leave 2 voting members of which 1 can be reached, but 2 are needed"}`, a.ID()), text)
	a.powerOff()
	status, text = c.members(l, "POST", "", `{"peerURLs":["http://10.0.0.9:2380"]}`)
	assert.Equal(t, 500, status)
	assert.Contains(t, text, "outcome unknown")
}

// Two changes at once are carried out one after the other, and a message that is lost
// is sent again.
func TestManyChanges(t *testing.T) {
	for seed := range uint64(5) {
		c := newCluster(t, seed, 3, nil)
		c.leader()
		c.loss = 0.2
		var answers []*answer
		for i := range 6 {
			a := &answer{}
			answers = append(answers, a)
			m := c.machines[i%3]
			m.turn(func() {
				m.Serve(&gateway.Request{
					Method: "POST", Path: "/v2/members", ContentType: "application/json",
					Body: fmt.Appendf(nil, `{"peerURLs":["http://10.0.1.%d:2380"]}`, i/2),
				}, a)
			})
		}
		c.run(20 * time.Second)
		c.loss = 0
		c.run(5 * time.Second)
		added := 0
		for _, a := range answers {
			require.NotNil(t, a.reply)
			if a.reply.Status == 201 {
				added++
			}
		}
		assert.LessOrEqual(t, added, 3, "each URL once")
		assert.LessOrEqual(t, len(c.list(c.leader())), 6)
		assert.Len(t, c.leader().Status().Voters, 3, "nobody started them")
	}
}

// Whoever heard of a removal never sees the removed member in a later list, whomever he
// asks, and the one that is gone answers nothing but that.
func TestNoListIsOlderThanARemoval(t *testing.T) {
	for seed := range uint64(8) {
		c := newCluster(t, seed, 3, nil)
		c.leader()
		c.run(2 * time.Second)
		gone := c.other(c.leader())
		asked := c.leader()
		if seed%2 == 0 {
			asked = gone
		}
		status, text := c.members(asked, "DELETE", "/"+gone.ID().String(), "")
		require.Equal(t, 204, status, text)
		told := false
		for gone.fatal == nil {
			status, text = c.members(gone, "GET", "", "")
			require.NotContains(t, text, `"id":"`+gone.ID().String()+`"`)
			if status == 503 {
				told = true
				assert.Contains(t, text, "permanently removed from the cluster")
				status, text = c.do(gone, "GET", "/v2/keys/_etcd", "quorum=false")
				assert.Equal(t, 503, status, text)
				op, err := gateway.Parse(&gateway.Request{Method: "HEAD", Path: "/v2/keys/"})
				require.NoError(t, err)
				a := &answer{}
				gone.turn(func() { gone.Do(&op, a) })
				assert.Equal(t, 503, a.reply.Status)
				assert.Empty(t, a.reply.Body)
			}
			c.run(100 * time.Millisecond)
			require.Less(t, c.now, 5*time.Minute)
		}
		assert.True(t, told)
	}
}

func TestLearnersAreBounded(t *testing.T) {
	c := newCluster(t, 1, 3, nil)
	l := c.leader()
	add := func(i int) (int, string) {
		return c.members(l, "POST", "", fmt.Sprintf(`{"peerURLs":["http://10.0.2.%d:2380"]}`, i))
	}
	var ids []string
	for i := range 2 {
		status, text := add(i)
		require.Equal(t, 201, status, text)
		ids = append(ids, parse(t, text).ID)
	}
	old := c.other(l)
	status, text := c.members(l, "POST", "/"+old.ID().String()+"/replace", "")
	require.Equal(t, 201, status, text)
	last := parse(t, text).ID
	status, text = add(9)
	assert.Equal(t, 409, status)
	for _, id := range append(ids, last) {
		assert.Contains(t, text, id)
	}
	assert.Contains(t, text, "3 members do not vote yet")
	for range 3 { // what repairs goes on
		status, text = c.members(l, "POST", "/"+last+"/replace", "")
		require.Equal(t, 201, status, text)
		last = parse(t, text).ID
	}
	status, text = c.members(l, "POST", "/"+last+"/replace", "")
	assert.Equal(t, 409, status, text)
	assert.Contains(t, text, "6 members do not vote yet")

	status, text = c.members(l, "DELETE", "/"+ids[0], "")
	require.Equal(t, 204, status, text)
	c.start(last, "again") // takes those away that it stands for
	require.True(t, c.until(60*time.Second, func() bool { return len(c.leader().Status().Learners) == 1 }), "%v", c.leader().Status().Learners)
	status, text = add(9)
	assert.Equal(t, 201, status, text)
}

func TestOnlyOneThatIsDownIsRepaired(t *testing.T) {
	c := newCluster(t, 1, 3, nil)
	l := c.leader()
	old := c.other(l)
	repair := func(id env.NodeID) (int, string) {
		a, asked := &answer{}, c.other(old)
		asked.turn(func() {
			asked.Serve(&gateway.Request{Method: "POST", Path: "/members/" + id.String() + "/replace", Peer: true}, a)
		})
		require.True(t, c.until(20*time.Second, func() bool { return a.reply != nil }))
		return a.reply.Status, string(a.reply.Body)
	}
	for _, id := range []env.NodeID{old.ID(), l.ID()} {
		status, text := repair(id)
		assert.Equal(t, 409, status)
		assert.Contains(t, text, "takes part and needs no repair")
	}
	id := old.ID()
	old.powerOff()
	c.run(2 * time.Second)
	status, text := repair(id)
	assert.Equal(t, 201, status, text)
}
