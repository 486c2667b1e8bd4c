package proxy

import (
	"cmp"
	"errors"
	"time"
)

// Config is what a proxy is told at start. Zero durations stand for the defaults
// that the comments name.
type Config struct {
	// PeerURLs are where members may be, if the disk has no note of it.
	PeerURLs []string
	// ReadOnly refuses everything but GET.
	ReadOnly bool
	// OwnURLs are where this proxy is asked itself. It never asks them.
	OwnURLs []string

	FailureWait     time.Duration // 5 s; how long a member that failed is left alone
	RefreshInterval time.Duration // 30 s; between two looks at the list of members
	DialTimeout     time.Duration // 1 s
	WriteTimeout    time.Duration // 5 s; see answerMax
	ReadTimeout     time.Duration // 0 is none; silence after which an answer is given up, a watch too
}

const (
	// refreshHurry is the time between two looks while they find nobody.
	refreshHurry = time.Second
	// refreshMax bounds the wait for one member's list.
	refreshMax = 2 * time.Second
	// answerMax, behind WriteTimeout, bounds the wait for the head of an answer. A
	// member answers within 5 s and two election timeouts, and a watch at once.
	answerMax = 10 * time.Second
	// silenceMax is how long a member may owe an answer before others are asked
	// first, also for a read that waits.
	silenceMax = time.Second
	// keepMax is the longest answer that is kept until it is whole. Of a longer one
	// the beginning leaves before the end has come.
	keepMax = 64 << 20
	// listMax bounds a list of members.
	listMax = 4 << 20
	// hopsMax bounds the proxies behind each other.
	hopsMax = 8
)

func (c *Config) fill() error {
	c.FailureWait = cmp.Or(c.FailureWait, 5*time.Second)
	c.RefreshInterval = cmp.Or(c.RefreshInterval, 30*time.Second)
	c.DialTimeout = cmp.Or(c.DialTimeout, time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 5*time.Second)
	for _, d := range []time.Duration{c.FailureWait, c.RefreshInterval, c.DialTimeout, c.WriteTimeout, c.ReadTimeout} {
		if d < 0 {
			return errors.New("proxy: a duration is negative")
		}
	}
	return nil
}
