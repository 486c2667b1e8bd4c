package store

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A guarded command happens only while what it was judged by is unchanged, also after
// the store was read from a snapshot.
func TestGuards(t *testing.T) {
	s := New()
	judged := Command{Op: OpSet, Key: "/a", Value: "1", Guarded: true}
	require.NotNil(t, one(s, judged).Event)
	made := one(s, Command{Op: OpSet, Key: SecretKey, Value: "x", Guarded: true}).Event
	require.NotNil(t, made)

	late := one(s, judged)
	assert.Equal(t, Result{Stale: true, Index: made.Index}, late)
	for _, s := range []*Store{s, reload(t, s)} {
		assert.True(t, one(s, judged).Stale)
		judged := judged
		judged.Guard = made.Index
		assert.NotNil(t, one(s, judged).Event)
		assert.NotNil(t, one(s, Command{Op: OpSet, Key: "/a", Value: "2"}).Event, "what is not guarded is not judged")
	}
}

func TestEventsConcealTheSecret(t *testing.T) {
	s := New()
	for _, value := range []string{"hash1", "hash2"} {
		e := one(s, Command{Op: OpSet, Key: SecretKey, Value: value}).Event
		assert.Empty(t, e.Node.Value)
		if e.Prev != nil {
			assert.Empty(t, e.Prev.Value)
		}
	}
	n, err := s.View().Get(SecretKey, false)
	require.Nil(t, err)
	assert.Equal(t, "hash2", n.Value)
	all, err := s.View().Get("/", true)
	require.Nil(t, err)
	assert.Empty(t, all.Nodes, "listings do not show it")
}
