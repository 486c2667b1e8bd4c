package chaos

import "github.com/keelson/keelson/sim"

// RarePath is a place that the code, the simulator or a checker marks when it is
// reached, so that a swarm can tell whether it really went there.
type RarePath struct {
	Name string
	// Within is how many runs of the standard swarm reach it for sure; a swarm of so
	// many that does not proves less than it claims. 0: it may be missed by any.
	Within int
}

// often and seldom are paths that a run in forty or more takes, and one in some
// hundreds.
const (
	often  = 500
	seldom = 5000
)

// RarePaths lists all of them. A test compares the list with the source.
func RarePaths() []RarePath {
	return []RarePath{
		{"agent: a singleton is stopped because the lease may run out", often},
		{"agent: a start waits for another unit", seldom},
		{"agent: a state is reported later because it changes all the time", often},
		{"agent: the lease ran out and was made anew", often},
		{"agent: the outcome of a start is unknown", seldom},
		{"agent: two machines with one ID", seldom},
		{"check: allowed overlap of a singleton", seldom},
		{"check: election with one damaged disk", often},
		{"check: leader change with pending expiries", often},
		{"check: left-over of an earlier life stopped", often},
		{"check: mirror compared with the members", often},
		{"check: ttl refreshed within one tick of expiry", often},
		{"check: unit stopped where it was before it moved", often},
		{"client: compare-and-swap lost to a concurrent one", often},
		{"client: lock holder dies", often},
		{"client: rights taken away", often},
		{"client: watch crossing compaction", 0}, // takes 1,000 changes; the scenario watch-too-late goes there
		{"client: watch resumed on another member", often},
		{"daemon: forced new cluster finished after a crash", 0},
		{"daemon: member rebuilt from the others", often},
		{"engine: a pass that is full", 0}, // takes thousands of units
		{"engine: everything read anew", seldom},
		{"engine: lease lost", often},
		{"engine: lease taken by a machine that does not lead", often},
		{"engine: outcome of a decision unknown", seldom},
		{"fault: all members power-lost at once", often},
		{"fault: wiped machine replaced", often},
		{"mirror: another cluster refused", 0},
		{"mirror: leave a member that is out of touch", often},
		{"mirror: list again", 0},
		{"mirror: older listing refused", 0},
		{"mirror: outcome of a write unknown", 0},
		{"node: a newer batch format begins", often},
		{"node: an older batch format returns", often}, // when a machine of the older version joins
		{"node: commands forwarded to a former leader", often},
		{"node: commands sent again after a leader change", often},
		{"node: commands sent again after a while", often},
		{"node: copy of a command ignored", often}, // a retry of a write that had committed
		{"node: diverged", often},
		{"node: forwarded commands dropped", 0},
		{"node: proposal refused for now", often},
		{"node: result lost in a snapshot", often},
		{"node: states differ without a majority", often},
		{"node: time moved on by an empty batch", often},
		{"node: too many commands wait", 0},
		{"node: too many reads wait", 0},
		{"node: users and roles wait for members of this version", often},
		{"proxy: another cluster", 0},
		{"proxy: loop refused", 0},
		{"proxy: next member", often},
		{"proxy: next member for a read that waits", often},
		{"proxy: outcome unknown", often},
		{"proxy: reader too slow", seldom},
		{"replica: arriving snapshot superseded", 0},
		{"replica: conflicting tail overwritten", often},
		{"replica: disk full", often},
		{"replica: disk full during snapshot", often},
		{"replica: entries applied again after a restart", often},
		{"replica: known by strangers", 0},
		{"replica: leader change during snapshot transfer", often},
		{"replica: leader removed", seldom}, // it hands leadership over before
		{"replica: leadership handed over", often},
		{"replica: learner promoted while a member is out of reach", often},
		{"replica: log lost", 0}, // a disk put back or emptied, which no family does
		{"replica: read retried", often},
		{"replica: removed member learns of it", often},
		{"replica: restart between log sync and apply", often},
		{"replica: snapshot applied over a conflicting tail", seldom},
		{"replica: snapshot chunks repeated", often},
		{"replica: stalled leader hands over", often},
		{"replica: sync error on log", often},
		{"replica: tail replaced within one record", 0},
		{"sim: crash between snapshot and removal of the old log", often},
		{"wal: damage found at open", often}, // and refused
		{"wal: disk full", often},
		{"wal: snapshot made durable again at open", often},
		{"wal: torn tail cut", often},
	}
}

// Missed lists the paths of the table that a swarm never reached, those that so
// many runs must reach apart from those that they may miss.
func Missed(r sim.RareReport) (must, may []string) {
	for _, p := range RarePaths() {
		switch {
		case r.Marks[p.Name] > 0:
		case p.Within > 0 && r.Worlds >= p.Within:
			must = append(must, p.Name)
		default:
			may = append(may, p.Name)
		}
	}
	return must, may
}
