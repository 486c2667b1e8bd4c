package sim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/daemon"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/fleet"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/node"
)

// ClusterOptions is what may be chosen about a cluster.
type ClusterOptions struct {
	Options
	Restart time.Duration // a process that ended is started again after this; default 1 s; negative: never
	Off     bool          // leave the machines switched off
	// Units, if not nil, has machines run units: what it gives, with the machine's own
	// IDs and addresses filled in where they are missing.
	Units func(m *Machine) *fleet.Config
	// Config, if not nil, may change what a node is told at each start.
	Config func(m *Machine, c *node.Config)
}

// Cluster is a world whose machines run core/daemon. It begins with founders that
// form a cluster from a list: machines 1 to n, names n1 to nn. Others may be added,
// and be anything that a daemon can be.
//
// What a machine is in its cluster is not what the machine is: MemberOf and ByMember
// translate. Of the clusters that there may be, the methods below speak of one, that
// of the machine of Focus.
type Cluster struct {
	*World
	opts    ClusterOptions
	founded string // initial-cluster of the founders
	focus   *Machine
	confs   map[*Machine]daemon.Config
	faulty  map[*Machine]error // configurations that no daemon understands
	roles   map[*Machine]role
	first   []*Machine        // the founders
	knows   map[*Machine]bool // founders who have known all founders to have started

	passwords *passwords
}

// hashEvery is how often members of a simulated cluster compare all that they hold: a
// run is short.
const hashEvery = 5 * time.Second

// role is what a machine was last seen to be.
type role struct {
	member  env.NodeID
	cluster uint64
}

// NewCluster makes the founders and, unless told otherwise, switches them on.
func NewCluster(seed uint64, n int, o ClusterOptions) *Cluster {
	c := &Cluster{
		World: NewWorld(seed, o.Options), opts: o,
		confs: make(map[*Machine]daemon.Config), faulty: make(map[*Machine]error), roles: make(map[*Machine]role),
		knows: make(map[*Machine]bool), passwords: newPasswords(),
	}
	c.opts.Restart = cmp.Or(c.opts.Restart, time.Second)
	var list []string
	for i := 1; i <= n; i++ {
		list = append(list, fmt.Sprintf("n%d=http://n%d:2380", i, i))
	}
	c.founded = strings.Join(list, ",")
	c.OnTurn(c.look)
	for i := 1; i <= n; i++ {
		m := c.AddMachine(fmt.Sprintf("n%d", i), daemon.Config{Bootstrap: bootstrap.Config{InitialCluster: c.founded, Token: c.token()}})
		c.first = append(c.first, m)
		// A machine that is late is in its cluster all the same: the others may be at
		// work before it is up.
		boot := c.confs[m].Bootstrap
		id, err := boot.Founded()
		if err != nil { // the list was made above
			panic(err)
		}
		c.roles[m] = role{id.ID, id.Cluster}
	}
	if !o.Off {
		for _, m := range c.Machines() {
			m.PowerOn()
		}
	}
	return c
}

func (c *Cluster) token() string { return fmt.Sprintf("sim-%d", c.Seed()) }

func peerURL(m *Machine) string { return "http://" + m.Name() + ":2380" }

// AddMachine adds a machine that runs a daemon, switched off. Where conf says no name,
// peer URLs, client URLs or token, they are those of the machine and the founders'
// token.
func (c *Cluster) AddMachine(name string, conf daemon.Config) *Machine {
	m := c.Add(env.NodeID(len(c.Machines())+1), name, c.open)
	m.SetRestart(c.opts.Restart)
	c.Configure(m, conf)
	if c.focus == nil {
		c.focus = m
	}
	return m
}

// Configure changes what a machine's daemon is told from its next start on.
func (c *Cluster) Configure(m *Machine, conf daemon.Config) {
	b := &conf.Bootstrap
	b.Name, b.Token = cmp.Or(b.Name, m.Name()), cmp.Or(b.Token, c.token())
	if len(b.PeerURLs) == 0 {
		b.PeerURLs = []string{peerURL(m)}
	}
	if len(conf.Node.ClientURLs) == 0 {
		conf.Node.ClientURLs = []string{m.URL()}
	}
	conf.Node.Version = cmp.Or(conf.Node.Version, "sim")
	c.confs[m] = conf
	delete(c.faulty, m)
}

// Misconfigure has every start of a machine's daemon end with err.
func (c *Cluster) Misconfigure(m *Machine, err error) { c.faulty[m] = err }

// Misconfigured says that no daemon understands what a machine's is told.
func (c *Cluster) Misconfigured(m *Machine) bool { return c.faulty[m] != nil }

// Founded is the founders' list, as initial-cluster has it.
func (c *Cluster) Founded() string { return c.founded }

func (c *Cluster) open(m *Machine, e *env.Env) (Node, error) {
	if err := c.faulty[m]; err != nil {
		return nil, err
	}
	conf := c.confs[m]
	conf.Fatal = m.Fatal
	conf.Node.HashEvery = hashEvery
	conf.Node.Passwords = c.passwords
	if c.opts.Config != nil {
		c.opts.Config(m, &conf.Node)
	}
	conf.Fleet = c.fleet(m, conf.Fleet)
	d, err := daemon.Open(conf, e)
	if err != nil {
		return nil, err // a nil *daemon.Daemon must not become a Node
	}
	return d, nil
}

// fleet is how a machine runs units; nil: it does not.
func (c *Cluster) fleet(m *Machine, f *fleet.Config) *fleet.Config {
	if f == nil && c.opts.Units != nil {
		f = c.opts.Units(m)
	}
	m.fleet = f != nil && !f.NoAgent
	if f == nil {
		return nil
	}
	conf := *f
	conf.Machine, conf.Host = cmp.Or(conf.Machine, m.MachineID()), cmp.Or(conf.Host, m.Name())
	conf.Boot, conf.API = m.BootID(), cmp.Or(conf.API, m.URL())
	conf.PublicIP, conf.Version = cmp.Or(conf.PublicIP, m.address.String()), cmp.Or(conf.Version, "sim")
	return &conf
}

// Admit writes on the disk of a machine that has not started who it is: a new member
// of the cluster, which somebody else adds to it. The log begins empty.
func (c *Cluster) Admit(m *Machine) env.NodeID {
	id := &bootstrap.Identity{
		ID: bootstrap.MemberID([]string{peerURL(m)}, fmt.Sprint(c.Now())), Cluster: c.roles[c.focus].cluster, Join: true,
	}
	id.Members = append(id.Members, gateway.Member{ID: id.ID, Name: m.Name(), PeerURLs: []string{peerURL(m)}})
	for _, o := range c.Machines() {
		if r := c.roles[o]; r.member != 0 && r.cluster == id.Cluster {
			id.Members = append(id.Members, gateway.Member{ID: r.member, Name: o.Name(), PeerURLs: []string{peerURL(o)}})
		}
	}
	text, err := json.Marshal(id)
	if err != nil { // numbers and strings always encode
		panic(err)
	}
	m.Disk().Restore(&Image{files: map[string][]byte{"identity": text}})
	c.roles[m] = role{id.ID, id.Cluster}
	return id.ID
}

// look notes what a machine is.
func (c *Cluster) look(m *Machine) {
	n := NodeOf(m)
	if n == nil {
		return
	}
	if r := (role{n.ID(), n.Cluster()}); c.roles[m] != r {
		c.roles[m] = r
	}
	if !c.Formed() && !c.knows[m] {
		c.knows[m] = c.knowsAll(n)
	}
}

// knowsAll says that a member knows all founders to have started.
func (c *Cluster) knowsAll(n *node.Node) bool {
	for _, f := range c.first {
		if !slices.ContainsFunc(n.Info().Members, func(x gateway.Member) bool { return x.Started && x.ID == c.roles[f].member }) {
			return false
		}
	}
	return true
}

// Formed says that each founder has known all founders to have started. Before that
// a founder's disk must not be lost: there may be nobody who could tell.
func (c *Cluster) Formed() bool {
	for _, m := range c.first {
		if !c.knows[m] {
			return false
		}
	}
	return true
}

// Endpoints lists the client URLs of all machines.
func (c *Cluster) Endpoints() []string {
	var urls []string
	for _, m := range c.Machines() {
		urls = append(urls, m.URL())
	}
	return urls
}

// NodeOf gives the running member of a machine, or nil: its process may be down, a
// proxy, or still looking for its cluster.
func NodeOf(m *Machine) *node.Node {
	if d := DaemonOf(m); d != nil {
		return d.Member()
	}
	return nil
}

// DaemonOf gives the running daemon of a machine, or nil.
func DaemonOf(m *Machine) *daemon.Daemon {
	if m == nil {
		return nil
	}
	d, _ := m.Node().(*daemon.Daemon)
	return d
}

// Focus says which machine's cluster the others of these methods speak of. At first
// it is that of the first machine.
func (c *Cluster) Focus(m *Machine) { c.focus = m }

// ClusterOf is the cluster that a machine was last seen in as a member; 0: none.
func (c *Cluster) ClusterOf(m *Machine) uint64 { return c.roles[m].cluster }

// Focused is the cluster of the machine of Focus; 0: not known yet.
func (c *Cluster) Focused() uint64 { return c.roles[c.focus].cluster }

// Inside says that a machine was last seen as a part of the cluster of Focus.
func (c *Cluster) Inside(m *Machine) bool {
	return c.roles[m].cluster != 0 && c.roles[m].cluster == c.roles[c.focus].cluster
}

// MemberOf is the ID that a machine was last seen with as a member of a cluster;
// 0: it was none.
func (c *Cluster) MemberOf(m *Machine) env.NodeID { return c.roles[m].member }

// ByMember gives the machine that was last seen as a member, or nil.
func (c *Cluster) ByMember(id env.NodeID) *Machine {
	for _, m := range c.Machines() {
		if id != 0 && c.roles[m].member == id {
			return m
		}
	}
	return nil
}

// Nodes lists the machines of the cluster whose member runs.
func (c *Cluster) Nodes() []*Machine {
	var list []*Machine
	for _, m := range c.Machines() {
		if NodeOf(m) != nil && c.Inside(m) {
			list = append(list, m)
		}
	}
	return list
}

// Leader is the machine whose running node leads in the highest term, or nil.
func (c *Cluster) Leader() *Machine {
	var leader *Machine
	var term uint64
	for _, m := range c.Machines() {
		n := NodeOf(m)
		if n == nil || !c.Inside(m) {
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
func (c *Cluster) IsMember(m *Machine) bool {
	st, ok := c.knowing()
	id := c.MemberOf(m)
	return ok && (slices.Contains(st.Voters, id) || slices.Contains(st.Learners, id))
}

func (c *Cluster) knowing() (best node.Status, ok bool) {
	if leader := c.Leader(); leader != nil {
		return NodeOf(leader).Status(), true
	}
	for _, m := range c.Nodes() {
		if st := NodeOf(m).Status(); !ok || st.Applied > best.Applied {
			best, ok = st, true
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
		if x := NodeOf(c.ByMember(id)); x != nil {
			if s := x.Status(); s.Leader == st.ID && s.Term == st.Term {
				n++
			}
		}
	}
	if 2*n <= len(st.Voters) {
		return nil
	}
	return leader
}
