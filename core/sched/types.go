package sched

import "github.com/keelson/keelson/core/unit"

// Machine is a machine as far as placement goes.
type Machine struct {
	ID       string
	Metadata map[string]string
	Capacity []unit.Quantity // sorted by name
	Cordoned bool            // takes nothing new
	Draining bool            // and gives away what it has, as far as others can take it
}

// Unit is a unit as far as placement goes.
type Unit struct {
	Name    string
	Place   *unit.Placement // nil is one that asks for nothing
	State   unit.State      // desired
	Machine string          // where it is placed, or ""
	// Held is the machine that may still run it although it is not placed there (a
	// singleton that has not been let go of): it is placed nowhere else meanwhile.
	Held string
	Move string // the machine it is asked to move to, or ""
}

// Decision is one change of a placement. From and To are machine IDs, or "". In one plan
// there is at most one for each unit.
type Decision struct {
	Unit     string
	From, To string
	Why      string // one line for people
}

// Refusal is why units cannot run on machines: how many machines each reason rules out.
// A machine counts once, under the first reason that rules it out.
type Refusal struct {
	Reason   string // the option, such as MachineMetadata=disk=ssd, or cordoned, …
	Machines int
}

// Explanation is what `keelson why` shows.
type Explanation struct {
	Unit     string
	Machine  string    // where it is placed, or ""
	Why      string    // one line: why there, or why nowhere
	Able     int       // machines that could run it, the one where it is included
	Refusals []Refusal // why the others cannot: those that rule out most come first
}

// Stuck is a unit that should leave its machine, which is drained or which it was asked
// to move from, and cannot.
type Stuck struct {
	Unit string
	From string
	To   string // where it was asked to move to; "" for a drain
	Why  string // one line for people
}
