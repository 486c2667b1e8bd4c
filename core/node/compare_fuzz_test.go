package node_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/node"
)

// Whatever another member says about its state, this one goes on.
func FuzzHashes(f *testing.F) {
	f.Add([]byte{0xc0, 1, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte{0xc0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, p []byte) {
		h := node.NewHears()
		for range 3 {
			_ = h(p)
		}
		require.NotNil(t, h)
	})
}
