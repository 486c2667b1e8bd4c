//go:build planted

package gateway

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/keelson/keelson/core/planted"
)

func plant(t *testing.T, b planted.Bug) {
	planted.Active = b
	t.Cleanup(func() { planted.Active = planted.None })
}

func TestPlantedWatchRepeats(t *testing.T) {
	plant(t, planted.WatchRepeats)
	s := newServer(Options{})
	r := s.start(t, "GET /v2/keys/foo?wait=true&stream=true&waitIndex=3")
	for range 3 {
		s.do("PUT /v2/keys/foo value=x")
	}
	assert.Len(t, r.chunks, 3, "two of them are from before the start")
}

func TestPlantedWatchDropsSilently(t *testing.T) {
	plant(t, planted.WatchDropsSilently)
	s := newServer(Options{})
	r := s.start(t, "GET /v2/keys/foo?wait=true&stream=true")
	s.do("PUT /v2/keys/foo value=1")
	r.room = 0
	s.do("PUT /v2/keys/foo value=2")
	r.room = -1
	s.do("PUT /v2/keys/foo value=3")
	assert.Len(t, r.chunks, 2)
	assert.Zero(t, r.ended, "nothing tells the reader")
}

func TestPlantedAuthWatchLeaks(t *testing.T) {
	plant(t, planted.AuthWatchLeaks)
	g := enabled(t)
	w := g.begin("ann:a", "GET /v2/keys/team/?wait=true&recursive=true&stream=true")
	g.as("root:r", `PUT /v2/auth/users/ann {"user":"ann","revoke":["team"]}`)
	g.as("root:r", "PUT /v2/keys/team/new value=1")
	assert.Len(t, w.chunks, 1)
}
