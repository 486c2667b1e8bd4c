package check_test

import (
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/fleet"
	"github.com/keelson/keelson/core/registry"
	"github.com/keelson/keelson/core/unit"
	"github.com/keelson/keelson/sim"
	"github.com/keelson/keelson/sim/check"
)

func TestMain(m *testing.M) {
	sim.Deterministic()
	os.Exit(m.Run())
}

// byHand is a cluster whose agents work and whose engines are off: a test decides, and
// may decide wrongly.
type byHand struct {
	*sim.Cluster
	t     *testing.T
	units *check.Units
	m     []*sim.Machine
}

const handTTL = 5 * time.Second

func newByHand(t *testing.T) *byHand {
	conf := fleet.Config{DisableEngine: true, TTL: handTTL, Metadata: map[string]string{"disk": "ssd"}}
	h := &byHand{t: t, Cluster: sim.NewCluster(1, 3, sim.ClusterOptions{Units: func(*sim.Machine) *fleet.Config { return &conf }})}
	h.units = check.WatchUnits(h.Cluster, check.UnitsOptions{TTL: handTTL})
	h.m = h.Machines()
	require.NotNil(t, h.AwaitLeader(10*time.Second))
	require.True(t, h.RunFor(3*handTTL), "%v", h.Failure()) // whatever hindered agents at the start is past
	require.Equal(t, 3, h.units.Machines())
	t.Cleanup(h.Close)
	return h
}

// set writes keys of the registry, all of them before the cluster goes on; "" removes one.
func (h *byHand) set(pairs ...string) {
	h.t.Helper()
	p := h.Spawn("engine by hand", func(p *sim.Proc) {
		for i := 0; i < len(pairs) && h.Failure() == nil; i += 2 {
			q := &client.Request{Endpoint: h.m[0].URL(), Method: "PUT", Path: "/v2/keys" + registry.DefaultPrefix + "/" + pairs[i], Timeout: 5 * time.Second}
			q.ContentType, q.Body = "application/x-www-form-urlencoded", url.Values{"value": {pairs[i+1]}}.Encode()
			if pairs[i+1] == "" {
				q.Method, q.Body = "DELETE", ""
			}
			resp, err := p.Do(p.Context(), q)
			if err == nil && resp.Status >= 300 {
				err = fmt.Errorf("%s: status %d", pairs[i], resp.Status)
			}
			assert.NoError(h.t, err)
		}
	})
	h.Await(p, 30*time.Second)
}

// assigned is the document that puts a unit on a machine.
func (h *byHand) assigned(text string) string {
	at := sim.NodeOf(h.m[0]).View().Index()
	return registry.EncodeAssignment(&registry.Assignment{Raw: text, State: unit.Launched, Since: at})
}

func on(m *sim.Machine, name string) string { return "machines/" + m.MachineID() + "/units/" + name }

const (
	plain  = "[Service]\nExecStart=/bin/sleep infinity\n"
	single = plain + "\n[X-Fleet]\nSingleton=true\n"
)

// Nothing of what is decided and done rightly offends an oracle.
func TestOraclesOfUnitsAreSilent(t *testing.T) {
	h := newByHand(t)
	h.set(on(h.m[1], "a.service"), h.assigned(plain), on(h.m[2], "one.service"), h.assigned(single))
	require.True(t, h.RunFor(5*time.Second), "%v", h.Failure())
	require.True(t, h.m[1].Systemd().Runs("a.service"))
	require.True(t, h.m[2].Systemd().Runs("one.service"))
	h.set(on(h.m[1], "a.service"), "", on(h.m[2], "one.service"), "")
	require.True(t, h.RunFor(5*time.Second), "%v", h.Failure())
	assert.False(t, h.m[2].Systemd().Runs("one.service"))
}

// Each oracle speaks when its promise is broken by hand.
func TestOraclesOfUnitsSpeak(t *testing.T) {
	start := func(h *byHand, m *sim.Machine, verb env.JobVerb, name string) {
		m.Systemd().Job(verb, name, func(env.JobResult, error) {})
		h.RunFor(2 * time.Second)
	}
	asking := func(lines string) string { return plain + "\n[X-Fleet]\n" + lines + "\n" }
	tests := []struct {
		name, oracle, says string
		wrong              func(h *byHand)
	}{
		{"in two places", check.Decision, "is to be on", func(h *byHand) {
			h.set(on(h.m[0], "a.service"), h.assigned(plain), on(h.m[1], "a.service"), h.assigned(plain))
		}},
		{"not where its target says", check.Decision, "but its target is", func(h *byHand) {
			h.set("job/a.service/target", h.m[2].MachineID(), on(h.m[0], "a.service"), h.assigned(plain))
		}},
		{"decided by a deposed engine", check.Decision, "deposed", func(h *byHand) {
			late := h.assigned(plain)
			h.set("lease/engine-leader", `{"MachineID":"x","Version":1}`, on(h.m[0], "a.service"), late)
		}},
		{"another machine asked for", check.Placement, "asks for machine", func(h *byHand) {
			h.set(on(h.m[0], "a.service"), h.assigned(asking("MachineID="+h.m[1].MachineID())))
		}},
		{"a global unit as another", check.Placement, "global", func(h *byHand) {
			h.set(on(h.m[0], "a.service"), h.assigned(asking("Global=true")))
		}},
		{"without its peer", check.Placement, "with which it is to be", func(h *byHand) {
			h.set(on(h.m[0], "a.service"), h.assigned(asking("MachineOf=b.service")))
		}},
		{"other metadata", check.Placement, "metadata", func(h *byHand) {
			h.set(on(h.m[0], "a.service"), h.assigned(asking("MachineMetadata=disk=hdd")))
		}},
		{"on a cordoned machine", check.Placement, "cordoned", func(h *byHand) {
			h.set("machines/"+h.m[0].MachineID()+"/cordon", "cordoned")
			h.set(on(h.m[0], "a.service"), h.assigned(plain))
		}},
		{"beside what it conflicts with", check.Placement, "conflict", func(h *byHand) {
			h.set(on(h.m[0], "a@1.service"), h.assigned(asking("Conflicts=a@*.service")), on(h.m[0], "a@2.service"), h.assigned(plain))
		}},
		{"a singleton that runs twice", check.Overlap, "while it runs on", func(h *byHand) {
			for _, m := range h.m[1:] {
				m.Systemd().Put("one.service", single)
				m.Systemd().Reload()
				m.Systemd().By(env.JobStart, "one.service")
			}
		}},
		{"a singleton without its claim", check.Overlap, "whose claim is", func(h *byHand) {
			h.m[1].Systemd().Put("one.service", single)
			h.m[1].Systemd().Reload()
			start(h, h.m[1], env.JobStart, "one.service")
		}},
		{"a claim is let go of", check.Overlap, "let go of its claim", func(h *byHand) {
			h.set(on(h.m[1], "one.service"), h.assigned(single))
			h.RunFor(3 * time.Second)
			require.True(h.t, h.m[1].Systemd().Runs("one.service"))
			h.set("job/one.service/claim", "")
		}},
		{"a healthy unit is stopped", check.Stopped, "runs as decided", func(h *byHand) {
			h.set(on(h.m[1], "a.service"), h.assigned(plain))
			h.RunFor(3 * time.Second)
			require.True(h.t, h.m[1].Systemd().Runs("a.service"))
			start(h, h.m[1], env.JobStop, "a.service")
		}},
		{"a healthy unit is restarted", check.Stopped, "runs as decided", func(h *byHand) {
			h.set(on(h.m[1], "a.service"), h.assigned(plain))
			h.RunFor(3 * time.Second)
			start(h, h.m[1], env.JobRestart, "a.service")
		}},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			h := newByHand(t)
			c.wrong(h)
			h.RunFor(time.Second)
			require.NotNil(t, h.Failure(), "nobody noticed")
			assert.Equal(t, c.oracle, h.Failure().Oracle, "%v", h.Failure())
			assert.Contains(t, h.Failure().Message, c.says)
		})
	}
}

// What is not as it should be in calm is named, one thing at a time.
func TestUnsettledNames(t *testing.T) {
	const state = `{"loadState":"loaded","activeState":"active","subState":"running","machineState":{"ID":"%s"}}`
	gone := "00000000000000000000000000000099"
	tests := []struct {
		name, says string
		wrong      func(h *byHand)
	}{
		{"a file that nobody decided", "lies on", func(h *byHand) { h.m[0].Systemd().Put("x.service", plain) }},
		{"a unit that is not where it is to be", "is to be on", func(h *byHand) {
			h.m[2].Systemd().Away()
			h.set(on(h.m[2], "a.service"), h.assigned(plain))
		}},
		{"a unit that does not run", "is to run and is", func(h *byHand) {
			h.set(on(h.m[2], "a.service"), h.assigned(plain))
			h.RunFor(3 * time.Second)
			h.m[2].Systemd().By(env.JobStop, "a.service")
			h.RunFor(time.Second)
		}},
		{"units of a machine that is gone", "which is gone", func(h *byHand) { h.set("machines/"+gone+"/units/a.service", h.assigned(plain)) }},
		{"what a destroyed unit leaves", "something is left", func(h *byHand) { h.set("job/a.service/target-state", "launched") }},
		{"contents that no unit has", "which no unit has", func(h *byHand) { h.set("unit/0000000000000000000000000000000000000000", `{"Raw":""}`) }},
		{"a state of what is not there", "a state of", func(h *byHand) {
			h.set("states/a.service/"+h.m[0].MachineID(), fmt.Sprintf(state, h.m[0].MachineID()))
		}},
		{"a move of what is not there", "a move of", func(h *byHand) { h.set("moves/a.service", h.m[0].MachineID()) }},
		{"a unit that is placed nowhere", "placed nowhere", func(h *byHand) { h.submit("a.service", plain, "launched") }},
		{"a unit that nobody tells its machine of", "which is not told", func(h *byHand) {
			h.submit("a.service", plain, "launched")
			h.set("job/a.service/target", h.m[0].MachineID())
		}},
		{"a unit that is inactive and placed", "still placed", func(h *byHand) {
			h.submit("a.service", plain, "inactive")
			h.set("job/a.service/target", h.m[0].MachineID())
		}},
		{"a global unit that nobody is told of", "no machine is told", func(h *byHand) {
			h.submit("a.service", plain+"\n[X-Fleet]\nGlobal=true\n", "launched")
		}},
		{"other contents than submitted", "told something else", func(h *byHand) {
			h.submit("a.service", plain, "launched")
			h.set("job/a.service/target", h.m[0].MachineID(), on(h.m[0], "a.service"), h.assigned(plain+"Nice=1\n"))
			h.RunFor(5 * time.Second)
		}},
		{"a claim of a machine that is gone", "the claim of", func(h *byHand) {
			h.submit("a.service", plain, "inactive")
			h.set("job/a.service/claim", gone)
		}},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			h := newByHand(t)
			require.Empty(t, h.units.Unsettled())
			c.wrong(h)
			require.Nil(t, h.Failure(), "%v", h.Failure())
			assert.Contains(t, h.units.Unsettled(), c.says)
		})
	}
}

// submit puts what an operator wants, without an engine.
func (h *byHand) submit(name, text string, state unit.State) {
	f, err := unit.Parse(text, 1<<20)
	require.NoError(h.t, err)
	h.set("unit/"+f.Hash().String(), registry.EncodeContents(f.String()),
		"job/"+name+"/object", registry.EncodeObject(name, f.Hash()), "job/"+name+"/target-state", string(state))
}
