package bootstrap

import (
	"github.com/keelson/keelson/core/env"
)

// Bootstrap is one way from a Config to an Outcome.
type Bootstrap struct {
	cfg Config
	env *env.Env
}

// Check refuses a configuration from which nothing can come, before anything is
// written or asked.
func (c *Config) Check() error {
	_, err := c.static()
	return err
}

// Begin starts looking. Done runs once, in a later turn, unless Stop was called
// before. An error is one that trying again would not mend.
func Begin(cfg Config, e *env.Env, done func(*Outcome, error)) *Bootstrap {
	b := &Bootstrap{cfg: cfg, env: e}
	e.Clock.After(0, func() {
		id, err := b.cfg.static()
		if err != nil {
			done(nil, err)
			return
		}
		done(&Outcome{Identity: id}, nil)
	})
	return b
}

// Stop gives up.
func (b *Bootstrap) Stop() {}
