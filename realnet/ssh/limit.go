package ssh

import (
	"net"
	"sync/atomic"
	"time"
)

// limit closes a connection that is not set up in time.
type limit struct {
	conn  net.Conn
	timer *time.Timer // nil is no limit
	max   time.Duration
	late  atomic.Bool
}

func newLimit(conn net.Conn, most time.Duration) *limit {
	l := &limit{conn: conn, max: most}
	if most > 0 {
		l.timer = time.AfterFunc(most, func() {
			l.late.Store(true)
			conn.Close()
		})
	}
	return l
}

func (l *limit) pause() { l.end() }

func (l *limit) resume() {
	if l.timer != nil {
		l.timer.Reset(l.max)
	}
}

func (l *limit) end() {
	if l.timer != nil {
		l.timer.Stop()
	}
}

func (l *limit) over() bool { return l.late.Load() }
