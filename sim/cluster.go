package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/node"
)

// ClusterOptions is what may be chosen about a cluster.
type ClusterOptions struct {
	Options
	Restart time.Duration // a process that ended is started again after this; default 1 s; negative: never
	Off     bool          // leave the machines switched off
	// Config, if not nil, may change what a node is told at each start.
	Config func(m *Machine, c *node.Config)
}

// Cluster is a world with n machines that run core/node and know each other:
// IDs 1 to n, names n1 to nn.
type Cluster struct {
	*World
	members []gateway.Member
	opts    ClusterOptions
}

// NewCluster makes the machines and, unless told otherwise, switches them on.
func NewCluster(seed uint64, n int, o ClusterOptions) *Cluster {
	c := &Cluster{World: NewWorld(seed, o.Options), opts: o}
	if c.opts.Restart == 0 {
		c.opts.Restart = time.Second
	}
	for i := 1; i <= n; i++ {
		c.members = append(c.members, member(env.NodeID(i), fmt.Sprintf("n%d", i)))
	}
	for _, m := range c.members {
		c.AddNode(m.ID, m.Name, false)
	}
	if !o.Off {
		for _, m := range c.Machines() {
			m.PowerOn()
		}
	}
	return c
}

func member(id env.NodeID, name string) gateway.Member {
	return gateway.Member{
		ID: id, Name: name,
		PeerURLs:   []string{"http://" + name + ":2380"},
		ClientURLs: []string{"http://" + name + ":2379"},
	}
}

// AddNode adds a machine that runs core/node, switched off. With join it starts
// without a vote and waits to be added to the cluster.
func (c *Cluster) AddNode(id env.NodeID, name string, join bool) *Machine {
	m := c.Add(id, name, func(m *Machine, e *env.Env) (Node, error) {
		return c.open(m, e, join)
	})
	m.SetRestart(c.opts.Restart)
	return m
}

func (c *Cluster) open(m *Machine, e *env.Env, join bool) (Node, error) {
	self := member(m.ID(), m.Name())
	conf := node.Config{
		Name: m.Name(), ID: m.ID(), Cluster: fold(c.Seed(), hashKey) | 1,
		Members: c.members, Join: join, ClientURLs: self.ClientURLs,
		Version: "sim", Fatal: m.Fatal,
	}
	if join {
		conf.Members = append(append([]gateway.Member(nil), c.members...), self)
	}
	if c.opts.Config != nil {
		c.opts.Config(m, &conf)
	}
	n, err := node.Open(conf, e)
	if err != nil {
		return nil, err // a nil *node.Node must not become a Node
	}
	return n, nil
}

// Endpoints lists the client URLs of all machines.
func (c *Cluster) Endpoints() []string {
	var urls []string
	for _, m := range c.Machines() {
		urls = append(urls, m.URL())
	}
	return urls
}

// NodeOf gives the running core/node of a machine, or nil.
func NodeOf(m *Machine) *node.Node {
	n, _ := m.Node().(*node.Node)
	return n
}

// Leader is the machine whose running node leads in the highest term, or nil.
func (c *Cluster) Leader() *Machine {
	var leader *Machine
	var term uint64
	for _, m := range c.Machines() {
		n := NodeOf(m)
		if n == nil {
			continue
		}
		if s := n.Status(); s.Role == gateway.Leader && s.Term > term {
			leader, term = m, s.Term
		}
	}
	return leader
}

// IsMember says whether a machine is a member, voter or learner, as the leader
// knows it, or, where nobody leads, whoever has applied most.
func (c *Cluster) IsMember(id env.NodeID) bool {
	st, ok := c.knowing()
	return ok && (slices.Contains(st.Voters, id) || slices.Contains(st.Learners, id))
}

func (c *Cluster) knowing() (best node.Status, ok bool) {
	if leader := c.Leader(); leader != nil {
		return NodeOf(leader).Status(), true
	}
	for _, m := range c.Machines() {
		if n := NodeOf(m); n != nil {
			if st := n.Status(); !ok || st.Applied > best.Applied {
				best, ok = st, true
			}
		}
	}
	return best, ok
}

// AwaitLeader steps until there is a leader that a majority of its voters
// follows, for at most d of virtual time; nil if there was none.
func (c *Cluster) AwaitLeader(d time.Duration) *Machine {
	c.RunTill(d, func() bool { return c.followed() != nil })
	return c.followed()
}

func (c *Cluster) followed() *Machine {
	leader := c.Leader()
	if leader == nil {
		return nil
	}
	st := NodeOf(leader).Status()
	n := 0
	for _, id := range st.Voters {
		if x := NodeOf(c.Machine(id)); x != nil {
			if s := x.Status(); s.Leader == leader.ID() && s.Term == st.Term {
				n++
			}
		}
	}
	if 2*n <= len(st.Voters) {
		return nil
	}
	return leader
}
