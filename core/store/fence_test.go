package store

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What was decided under a lease that another has taken since changes nothing.
func TestFences(t *testing.T) {
	s := New()
	lease := Command{Op: OpSet, Key: "/lease", Value: "a", HasTTL: true, TTL: 10 * time.Second}
	taken := one(s, lease).Event.Node.Created
	late := Command{Op: OpSet, Key: "/x", Value: "1", Fence: Fence{"/lease", taken}}
	require.Nil(t, one(s, late).Err)

	renewed := one(s, Command{Op: OpUpdate, Key: "/lease", Refresh: true, HasTTL: true, TTL: 10 * time.Second})
	require.Nil(t, renewed.Err)
	require.Nil(t, one(s, late).Err, "renewed, the lease is the same")

	lease.Value = "b"
	next := one(s, lease).Event.Node.Created
	before := s.Index()
	no := one(s, late)
	require.NotNil(t, no.Err)
	assert.Equal(t, CodeCompareFailed, no.Err.Code)
	assert.Equal(t, "the lease /lease is another's by now", no.Err.Cause)
	assert.Equal(t, before, s.Index())

	late.Fence.Created = next
	require.Nil(t, one(s, late).Err)
	one(s, Command{Op: OpDelete, Key: "/lease"})
	assert.NotNil(t, one(s, late).Err, "and with nobody's lease nothing is done")
}
