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
