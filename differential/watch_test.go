package differential

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWatchesEqualTheOriginals(t *testing.T) {
	t.Parallel()
	ours, theirs := startOurs(t), startOriginal(t)
	for i, c := range []struct{ name, lines string }{
		{"a long poll ends with one event", `
			watch w /a
			PUT /a value=1
			PUT /a value=2
			DELETE /a`},
		{"a stream goes on", `
			watch w /a?stream=true
			PUT /a value=1
			PUT /a value=1
			PUT /a value=two&prevExist=true
			PUT /a value=three&prevValue=two
			PUT /a value=four&prevValue=two
			DELETE /a
			DELETE /a
			PUT /a value=5&prevExist=false
			DELETE /a?prevValue=5
			PUT /a dir=true
			DELETE /a?dir=true`},
		{"events in a directory", `
			watch shallow /d?stream=true
			watch deep /d?stream=true&recursive=true
			watch beside /dd?stream=true&recursive=true
			PUT /d/a value=1
			PUT /d/e/f/g value=2
			PUT /dd value=3
			POST /d/q value=4
			POST /d/q dir=true
			PUT /d/e prevExist=true&dir=true
			DELETE /d/e/f/g
			DELETE /d?dir=true
			DELETE /d/e?recursive=true
			DELETE /d?recursive=true`},
		{"hidden keys", `
			PUT /_h/x value=0
			watch above ?stream=true&recursive=true
			watch hidden /_h?stream=true&recursive=true
			watch within /d/_z?stream=true&recursive=true
			watch over /d?stream=true&recursive=true
			watch itself /_h/x?stream=true
			watch deep /_h/_g?stream=true&recursive=true
			PUT /_h/x value=1
			PUT /_h/y value=2
			PUT /d/_z/a value=3
			PUT /d/b/_c value=4
			PUT /d/z_ value=5
			PUT /_h/_g/_f value=6
			DELETE /d/_z?recursive=true
			DELETE /_h?recursive=true`},
		{"a directory goes with what is in it", `
			PUT /d/e/f value=1
			PUT /d/_h/x value=2
			watch file /d/e/f
			watch dir /d/e
			watch rec /d/e?recursive=true
			watch hidden /d/_h/x
			watch hiddendir /d/_h?recursive=true
			watch missing /d/e/g
			watch below /d/e/f/z?recursive=true
			watch itself /d
			watch above ?recursive=true
			watch stream /d/e/f?stream=true
			watch beside /dzz?recursive=true
			DELETE /d?recursive=true
			PUT /d/e/f value=3`},
		{"a deletion without recursive wakes the directory", `
			PUT /d dir=true
			watch d /d?stream=true&recursive=true
			watch in /d/x
			DELETE /d?dir=true
			PUT /d/x value=1`},
		{"waitIndex in the past", `
			PUT /a value=1
			PUT /a value=2
			PUT /b value=3
			PUT /d/x value=4
			watch present /a?waitIndex={+0}
			watch last /d/x?waitIndex={+0}
			watch a1 /a?waitIndex={-3}
			watch a2 /a?waitIndex={-2}
			watch a3 /a?waitIndex={-1}
			watch shallow /d?waitIndex={-3}
			watch deep /d?recursive=true&waitIndex={-3}
			watch all ?recursive=true&waitIndex={-2}
			watch none /nope?waitIndex={-3}
			compare a1
			compare a2
			compare deep
			PUT /nope value=5`},
		{"waitIndex in the future", `
			watch zero /a?waitIndex=0
			watch one /a?waitIndex={+1}
			watch three /a?waitIndex={+3}
			watch stream /a?stream=true&waitIndex={+3}
			watch deep ?stream=true&recursive=true&waitIndex={+4}
			PUT /a value=1
			PUT /b value=2
			PUT /a value=3
			PUT /a value=4
			PUT /a value=5`},
		{"directory deletions in the history", `
			PUT /d/e/f value=1
			PUT /g value=1
			DELETE /d?recursive=true
			PUT /d/e/f value=2
			watch itself /d?waitIndex={-1}
			watch above ?recursive=true&waitIndex={-1}
			watch file /d/e/f?waitIndex={-1}
			watch dir /d/e?waitIndex={-1}
			watch later /d/e/f?waitIndex={+0}
			watch other /g?waitIndex={-1}`},
		{"a refresh wakes nobody", `
			PUT /a value=1&ttl=100
			PUT /d dir=true&ttl=100
			watch a /a?stream=true
			watch d /d?stream=true&recursive=true
			watch all ?stream=true&recursive=true
			PUT /a refresh=true&ttl=1000
			PUT /a refresh=true&ttl=1000&prevExist=true
			PUT /a refresh=true&ttl=100&prevValue=1
			PUT /d refresh=true&ttl=1000&prevExist=true
			PUT /nope refresh=true&ttl=100
			PUT /new refresh=true&ttl=100&prevExist=false
			watch past /a?waitIndex={-3}
			watch past2 /d?waitIndex={-2}&recursive=true
			GET /a
			GET /d
			PUT /a value=2
			GET /a`},
		{"failures wake nobody", `
			PUT /a value=one
			watch a /a?stream=true
			watch all ?stream=true&recursive=true
			PUT /a value=2&prevValue=two
			PUT /a value=2&prevExist=false
			PUT /a/b value=2
			DELETE /a?prevIndex=1
			POST /a value=2
			DELETE /nope
			PUT /a value=2&prevIndex={+0}`},
		{"parents are made in silence", `
			watch parent /p?stream=true
			watch deep /p/q?stream=true
			watch all ?stream=true&recursive=true
			PUT /p/q/r value=1
			PUT /p/q/r value=2&noValueOnSuccess=true`},
		{"many watches on one key", `
			watch a /a
			watch b /a
			watch c /a?stream=true
			watch d /a?stream=true
			watch e /a?recursive=true
			watch f /a?recursive=true&stream=true
			PUT /a value=1
			DELETE /a
			PUT /a value=2`},
		{"fields and watches", `
			watch q /a?quorum=true
			watch x /a?waitIndex=x
			watch n /a?waitIndex=-1
			watch s /a?stream=maybe
			watch r /a?recursive=
			watch e /a?waitIndex=
			watch big /a?waitIndex=18446744073709551616
			watch sorted /a?sorted=true&prevExist=false&ttl=5
			PUT /a value=1
			watch q2 /a?quorum=true&stream=true
			watch slash /a/?stream=true
			watch up /a%2Fb?stream=true
			PUT /a value=<%26>%E2%80%A8%FF`},
	} {
		t.Run(c.name, func(t *testing.T) {
			playEqual(t, ours, theirs, fmt.Sprint("/w", i), lines(c.lines))
		})
	}
}

func TestExpiriesEqualTheOriginals(t *testing.T) {
	t.Parallel()
	type named struct {
		name   string
		script script
	}
	scripts := make(chan named, 100)
	for _, c := range []struct{ name, lines string }{
		{"expiry wakes", `
			watch a /a?stream=true
			watch all ?stream=true&recursive=true
			watch poll /b
			PUT /a value=1&ttl=1
			PUT /b value=2&ttl=2
			await /b
			GET /a
			GET /b
			watch past /a?waitIndex={-1}
			PUT /a value=3`},
		{"in the order of deadlines", `
			watch all ?stream=true&recursive=true
			PUT /c value=1&ttl=3
			PUT /a value=1&ttl=2
			PUT /b value=1&ttl=1
			PUT /z value=1&ttl=1
			PUT /y value=1&ttl=1
			PUT /d value=1&ttl=0
			await /c`},
		{"a directory takes all with it", `
			PUT /d dir=true&ttl=2
			PUT /d/e/f value=1
			PUT /d/_h value=1
			PUT /d/soon value=1&ttl=1
			PUT /d/late value=1&ttl=9
			watch d /d?stream=true
			watch deep /d?stream=true&recursive=true
			watch f /d/e/f
			watch e /d/e?recursive=true
			watch h /d/_h
			watch soon /d/soon?stream=true
			watch late /d/late
			watch missing /d/nope
			watch all ?stream=true&recursive=true
			await /d
			GET /d/e/f
			PUT /d/nope value=1`},
		{"a ttl is taken back", `
			watch all ?stream=true&recursive=true
			PUT /kept value=1&ttl=1
			PUT /kept value=2&prevExist=true
			PUT /set value=1&ttl=1
			PUT /set value=2
			PUT /swapped value=1&ttl=1
			PUT /swapped value=2&prevValue=1
			PUT /longer value=1&ttl=1
			PUT /longer refresh=true&ttl=100&prevExist=true
			PUT /shorter value=1&ttl=100
			PUT /shorter refresh=true&ttl=1
			PUT /renewed value=1&ttl=1
			PUT /renewed refresh=true&ttl=2&prevValue=1
			PUT /dir dir=true&ttl=1
			PUT /dir prevExist=true&dir=true
			PUT /gone value=1&ttl=1
			DELETE /gone
			POST /q value=1&ttl=1
			await /renewed
			GET /kept
			GET /set
			GET /swapped
			GET /longer
			GET /dir`},
		{"hidden keys expire", `
			PUT /_h value=1&ttl=1
			PUT /d/_x/y value=1&ttl=1
			watch all ?stream=true&recursive=true
			watch h /_h
			watch x /d/_x?recursive=true&stream=true
			PUT /end value=1&ttl=2
			await /end`},
	} {
		scripts <- named{c.name, lines(c.lines)}
	}
	for seed := range uint64(7) {
		scripts <- named{fmt.Sprint("seed=", seed), drawExpiries(rand.New(rand.NewPCG(seed, 5)))}
	}
	close(scripts)

	// Most of the time is spent waiting, so several pairs of servers share the scripts.
	var players sync.WaitGroup
	defer players.Wait()
	for range 4 {
		ours, theirs := startOurs(t), startOriginal(t)
		players.Go(func() {
			for s := range scripts {
				t.Run(s.name, func(t *testing.T) { playEqual(t, ours, theirs, "/"+url.PathEscape(s.name), s.script) })
			}
		})
	}
}

func TestDrawnWatchesEqualTheOriginals(t *testing.T) {
	t.Parallel()
	ours, theirs := startOurs(t), startOriginal(t)
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			playEqual(t, ours, theirs, fmt.Sprint("/s", seed), drawWatches(rand.New(rand.NewPCG(seed, 4)), seed%2 == 0))
		})
	}
}

// differences are the points in which we mean to differ, with scripts that show
// each. What the drawn scripts leave out has its row here.
var differences = []struct{ what, why, lines string }{
	{"an event comes once", "a stream on exactly the key that goes gets the event twice from the original", `
		PUT /a value=1
		watch w /a?stream=true
		DELETE /a`},
	{"hidden keys stay hidden in the history", "who resumes a watch must not see something else than who stayed", `
		PUT /d/_h value=1
		PUT /d/x value=2
		watch w /d?recursive=true&waitIndex={-1}`},
	{"the history matches keys, not texts", "the deletion of /d is none of /dzz, nor of what was never in /d", `
		PUT /d/x value=1
		DELETE /d?recursive=true
		PUT /dzz value=2
		watch w /dzz?waitIndex={-1}`},
	{"a stream goes on after what it got from the history", "the original's falls silent", `
		PUT /a value=1
		PUT /a value=2
		watch w /a?stream=true&waitIndex={-1}
		hush w`},
}

// Each difference is one still, and is the only one in its script.
func TestWhereWeDiffer(t *testing.T) {
	t.Parallel()
	ours, theirs := startOurs(t), startOriginal(t)
	for i, d := range differences {
		t.Run(d.what, func(t *testing.T) {
			a, b := play(t, ours, theirs, fmt.Sprint("/d", i), lines(d.lines))
			require.Equal(t, b.answers, a.answers)
			require.NotEqual(t, b.events, a.events, "%s: it does not any more", d.why)
		})
	}
}

// drawWatches makes a script of watches and writes over a handful of keys. With
// past, watches look into the history; then there are no hidden keys and
// directories are not deleted: see differences.
func drawWatches(r *rand.Rand, past bool) script {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	chance := func(percent int) bool { return r.IntN(100) < percent }
	keys := []string{"/a", "/a/b", "/d", "/d/x", "/d/y", "/d/e", "/d/e/f", "/d/e/g", "/q", "/dx"}
	if !past {
		keys = append(keys, "/_h", "/_h/x", "/d/_z", "/d/_z/w", "/d/e/_f", "")
	}
	var s script
	for n := range 50 {
		if n == 0 || chance(25) {
			s = append(s, drawWatch(fmt.Sprint("w", n), pick(keys...), past, pick, chance))
			continue
		}
		s = append(s, drawWrite(pick(keys...), past, pick, chance))
	}
	return s
}

func drawWatch(name, key string, past bool, pick func(...string) string, chance func(int) bool) string {
	var fields []string
	stream := chance(50)
	if stream {
		fields = append(fields, "stream=true")
	}
	if chance(50) {
		fields = append(fields, "recursive=true")
	}
	switch {
	case past && !stream && chance(60):
		fields = append(fields, "waitIndex={"+pick("-4", "-3", "-2", "-1", "+0")+"}")
	case chance(25):
		fields = append(fields, "waitIndex={"+pick("+1", "+2", "+3", "+6")+"}")
	}
	return "watch " + name + " " + key + "?" + strings.Join(fields, "&")
}

func drawWrite(key string, past bool, pick func(...string) string, chance func(int) bool) string {
	value := "value=" + pick("one", "two", "")
	switch pick("PUT", "PUT", "PUT", "create", "update", "swap", "refresh", "dir", "POST", "DELETE", "DELETE", "compareAndDelete") {
	case "create":
		return "PUT " + key + " prevExist=false&" + value
	case "update":
		return "PUT " + key + " prevExist=true&" + value + pick("", "&ttl=100")
	case "swap":
		return "PUT " + key + " prevValue=" + pick("one", "two") + "&" + value
	case "refresh":
		return "PUT " + key + " refresh=true&ttl=100" + pick("", "&prevExist=true", "&prevValue=one")
	case "dir":
		return "PUT " + key + " dir=true" + pick("", "&ttl=1000", "&prevExist=false")
	case "POST":
		return "POST " + key + " " + value
	case "DELETE":
		if past {
			return "DELETE " + key
		}
		return "DELETE " + key + pick("", "?dir=true", "?recursive=true")
	case "compareAndDelete":
		return "DELETE " + key + "?prevValue=" + pick("one", "two")
	default:
		return "PUT " + key + " " + value + pick("", "", "&ttl=1000")
	}
}

// drawExpiries makes a script of watches, then keys that expire, at different
// times where their order can be seen.
func drawExpiries(r *rand.Rand) script {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	chance := func(percent int) bool { return r.IntN(100) < percent }
	keys := []string{"/a", "/b", "/d", "/d/x", "/d/y", "/d/e", "/d/e/f", "/_h", "/_h/x", "/d/_z"}
	var s script
	for range 6 {
		s = append(s, drawWrite(pick(keys...), false, pick, chance))
	}
	for n := range 8 {
		s = append(s, drawWatch(fmt.Sprint("w", n), pick(append(keys, "")...), false, pick, chance))
	}
	for range 12 {
		key, ttl := pick(keys...), "ttl="+pick("1", "1", "2")
		s = append(s, pick(
			"PUT "+key+" value=1&"+ttl,
			"PUT "+key+" dir=true&"+ttl,
			"PUT "+key+" prevExist=true&"+ttl,
			"PUT "+key+" refresh=true&prevExist=true&"+ttl,
			"PUT "+key+" value=one",
			"POST "+key+" value=1&"+ttl,
			"DELETE "+key,
		))
	}
	return append(s, "PUT /end value=1&ttl=3", "await /end", "GET ?recursive=true&sorted=true")
}

func lines(text string) script {
	var s script
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			s = append(s, line)
		}
	}
	return s
}
