package client_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/client"
)

func TestStarted(t *testing.T) {
	const id = "1a1a1a1a00000000000000000000aaaa"
	for _, c := range []struct {
		load, active, sub, result string
		done                      bool
		why                       string
	}{
		{"loaded", "active", "running", "", true, ""},
		{"loaded", "active", "exited", "", true, ""},
		{"loaded", "reloading", "reload", "", true, ""},
		{"loaded", "activating", "start-pre", "", false, ""},
		{"loaded", "deactivating", "stop", "", false, ""},
		{"loaded", "inactive", "dead", "", true, ""},
		{"loaded", "inactive", "dead", "success", true, ""},
		{"loaded", "inactive", "dead", "start: dependency", false, "it is inactive (dead) on 1a1a1a1a...: start: dependency"},
		{"loaded", "failed", "failed", "exit-code", false, "it is failed (failed) on 1a1a1a1a...: exit-code"},
		{"loaded", "activating", "auto-restart", "exit-code", false, "it is activating (auto-restart) on 1a1a1a1a...: exit-code"},
		{"not-found", "inactive", "dead", "no space left", false, "its file is not-found on 1a1a1a1a...: no space left"},
	} {
		s := client.UnitState{Name: "a.service", MachineID: id, LoadState: c.load, ActiveState: c.active, SubState: c.sub, Result: c.result}
		done, err := s.Started()
		assert.Equal(t, c.done, done, s)
		if c.why == "" {
			assert.NoError(t, err)
			continue
		}
		assert.Equal(t, &client.StartError{Unit: "a.service", Why: c.why}, err)
	}
}

func TestOutage(t *testing.T) {
	var o client.Outage
	away := &client.ClusterError{Errors: []error{errors.New("connection refused")}}
	assert.True(t, o.Bear(0, away))
	assert.True(t, o.Bear(14*time.Second, &client.UnitError{Status: 503}))
	assert.True(t, o.Bear(14*time.Second, nil))
	assert.True(t, o.Bear(20*time.Second, away), "it began anew")
	assert.False(t, o.Bear(35*time.Second, away))
	for _, err := range []error{&client.UnitError{Status: 404}, client.ErrNoPage, context.Canceled, errors.New("not JSON")} {
		assert.False(t, new(client.Outage).Bear(0, err), err)
	}
}

// events is a server that answers with these bodies, one after the other, and time that
// passes only by waiting.
type events struct {
	bodies []string
	status int
	now    time.Duration
	asked  int
}

func (e *events) Do(_ context.Context, r *client.Request) (*client.Response, error) {
	e.asked++
	body := ""
	if len(e.bodies) > 0 {
		body, e.bodies = e.bodies[0], e.bodies[1:]
	}
	return &client.Response{Status: e.status, Header: map[string]string{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func (e *events) Sleep(ctx context.Context, d time.Duration) error { e.now += d; return ctx.Err() }
func (e *events) Now() time.Duration                               { return e.now }
func (e *events) Float64() float64                                 { return 0.5 }

func TestChanges(t *testing.T) {
	e := &events{status: 200, bodies: []string{"{\"index\":1}\n\n{\"index\":2}\n"}}
	h := client.New(e, client.Options{Endpoints: []string{"http://a"}}).Units().Changes(true)
	defer h.Close()
	for range 3 { // the stream, and two changes
		require.NoError(t, h.Wait(context.Background(), time.Second))
	}
	assert.True(t, h.Streams())
	assert.Zero(t, e.now)
	for range 10 { // a server that hangs up at once
		require.NoError(t, h.Wait(context.Background(), time.Second))
	}
	assert.GreaterOrEqual(t, e.now, 4*client.PollEvery)

	old := &events{status: 404}
	h = client.New(old, client.Options{Endpoints: []string{"http://a"}}).Units().Changes(true)
	for range 4 {
		require.NoError(t, h.Wait(context.Background(), time.Second))
	}
	assert.Equal(t, 1, old.asked, "the original has no stream, and is not asked for it again")
	assert.Equal(t, 4*client.PollEvery, old.now)
	assert.False(t, h.Streams())
	require.NoError(t, h.Wait(context.Background(), time.Millisecond))
	assert.Equal(t, 4*client.PollEvery+time.Millisecond, old.now)
}
