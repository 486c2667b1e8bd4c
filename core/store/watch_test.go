package store

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWhoIsWoken holds the matching rules, live and in the history alike.
func TestWhoIsWoken(t *testing.T) {
	setup := []string{"/d/x", "/d/_h/y", "/d/sub/z", "/foobar", "/dzz"}
	remove := func(key string) Command { return Command{Op: OpDelete, Key: key, Recursive: true} }
	set := func(key string) Command { return Command{Op: OpSet, Key: key} }
	for _, c := range []struct {
		name  string
		do    Command
		watch string // with a star at the end for recursive
		want  bool
	}{
		{"the key itself", set("/a/b"), "/a/b", true},
		{"the key itself, recursive", set("/a/b"), "/a/b*", true},
		{"parent, not recursive", set("/a/b"), "/a", false},
		{"parent, recursive", set("/a/b"), "/a*", true},
		{"root, not recursive", set("/a"), "/", false},
		{"root, recursive", set("/a/b/c"), "/*", true},
		{"a text that only begins alike", set("/foobar"), "/foo*", false},
		{"below the event", set("/a"), "/a/b*", false},
		{"implicitly made parent", set("/new/x"), "/new", false},
		{"hidden below the watch", set("/a/_h"), "/a*", false},
		{"hidden directory below the watch", set("/a/_h/x/y"), "/*", false},
		{"inside a hidden directory", set("/a/_h/x"), "/a/_h*", true},
		{"exactly a hidden key", set("/a/_h"), "/a/_h", true},
		{"hidden above the watch only", set("/_a/b/c"), "/_a/b*", true},
		{"removed directory itself", remove("/d"), "/d", true},
		{"file in a removed directory", remove("/d"), "/d/x", true},
		{"hidden file in a removed directory", remove("/d"), "/d/_h/y", true},
		{"recursive on a directory inside", remove("/d"), "/d/sub*", true},
		{"deep inside", remove("/d"), "/d/sub/z", true},
		{"never existed inside", remove("/d"), "/d/nope", false},
		{"never existed inside, recursive", remove("/d"), "/d/nope*", false},
		{"below a file inside", remove("/d"), "/d/x/deeper*", false},
		{"beside the removed directory", remove("/d"), "/dzz", false},
		{"above the removed directory", remove("/d"), "/*", true},
		{"removed hidden directory, from above", remove("/d/_h"), "/d*", false},
		{"removed hidden directory, from inside", remove("/d/_h"), "/d/_h/y", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New()
			for _, key := range setup {
				one(s, set(key))
			}
			ws, woken := NewWatchers(), 0
			key, recursive := strings.CutSuffix(c.watch, "*")
			ws.Add(key, recursive, func(*Event) { woken++ })
			e := one(s, c.do).Event
			require.NotNil(t, e)
			ws.Notify(e)
			require.Equal(t, c.want, woken == 1, "live: woken %d times", woken)
			past, err := s.View().Since(key, recursive, e.Index)
			require.Nil(t, err)
			require.Equal(t, c.want, past != nil, "in the history")
			past, err = reload(t, s).View().Since(key, recursive, e.Index)
			require.Nil(t, err)
			require.Equal(t, c.want, past != nil, "in a restored history")
		})
	}
}

func TestExpiredDirectoryWakesWatchesInside(t *testing.T) {
	s, ws, got := New(), NewWatchers(), []*Event{}
	one(s, Command{Op: OpSet, Key: "/d", Dir: true, HasTTL: true})
	one(s, Command{Op: OpSet, Key: "/d/x"})
	one(s, Command{Op: OpSet, Key: "/d", Dir: true, HasTTL: true})
	s = New()
	s.Apply(&Batch{Time: 1, Commands: []Command{
		{Op: OpSet, Key: "/d", Dir: true, HasTTL: true, TTL: 5}, {Op: OpSet, Key: "/d/x"},
	}}, nil)
	ws.Add("/d/x", false, func(e *Event) { got = append(got, e) })
	s.Apply(&Batch{Time: 6}, ws.Notify)
	require.Len(t, got, 1)
	require.Equal(t, ActionExpire, got[0].Action)
	require.Equal(t, "/d", got[0].Node.Key)
}

// TestWatchesMayChangeWhileTheyAreWoken adds and cancels from inside a call.
func TestWatchesMayChangeWhileTheyAreWoken(t *testing.T) {
	s, ws, log := New(), NewWatchers(), ""
	var second *Watch
	var first *Watch
	first = ws.Add("/k", false, func(e *Event) {
		log += "1"
		second.Cancel()
		first.Cancel()
		ws.Add("/k", false, func(*Event) { log += "4" })
		ws.Notify(&Event{Action: ActionSet, Index: e.Index, Node: &Node{Key: "/other"}})
	})
	second = ws.Add("/k", false, func(*Event) { log += "2" })
	ws.Add("/", true, func(e *Event) { log += "3" })
	ws.Notify(one(s, Command{Op: OpSet, Key: "/k"}).Event)
	require.Equal(t, "133", log)
	ws.Notify(one(s, Command{Op: OpSet, Key: "/k"}).Event)
	require.Equal(t, "13334", log)
	require.Equal(t, 2, ws.Len())
	first.Cancel()
	require.Equal(t, 2, ws.Len())
}
