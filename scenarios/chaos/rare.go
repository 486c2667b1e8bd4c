package chaos

import "github.com/keelson/keelson/sim"

// RarePath is a place that the code, the simulator or a checker marks when it is
// reached, so that a swarm can tell whether it really went there.
type RarePath struct {
	Name string
	// Must says that a standard swarm of MustSeeds runs or more reaches it; one
	// that does not proves less than it claims.
	Must bool
}

// MustSeeds is how many runs it takes before every path that must be reached is
// missed if it was not.
const MustSeeds = 500

// RarePaths lists all of them. A test compares the list with the source.
func RarePaths() []RarePath {
	return []RarePath{
		{"check: election with one damaged disk", true},
		{"check: leader change with pending expiries", true},
		{"check: ttl refreshed within one tick of expiry", true},
		{"client: compare-and-swap lost to a concurrent one", true},
		{"client: lock holder dies", true},
		{"client: watch crossing compaction", false},
		{"client: watch resumed on another member", true},
		{"fault: all members power-lost at once", true},
		{"node: commands forwarded to a former leader", true},
		{"node: commands sent again after a leader change", true},
		{"node: commands sent again after a while", true},
		{"node: copy of a command ignored", true}, // a retry of a write that had committed
		{"node: forwarded commands dropped", false},
		{"node: proposal refused for now", true},
		{"node: result lost in a snapshot", true},
		{"node: time moved on by an empty batch", true},
		{"node: too many commands wait", false},
		{"node: too many reads wait", false},
		{"replica: arriving snapshot superseded", false},
		{"replica: conflicting tail overwritten", true},
		{"replica: disk full", true},
		{"replica: disk full during snapshot", true},
		{"replica: entries applied again after a restart", true},
		{"replica: leader change during snapshot transfer", true},
		{"replica: leader removed", true},
		{"replica: leadership handed over", true},
		{"replica: learner promoted while a member is out of reach", true},
		{"replica: log lost", false}, // a disk put back or emptied, which no family does
		{"replica: read retried", true},
		{"replica: removed member learns of it", true},
		{"replica: restart between log sync and apply", true},
		{"replica: snapshot applied over a conflicting tail", true},
		{"replica: snapshot chunks repeated", true},
		{"replica: stalled leader hands over", true},
		{"replica: sync error on log", true},
		{"replica: tail replaced within one record", false},
		{"sim: crash between snapshot and removal of the old log", true},
		{"wal: damage found at open", true}, // and refused
		{"wal: disk full", true},
		{"wal: snapshot made durable again at open", false},
		{"wal: torn tail cut", true},
	}
}

// Missed lists the paths of the table that a swarm never reached, those that must
// be reached apart from those that may be.
func Missed(r sim.RareReport) (must, may []string) {
	for _, p := range RarePaths() {
		switch {
		case r.Marks[p.Name] > 0:
		case p.Must:
			must = append(must, p.Name)
		default:
			may = append(may, p.Name)
		}
	}
	return must, may
}
