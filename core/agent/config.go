package agent

import (
	"maps"
	"slices"
	"time"

	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/unit"
)

// Config is what an agent is told at start. Machine and Boot are required; the zero value
// of everything else is the default that its comment names.
type Config struct {
	Machine string // its ID: 32 hex digits
	Boot    string // ID of this boot, another after each
	Facts   Facts
	Keys    registry.Keys // registry.DefaultPrefix
	TTL     time.Duration // of the machine's lease; registry.DefaultTTL
	LineMax int           // bytes of a line of a unit file; unit.DefaultLineMax
	// Drain has Stop unload all units and remove the record of the machine, instead of
	// leaving them running for the next life of the daemon.
	Drain bool
	// Changed, if not nil, is called when Ready gives another answer than before.
	Changed func()
}

// Facts is what a machine says of itself. It may change while the agent runs.
type Facts struct {
	Host     string
	PublicIP string
	API      string
	Metadata map[string]string
	Capacity []unit.Quantity // sorted by name
	Version  string
	Engine   bool // may lead
}

func (f Facts) clone() Facts {
	f.Metadata = maps.Clone(f.Metadata)
	f.Capacity = slices.Clone(f.Capacity)
	return f
}

func (c *Config) fill() {
	if c.Keys.Prefix == "" {
		c.Keys.Prefix = registry.DefaultPrefix
	}
	if c.TTL == 0 {
		c.TTL = registry.DefaultTTL
	}
	if c.LineMax == 0 {
		c.LineMax = unit.DefaultLineMax
	}
	c.Facts = c.Facts.clone()
}
