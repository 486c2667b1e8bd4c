package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

const wall0 = int64(1_700_000_000_000_000_000)

// line says on one line what a client sees of a result.
func line(r Result) string {
	if r.Err != nil {
		return strings.TrimSpace(fmt.Sprintf("%d %s", r.Err.Code, r.Err.Cause)) + fmt.Sprintf(" @%d", r.Err.Index)
	}
	s := string(r.Event.Action) + " " + nodeLine(r.Event.Node)
	if r.Event.Prev != nil {
		s += " was " + nodeLine(r.Event.Prev)
	}
	return s
}

func nodeLine(n *Node) string {
	s := n.Key
	switch {
	case n.Dir:
		s += "/"
	case !n.Deleted:
		s += fmt.Sprintf("=%q", n.Value)
	}
	s += fmt.Sprintf(" %d/%d", n.Created, n.Modified)
	if n.Expires != 0 {
		s += fmt.Sprintf(" ttl %v until +%v", n.TTL, time.Duration(n.Expires-wall0))
	}
	return s
}

// TestOperations is one story per operation. The store of each begins with
// /f="one" (1/1), /d (2/2) with the file x (3/3), an empty /e (4/4) with an hour
// to live, and /t="t" (5/5) with ten seconds.
func TestOperations(t *testing.T) {
	ttl := 7 * time.Second
	stories := map[string][]struct {
		c    Command
		want string
	}{
		"set": {
			{Command{Key: "/n", Value: "v"}, `set /n="v" 6/6`},
			{Command{Key: "/n", Value: "w"}, `set /n="w" 7/7 was /n="v" 6/6`},
			{Command{Key: "/p/q/r", Value: "v"}, `set /p/q/r="v" 8/8`},
			{Command{Key: "/d", Value: "v"}, `102 /d @8`},
			{Command{Key: "/d", Dir: true}, `102 /d @8`},
			{Command{Key: "/f/x/y", Value: "v"}, `104 /f @8`},
			{Command{Key: "/f", Value: "v", Dir: true}, `set /f/ 9/9 was /f="one" 1/1`},
			{Command{Key: "/t", Value: "v"}, `set /t="v" 10/10 was /t="t" 5/5 ttl 10s until +10s`},
			{Command{Key: "/t", Value: "v", HasTTL: true, TTL: ttl}, `set /t="v" 11/11 ttl 7s until +7s was /t="v" 10/10`},
			{Command{Key: "/far", HasTTL: true, TTL: 1<<63 - 1}, `set /far="" 12/12`},
			{Command{Key: "/", Value: "v"}, `107 / @12`},
			{Command{Key: "/", Dir: true}, `107 / @12`},
		},
		"refresh": {
			{Command{Key: "/t", Refresh: true, HasTTL: true, TTL: ttl}, `set /t="t" 6/6 ttl 7s until +7s was /t="t" 5/5 ttl 10s until +10s`},
			{Command{Key: "/no/pe", Refresh: true, HasTTL: true, TTL: ttl}, `100 /no @6`},
			{Command{Key: "/d", Refresh: true, HasTTL: true, TTL: ttl}, `102 /d @6`},
			{Command{Op: OpUpdate, Key: "/t", Refresh: true, HasTTL: true, TTL: ttl}, `update /t="t" 6/7 ttl 7s until +7s was /t="t" 6/6 ttl 7s until +7s`},
			{Command{Op: OpUpdate, Key: "/d", Refresh: true, HasTTL: true, TTL: ttl}, `update /d/ 2/8 ttl 7s until +7s was /d/ 2/2`},
			{Command{Op: OpCompareAndSwap, Key: "/f", PrevIndex: 1, Refresh: true, HasTTL: true, TTL: ttl}, `compareAndSwap /f="one" 1/9 ttl 7s until +7s was /f="one" 1/1`},
			{Command{Op: OpCreate, Key: "/new", Refresh: true, HasTTL: true, TTL: ttl}, `create /new="" 10/10 ttl 7s until +7s`},
			{Command{Op: OpCreate, Key: "/new", Refresh: true, HasTTL: true, TTL: ttl}, `105 /new @10`},
		},
		"create": {
			{Command{Op: OpCreate, Key: "/n", Value: "v"}, `create /n="v" 6/6`},
			{Command{Op: OpCreate, Key: "/n", Value: "v"}, `105 /n @6`},
			{Command{Op: OpCreate, Key: "/d", Dir: true}, `105 /d @6`},
			{Command{Op: OpCreate, Key: "/p/q", Dir: true, Value: "lost"}, `create /p/q/ 7/7`},
			{Command{Op: OpCreate, Key: "/f/x"}, `104 /f @7`},
			{Command{Op: OpCreate, Key: "/"}, `107 / @7`},
			{Command{Op: OpCreate, Key: "/n2", PrevIndex: 99, PrevValue: "no"}, `create /n2="" 8/8`},
		},
		"update": {
			{Command{Op: OpUpdate, Key: "/f", Value: "two"}, `update /f="two" 1/6 was /f="one" 1/1`},
			{Command{Op: OpUpdate, Key: "/f", Dir: true}, `update /f="" 1/7 was /f="two" 1/6`},
			{Command{Op: OpUpdate, Key: "/t", Value: "t"}, `update /t="t" 5/8 was /t="t" 5/5 ttl 10s until +10s`},
			{Command{Op: OpUpdate, Key: "/e"}, `update /e/ 4/9 was /e/ 4/4 ttl 1h0m0s until +1h0m0s`},
			{Command{Op: OpUpdate, Key: "/e", HasTTL: true, TTL: ttl}, `update /e/ 4/10 ttl 7s until +7s was /e/ 4/4`},
			{Command{Op: OpUpdate, Key: "/d", Value: "v"}, `102 /d @10`},
			{Command{Op: OpUpdate, Key: "/no/pe"}, `100 /no @10`},
			{Command{Op: OpUpdate, Key: "/f/x"}, `104 /f @10`},
			{Command{Op: OpUpdate, Key: "/"}, `107 / @10`},
		},
		"compareAndSwap": {
			{Command{Op: OpCompareAndSwap, Key: "/f", Value: "two", PrevValue: "one"}, `compareAndSwap /f="two" 1/6 was /f="one" 1/1`},
			{Command{Op: OpCompareAndSwap, Key: "/f", Value: "x", PrevValue: "one"}, `101 [one != two] @6`},
			{Command{Op: OpCompareAndSwap, Key: "/f", Value: "x", PrevIndex: 7}, `101 [7 != 6] @6`},
			{Command{Op: OpCompareAndSwap, Key: "/f", Value: "x", PrevIndex: 7, PrevValue: "one"}, `101 [one != two] [7 != 6] @6`},
			{Command{Op: OpCompareAndSwap, Key: "/f", Value: "x", PrevIndex: 7, PrevValue: "two"}, `101 [7 != 6] @6`},
			{Command{Op: OpCompareAndSwap, Key: "/f", Dir: true, PrevIndex: 6, PrevValue: "two"}, `compareAndSwap /f="" 1/7 was /f="two" 1/6`},
			{Command{Op: OpCompareAndSwap, Key: "/t", Value: "t", PrevIndex: 5}, `compareAndSwap /t="t" 5/8 was /t="t" 5/5 ttl 10s until +10s`},
			{Command{Op: OpCompareAndSwap, Key: "/d", PrevIndex: 2}, `102 /d @8`},
			{Command{Op: OpCompareAndSwap, Key: "/no/pe", PrevIndex: 2}, `100 /no @8`},
			{Command{Op: OpCompareAndSwap, Key: "/", PrevIndex: 2}, `107 / @8`},
		},
		"createInOrder": {
			{Command{Op: OpCreateInOrder, Key: "/q", Value: "J1"}, `create /q/00000000000000000006="J1" 6/6`},
			{Command{Op: OpCreateInOrder, Key: "/q", Dir: true}, `create /q/00000000000000000007/ 7/7`},
			{Command{Op: OpCreateInOrder, Key: "/", Value: "r"}, `create /00000000000000000008="r" 8/8`},
			{Command{Op: OpCreateInOrder, Key: "/f"}, `104 /f @8`},
			{Command{Op: OpSet, Key: "/q/00000000000000000010"}, `set /q/00000000000000000010="" 9/9`},
			{Command{Op: OpCreateInOrder, Key: "/q"}, `105 /q/00000000000000000010 @9`},
		},
		"delete": {
			{Command{Op: OpDelete, Key: "/f", Dir: true, Recursive: true}, `delete /f 1/6 was /f="one" 1/1`},
			{Command{Op: OpDelete, Key: "/d"}, `102 /d @6`},
			{Command{Op: OpDelete, Key: "/d", Dir: true}, `108 /d @6`},
			{Command{Op: OpDelete, Key: "/d", Recursive: true}, `delete /d/ 2/7 was /d/ 2/2`},
			{Command{Op: OpDelete, Key: "/e", Dir: true}, `delete /e/ 4/8 was /e/ 4/4 ttl 1h0m0s until +1h0m0s`},
			{Command{Op: OpSet, Key: "/h/_x"}, `set /h/_x="" 9/9`},
			{Command{Op: OpDelete, Key: "/h", Dir: true}, `108 /h @9`},
			{Command{Op: OpDelete, Key: "/no/pe"}, `100 /no @9`},
			{Command{Op: OpDelete, Key: "/", Recursive: true}, `107 / @9`},
		},
		"compareAndDelete": {
			{Command{Op: OpCompareAndDelete, Key: "/f", PrevValue: "two"}, `101 [two != one] @5`},
			{Command{Op: OpCompareAndDelete, Key: "/f", PrevIndex: 2}, `101 [2 != 1] @5`},
			{Command{Op: OpCompareAndDelete, Key: "/f", PrevValue: "one", PrevIndex: 1}, `compareAndDelete /f 1/6 was /f="one" 1/1`},
			{Command{Op: OpCompareAndDelete, Key: "/d", PrevIndex: 2, Dir: true, Recursive: true}, `102 /d @6`},
			{Command{Op: OpCompareAndDelete, Key: "/no/pe", PrevIndex: 2}, `100 /no @6`},
			{Command{Op: OpCompareAndDelete, Key: "/", PrevIndex: 2}, `102 @6`},
		},
	}
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			s := New()
			s.Apply(&Batch{Time: 100, Wall: wall0, Commands: []Command{
				{Op: OpSet, Key: "/f", Value: "one"},
				{Op: OpSet, Key: "/d", Dir: true},
				{Op: OpSet, Key: "/d/x", Value: "x"},
				{Op: OpSet, Key: "/e", Dir: true, HasTTL: true, TTL: time.Hour},
				{Op: OpSet, Key: "/t", Value: "t", HasTTL: true, TTL: 10 * time.Second},
			}}, nil)
			for _, step := range story {
				if step.c.Op == 0 {
					step.c.Op = OpSet
				}
				r := one(s, step.c)
				assert.Equal(t, step.want, line(r))
				assert.Equal(t, s.Index(), r.Index)
				if r.Event != nil {
					assert.Equal(t, s.Index(), r.Event.Index)
					assert.Equal(t, step.c.Refresh && step.c.Op != OpCreate, r.Event.Refresh)
				}
			}
		})
	}
}

func TestUpdateOfADirectoryKeepsItsModifiedIndex(t *testing.T) {
	s := New()
	one(s, Command{Op: OpSet, Key: "/d", Dir: true})
	e := one(s, Command{Op: OpUpdate, Key: "/d", HasTTL: true, TTL: time.Second}).Event
	require.Equal(t, Index(2), e.Node.Modified)
	n, err := s.View().Get("/d", false)
	require.Nil(t, err)
	require.Equal(t, Index(1), n.Modified)
	require.Equal(t, time.Second, n.TTL)
}

func TestGet(t *testing.T) {
	s := New()
	for _, key := range []string{"/b/y/deep", "/b/x", "/a", "/_h/f", "/b/_h", "/b/y/_d/f", "/a-b"} {
		one(s, Command{Op: OpSet, Key: key})
	}
	keys := func(key string, recursive bool) string {
		n, err := s.View().Get(key, recursive)
		if err != nil {
			return fmt.Sprintf("%d %s @%d", err.Code, err.Cause, err.Index)
		}
		var list func(n *Node) string
		list = func(n *Node) string {
			out := n.Key
			for _, kid := range n.Nodes {
				out += " " + list(kid)
			}
			return out
		}
		return list(n)
	}
	for _, c := range []struct {
		key       string
		recursive bool
		want      string
	}{
		{"/", false, "/ /a /a-b /b"},
		{"/", true, "/ /a /a-b /b /b/x /b/y /b/y/deep"},
		{"/b", false, "/b /b/x /b/y"},
		{"/_h", false, "/_h /_h/f"},
		{"/b/y/_d", true, "/b/y/_d /b/y/_d/f"},
		{"/a", true, "/a"},
		{"/nope/x/y", false, "100 /nope @7"},
		{"/b/nope", false, "100 /b/nope @7"},
		{"/a/x/y", false, "104 /a @7"},
	} {
		require.Equal(t, c.want, keys(c.key, c.recursive), c.key)
	}
	root, _ := s.View().Get("/", false)
	require.True(t, root.Dir)
	require.Zero(t, root.Created)
	hiddenOnly := New()
	one(hiddenOnly, Command{Op: OpSet, Key: "/d/_x"})
	n, _ := hiddenOnly.View().Get("/d", true)
	require.Nil(t, n.Nodes)
}

// TestExpiry tells the story of deadlines in log time; wall time only decides
// what people read.
func TestExpiry(t *testing.T) {
	s := New()
	at := func(now Time, wall int64, commands ...Command) (lines []string) {
		s.Apply(&Batch{Time: now, Wall: wall, Commands: commands}, func(e *Event) {
			lines = append(lines, line(Result{Event: e}))
		})
		return lines
	}
	ttl := func(key string, d time.Duration, dir bool) Command {
		return Command{Op: OpSet, Key: key, Dir: dir, HasTTL: true, TTL: d}
	}
	at(10, wall0, ttl("/c", 5, false), ttl("/b", 5, false), ttl("/d", 20, true), ttl("/d/short", 1, false),
		ttl("/d/long", 99, false), ttl("/now", 0, false))
	due, ok := s.NextDeadline()
	require.True(t, ok)
	require.Equal(t, Time(10), due)

	require.Equal(t, []string{
		`expire /now 6/7 was /now="" 6/6 ttl 0s until +0s`,
	}, at(10, wall0+1_000_000), "a jump of the wall clock expires nothing")
	require.Empty(t, at(9, wall0), "time does not go back")
	require.Equal(t, Time(10), s.Time())
	require.Equal(t, []string{
		`expire /d/short 4/8 was /d/short="" 4/4 ttl 0s until +1ns`,
	}, at(11, wall0))
	require.Empty(t, at(14, wall0))
	require.Equal(t, []string{
		`expire /b 2/9 was /b="" 2/2 ttl -85ns until +5ns`,
		`expire /c 1/10 was /c="" 1/1 ttl -85ns until +5ns`,
		`expire /d/ 3/11 was /d/ 3/3 ttl -70ns until +20ns`,
		`set /b="" 12/12`,
	}, at(100, wall0, Command{Op: OpSet, Key: "/b"}), "a directory goes with one event, and before the commands")
	_, ok = s.NextDeadline()
	require.False(t, ok, "the key inside went with its directory")
	require.Equal(t, 1, s.View().Len())
	require.Equal(t, uint64(5), s.Stats().ExpireCount)
}

func TestRefreshMovesTheDeadline(t *testing.T) {
	s := New()
	s.Apply(&Batch{Time: 1, Commands: []Command{{Op: OpSet, Key: "/k", Value: "v", HasTTL: true, TTL: 10}}}, nil)
	// In the very last tick: the deadline is 11.
	s.Apply(&Batch{Time: 10, Commands: []Command{{Op: OpSet, Key: "/k", Refresh: true, HasTTL: true, TTL: 10}}}, nil)
	due, _ := s.NextDeadline()
	require.Equal(t, Time(20), due)
	s.Apply(&Batch{Time: 19}, nil)
	require.Equal(t, 1, s.View().Len())
	s.Apply(&Batch{Time: 20}, nil)
	require.Zero(t, s.View().Len())
}

func TestCopiesChangeNothing(t *testing.T) {
	s := New()
	send := func(node, incarnation, number, settled uint64) Result {
		return one(s, Command{
			Op: OpCreateInOrder, Key: "/q", Settled: settled,
			ID: ID{Node: env.NodeID(node), Incarnation: incarnation, Number: number},
		})
	}
	require.False(t, send(1, 5, 3, 0).Copy)
	require.False(t, send(1, 5, 2, 0).Copy, "the order in the log is free")
	require.True(t, send(1, 5, 3, 0).Copy)
	r := send(1, 5, 2, 0)
	require.Equal(t, Result{Copy: true, Index: 2}, r)
	require.False(t, send(1, 5, 7, 6).Copy)
	require.True(t, send(1, 5, 5, 0).Copy, "settled without having been applied")
	require.False(t, send(1, 5, 6, 99).Copy, "nobody settles what is under way")
	require.True(t, send(1, 4, 100, 0).Copy, "an earlier life")
	require.False(t, send(1, 6, 3, 0).Copy, "a new life begins again")
	require.True(t, s.Applied(ID{Node: 1, Incarnation: 5, Number: 1000}))
	require.True(t, s.Applied(ID{Node: 1, Incarnation: 6, Number: 3}))
	require.False(t, s.Applied(ID{Node: 1, Incarnation: 6, Number: 4}))
	require.False(t, s.Applied(ID{Node: 2, Incarnation: 1, Number: 1}))
	require.False(t, one(s, Command{Op: OpSet, Key: "/k"}).Copy)
	require.False(t, one(s, Command{Op: OpSet, Key: "/k"}).Copy, "without a name it is never a copy")
	failed := Command{Op: OpCreate, Key: "/k", ID: ID{Node: 9, Incarnation: 1, Number: 1}}
	require.NotNil(t, one(s, failed).Err)
	one(s, Command{Op: OpDelete, Key: "/k"})
	require.True(t, one(s, failed).Copy, "a refusal is an outcome too")
}

func TestSessionsStaySmall(t *testing.T) {
	s := New()
	for i := uint64(1); i <= 5000; i++ {
		one(s, Command{
			Op: OpSet, Key: "/k", ID: ID{Node: 1, Incarnation: 1, Number: i},
			Settled: i - min(i, 64),
		})
		s.View()
	}
	require.LessOrEqual(t, len(s.sessions[0].applied), 65)
}

func TestStats(t *testing.T) {
	s := New()
	for _, c := range []Command{
		{Op: OpSet, Key: "/a"},
		{Op: OpSet, Key: "/"},
		{Op: OpCreate, Key: "/b"},
		{Op: OpCreate, Key: "/b"},
		{Op: OpCreateInOrder, Key: "/q"},
		{Op: OpUpdate, Key: "/b"},
		{Op: OpUpdate, Key: "/x"},
		{Op: OpCompareAndSwap, Key: "/b", Value: "1", PrevIndex: 4},
		{Op: OpCompareAndSwap, Key: "/b", PrevIndex: 99},
		{Op: OpCompareAndDelete, Key: "/b", PrevValue: "x"},
		{Op: OpCompareAndDelete, Key: "/b", PrevValue: "1"},
		{Op: OpDelete, Key: "/a"},
		{Op: OpDelete, Key: "/a"},
		{Op: OpSet, Key: "/t", HasTTL: true},
	} {
		one(s, c)
	}
	require.Equal(t, Stats{
		SetsSuccess: 1 + 1, SetsFail: 1, DeleteSuccess: 1, DeleteFail: 1, UpdateSuccess: 1, UpdateFail: 1,
		CreateSuccess: 2, CreateFail: 1, CompareAndSwapSuccess: 1, CompareAndSwapFail: 1,
		CompareAndDeleteSuccess: 1, CompareAndDeleteFail: 1,
	}, s.Stats())
}

// TestHistoryKeepsTheLastThousand looks at both edges.
func TestHistoryKeepsTheLastThousand(t *testing.T) {
	s := New()
	for i := range 1101 {
		one(s, Command{Op: OpSet, Key: fmt.Sprintf("/k%d", i+1)})
	}
	for name, v := range map[string]*View{"as it is": s.View(), "restored": reload(t, s).View()} {
		t.Run(name, func(t *testing.T) {
			e, err := v.Since("/k102", false, 102)
			require.Nil(t, err)
			require.Equal(t, Index(102), e.Index, "the oldest that is kept")
			e, err = v.Since("/", true, 1101)
			require.Nil(t, err)
			require.Equal(t, Index(1101), e.Index, "the last there is")
			e, err = v.Since("/", true, 1102)
			require.Nil(t, err)
			require.Nil(t, e)
			_, err = v.Since("/k5", false, 5)
			require.Equal(t, &Error{
				Code: CodeIndexCleared, Index: 1101,
				Cause: "the requested history has been cleared [102/5]",
			}, err)
			_, err = v.Since("/k101", false, 101)
			require.Equal(t, CodeIndexCleared, err.Code)
		})
	}
}

func TestRefreshTakesAPlaceInTheHistoryAndWakesNobody(t *testing.T) {
	s := New()
	one(s, Command{Op: OpSet, Key: "/k"})
	ws := NewWatchers()
	woken := 0
	ws.Add("/k", true, func(*Event) { woken++ })
	for range 1000 {
		ws.Notify(one(s, Command{Op: OpSet, Key: "/k", Refresh: true, HasTTL: true, TTL: time.Hour}).Event)
	}
	require.Zero(t, woken)
	_, err := s.View().Since("/k", false, 1)
	require.Equal(t, CodeIndexCleared, err.Code)
	e, err := s.View().Since("/k", false, 2)
	require.Nil(t, err)
	require.Nil(t, e)
}
