//go:build planted

package reboot

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/lock"
	"github.com/keelson/keelson/core/planted"
)

// The planted bug must change behaviour, or the mutation run proves nothing: a
// rival's slot is written over.
func TestPlantedBugBites(t *testing.T) {
	planted.Active = planted.LockWithoutIndex
	defer func() { planted.Active = planted.None }()
	m := newMemory()
	m.put(string(lock.New().Encode()))
	m.before = func(verb string) error {
		if verb == "cas" {
			m.put(`{"semaphore":0,"max":1,"holders":["rival"]}`)
		}
		return nil
	}
	require.NoError(t, NewClient(m, m, "").Lock(t.Context(), "me"))
	assert.Equal(t, `{"semaphore":0,"max":1,"holders":["me"]}`, m.value)
}
