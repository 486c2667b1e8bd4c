package sched

// Reason is a way in which a machine can be ruled out. What people read begins with its
// head and names the option's value, the other unit or the machine.
type Reason struct {
	Head string
	Doc  string // what it says of the machine
}

// reasons is the table of them, in the order in which they are looked at.
var reasons = []Reason{
	{"drained", "It gives away what it has and takes nothing new."},
	{"cordoned", "It takes nothing new."},
	{"MachineID", "It is another machine."},
	{"MachineMetadata", "Its metadata do not meet the condition."},
	{"MachineOf", "The unit named is not on it: not placed yet, placed elsewhere, not wanted, or unknown."},
	{"Singleton", "Another machine, which is named, has not let go of the unit yet."},
	{"Conflicts", "A unit is on it that the pattern keeps apart, whichever of the two has written it."},
	{"replaced by", "The unit named is on it, and replaces this one."},
	{"Replaces", "A unit is on it that this one replaces and that cannot go elsewhere."},
	{"Resources", "It has too little left, or does not announce that it has any."},
	{"MaxPerMachine", "It has as many instances of the template as may be."},
}

// Reasons gives the table of what can rule a machine out. A machine counts under the first
// that does.
func Reasons() []Reason { return append([]Reason(nil), reasons...) }
