//go:build planted

package mirror

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/store"
)

// Each planted bug must change behaviour, or the mutation run proves nothing.
func TestPlantedBugBites(t *testing.T) {
	defer func() { planted.Active = planted.None }()
	planted.Active = planted.MirrorSkipsGap
	w := newWorld(1, 1)
	m := open(t, w)
	w.members[0].down = true
	w.members[0].restart()
	w.commit(set("/a/x", "1"))
	for range store.HistoryMax {
		w.commit(set("/z", "1"))
	}
	w.members[0].down = false
	w.run(time.Minute, nil)
	assert.True(t, m.Synced())
	_, err := m.View().Get("/a/x", false)
	assert.NotNil(t, err, "the write is lost on the mirror")
}
