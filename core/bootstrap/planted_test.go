//go:build planted

package bootstrap

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/planted"
)

// The planted bug must change behaviour, or the mutation run proves nothing: a member
// without its log is let in again.
func TestPlantedBugBites(t *testing.T) {
	planted.Active = planted.WipedMemberAccepted
	defer func() { planted.Active = planted.None }()
	w := newWorld()
	w.hosts["http://10.0.0.2:2380"] = granter{}.serve
	first := start(w, member1(), nil)
	w.run(time.Second)
	require.NotNil(t, first.outcome)
	wiped := start(w, member1(), nil)
	w.run(time.Second)
	require.NoError(t, wiped.err)
	assert.NotNil(t, wiped.outcome.Identity)
}
