package sim

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/node"
)

func TestAClusterElectsAndServes(t *testing.T) {
	for seed := range uint64(5) {
		hash := func() uint64 {
			c := NewCluster(seed, 3, ClusterOptions{})
			defer c.Close()
			require.NotNil(t, c.AwaitLeader(30*time.Second), "%v", c.Failure())
			require.True(t, c.Await(c.Spawn("client", func(p *Proc) {
				put(t, p, "/v2/keys/a", "value=1")
			}), time.Minute), "%v", c.Failure())
			c.RunFor(5 * time.Second)
			require.Nil(t, c.Failure())
			return c.Hash()
		}
		assert.Equal(t, hash(), hash())
	}
}

// A little of everything, as the fault plans do it at length.
func TestAClusterOutlivesTrouble(t *testing.T) {
	for seed := range uint64(6) {
		first, second := trouble(t, seed), trouble(t, seed)
		assert.Equal(t, first, second, "seed %d", seed)
	}
}

func trouble(t *testing.T, seed uint64) outcome {
	t.Helper()
	c := NewCluster(seed, 3, ClusterOptions{Config: func(_ *Machine, c *node.Config) {
		c.SnapshotEntries, c.TailEntries = 30, 20
	}})
	defer c.Close()
	r := c.Rand("trouble")
	for range 30 {
		m := c.Machines()[r.IntN(3)]
		span := time.Duration(r.Int64N(4e9))
		do := []func(){
			func() { m.PowerOff(); c.After(span, "power on", m.PowerOn) },
			m.Kill,
			func() { m.Pause(span) },
			func() { c.After(span, "heal", c.Net().Isolate(m.ID()).Heal) },
			func() { m.Clock().SetDrift(int64(span/40_000) - 50_000) },
			func() { m.Disk().Stall(span) },
			m.Disk().FailSync,
			func() {
				m.Disk().SetCapacity(m.Disk().Used() + 500)
				c.After(span, "room", func() { m.Disk().SetCapacity(0) })
			},
			func() {
				for _, m := range c.Machines() {
					m.PowerOff()
					c.After(span, "power on", m.PowerOn)
				}
			},
		}[r.IntN(9)]
		c.At(time.Duration(r.Int64N(25e9)), "trouble", do)
	}
	answered := 0
	for i := range 4 {
		c.Spawn(fmt.Sprint("client", i), func(p *Proc) {
			for p.Now() < 30*time.Second {
				resp, err := p.Do(p.Context(), &client.Request{
					Endpoint: fmt.Sprintf("http://n%d:2379", 1+p.rand.IntN(3)), Method: "PUT", Timeout: 3 * time.Second,
					Path: fmt.Sprint("/v2/keys/", p.rand.IntN(5)), Body: fmt.Sprint("value=", p.Now()),
					ContentType: "application/x-www-form-urlencoded",
				})
				if err == nil {
					resp.Body.Close()
					answered++
				}
				p.Pause(200 * time.Millisecond)
			}
		})
	}
	require.True(t, c.RunFor(30*time.Second), "%v", c.Failure())
	for _, m := range c.Machines() {
		m.PowerOn()
	}
	require.NotNil(t, c.AwaitLeader(20*time.Second), "seed %d: %v", seed, c.Failure())
	assert.Positive(t, answered)
	return outcome{c.Hash(), c.Steps(), c.Draws()}
}

func put(t *testing.T, p *Proc, path, form string) {
	t.Helper()
	resp, err := p.Do(p.Context(), &client.Request{
		Endpoint: "http://n1:2379", Method: "PUT", Path: path, Body: form,
		ContentType: "application/x-www-form-urlencoded", Timeout: 10 * time.Second,
	})
	if !assert.NoError(t, err) {
		return
	}
	body, err := io.ReadAll(resp.Body)
	assert.NoError(t, err)
	assert.Equal(t, 201, resp.Status, "%s", body)
}

func TestAClusterSurvivesPowerLossOfAll(t *testing.T) {
	for seed := range uint64(10) {
		c := NewCluster(seed, 3, ClusterOptions{})
		require.NotNil(t, c.AwaitLeader(30*time.Second), "%v", c.Failure())
		for i := range 3 {
			require.True(t, c.Await(c.Spawn("client", func(p *Proc) {
				put(t, p, fmt.Sprintf("/v2/keys/%d", i), "value=1")
			}), time.Minute))
			for _, m := range c.Machines() {
				m.PowerOff()
			}
			for _, m := range c.Machines() {
				m.PowerOn()
			}
			require.NotNil(t, c.AwaitLeader(30*time.Second), "seed %d: %v", seed, c.Failure())
		}
		c.Await(c.Spawn("client", func(p *Proc) {
			for i := range 3 {
				resp, err := p.Do(p.Context(), &client.Request{Endpoint: "http://n2:2379", Method: "GET", Path: fmt.Sprintf("/v2/keys/%d", i), Timeout: 10 * time.Second})
				if assert.NoError(t, err) {
					assert.Equal(t, 200, resp.Status)
				}
			}
		}), time.Minute)
		require.Nil(t, c.Failure())
		c.Close()
	}
}
