package sim

import "time"

// Clock is one machine's clocks: a monotonic one that restarts with the machine
// and a wall clock. Both run at the machine's own rate.
type Clock struct{}

// SetDrift sets how much faster than the world both clocks run, in parts per
// million, from now on; pending timers follow.
func (c *Clock) SetDrift(ppm int64) { panic("sim: not built") }

// Drift is the present rate, in parts per million.
func (c *Clock) Drift() int64 { panic("sim: not built") }

// Jump moves the wall clock by d.
func (c *Clock) Jump(d time.Duration) { panic("sim: not built") }

// SetSkew sets the wall clock to world time plus d.
func (c *Clock) SetSkew(d time.Duration) { panic("sim: not built") }

// SetWall sets the wall clock.
func (c *Clock) SetWall(t time.Time) { panic("sim: not built") }

// Freeze makes the wall clock stand still for d; 0 is until the next change.
func (c *Clock) Freeze(d time.Duration) { panic("sim: not built") }

// Wall reads the wall clock.
func (c *Clock) Wall() time.Time { panic("sim: not built") }

// Mono reads the monotonic clock.
func (c *Clock) Mono() time.Duration { panic("sim: not built") }
