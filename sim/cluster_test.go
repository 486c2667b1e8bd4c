package sim

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/client"
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
