//go:build planted

package sim

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/planted"
)

func switchOn(t *testing.T, b planted.Bug) {
	planted.Active = b
	t.Cleanup(func() { planted.Active = planted.None })
}

func TestPlantedRenameNotSynced(t *testing.T) {
	switchOn(t, planted.RenameNotSynced)
	back := 0
	for seed := range uint64(40) {
		w := newTestWorld(t, seed, Options{})
		m, loaded := reader(w)
		replace := func(s string) {
			require.NoError(t, write(t, m, func(d env.Disk, done func(error)) { d.Replace("f", text(s), done) }))
		}
		replace("old")
		w.RunFor(10 * time.Second)
		replace("new")
		cycle(m)
		if loaded["f"] == "old" {
			back++
		}
	}
	assert.Positive(t, back)
	assert.Less(t, back, 40)
}

func TestPlantedPeerQueueUnbounded(t *testing.T) {
	switchOn(t, planted.PeerQueueUnbounded)
	w := newTestWorld(t, 1, Options{Link: LinkConfig{Hold: true, Buffer: 1000}})
	ms, _ := listen(w, 2)
	w.Net().Isolate(2)
	for range 100 {
		require.True(t, theToy(ms[0]).env.Net.Send(2, make([]byte, 100)))
	}
	l := w.Net().Link(1, 2)
	assert.Greater(t, l.Stats().BytesMax, l.BufferMax())
}
