package registry

import (
	"time"

	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/unit"
)

// DefaultPrefix is where the registry lies unless configured otherwise.
const DefaultPrefix = "/_coreos.com/fleet"

// Keys makes the keys below one prefix.
type Keys struct{ Prefix string }

// The keys of the package comment.
func (k Keys) Job(name string) string            { return k.Prefix + "/job/" + name }
func (k Keys) Object(name string) string         { return k.Job(name) + "/object" }
func (k Keys) TargetState(name string) string    { return k.Job(name) + "/target-state" }
func (k Keys) Target(name string) string         { return k.Job(name) + "/target" }
func (k Keys) JobState(name string) string       { return k.Job(name) + "/job-state" }
func (k Keys) Claim(name string) string          { return k.Job(name) + "/claim" }
func (k Keys) Contents(h unit.Hash) string       { return k.Prefix + "/unit/" + h.String() }
func (k Keys) States(name string) string         { return k.Prefix + "/states/" + name }
func (k Keys) State(name, machine string) string { return k.States(name) + "/" + machine }
func (k Keys) Machine(id string) string          { return k.Prefix + "/machines/" + id }
func (k Keys) MachineObject(id string) string    { return k.Machine(id) + "/object" }
func (k Keys) Metadata(id, key string) string    { return k.Machine(id) + "/metadata/" + key }
func (k Keys) Cordon(id string) string           { return k.Machine(id) + "/cordon" }
func (k Keys) Assignment(id, name string) string { return k.Machine(id) + "/units/" + name }
func (k Keys) Global(name string) string         { return k.Prefix + "/global/" + name }
func (k Keys) Move(name string) string           { return k.Prefix + "/moves/" + name }
func (k Keys) EngineLease() string               { return k.Prefix + "/lease/engine-leader" }
func (k Keys) EngineVersion() string             { return k.Prefix + "/engine/version" }
func (k Keys) Worker(id string) (prefixes []string) {
	return []string{k.Machine(id), k.Prefix + "/global"}
}

// Machine is one machine as the registry knows it. It is immutable: a change makes another.
type Machine struct {
	ID       string // 32 hex digits
	PublicIP string
	Metadata map[string]string // the configured
	Dynamic  map[string]string // set at run time; "" hides
	Capacity []unit.Quantity
	Version  string
	Host     string // its name, for people
	API      string // base URL at which its daemon answers others; "" if it does not
	Instance string // drawn once for a data directory: tells two machines with one ID apart
	Boot     string // ID of the boot
	Engine   bool   // may lead
	Cordon   string // "", cordoned, draining

	Alive    bool        // the lease has not run out
	Created  store.Index // of the lease: another where it ran out in between
	Modified store.Index
}

// Assignment is all that a machine needs to know of a unit of its own.
type Assignment struct {
	Name  string
	Raw   string // normal form
	State unit.State
	// Since is the index at which the engine decided, for fencing by those who are
	// told it: of two decisions the later has the higher.
	Since store.Index
}

// Unit is one unit as the registry knows it. It is immutable: a change makes another.
type Unit struct {
	Name    string
	Hash    unit.Hash
	File    *unit.File // nil where the contents are missing or cannot be read
	Raw     string     // what File was read from
	Desired unit.State
	Target  string // machine ID, or ""
	// Launcher is the machine that says it has launched it, or "".
	Launcher string
	Claim    string          // machine that holds a singleton's fence, or ""
	Move     string          // machine that the unit is asked to move to, or ""
	Place    *unit.Placement // of File; nil where it has none that is valid
	PlaceErr error           // why
	// Created is the index at which the unit was made, and tells it from one of the same
	// name before.
	Created store.Index
	// DesiredCreated is the created index of the key of the desired state, which every
	// change of the unit by the API makes anew: see Model.Replace.
	DesiredCreated store.Index
	// ObjectIndex and the like are modified indexes for compare-and-swap, 0 where there
	// is no such key.
	ObjectIndex, DesiredIndex, TargetIndex, LauncherIndex, ClaimIndex, MoveIndex store.Index
}

// Global reports whether the unit runs on all machines that can run it.
func (u *Unit) Global() bool { return u.Place != nil && u.Place.Global }

// UnitState is what systemd on one machine says about one unit.
type UnitState struct {
	Name, MachineID   string
	Load, Active, Sub string
	Hash              string
	Result            string // ours: why it failed, or why the agent could not do what was wanted
	Modified          store.Index
}

// Defaults of the daemon's configuration.
const (
	DefaultTTL       = 30 * time.Second // of a machine's lease
	DefaultReconcile = 2 * time.Second  // the engine's safety net; changes do not wait for it
	DefaultPage      = 100
)
