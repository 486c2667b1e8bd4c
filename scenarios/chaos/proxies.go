package chaos

import (
	"fmt"
	"time"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/daemon"
	"github.com/keelson/keelson/sim"
	"github.com/keelson/keelson/sim/check"
)

// proxiesLoad is the name of the workload whose clients know no member.
const proxiesLoad = "proxies"

// openProxies adds one or two machines that are no members. Each passes requests on
// and keeps a copy of the keys that workloads use.
func openProxies(b *bench) {
	if b.proxies != nil {
		return
	}
	check.WatchMirrors(b.c)
	for i := range 1 + purpose(b.Seed, "proxies").IntN(2) {
		m := b.c.AddMachine(fmt.Sprintf("w%d", i+1), daemon.Config{
			Bootstrap: bootstrap.Config{Proxy: bootstrap.On, InitialCluster: b.c.Founded()},
			Mirror:    []string{"/r", "/d", "/ttl", "/queue"},
		})
		m.SetRestart(b.restart)
		m.PowerOn()
		b.proxies = append(b.proxies, m)
	}
}

// proxies are clients that know no member. Now and then the process of a proxy is
// killed.
func proxies(c *caller) {
	kind := registers
	if c.draw(2) == 0 {
		kind = queue
	}
	if c.id%2 == 0 {
		c.c.Spawn(c.Name()+"-trouble", c.killProxies)
	}
	kind(c)
}

func (c *caller) killProxies(p *sim.Proc) {
	for !c.stop && !c.calm {
		p.Pause(time.Duration(p.Float64() * float64(20*time.Second)))
		if m := c.proxies[int(p.Float64()*float64(len(c.proxies)))]; !c.stop && !c.calm {
			c.c.After(0, "proxy killed", m.Kill)
		}
	}
}
