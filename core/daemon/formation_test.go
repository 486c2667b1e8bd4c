package daemon_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/daemon"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/retry"
	"github.com/keelson/keelson/sim"
)

func TestMain(m *testing.M) {
	sim.Deterministic()
	os.Exit(m.Run())
}

// reply takes one answer.
type reply struct {
	status int
	body   string
	header []gateway.Header
}

func (r *reply) Reply(p *gateway.Reply) {
	r.status, r.body, r.header = p.Status, string(p.Body), p.Header
}
func (r *reply) Chunk(p []byte) bool { r.body += string(p); return true }
func (r *reply) End()                {}

// ask has a machine answer a request of a client.
func ask(c *sim.Cluster, m *sim.Machine, method, target, form string) *reply {
	path, query, _ := strings.Cut(target, "?")
	req := &gateway.Request{Method: method, Path: path, Query: query}
	if form != "" {
		req.ContentType, req.Body = "application/x-www-form-urlencoded", []byte(form)
	}
	r := &reply{}
	m.Do(method+" "+target, func(n sim.Node) { n.Serve(req, r) })
	c.RunTill(20*time.Second, func() bool { return r.status != 0 })
	return r
}

// service begins a world with a machine that hands out tokens.
func service(t *testing.T, seed uint64) (*sim.Cluster, *sim.Machine) {
	t.Helper()
	c := sim.NewCluster(seed, 0, sim.ClusterOptions{})
	d := c.AddMachine("disc", daemon.Config{})
	d.PowerOn()
	require.True(t, c.RunTill(10*time.Second, func() bool { return sim.NodeOf(d) != nil && sim.NodeOf(d).Status().Leader != 0 }))
	return c, d
}

func token(t *testing.T, c *sim.Cluster, d *sim.Machine, size int) string {
	t.Helper()
	r := ask(c, d, "POST", fmt.Sprintf("/new?size=%d", size), "")
	require.Equal(t, 200, r.status, r.body)
	require.True(t, strings.HasPrefix(r.body, "http://disc:2379/"), r.body)
	return r.body
}

// machines adds n machines that share a configuration.
func machines(c *sim.Cluster, n int, conf func(name string) bootstrap.Config) []*sim.Machine {
	var all []*sim.Machine
	for i := 1; i <= n; i++ {
		name := fmt.Sprintf("m%d", i)
		all = append(all, c.AddMachine(name, daemon.Config{Bootstrap: conf(name)}))
	}
	return all
}

// lead gives the machine among these that leads a majority, or nil.
func lead(all []*sim.Machine) *sim.Machine {
	for _, m := range all {
		if n := sim.NodeOf(m); n != nil && n.Status().Role == gateway.Leader {
			followers := 0
			for _, o := range all {
				if x := sim.NodeOf(o); x != nil && x.Status().Leader == n.Status().ID {
					followers++
				}
			}
			if 2*followers > len(n.Status().Voters) {
				return m
			}
		}
	}
	return nil
}

// watchFormation fails the run where two clusters come out of one token, or one
// member out of two machines, or a wiped machine takes part under its old ID.
func watchFormation(c *sim.Cluster, all []*sim.Machine, wiped map[*sim.Machine]env.NodeID) {
	var cluster uint64
	c.OnTurn(func(m *sim.Machine) {
		n := sim.NodeOf(m)
		if n == nil || m.Name() == "disc" {
			return
		}
		if cluster == 0 {
			cluster = n.Cluster()
		}
		if n.Cluster() != cluster {
			c.Fail("one token, one cluster", "%s is of cluster %x, others are of %x", m.Name(), n.Cluster(), cluster)
		}
		if id := wiped[m]; id != 0 && id == n.ID() {
			c.Fail("wiped", "%s was wiped and takes part again as %v", m.Name(), id)
		}
		for _, o := range all {
			if x := sim.NodeOf(o); o != m && x != nil && x.ID() == n.ID() {
				c.Fail("one member, one machine", "%s and %s are both %v", m.Name(), o.Name(), n.ID())
			}
		}
	})
}

// trouble makes a fault at one of the machines, and undoes it a while later.
func trouble(c *sim.Cluster, all []*sim.Machine) {
	r := c.Rand("trouble")
	m := all[r.IntN(len(all))]
	span := time.Duration(r.Int64N(4e9))
	switch r.IntN(7) {
	case 0, 1:
		m.PowerOff()
		c.After(span, "power on", m.PowerOn)
	case 2:
		m.Kill()
	case 3:
		m.Pause(span)
	case 4:
		c.After(span, "heal", c.Net().Isolate(m.ID()).Heal)
	case 5:
		m.Disk().Stall(span)
	default:
		m.Disk().SetCapacity(m.Disk().Used() + 100)
		c.After(span, "room", func() { m.Disk().SetCapacity(0) })
	}
	c.RunFor(time.Duration(r.Int64N(1e9)))
}

// Machines form a cluster by token or by list while everything fails. In the calm all
// are in it.
func TestFormationUnderFaults(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c, disc := service(t, seed)
			defer c.Close()
			r := c.Rand("formation")
			size := 1 + 2*r.IntN(3) // 1, 3 or 5
			extra := 0
			var list []string
			for i := 1; i <= size; i++ {
				list = append(list, fmt.Sprintf("m%d=http://m%d:2380", i, i))
			}
			conf := func(string) bootstrap.Config {
				return bootstrap.Config{InitialCluster: strings.Join(list, ",")}
			}
			if r.IntN(3) > 0 {
				url := token(t, c, disc, size)
				extra = r.IntN(3)
				conf = func(string) bootstrap.Config { return bootstrap.Config{Discovery: url} }
			}
			all := machines(c, size+extra, conf)
			watchFormation(c, all, nil)
			for _, m := range all {
				c.After(time.Duration(r.Int64N(5e9)), "power on", m.PowerOn)
			}
			for range 30 {
				trouble(c, append([]*sim.Machine{disc}, all...))
				require.Nil(t, c.Failure())
			}
			c.RunFor(5 * time.Second)
			for _, m := range append([]*sim.Machine{disc}, all...) {
				m.Disk().SetCapacity(0)
				m.PowerOn()
			}
			formed := func() bool {
				l := lead(all)
				return l != nil && sim.NodeOf(l).Status().Applied > 1 && members(all) == size && proxies(all) == extra
			}
			ok := c.RunTill(4*time.Minute, formed)
			require.Nil(t, c.Failure())
			require.True(t, ok, "%d members and %d proxies of %d and %d%s", members(all), proxies(all), size, extra, exits(all))
		})
	}
}

func members(all []*sim.Machine) (n int) {
	for _, m := range all {
		if sim.NodeOf(m) != nil {
			n++
		}
	}
	return n
}

func proxies(all []*sim.Machine) (n int) {
	for _, m := range all {
		if d := sim.DaemonOf(m); d != nil && d.Proxy() != nil {
			n++
		}
	}
	return n
}

func exits(all []*sim.Machine) string {
	var b strings.Builder
	for _, m := range all {
		fmt.Fprintf(&b, "\n%s:", m.Name())
		if d := sim.DaemonOf(m); d != nil {
			fmt.Fprintf(&b, " waiting: %q", d.Waiting())
		}
		for _, x := range m.Exits() {
			if x.Err != nil {
				fmt.Fprintf(&b, " %v: %v;", x.At, x.Err)
			}
		}
	}
	return b.String()
}

func lastError(m *sim.Machine) error {
	for _, x := range m.Exits() {
		if x.Err != nil {
			return x.Err
		}
	}
	return errors.New("none")
}

// trio is a running cluster of three from a list, everybody published.
func trio(t *testing.T, seed uint64) (*sim.Cluster, []*sim.Machine) {
	t.Helper()
	c := sim.NewCluster(seed, 3, sim.ClusterOptions{})
	require.NotNil(t, c.AwaitLeader(30*time.Second), exits(c.Machines()))
	require.True(t, c.RunTill(30*time.Second, func() bool { return published(c.Machines()) == 9 }))
	return c, c.Machines()
}

// published counts the members that each machine knows to have started.
func published(all []*sim.Machine) (n int) {
	for _, m := range all {
		if x := sim.NodeOf(m); x != nil {
			for _, o := range x.Info().Members {
				if o.Started {
					n++
				}
			}
		}
	}
	return n
}

// A machine comes back with an empty disk while others come and go. As soon as one
// who has seen it is there, it is refused, and until then it does not vote.
func TestAWipedMemberNeverVotesAgain(t *testing.T) {
	if planted.On(planted.WipedMemberAccepted) {
		t.Skip("the planted bug accepts it")
	}
	for seed := range uint64(8) {
		c, all := trio(t, seed)
		wiped := make(map[*sim.Machine]env.NodeID)
		watchFormation(c, all, wiped)
		m := all[seed%3]
		m.PowerOff()
		wiped[m] = c.MemberOf(m)
		m.Disk().Wipe()
		if seed%2 == 0 { // the others are down when it comes back
			for _, o := range all {
				o.PowerOff()
			}
			m.PowerOn()
			c.RunFor(20 * time.Second)
			require.Nil(t, sim.NodeOf(m), "it waits")
			for _, o := range all {
				o.PowerOn()
			}
		}
		m.PowerOn()
		c.RunFor(30 * time.Second)
		require.Nil(t, c.Failure(), "seed %d", seed)
		assert.ErrorContains(t, lastError(m), fmt.Sprintf("member %v has already been bootstrapped", wiped[m]), "seed %d", seed)
		c.Close()
	}
}

// The way back for a wiped machine: it is replaced, and its next start finds the new
// place by itself.
func TestAWipedMachineReturnsAfterItWasReplaced(t *testing.T) {
	c, all := trio(t, 3)
	defer c.Close()
	m := all[2]
	old := c.MemberOf(m)
	m.PowerOff()
	m.Disk().Wipe()
	m.PowerOn()
	c.RunFor(5 * time.Second)
	r := ask(c, all[0], "POST", "/v2/members/"+old.String()+"/replace", "")
	require.Equal(t, 201, r.status, r.body)
	ok := c.RunTill(time.Minute, func() bool {
		n := sim.NodeOf(m)
		return n != nil && n.ID() != old && len(n.Status().Voters) == 3 && len(n.Status().Learners) == 0
	})
	require.Nil(t, c.Failure())
	require.True(t, ok, exits(all))
}

// Before it is a member a process says so, and why.
func TestWhoLooksForItsClusterSaysSo(t *testing.T) {
	c := sim.NewCluster(1, 3, sim.ClusterOptions{Off: true})
	defer c.Close()
	m := c.Machines()[0]
	m.PowerOn()
	c.RunFor(10 * time.Second)
	r := ask(c, m, "GET", "/v2/keys/a", "")
	assert.Equal(t, 503, r.status)
	assert.Contains(t, r.body, "this server is not a member yet: waiting for 1 more of the other 2 members to start")
	assert.Contains(t, r.header, gateway.Header{Name: retry.Header, Value: retry.Unsent}, "others can be asked the same")
	r = ask(c, m, "GET", "/health", "")
	assert.Equal(t, 503, r.status)
	assert.Contains(t, r.body, `"health":"false"`)
}

// What a directory holds decides, whatever is said.
func TestTheDataDirectoryDecides(t *testing.T) {
	c, all := trio(t, 5)
	defer c.Close()
	m := all[1]
	m.Kill()
	c.Configure(m, daemon.Config{Bootstrap: bootstrap.Config{Discovery: "http://nobody:1/x", Proxy: bootstrap.On}})
	require.True(t, c.RunTill(30*time.Second, func() bool { return sim.NodeOf(m) != nil }), "a member stays one: %s", exits(all))

	p := c.AddMachine("p1", daemon.Config{Bootstrap: bootstrap.Config{InitialCluster: c.Founded(), Proxy: bootstrap.On}})
	p.PowerOn()
	require.True(t, c.RunTill(30*time.Second, func() bool {
		d := sim.DaemonOf(p)
		return d != nil && d.Proxy() != nil && d.Proxy().Ready()
	}), exits([]*sim.Machine{p}))
	c.RunFor(5 * time.Second)
	p.Kill()
	c.Configure(p, daemon.Config{Bootstrap: bootstrap.Config{InitialCluster: c.Founded() + ",p1=http://p1:2380", State: bootstrap.Existing}})
	c.RunFor(10 * time.Second)
	require.NotNil(t, sim.DaemonOf(p).Proxy(), "a proxy stays one: %s", exits([]*sim.Machine{p}))
}

// A restart finds the members that there are now, and not those of its first start.
func TestTheIdentityFollowsTheMembers(t *testing.T) {
	c, all := trio(t, 7)
	defer c.Close()
	j := c.AddMachine("j1", daemon.Config{Bootstrap: bootstrap.Config{InitialCluster: c.Founded() + ",j1=http://j1:2380", State: bootstrap.Existing}})
	req := &gateway.Request{Method: "POST", Path: "/v2/members", ContentType: "application/json", Body: []byte(`{"peerURLs":["http://j1:2380"]}`)}
	r := &reply{}
	all[0].Do("member add", func(n sim.Node) { n.Serve(req, r) })
	require.True(t, c.RunTill(10*time.Second, func() bool { return r.status != 0 }))
	require.Equal(t, 201, r.status, r.body)
	j.PowerOn()
	require.True(t, c.RunTill(time.Minute, func() bool {
		n := sim.NodeOf(j)
		return n != nil && len(n.Status().Voters) == 4
	}), exits([]*sim.Machine{j}))
	c.RunFor(5 * time.Second)
	for _, m := range c.Machines() {
		assert.Contains(t, string(m.Disk().Content("identity")), "http://j1:2380", m.Name())
	}
	require.Nil(t, c.Failure())
}
