package sim

import "time"

// ClusterOptions is what may be chosen about a cluster.
type ClusterOptions struct {
	Options
	Restart time.Duration // a process that ended is started again after this; default 1 s; negative: never
	Off     bool          // leave the machines switched off
}

// Cluster is a world with n machines that run core/node and know each other:
// IDs 1 to n, names n1 to nn.
type Cluster struct {
	*World
}

// NewCluster makes the machines and, unless told otherwise, switches them on.
func NewCluster(seed uint64, n int, o ClusterOptions) *Cluster { panic("sim: not built") }

// Endpoints lists the client URLs of all machines.
func (c *Cluster) Endpoints() []string { panic("sim: not built") }

// Leader is the machine whose running node leads in the highest term, or nil.
func (c *Cluster) Leader() *Machine { panic("sim: not built") }

// AwaitLeader steps until there is a leader that a majority follows.
func (c *Cluster) AwaitLeader(d time.Duration) *Machine { panic("sim: not built") }
