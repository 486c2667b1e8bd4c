package gateway

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/store"
)

// lines is a mirror's end of a feed.
type lines struct {
	reply *Reply
	text  string
	ended bool
	slow  bool
}

func (l *lines) Reply(r *Reply) { l.reply = r; l.text += string(r.Body) }
func (l *lines) Chunk(p []byte) bool {
	l.text += string(p)
	return !l.slow
}
func (l *lines) End() { l.ended = true }

func (l *lines) take() []string {
	all := strings.Split(strings.TrimSuffix(l.text, "\n"), "\n")
	l.text = ""
	return all
}

func mirror(m *Mux, query string) (*lines, func()) {
	l := &lines{}
	cancel := m.Serve(&Request{Method: "GET", Path: "/v2/mirror", Query: query}, l)
	return l, cancel
}

func (f *fake) turn() {
	due := f.alarms
	f.alarms = nil
	for _, fn := range due {
		fn()
	}
}

func TestMirrorPage(t *testing.T) {
	f := newFake()
	m := New(f, Options{})
	f.apply(store.Command{Op: store.OpSet, Key: "/a/x", Value: "1"},
		store.Command{Op: store.OpSet, Key: "/a/_h", Value: "2"},
		store.Command{Op: store.OpSet, Key: "/b", Value: "3"},
		store.Command{Op: store.OpSet, Key: "/c", Value: "4"})
	l, _ := mirror(m, "prefix=/a&prefix=/b&prefix=/a/x&prefix=/none")
	assert.Equal(t, 200, l.reply.Status)
	assert.Equal(t, []string{
		`{"node":{"key":"/a","dir":true,"modifiedIndex":1,"createdIndex":1}}`,
		`{"node":{"key":"/a/_h","value":"2","modifiedIndex":2,"createdIndex":2}}`,
		`{"node":{"key":"/a/x","value":"1","modifiedIndex":1,"createdIndex":1}}`,
		`{"node":{"key":"/b","value":"3","modifiedIndex":3,"createdIndex":3}}`,
		`{"index":4,"fresh":true}`,
	}, l.take())

	l, cancel := mirror(m, "prefix=/a&wait=true&from=5")
	assert.Equal(t, []string{`{"index":4,"fresh":true}`}, l.take())
	f.apply(store.Command{Op: store.OpSet, Key: "/c", Value: "5"},
		store.Command{Op: store.OpSet, Key: "/a/x", Refresh: true, HasTTL: true},
		store.Command{Op: store.OpSet, Key: "/a/y", Value: "6"})
	f.turn()
	got := l.take()
	require.Len(t, got, 3)
	assert.Regexp(t, `^\{"action":"set","refresh":true,"node":\{"key":"/a/x","value":"1","expiration":".*","modifiedIndex":6,"createdIndex":6\}\}$`, got[0])
	assert.Equal(t, []string{`{"action":"set","node":{"key":"/a/y","value":"6","modifiedIndex":7,"createdIndex":7}}`, `{"index":7,"fresh":true}`}, got[1:])

	f.down = &store.Error{Code: store.CodeRaftInternal}
	f.apply(store.Command{Op: store.OpDelete, Key: "/a", Recursive: true})
	f.turn()
	assert.Contains(t, l.text, `"action":"delete","node":{"key":"/a","dir":true`)
	f.turn()
	assert.NotContains(t, l.text, "fresh", "this member cannot tell whether it is up to date")
	m.Stop()
	assert.True(t, l.ended)
	cancel()
	assert.Zero(t, f.watchers.Len())
}

func TestMirrorIsRefused(t *testing.T) {
	f := newFake()
	m := New(f, Options{})
	f.apply(store.Command{Op: store.OpSet, Key: "/a", Value: "1"})
	for query, want := range map[string]string{
		"":                               "209",
		"prefix=a":                       "209",
		"prefix=/a/":                     "209",
		"prefix=/a&wait=x":               "209",
		"prefix=/a&wait=true":            "203",
		"prefix=/a&wait=true&from=0":     "203",
		"prefix=/a&wait=true&from=3":     "401",
		"prefix=%zz":                     "210",
		strings.Repeat("prefix=/a&", 65): "209",
	} {
		l, _ := mirror(m, query)
		assert.Contains(t, l.text, `{"errorCode":`+want, query)
	}
	for range store.HistoryMax {
		f.apply(store.Command{Op: store.OpSet, Key: "/b", Value: "1"})
	}
	l, _ := mirror(m, "prefix=/a&wait=true&from=1")
	assert.Contains(t, l.text, `{"errorCode":401`)
	f.down = &store.Error{Code: store.CodeRaftInternal, Cause: "no leader"}
	l, _ = mirror(m, "prefix=/a")
	assert.Equal(t, 500, l.reply.Status)
}

func TestSlowMirrorLosesItsFeed(t *testing.T) {
	f := newFake()
	m := New(f, Options{})
	l, _ := mirror(m, "prefix=/&wait=true&from=1")
	l.slow = true
	f.apply(store.Command{Op: store.OpSet, Key: "/a", Value: "1"})
	f.turn()
	assert.True(t, l.ended)
	assert.Zero(t, f.watchers.Len())
}

func TestRestoredMirrorGetsWhatItMissed(t *testing.T) {
	f := newFake()
	m := New(f, Options{})
	l, _ := mirror(m, "prefix=/&wait=true&from=1")
	l.take()
	f.store.Apply(&store.Batch{Commands: []store.Command{{Op: store.OpSet, Key: "/a", Value: "1"}}}, nil)
	m.Restored()
	assert.Len(t, l.take(), 2)
	for range store.HistoryMax + 1 {
		f.store.Apply(&store.Batch{Commands: []store.Command{{Op: store.OpSet, Key: "/a", Value: "1"}}}, nil)
	}
	m.Restored()
	assert.True(t, l.ended)
}
