package main

import (
	"encoding/json"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/keelson/keelson/cmd/cli/options"
	"github.com/keelson/keelson/core/agent"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/fleet"
)

// attendant answers signals that do not end a process, and notices when the machine's
// address changes.
type attendant struct {
	again func() (*options.Serve, error) // reads the options again
	out   io.Writer
}

// addressEvery is how often the machine's address is looked up.
const addressEvery = time.Minute

// attend looks after p until it has ended.
func (a *attendant) attend(p *server, ended <-chan struct{}) {
	if a == nil || p.units.config == nil {
		return
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(signals)
	now := *p.units.config
	found := publicIP() == now.PublicIP // it was not said, but looked up
	tick := time.NewTicker(addressEvery)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			if ip := publicIP(); found && ip != "" && ip != now.PublicIP {
				p.log.Log(env.Info, "this machine's address is another", "was", now.PublicIP, "is", ip)
				now.PublicIP = ip
				p.set(now)
			}
		case s := <-signals:
			if s == syscall.SIGUSR1 {
				a.dump(p)
				continue
			}
			a.reload(p, &now)
			found = publicIP() == now.PublicIP
		}
	}
}

// reload takes from the options what may change while a process runs.
func (a *attendant) reload(p *server, now *fleet.Config) {
	o, err := a.again()
	if err != nil {
		p.log.Log(env.Error, "the options were read again and are wrong: nothing is changed", "error", err)
		return
	}
	f := &o.Units.Fleet
	now.Metadata, now.Capacity, now.PublicIP = f.Metadata, f.Capacity, f.PublicIP
	if now.PublicIP == "" {
		now.PublicIP = publicIP()
	}
	p.set(*now)
	p.log.Log(env.Info, "the options were read again", "metadata", len(now.Metadata))
}

// set hands the daemon what has changed about the machine.
func (p *server) set(c fleet.Config) {
	p.loop.Post(func() {
		*p.units.config = c // also for what the daemon may become later
		if u := p.daemon.Units(); u != nil {
			u.Set(c)
		}
	})
}

// dump prints what the agent knows.
func (a *attendant) dump(p *server) {
	d, ok := ask(p, func() (agent.Dump, bool) {
		u := p.daemon.Units()
		if u == nil || u.Agent() == nil {
			return agent.Dump{}, false
		}
		return u.Agent().Dump(), true
	})
	if !ok {
		p.log.Log(env.Warn, "no units run here, so there is nothing to print")
		return
	}
	if line, err := json.Marshal(d); err == nil {
		a.out.Write(append(line, '\n'))
	}
}
