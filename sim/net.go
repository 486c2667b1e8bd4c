package sim

import (
	"time"

	"github.com/keelson/keelson/core/env"
)

// LinkConfig says how one direction between two hosts behaves. Chances are in [0,1].
type LinkConfig struct {
	Latency    time.Duration // least
	Jitter     time.Duration // mean of an exponential tail on top
	Stray      float64       // chance that a frame takes 50 times as long
	Loss       float64       // chance that a frame is lost
	BurstStart float64       // chance per frame that a burst of loss begins
	BurstEnd   float64       // chance per frame that it ends
	Duplicate  float64       // chance that a frame arrives a second time
	DupDelay   time.Duration // mean of how much later; default 1 s
	Corrupt    float64       // chance that a bit is flipped; resets a client's connection
	Reset      float64       // chance per message that a client's connection breaks
	Ordered    bool          // frames never overtake each other
	Hold       bool          // a cut keeps frames as a TCP queue does, instead of losing them
	Bandwidth  int           // bytes per second; 0: no limit
	MaxFrame   int           // larger frames vanish; 0: no limit
	Buffer     int           // most bytes in flight; Send is false beyond; default 4 MiB
}

// DefaultLink is a good local network.
func DefaultLink() LinkConfig { panic("sim: not built") }

// Net is all links of a world. Hosts are machines and clients; both have a NodeID.
type Net struct{}

// Client gives the ID of the client host of that name, which it makes if needed.
func (n *Net) Client(name string) env.NodeID { panic("sim: not built") }

// Clients lists all client hosts in the order they were made.
func (n *Net) Clients() []env.NodeID { panic("sim: not built") }

// Link gives the link of one direction, which may be changed through it.
func (n *Net) Link(from, to env.NodeID) *Link { panic("sim: not built") }

// Each calls fn for every ordered pair of different machines.
func (n *Net) Each(fn func(*Link)) { panic("sim: not built") }

// SetAll sets the behaviour of all links, made or still to be made.
func (n *Net) SetAll(c LinkConfig) { panic("sim: not built") }

// Partition cuts all links between hosts that share no group. Hosts in no group
// keep all their links; a host in two groups is a bridge.
func (n *Net) Partition(groups ...[]env.NodeID) *Cut { panic("sim: not built") }

// CutOneWay cuts the links from any of from to any of to.
func (n *Net) CutOneWay(from, to []env.NodeID) *Cut { panic("sim: not built") }

// Isolate cuts a machine off from all other machines, and from clients too.
func (n *Net) Isolate(id env.NodeID) *Cut { panic("sim: not built") }

// HealAll ends every cut and every clog.
func (n *Net) HealAll() { panic("sim: not built") }

// Break resets every client connection of a machine.
func (n *Net) Break(id env.NodeID) { panic("sim: not built") }

// Cut is a set of links that carry nothing. Cuts add up: a link works again
// when the last one on it is healed.
type Cut struct{}

// Heal ends the cut; twice does nothing more.
func (c *Cut) Heal() { panic("sim: not built") }

// Link is one direction between two hosts.
type Link struct{}

// From is the sending host.
func (l *Link) From() env.NodeID { panic("sim: not built") }

// To is the receiving host.
func (l *Link) To() env.NodeID { panic("sim: not built") }

// Config is how the link behaves now.
func (l *Link) Config() LinkConfig { panic("sim: not built") }

// Set changes how the link behaves from the next frame on.
func (l *Link) Set(c LinkConfig) { panic("sim: not built") }

// Cut says whether the link is cut.
func (l *Link) Cut() bool { panic("sim: not built") }

// Clog holds everything until d from now, when all of it arrives at once.
func (l *Link) Clog(d time.Duration) { panic("sim: not built") }

// Unclog ends a clog early.
func (l *Link) Unclog() { panic("sim: not built") }

// LinkStats are counters of one link. Bytes are of frames that were sent and
// neither lost nor taken by the receiver.
type LinkStats struct {
	Sent, Delivered, Dropped, Refused uint64 // frames
	Bytes, BytesMax                   int    // in flight now, and the most ever
}

// Stats reads the counters.
func (l *Link) Stats() LinkStats { panic("sim: not built") }
