package node_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/core/store"
)

func benchCluster(b *testing.B, n int) *cluster {
	c := &cluster{world: newWorld(1)}
	var members []gateway.Member
	for i := range n {
		members = append(members, gateway.Member{ID: env.NodeID(i + 1)})
	}
	for i := range n {
		m := &machine{host: c.world.host(env.NodeID(i + 1))}
		m.cfg = node.Config{ID: m.id, Cluster: 9, Members: members, Fatal: func(err error) { b.Fatal(err) }}
		body, err := node.Open(m.cfg, m.host.env())
		if err != nil {
			b.Fatal(err)
		}
		m.Node, m.body, m.up = body, body, true
		m.turn(func() {})
		c.machines = append(c.machines, m)
	}
	c.run(10 * time.Second)
	return c
}

// BenchmarkIdleSecond is one second of a cluster of five that has nothing to do.
func BenchmarkIdleSecond(b *testing.B) {
	c := benchCluster(b, 5)
	b.ReportAllocs()
	for b.Loop() {
		c.run(time.Second)
	}
}

// BenchmarkWrites is one write among 64 that wait together, on the leader of
// three members and on a follower.
func BenchmarkWrites(b *testing.B) {
	for _, follower := range []bool{false, true} {
		b.Run(fmt.Sprintf("follower=%v", follower), func(b *testing.B) {
			c := benchCluster(b, 3)
			c.sync = 1
			var m *machine
			for _, x := range c.machines {
				if _, leads := x.Replica().Leading(); leads != follower {
					m = x
				}
			}
			value := fmt.Sprintf("%256d", 1)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n++; n%64 != 0 {
					continue // a turn carries many
				}
				done := 0
				m.turn(func() {
					for i := range 64 {
						m.Propose(store.Command{Op: store.OpSet, Key: fmt.Sprint("/dir/", (n+i)%2000), Value: value}, func(r store.Result) {
							if r.Err != nil {
								b.Error(r.Err)
							}
							done++
						})
					}
				})
				c.until(time.Second, func() bool { return done == 64 })
				for _, m := range c.machines {
					for name := range m.disk.files {
						m.disk.files[name] = m.disk.files[name][:0]
					}
				}
			}
		})
	}
}
