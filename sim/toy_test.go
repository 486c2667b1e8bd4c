package sim

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
)

// toy is a node made of functions: whatever a test does not set does nothing.
type toy struct {
	m       *Machine
	env     *env.Env
	receive func(from env.NodeID, frame []byte)
	serve   func(q *gateway.Request, r gateway.Responder) func()
	flush   func()
	stop    func(done func())
}

func (t *toy) Receive(from env.NodeID, frame []byte) {
	if t.receive != nil {
		t.receive(from, frame)
	}
}

func (t *toy) Serve(q *gateway.Request, r gateway.Responder) func() {
	if t.serve != nil {
		return t.serve(q, r)
	}
	r.Reply(&gateway.Reply{Status: 200, Body: []byte("hello from " + t.m.Name())})
	return func() {}
}

func (t *toy) Flush() {
	if t.flush != nil {
		t.flush()
	}
}

func (t *toy) Stop(done func()) {
	if t.stop != nil {
		t.stop(done)
		return
	}
	done()
}

// toys gives a factory whose nodes setup completes at each start.
func toys(setup func(t *toy) error) Factory {
	return func(m *Machine, e *env.Env) (Node, error) {
		t := &toy{m: m, env: e}
		e.Net.Set(everybody(m.ID()))
		if setup == nil {
			return t, nil
		}
		if err := setup(t); err != nil {
			return nil, err
		}
		return t, nil
	}
}

// everybody is a group of n1 to n9.
func everybody(self env.NodeID) env.Group {
	g := env.Group{Cluster: 1, Self: self}
	for i := 1; i <= 9; i++ {
		g.Peers = append(g.Peers, env.Peer{ID: env.NodeID(i), URLs: []string{fmt.Sprintf("http://n%d:2380", i)}})
	}
	return g
}

// steady is one input per turn, at once.
var steady = TurnConfig{Max: 1}

func newTestWorld(t *testing.T, seed uint64, o Options) *World {
	t.Helper()
	w := NewWorld(seed, o)
	t.Cleanup(w.Close)
	return w
}

func addToys(w *World, n int, setup func(t *toy) error) []*Machine {
	var ms []*Machine
	for i := 1; i <= n; i++ {
		m := w.Add(env.NodeID(i), fmt.Sprintf("n%d", i), toys(setup))
		m.PowerOn()
		ms = append(ms, m)
	}
	return ms
}

func theToy(m *Machine) *toy { return m.Node().(*toy) }

// inside runs fn as a turn of the machine's node: timers and writes that it asks
// for are the node's.
func inside(t *testing.T, m *Machine, fn func(e *env.Env)) {
	t.Helper()
	ran := false
	theToy(m).env.Clock.After(0, func() { ran = true; fn(theToy(m).env) })
	m.w.RunTill(time.Minute, func() bool { return ran })
	require.True(t, ran)
}

var errToy = errors.New("the toy broke")
