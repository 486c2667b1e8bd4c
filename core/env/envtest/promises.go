package envtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

// content is an immutable io.WriterTo.
type content []byte

func (c content) WriteTo(w io.Writer) (int64, error) { return bytes.NewReader(c).WriteTo(w) }

// broken writes something and then fails.
type broken struct{ err error }

func (c broken) WriteTo(w io.Writer) (int64, error) {
	n, _ := io.WriteString(w, "half of it")
	return int64(n), c.err
}

// counted counts how often it is read.
type counted struct {
	content
	reads chan struct{} // content may be read outside the loop
}

func (c counted) WriteTo(w io.Writer) (int64, error) {
	c.reads <- struct{}{}
	return c.content.WriteTo(w)
}

func testLater(b *bench) {
	e := b.begin()
	inside, calls := false, 0
	done := func(error) { calls++; assert.False(b, inside, "a completion ran inside a call") }
	b.Do(0, func() {
		inside = true
		e.Clock.After(0, func() { done(nil) })
		e.Clock.After(-time.Second, func() { done(nil) })
		e.Disk.Append("a", []byte("x"), done)
		e.Disk.Replace("b", content("x"), done)
		e.Disk.Remove("c", done)
		e.Disk.Replace("d", broken{errors.New("broken")}, done)
		inside = false
	})
	b.until("six completions", func() bool { return calls == 6 })
}

func testOnce(b *bench) {
	e := b.begin()
	calls := make([]int, 40)
	b.Do(0, func() {
		for i := range calls {
			done := func(error) { calls[i]++ }
			switch i % 4 {
			case 0:
				e.Clock.After(time.Duration(i)*time.Millisecond, func() { done(nil) })
			case 1:
				e.Disk.Append("a", []byte("x"), done)
			case 2:
				e.Disk.Replace("b", content("x"), done)
			case 3:
				e.Disk.Remove("c", done)
			}
		}
	})
	b.until("all completions", func() bool { return !slices.Contains(calls, 0) })
	b.Wait(100 * time.Millisecond)
	b.Do(0, func() { assert.Equal(b, 40, sum(calls)) })
}

func sum(ns []int) (s int) {
	for _, n := range ns {
		s += n
	}
	return s
}

func testNever(b *bench) {
	// What a dead life counts is only looked at on the loop of the next one.
	for range 5 {
		late := make(chan string, 100)
		dead := false
		e := b.begin()
		b.Do(0, func() {
			note := func(what string) func(error) {
				return func(error) {
					if dead {
						late <- what
					}
				}
			}
			for range 10 {
				e.Disk.Append("a"+fmt.Sprint(e.Rand.Uint64()), []byte("x"), note("append"))
				e.Disk.Replace("b", content("x"), note("replace"))
				e.Disk.Remove("c", note("remove"))
				e.Clock.After(time.Millisecond, func() { note("timer")(nil) })
			}
		})
		b.Kill(0)
		dead = true
		b.begin()
		b.Wait(20 * time.Millisecond)
		b.Kill(0)
		select {
		case what := <-late:
			assert.Fail(b, "a completion of a dead life ran: "+what)
		default:
		}
	}
}

func testOrder(b *bench) {
	e := b.begin()
	var got [3][]int
	b.Do(0, func() {
		for i := range 150 {
			name := i % 3
			e.Disk.Append(fmt.Sprint("f", name), bytes.Repeat([]byte{byte(i)}, 1+i*7%900), func(err error) {
				assert.NoError(b, err)
				got[name] = append(got[name], i)
			})
			if i%5 == 0 {
				e.Disk.Append(fmt.Sprint("f", name), []byte{byte(i)}, nil)
			}
		}
	})
	b.until("all appends", func() bool { return len(got[0])+len(got[1])+len(got[2]) == 150 })
	for _, g := range got {
		assert.True(b, slices.IsSorted(g), "%v", g)
	}
}

func testStill(b *bench) {
	var e *env.Env
	var turn env.Instant
	in := false
	look := func(where string) {
		if in {
			assert.Equal(b, turn, e.Clock.Now(), "%s, in the same turn", where)
		}
		turn, in = e.Clock.Now(), true
	}
	b.beginWith(Node{
		Start: func(x *env.Env) { e = x },
		Flush: func() { look("flush"); in = false },
	})
	for range 5 {
		b.Do(0, func() {
			look("input")
			for range 3 {
				e.Clock.After(0, func() { look("timer") })
			}
			e.Disk.Append("a", []byte("x"), func(error) { look("completion") })
			time.Sleep(2 * time.Millisecond) // on a real machine time passes meanwhile
			look("after a while")
		})
		b.Wait(5 * time.Millisecond)
	}
}

func testForward(b *bench) {
	e := b.begin()
	last := env.Instant(-1 << 62)
	var first env.Instant
	for i := range 50 {
		b.Do(0, func() {
			now := e.Clock.Now()
			assert.GreaterOrEqual(b, now, last)
			if last = now; i == 0 {
				first = now
			}
		})
		b.Wait(time.Millisecond)
	}
	assert.GreaterOrEqual(b, last.Sub(first), 40*time.Millisecond)
}

func testWall(b *bench) {
	e := b.begin()
	b.Do(0, func() {
		assert.Equal(b, time.UTC, e.Clock.Wall().Location())
		assert.False(b, e.Clock.Wall().IsZero())
	})
}

func testTimers(b *bench) {
	e := b.begin()
	var got []int
	b.Do(0, func() {
		begin := e.Clock.Now()
		for _, ms := range []int{30, 10, 50, 20, 40, 11, 12, 13} {
			e.Clock.After(time.Duration(ms)*time.Millisecond, func() {
				assert.GreaterOrEqual(b, e.Clock.Now().Sub(begin), time.Duration(ms)*time.Millisecond)
				got = append(got, ms)
			})
		}
	})
	b.until("all timers", func() bool { return len(got) == 8 })
	assert.Equal(b, []int{10, 11, 12, 13, 20, 30, 40, 50}, got)
}

func testStop(b *bench) {
	e := b.begin()
	ran := map[string]int{}
	b.Do(0, func() {
		e.Clock.After(10*time.Millisecond, func() { ran["stopped"]++ }).Stop()
		e.Clock.After(0, func() { ran["stopped"]++ }).Stop()
		twice := e.Clock.After(10*time.Millisecond, func() { ran["stopped"]++ })
		twice.Stop()
		twice.Stop()

		// Of timers that are due together, each may stop the others.
		var pair [2]env.Timer
		for i := range pair {
			pair[i] = e.Clock.After(20*time.Millisecond, func() {
				ran["pair"]++
				pair[1-i].Stop()
			})
		}

		var self env.Timer
		self = e.Clock.After(time.Millisecond, func() { ran["self"]++; self.Stop() })
		e.Clock.After(40*time.Millisecond, func() { ran["last"]++; self.Stop() })
	})
	b.until("the last timer", func() bool { return ran["last"] == 1 })
	assert.Equal(b, map[string]int{"pair": 1, "self": 1, "last": 1}, ran)
}

func testSoon(b *bench) {
	turn := 0
	e := b.beginWith(Node{Flush: func() { turn++ }})
	var turns []int
	b.Do(0, func() {
		var again func()
		again = func() {
			turns = append(turns, turn)
			if len(turns) < 5 {
				e.Clock.After(0, again)
			}
		}
		again()
	})
	b.until("five turns", func() bool { return len(turns) == 5 })
	for i := 1; i < 5; i++ {
		assert.Greater(b, turns[i], turns[i-1])
	}
}

// assertHolds checks a file that was appended to: zeros may follow.
func assertHolds(b *bench, want string, got []byte) {
	b.Helper()
	if assert.GreaterOrEqual(b, len(got), len(want)) {
		assert.Equal(b, want, string(got[:len(want)]))
		assert.Empty(b, strings.Trim(string(got[len(want):]), "\x00"), "only zeros may follow")
	}
}

func testAppend(b *bench) {
	e := b.begin()
	want := ""
	for i := range 20 {
		s := strings.Repeat(string(rune('a'+i)), 1+i*100)
		want += s
		if i%3 == 2 {
			b.Do(0, func() { e.Disk.Append("log", []byte(s), nil) })
			continue
		}
		require.NoError(b, b.wait(func(done func(error)) { e.Disk.Append("log", []byte(s), done) }))
	}
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Append("log", nil, done) }))
	assertHolds(b, want, b.reborn()["log"])
}

func testReplace(b *bench) {
	e := b.begin()
	for _, s := range []string{"one", "", "three, and longer", "4"} {
		require.NoError(b, b.wait(func(done func(error)) { e.Disk.Replace("snapshot", content(s), done) }))
		assert.Equal(b, map[string][]byte{"snapshot": []byte(s)}, b.reborn())
		e = nil
		b.Kill(0)
		e = b.begin()
	}
}

func testReplaceFails(b *bench) {
	e := b.begin()
	bad := errors.New("the content is bad")
	require.ErrorIs(b, b.wait(func(done func(error)) { e.Disk.Replace("new", broken{bad}, done) }), bad)
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Replace("f", content("good"), done) }))
	require.ErrorIs(b, b.wait(func(done func(error)) { e.Disk.Replace("f", broken{bad}, done) }), bad)
	assert.Equal(b, map[string][]byte{"f": []byte("good")}, b.reborn())
}

func testReadOnce(b *bench) {
	e := b.begin()
	for range 10 {
		c := counted{content("x"), make(chan struct{}, 10)}
		require.NoError(b, b.wait(func(done func(error)) { e.Disk.Replace("f", c, done) }))
		assert.Len(b, c.reads, 1)
	}
}

func testRemove(b *bench) {
	e := b.begin()
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Remove("nothing", done) }))
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Append("a", []byte("x"), done) }))
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Replace("b", content("x"), done) }))
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Remove("a", done) }))
	b.Do(0, func() { e.Disk.Remove("b", nil) })
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Remove("b", done) }))
	assert.Empty(b, b.reborn())
}

func testMixed(b *bench) {
	e := b.begin()
	var got []int
	note := func(i int) func(error) {
		return func(err error) { assert.NoError(b, err); got = append(got, i) }
	}
	b.Do(0, func() {
		e.Disk.Append("f", []byte("first"), note(0))
		e.Disk.Replace("f", content("second"), note(1))
		e.Disk.Remove("f", note(2))
		e.Disk.Append("f", []byte("third"), note(3))
		e.Disk.Append("f", []byte(" and last"), note(4))
		e.Disk.Append("g", []byte("first"), note(10))
		e.Disk.Replace("g", content("second"), note(11))
	})
	b.until("all of it", func() bool { return len(got) == 7 })
	f, g := []int{}, []int{}
	for _, i := range got {
		if i < 10 {
			f = append(f, i)
		} else {
			g = append(g, i)
		}
	}
	assert.Equal(b, []int{0, 1, 2, 3, 4}, f)
	assert.Equal(b, []int{10, 11}, g)
	files := b.reborn()
	assertHolds(b, "third and last", files["f"])
	assert.Equal(b, "second", string(files["g"]))
}

func testNames(b *bench) {
	e := b.begin()
	names := []string{"wal-10", "b", "a", "wal-2", "snapshot", "B"}
	for _, n := range names {
		require.NoError(b, b.wait(func(done func(error)) { e.Disk.Append(n, []byte("x"), done) }))
	}
	b.Kill(0)
	slices.Sort(names)
	b.beginWith(Node{Start: func(e *env.Env) {
		got, err := e.Disk.Names()
		assert.NoError(b, err)
		assert.Equal(b, names, got)
	}})
}

func testMissing(b *bench) {
	b.beginWith(Node{Start: func(e *env.Env) {
		names, err := e.Disk.Names()
		assert.NoError(b, err)
		assert.Empty(b, names)
		_, err = e.Disk.Load("nothing")
		assert.ErrorIs(b, err, fs.ErrNotExist)
	}})
}

func testLarge(b *bench) {
	e := b.begin()
	p := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Append("log", p, done) }))
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Replace("snapshot", content(p), done) }))
	files := b.reborn()
	assert.True(b, bytes.Equal(p, files["snapshot"]))
	assert.True(b, bytes.HasPrefix(files["log"], p))
}

// fill writes one file of each kind, and one that is removed again.
func fill(b *bench) {
	b.Helper()
	e := b.begin()
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Append("gone", []byte("x"), done) }))
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Remove("gone", done) }))
	b.Do(0, func() { e.Disk.Append("log", []byte("not waited for, "), nil) })
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Append("log", []byte("done"), done) }))
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Replace("snapshot", content("old"), done) }))
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Replace("snapshot", content("done"), done) }))
}

func checkFill(b *bench, files map[string][]byte) {
	b.Helper()
	assert.Len(b, files, 2)
	assertHolds(b, "not waited for, done", files["log"])
	assert.Equal(b, "done", string(files["snapshot"]))
}

func testKill(b *bench) {
	fill(b)
	checkFill(b, b.reborn())
}

func testPower(b *bench) {
	p, ok := b.Rig.(PowerLoser)
	if !ok {
		b.Log("this rig cannot take power away")
		return
	}
	fill(b)
	p.PowerOff(0)
	checkFill(b, b.loaded())
	p.PowerOff(0)
	checkFill(b, b.loaded())
}

// A killed process leaves things in memory that the next one reads. They may go
// with the power, but only to what was there before.
func testKillThenPower(b *bench) {
	p, ok := b.Rig.(PowerLoser)
	if !ok {
		b.Log("this rig cannot take power away")
		return
	}
	for i := range 20 {
		log, snapshot, gone := fmt.Sprint("log", i), fmt.Sprint("snapshot", i), fmt.Sprint("gone", i)
		e := b.begin()
		require.NoError(b, b.wait(func(done func(error)) { e.Disk.Append(log, []byte("done,"), done) }))
		require.NoError(b, b.wait(func(done func(error)) { e.Disk.Append(gone, []byte("here"), done) }))
		require.NoError(b, b.wait(func(done func(error)) { e.Disk.Replace(snapshot, content("old"), done) }))
		b.Do(0, func() {
			e.Disk.Append(log, []byte("asked"), nil)
			e.Disk.Replace(snapshot, content("new"), func(error) {})
			e.Disk.Remove(gone, nil)
		})
		b.Wait(time.Duration(i) * 50 * time.Microsecond)
		for life := range 3 {
			if life == 0 {
				b.Kill(0)
			} else {
				p.PowerOff(0)
			}
			files := b.loaded()
			assert.Contains(b, []string{"old", "new"}, string(files[snapshot]))
			if there, ok := files[gone]; ok {
				assertHolds(b, "here", there)
			}
			rest, ok := strings.CutPrefix(string(files[log]), "done,")
			assert.True(b, ok, "what was done is lost")
			rest = strings.TrimRight(rest, "\x00")
			assert.True(b, strings.HasPrefix("asked", rest), "%q was never asked for", rest)
		}
		b.Kill(0)
	}
}

func testWhole(b *bench) {
	end := b.Kill
	if p, ok := b.Rig.(PowerLoser); ok {
		end = p.PowerOff
	}
	last := strings.Repeat("0", 5000)
	e := b.begin()
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Replace("f", content(last), done) }))
	for i := range 20 {
		next := strings.Repeat(string(rune('a'+i)), 5000)
		b.Do(0, func() { e.Disk.Replace("f", content(next), func(error) {}) })
		b.Wait(time.Duration(i) * 50 * time.Microsecond)
		end(0)
		got := string(b.loaded()["f"])
		require.True(b, got == last || got == next, "neither the old nor the new content")
		last = got
		end(0)
		e = b.begin()
	}
}

func testFull(b *bench) {
	f, ok := b.Rig.(Filler)
	if !ok {
		b.Log("this rig cannot fill its disk")
		return
	}
	e := b.begin()
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Append("log", []byte("one,"), done) }))
	big := bytes.Repeat([]byte("x"), 16<<20)
	f.Fill(0, 1<<20)
	require.ErrorIs(b, b.wait(func(done func(error)) { e.Disk.Append("log", big, done) }), env.ErrFull)
	require.ErrorIs(b, b.wait(func(done func(error)) { e.Disk.Replace("snapshot", content(big), done) }), env.ErrFull)
	f.Fill(0, -1)
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Append("log", []byte("two"), done) }))
	files := b.reborn()
	assert.Len(b, files, 1)
	assertHolds(b, "one,two", files["log"])
}

func testSilence(b *bench) {
	f, ok := b.Rig.(Filler)
	if !ok {
		b.Log("this rig cannot fill its disk")
		return
	}
	e := b.begin()
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Append("log", []byte("one,"), done) }))
	f.Fill(0, 1<<20)
	b.Do(0, func() { e.Disk.Append("log", bytes.Repeat([]byte("x"), 16<<20), nil) })
	b.Wait(50 * time.Millisecond)
	b.Do(0, func() { e.Disk.Append("log", []byte("fits, but follows what is missing"), nil) })
	b.Wait(50 * time.Millisecond)
	tell := func(done func(error)) { e.Disk.Append("log", []byte("as does this"), done) }
	require.ErrorIs(b, b.wait(tell), env.ErrFull)
	f.Fill(0, -1)
	require.NoError(b, b.wait(func(done func(error)) { e.Disk.Append("log", []byte("two"), done) }))
	assertHolds(b, "one,two", b.reborn()["log"])
}

func testSend(b *bench) {
	got := make(chan string, 1000)
	var other *env.Env
	b.Start(1, Node{
		Start: func(x *env.Env) { other = x },
		Receive: func(from env.NodeID, frame []byte) {
			got <- fmt.Sprint(from, " ", string(frame))
		},
	})
	e := b.begin()
	b.join(0, e)
	b.join(1, other)
	want := fmt.Sprint(b.ID(0), " hello")
	for range 300 { // a frame may be lost
		b.Do(0, func() { e.Net.Send(b.ID(1), []byte("hello")) })
		b.Wait(50 * time.Millisecond)
		select {
		case s := <-got:
			assert.Equal(b, want, s)
			return
		default:
		}
	}
	assert.Fail(b, "no frame arrived")
}

func testSendNobody(b *bench) {
	e := b.begin()
	b.join(0, e)
	b.Do(0, func() { assert.False(b, e.Net.Send(b.ID(0)+b.ID(1)+77, []byte("hello"))) })
}

func testSendDown(b *bench) {
	e := b.begin()
	b.join(0, e)
	b.Do(0, func() {
		for range 100 {
			e.Net.Send(b.ID(1), []byte("hello"))
		}
	})
	b.Wait(10 * time.Millisecond)
}

func testRand(b *bench) {
	var first []uint64
	for range 3 {
		e := b.begin()
		b.Do(0, func() { first = append(first, e.Rand.Uint64()) })
		b.Kill(0)
	}
	slices.Sort(first)
	assert.Len(b, slices.Compact(first), 3)
}

func testQuiet(b *bench) {
	e := b.begin()
	b.Do(0, func() {
		for _, l := range []env.Level{env.Debug, env.Info, env.Warn, env.Error} {
			e.Log.Log(l, "a line", "key", 1, "other", errors.New("x"))
		}
		e.Log.Log(env.Info, "odd", "key")
		e.Rare.Mark("envtest: reached")
		_ = e.Rare.Chance("envtest: taken")
	})
}
