package sim

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/env/envtest"
	"github.com/keelson/keelson/core/gateway"
)

func TestThePromisesOfEnv(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			envtest.Suite(t, func(t *testing.T) envtest.Rig { return newRig(t, seed) })
		})
	}
}

// rig is two machines of a world that run whatever the suite hands them.
type rig struct {
	t     *testing.T
	w     *World
	ms    [2]*Machine
	nodes [2]envtest.Node
}

func newRig(t *testing.T, seed uint64) *rig {
	r := &rig{t: t, w: newTestWorld(t, seed, Options{Link: LinkConfig{Latency: time.Millisecond, Loss: 0.3, Duplicate: 0.1}})}
	for i := range r.ms {
		r.ms[i] = r.w.Add(env.NodeID(i+1), fmt.Sprintf("n%d", i+1), toys(func(x *toy) error {
			n := r.nodes[i]
			x.env.Net.Set(env.Group{}) // back to no group
			x.receive, x.flush = n.Receive, n.Flush
			if n.Serve != nil {
				x.serve = func(q *gateway.Request, a gateway.Responder) func() { return serve(n, q, a) }
			}
			if n.Start != nil {
				n.Start(x.env)
			}
			return nil
		}))
		r.ms[i].Clock().SetDrift(int64(seed) * 1000)
	}
	return r
}

// serve hands a request to a node of the suite.
func serve(n envtest.Node, q *gateway.Request, a gateway.Responder) func() {
	asked := &envtest.Request{Method: q.Method, Path: q.Path, Query: q.Query, Body: q.Body, Peer: q.Peer}
	for _, h := range q.Header {
		asked.Header = append(asked.Header, env.WebHeader(h))
	}
	if cancel := n.Serve(asked, answerer{a}); cancel != nil {
		return cancel
	}
	return func() {}
}

type answerer struct{ gateway.Responder }

func (a answerer) Reply(status int, header []env.WebHeader, body []byte, more bool) {
	reply := &gateway.Reply{Status: status, Body: body, More: more}
	for _, h := range header {
		reply.Header = append(reply.Header, gateway.Header(h))
	}
	a.Responder.Reply(reply)
}

// ID is not that of the machine: what a node calls itself is its own affair.
func (r *rig) ID(machine int) env.NodeID { return r.ms[machine].ID() + 100 }

func (r *rig) PeerURLs(machine int) []string { return []string{r.URL(machine)} }

func (r *rig) URL(machine int) string { return "http://" + r.ms[machine].Name() + ":2380" }

func (r *rig) SetServices(name string, records ...env.Service) {
	r.w.Zone().SetServices(name, records...)
}

func (r *rig) SetAddresses(host string, addresses ...netip.Addr) {
	r.w.Zone().SetAddresses(host, addresses...)
}

func (r *rig) Start(machine int, n envtest.Node) {
	r.nodes[machine] = n
	r.ms[machine].PowerOn()
	require.Nil(r.t, r.w.Failure())
}

func (r *rig) Do(machine int, fn func()) {
	r.t.Helper()
	in := &doInput{fn: fn}
	r.ms[machine].input(in)
	r.w.RunTill(time.Minute, func() bool { return in.ran })
	require.Nil(r.t, r.w.Failure())
	require.True(r.t, in.ran)
}

type doInput struct {
	fn  func()
	ran bool
}

func (*doInput) live() bool    { return true }
func (*doInput) drop(*Machine) {}

func (d *doInput) deliver(*Machine) {
	d.ran = true
	d.fn()
}

func (r *rig) Wait(d time.Duration) { r.w.RunFor(d) }

func (r *rig) Kill(machine int) { r.ms[machine].Kill() }

func (r *rig) PowerOff(machine int) { r.ms[machine].PowerOff() }

func (r *rig) Fill(machine int, bytes int) {
	d := r.ms[machine].Disk()
	if bytes < 0 {
		d.SetCapacity(0)
		return
	}
	d.SetCapacity(d.Used() + bytes)
}
