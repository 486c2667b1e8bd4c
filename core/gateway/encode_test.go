package gateway

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/store"
)

// plainNode, plainEvent and plainError are the answers as encoding/json would
// write them: the slow second version.
type plainNode struct {
	Key        string      `json:"key,omitempty"`
	Value      *string     `json:"value,omitempty"`
	Dir        bool        `json:"dir,omitempty"`
	Expiration *time.Time  `json:"expiration,omitempty"`
	TTL        int64       `json:"ttl,omitempty"`
	Nodes      []plainNode `json:"nodes,omitempty"`
	Modified   uint64      `json:"modifiedIndex,omitempty"`
	Created    uint64      `json:"createdIndex,omitempty"`
}

type plainEvent struct {
	Action string     `json:"action"`
	Node   *plainNode `json:"node,omitempty"`
	Prev   *plainNode `json:"prevNode,omitempty"`
}

type plainError struct {
	Code    int    `json:"errorCode"`
	Message string `json:"message"`
	Cause   string `json:"cause,omitempty"`
	Index   uint64 `json:"index"`
}

func plain(n *store.Node) *plainNode {
	if n == nil {
		return nil
	}
	p := &plainNode{Key: n.Key, Dir: n.Dir, Modified: uint64(n.Modified), Created: uint64(n.Created)}
	if n.Key == "/" {
		p.Key = ""
	}
	if !n.Dir && !n.Deleted {
		p.Value = &n.Value
	}
	if n.Expires != 0 {
		at := time.Unix(0, n.Expires).UTC()
		p.Expiration = &at
		p.TTL = int64(n.TTL / time.Second)
		if n.TTL > 0 && n.TTL%time.Second != 0 {
			p.TTL++
		}
	}
	for _, c := range n.Nodes {
		p.Nodes = append(p.Nodes, *plain(c))
	}
	return p
}

func written(t require.TestingT, v any) string {
	var b bytes.Buffer
	require.NoError(t, json.NewEncoder(&b).Encode(v))
	return shortEscapes.Replace(b.String())
}

// shortEscapes spells out what encoding/json has shortened since the original.
// The first pair keeps an escaped backslash from being taken for a beginning.
var shortEscapes = strings.NewReplacer(`\\`, `\\`, `\b`, `\u0008`, `\f`, `\u000c`)

func texts() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.SampledFrom([]string{"", "plain", "<a href=\"x\">&amp;</a>", "\u2028\u2029\ufffd", "\x00\x1f\b\f\n\r\t\x7f\\", "\xff\xc0\xe2\x80"}),
	)
}

func nodes(depth int) *rapid.Generator[*store.Node] {
	return rapid.Custom(func(t *rapid.T) *store.Node {
		n := &store.Node{
			Key:      "/" + texts().Draw(t, "key"),
			Value:    texts().Draw(t, "value"),
			Dir:      rapid.Bool().Draw(t, "dir"),
			Deleted:  rapid.Bool().Draw(t, "deleted"),
			Modified: store.Index(rapid.Uint64().Draw(t, "modified")),
			Created:  store.Index(rapid.Uint64Range(0, 3).Draw(t, "created")),
		}
		if rapid.Bool().Draw(t, "expires") {
			n.Expires = rapid.OneOf(rapid.Int64(), rapid.Map(rapid.Int64Range(-1e9, 4e9), func(s int64) int64 { return s * 1e9 })).Draw(t, "at")
			n.TTL = time.Duration(rapid.Int64Range(-5e9, 5e9).Draw(t, "ttl"))
		}
		if depth > 0 && n.Dir {
			n.Nodes = rapid.SliceOfN(nodes(depth-1), 0, 3).Draw(t, "nodes")
		}
		return n
	})
}

func TestEncodingEqualsEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := &store.Event{
			Action: rapid.SampledFrom([]store.Action{store.ActionSet, store.ActionExpire, store.ActionCompareAndDelete}).Draw(t, "action"),
			Node:   nodes(2).Draw(t, "node"),
		}
		if rapid.Bool().Draw(t, "prev") {
			e.Prev = nodes(0).Draw(t, "prev node")
		}
		want := written(t, plainEvent{string(e.Action), plain(e.Node), plain(e.Prev)})
		require.Equal(t, want, string(AppendEvent(nil, e)))
		require.Equal(t, "x"+written(t, plainEvent{"get", plain(e.Node), nil}), string(AppendGet([]byte("x"), e.Node)))
		bad := &store.Error{Code: store.Code(rapid.IntRange(99, 500).Draw(t, "code")), Cause: texts().Draw(t, "cause"), Index: store.Index(rapid.Uint64().Draw(t, "index"))}
		require.Equal(t, written(t, plainError{int(bad.Code), bad.Code.Message(), bad.Cause, uint64(bad.Index)}), string(AppendError(nil, bad)))
	})
}

func TestExpiry(t *testing.T) {
	for _, c := range []struct {
		wall int64
		left time.Duration
		want string
	}{
		{wallStart, 4900 * time.Millisecond, `{"key":"/a","value":"","expiration":"2025-11-20T11:14:54.922523342Z","ttl":5}`},
		{1763637294_000000000, 5 * time.Second, `{"key":"/a","value":"","expiration":"2025-11-20T11:14:54Z","ttl":5}`},
		{1763637294_500000000, 1, `{"key":"/a","value":"","expiration":"2025-11-20T11:14:54.5Z","ttl":1}`},
		{1763637294_500000000, 0, `{"key":"/a","value":"","expiration":"2025-11-20T11:14:54.5Z"}`},
		{1763637294_500000000, -900 * time.Millisecond, `{"key":"/a","value":"","expiration":"2025-11-20T11:14:54.5Z"}`},
		{1763637294_500000000, -1100 * time.Millisecond, `{"key":"/a","value":"","expiration":"2025-11-20T11:14:54.5Z","ttl":-1}`},
	} {
		assert.Equal(t, c.want, string(AppendNode(nil, &store.Node{Key: "/a", Expires: c.wall, TTL: c.left})))
	}
	assert.Equal(t, `{}`, string(AppendNode(nil, &store.Node{Key: "/", Deleted: true})))
}
