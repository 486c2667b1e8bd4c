package replica_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/replica"
)

// BenchmarkTurn is one turn of the whole group: 64 commands of 300 bytes in one
// entry go through three members, whose disks and links take no time. The figure
// per operation is that of one command.
func BenchmarkTurn(b *testing.B) {
	for _, shared := range []bool{true, false} {
		b.Run(fmt.Sprintf("shared=%v", shared), func(b *testing.B) { benchmarkTurn(b, shared) })
	}
}

func benchmarkTurn(b *testing.B, shared bool) {
	const commands = 64
	g := &group{world: newWorld(1)}
	g.sync = 1
	voters := []env.NodeID{1, 2, 3}
	applied := map[env.NodeID]*counter{}
	for _, id := range voters {
		m := g.add(replica.Config{ID: id, Cluster: 7, Voters: voters})
		c := &counter{}
		applied[id] = c
		r, err := replica.Open(m.cfg, m.host.env(), c)
		if err != nil {
			b.Fatal(err)
		}
		m.Replica, m.body, m.up = r, r, true
		m.turn(func() {})
	}
	var l *member
	g.until(5*time.Second, func() bool {
		for _, m := range g.members {
			if _, ok := m.Leading(); ok {
				l = m
			}
		}
		return l != nil
	})
	entry := make([]byte, 300)
	if shared {
		entry = make([]byte, 300*commands)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n++; n%commands != 0 {
			continue // a turn carries many
		}
		want := applied[l.cfg.ID].n + 1
		if !shared {
			want += commands - 1
		}
		l.turn(func() {
			if shared {
				_ = l.Propose(entry)
				return
			}
			entries := make([][]byte, commands)
			for i := range entries {
				entries[i] = entry
			}
			_ = l.Propose(entries...)
		})
		g.until(time.Second, func() bool { return applied[1].n >= want && applied[2].n >= want && applied[3].n >= want })
		for _, m := range g.members {
			for name := range m.disk.files {
				m.disk.files[name] = m.disk.files[name][:0]
			}
		}
	}
}

// counter is a machine that only counts.
type counter struct {
	list
	n int
}

func (c *counter) Apply(uint64, []byte) { c.n++ }
