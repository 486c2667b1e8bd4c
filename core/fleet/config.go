package fleet

import (
	"time"

	"github.com/keelson/keelson/core/unit"
)

// Config is what a machine is told about units at start. Machine is required; the zero
// value of everything else is the default that its comment names.
type Config struct {
	Machine  string // its ID: 32 hex digits, as in /etc/machine-id
	Host     string // its name, for people
	Boot     string // ID of this boot, another after each
	PublicIP string // "" is unknown
	// API is the base URL at which this machine's daemon answers other machines: for
	// journals and status. "" is nowhere.
	API      string
	Metadata map[string]string
	Capacity []unit.Quantity // sorted by name
	Version  string
	Prefix   string        // registry.DefaultPrefix
	TTL      time.Duration // of the machine's lease; registry.DefaultTTL
	// Reconcile is the engine's and the agent's safety net; registry.DefaultReconcile.
	Reconcile     time.Duration
	Page          int  // entries of an API page; registry.DefaultPage
	LineMax       int  // bytes of a line of a unit file; unit.DefaultLineMax
	DisableEngine bool // never decide where units run
	// DrainAtStop has an orderly end of the daemon unload this machine's units, so that
	// others take them over at once. Otherwise they run on.
	DrainAtStop bool
	// User and Password are as whom a machine that is no member asks the members, where
	// they judge requests. A member asks nobody.
	User, Password string
	// NoAgent has the machine run no units and not appear among the machines: it only
	// answers the API.
	NoAgent bool
}
