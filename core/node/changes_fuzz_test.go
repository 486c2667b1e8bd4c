package node

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/store"
)

// Whatever another member sends, it is a change that makes sense or an error; and what
// makes sense is the same after another journey.
func FuzzChange(f *testing.F) {
	for _, c := range []gateway.MemberChange{
		{Kind: gateway.AddMember, PeerURLs: []string{"http://10.0.0.1:2380"}},
		{Kind: gateway.RemoveMember, ID: 7},
		{Kind: gateway.ReplaceMember, ID: 7},
		{Kind: gateway.UpdateMember, ID: 7, PeerURLs: []string{"http://a:1", "http://b:1"}},
	} {
		f.Add((&change{MemberChange: c, id: store.ID{Incarnation: 3, Number: 300}, settled: 299}).encode())
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		kind, c, text, err := decodeChange(5, p)
		if err != nil || kind != changeAsked || c.read(text) != nil {
			return
		}
		kind, again, text, err := decodeChange(5, c.encode())
		require.NoError(t, err)
		require.EqualValues(t, changeAsked, kind)
		require.NoError(t, again.read(text))
		require.Equal(t, c, again)
	})
}
