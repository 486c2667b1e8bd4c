package store

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// one applies a single command at the store's own time.
func one(s *Store, c Command) Result {
	return s.Apply(&Batch{Time: s.Time(), Wall: s.Wall(), Commands: []Command{c}}, nil)[0]
}

// snapshot gives the bytes of a view's snapshot.
func snapshot(t testing.TB, v *View) []byte {
	t.Helper()
	p, err := io.ReadAll(v.NewReader())
	require.NoError(t, err)
	return p
}

// reload gives a store loaded from the snapshot of s.
func reload(t testing.TB, s *Store) *Store {
	t.Helper()
	fresh, err := Load(bytes.NewReader(snapshot(t, s.View())))
	require.NoError(t, err)
	return fresh
}
