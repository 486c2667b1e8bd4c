package unit

// State is what a unit is wanted to be, or is, in the cluster's own terms.
type State string

// The states, in rising order.
const (
	Inactive State = "inactive" // known, on no machine
	Loaded   State = "loaded"   // on a machine, known to its systemd, not started
	Launched State = "launched" // on a machine, and systemd was told to start it
)

// Valid reports whether s is one of the three.
func (s State) Valid() bool { return s == Inactive || s == Loaded || s == Launched }

// Option is one line of a unit file.
type Option struct {
	Section, Name, Value string
}

// File is a unit file: its options in their order. It is immutable once made.
type File struct {
	Options []Option
}

// Hash is the SHA-1 of a file's normal form.
type Hash [20]byte

// Placement is what the [X-Fleet] section of a unit asks for, with legacy names merged,
// values split, and specifiers (%n %N %p %i) replaced. It is immutable once made.
type Placement struct {
	MachineID string   // whole, or 8 characters; "" is any
	Peers     []string // MachineOf: names, all of them
	Metadata  []Condition
	Conflicts []string // globs
	Replaces  []string // globs
	Global    bool

	// Additions: each does nothing unless it is written.
	Singleton     bool
	Resources     []Quantity // sorted by name
	Weight        int        // how many units it counts for; 1 where not written
	MostFree      bool       // prefer machines with the most room for Resources
	Spread        string     // metadata key: spread the instances of a template over its values
	Prefer        []Condition
	MaxPerMachine int // of the instances of one template; 0 is no bound
}

// Condition is one demand on a machine's metadata. Conditions of one key and the operator
// "=" are alternatives; everything else must hold together.
type Condition struct {
	Key    string
	Op     string   // = != > >= < <= in
	Values []string // one, but for in
}

// Quantity is an amount of something countable: bytes, thousandths of a processor, or
// whatever machines announce under that name.
type Quantity struct {
	Name   string
	Amount int64
}

// DefaultLineMax is the length from which on a line of a unit file is refused.
const DefaultLineMax = 2048
