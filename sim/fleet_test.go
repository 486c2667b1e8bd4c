package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/daemon"
	"github.com/keelson/keelson/core/fleet"
	"github.com/keelson/keelson/core/node"
	"github.com/keelson/keelson/core/store"
)

// fleetRig is a cluster whose machines run units.
type fleetRig struct {
	*Cluster
	t *testing.T
}

func newFleet(t *testing.T, seed uint64, members, workers int, conf fleet.Config) *fleetRig {
	r := &fleetRig{t: t}
	r.Cluster = NewCluster(seed, members, ClusterOptions{Units: func(*Machine) *fleet.Config { return &conf }})
	for i := range workers {
		m := r.AddMachine(fmt.Sprintf("w%d", i+1), daemon.Config{Bootstrap: bootstrap.Config{
			Proxy: bootstrap.On, InitialCluster: r.Founded(),
		}})
		m.PowerOn()
	}
	r.AwaitLeader(10 * time.Second)
	return r
}

// ask sends a request to a machine and waits for the answer.
func (r *fleetRig) ask(m *Machine, method, target, body string) (status int, text string) {
	r.t.Helper()
	path, query, _ := strings.Cut(target, "?")
	p := r.Spawn("client", func(p *Proc) {
		resp, err := p.Do(p.Context(), &client.Request{
			Endpoint: m.URL(), Method: method, Path: path, Query: query, ContentType: "application/json", Body: body, Timeout: 10 * time.Second,
		})
		if err != nil {
			text = err.Error()
			return
		}
		all, err := io.ReadAll(resp.Body)
		assert.NoError(r.t, err)
		status, text = resp.Status, string(all)
	})
	require.True(r.t, r.Await(p, 30*time.Second), "%s %s: no answer: %v", method, target, r.Failure())
	return status, text
}

const helloUnit = `{"desiredState":"%s","options":[{"section":"Service","name":"ExecStart","value":"/bin/sleep 3000"}]}`

// state is what the API says of a unit.
func (r *fleetRig) state(m *Machine, name string) (machine, active string) {
	_, text := r.ask(m, "GET", "/fleet/v1/state?unitName="+name, "")
	var page struct {
		States []struct{ MachineID, SystemdActiveState string }
	}
	require.NoError(r.t, json.Unmarshal([]byte(text), &page), text)
	if len(page.States) == 0 {
		return "", ""
	}
	return page.States[0].MachineID, page.States[0].SystemdActiveState
}

// await asks again and again.
func (r *fleetRig) await(d time.Duration, cond func() bool) bool {
	for end := r.Now() + d; r.Now() < end; r.RunFor(5 * time.Millisecond) {
		if cond() {
			return true
		}
	}
	return false
}

// From submit to destroy through the API of a machine that is no member.
func TestWholePathOfAUnit(t *testing.T) {
	r := newFleet(t, 1, 3, 2, fleet.Config{})
	r.RunFor(5 * time.Second)
	w := r.Machines()[3]
	status, text := r.ask(w, "GET", "/fleet/v1/machines", "")
	require.Equal(t, 200, status, text)
	require.Equal(t, 5, strings.Count(text, `"primaryIP"`), text)

	status, text = r.ask(w, "PUT", "/fleet/v1/units/hello.service", fmt.Sprintf(helloUnit, "inactive"))
	require.Equal(t, 201, status, text)
	status, text = r.ask(w, "PUT", "/fleet/v1/units/hello.service", `{"desiredState":"launched"}`)
	require.Equal(t, 204, status, text)
	start := r.Now()
	require.True(t, r.await(5*time.Second, func() bool { _, active := r.state(w, "hello.service"); return active == "active" }))
	t.Log("from start to active as the API shows it:", r.Now()-start)
	assert.Less(t, r.Now()-start, 500*time.Millisecond)
	_, text = r.ask(w, "GET", "/fleet/v1/units/hello.service", "")
	assert.Contains(t, text, `"currentState":"launched"`)

	status, text = r.ask(w, "DELETE", "/fleet/v1/units/hello.service", "")
	require.Equal(t, 204, status, text)
	require.True(t, r.await(5*time.Second, func() bool { machine, _ := r.state(w, "hello.service"); return machine == "" }))
}

// What is decided for one machine wakes that one, and nobody else: neither when a unit is
// submitted and started, nor when its machine tells of it (S6).
func TestOneMachineIsWoken(t *testing.T) {
	r := newFleet(t, 2, 3, 5, fleet.Config{})
	r.RunFor(10 * time.Second)
	woken := map[string]int{}
	chosen := r.Machines()[4]
	for _, m := range r.Machines()[3:] {
		mirror := m.Node().(*daemon.Daemon).Mirror()
		mirror.Follow("/", func(events []*store.Event) {
			for _, e := range events {
				if !e.Refresh {
					woken[m.Name()]++
				}
			}
		})
	}
	options := `[{"section":"Service","name":"ExecStart","value":"/bin/sleep 3000"},{"section":"X-Fleet","name":"MachineID","value":"` + chosen.MachineID() + `"}]`
	status, text := r.ask(r.Machines()[0], "PUT", "/fleet/v1/units/a.service", `{"desiredState":"launched","options":`+options+`}`)
	require.Equal(t, 201, status, text)
	r.RunFor(5 * time.Second)
	machine, active := r.state(r.Machines()[1], "a.service")
	assert.Equal(t, chosen.MachineID(), machine)
	assert.Equal(t, "active", active)
	assert.Equal(t, map[string]int{chosen.Name(): 1}, woken)
}

// A machine that dies is noticed when its lease runs out, and its units run elsewhere
// within a second.
func TestUnitsOfADeadMachineRunElsewhere(t *testing.T) {
	ttl := 5 * time.Second
	r := newFleet(t, 3, 3, 3, fleet.Config{TTL: ttl})
	r.RunFor(5 * time.Second)
	dead := r.Machines()[5]
	for _, m := range r.Machines()[:5] {
		r.ask(r.Machines()[0], "PUT", "/fleet/v1/machines/"+m.MachineID()+"/cordon", `{"state":"cordoned"}`)
	}
	for i := range 20 {
		status, text := r.ask(r.Machines()[0], "PUT", fmt.Sprintf("/fleet/v1/units/u%d.service", i), fmt.Sprintf(helloUnit, "launched"))
		require.Equal(t, 201, status, text)
	}
	on := func(m *Machine) (n int) {
		for i := range 20 {
			if machine, active := r.state(r.Machines()[0], fmt.Sprintf("u%d.service", i)); machine == m.MachineID() && active == "active" {
				n++
			}
		}
		return n
	}
	require.True(t, r.await(5*time.Second, func() bool { return on(dead) == 20 }))
	for _, m := range r.Machines()[:5] {
		r.ask(r.Machines()[0], "DELETE", "/fleet/v1/machines/"+m.MachineID()+"/cordon", "")
	}
	dead.PowerOff()
	start := r.Now()
	require.True(t, r.await(ttl+2*time.Second, func() bool {
		n := 0
		for _, m := range r.Machines()[:5] {
			n += on(m)
		}
		return n == 20
	}))
	t.Log("from power off to all running elsewhere:", r.Now()-start)
	assert.Less(t, r.Now()-start, ttl+time.Second)
}

// While one member is of an older version, which cannot read fences, no engine decides:
// it says so and waits. Units that run go on, and what was asked for meanwhile is done
// when the last member is updated.
func TestEnginesWaitForTheLastOldMember(t *testing.T) {
	old := true
	r := &fleetRig{t: t}
	r.Cluster = NewCluster(4, 3, ClusterOptions{
		Units: func(*Machine) *fleet.Config { return &fleet.Config{} },
		Config: func(m *Machine, c *node.Config) {
			if old && m.Name() == "n3" {
				c.HoldBatch = 1
			}
		},
	})
	r.AwaitLeader(10 * time.Second)
	n1, n3 := r.Machines()[0], r.Machines()[2]
	status, text := r.ask(n1, "PUT", "/fleet/v1/units/a.service", fmt.Sprintf(helloUnit, "launched"))
	require.Equal(t, 201, status, text)
	deciding := func() bool {
		for _, m := range r.Machines() {
			if u := m.Node().(*daemon.Daemon).Units(); u != nil && u.Engine().Deciding() {
				return true
			}
		}
		return false
	}
	for range 60 {
		r.RunFor(time.Second)
		require.False(t, deciding())
	}
	machine, _ := r.state(n1, "a.service")
	require.Empty(t, machine)
	old = false
	n3.Kill()
	require.True(t, r.await(30*time.Second, func() bool { _, active := r.state(n1, "a.service"); return active == "active" }))
}
