package sim

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

type text string

func (s text) WriteTo(w io.Writer) (int64, error) { return strings.NewReader(string(s)).WriteTo(w) }

// reader is a toy that loads every file at its start.
func reader(w *World) (m *Machine, loaded map[string]string) {
	loaded = make(map[string]string)
	m = addToys(w, 1, func(x *toy) error {
		clear(loaded)
		names, err := x.env.Disk.Names()
		if err != nil {
			return err
		}
		for _, n := range names {
			p, err := x.env.Disk.Load(n)
			if err != nil {
				return err
			}
			loaded[n] = string(p)
		}
		return nil
	})[0]
	return m, loaded
}

// write does what fn asks of the disk and waits for all of it.
func write(t *testing.T, m *Machine, fn func(d env.Disk, done func(error))) error {
	t.Helper()
	var got error
	ran := false
	inside(t, m, func(e *env.Env) { fn(e.Disk, func(err error) { got, ran = err, true }) })
	require.True(t, m.w.RunTill(time.Hour, func() bool { return ran }))
	return got
}

func appendSynced(t *testing.T, m *Machine, name string, p []byte) {
	t.Helper()
	require.NoError(t, write(t, m, func(d env.Disk, done func(error)) { d.Append(name, p, done) }))
}

func cycle(m *Machine) {
	m.PowerOff()
	m.PowerOn()
}

func trimZeros(s string) string { return strings.TrimRight(s, "\x00") }

func TestWhatIsDoneSurvivesPowerLoss(t *testing.T) {
	for seed := range uint64(100) {
		w := newTestWorld(t, seed, Options{})
		m, loaded := reader(w)
		appendSynced(t, m, "log", bytes.Repeat([]byte("a"), 700))
		appendSynced(t, m, "log", bytes.Repeat([]byte("b"), 900))
		require.NoError(t, write(t, m, func(d env.Disk, done func(error)) { d.Replace("snapshot", text("one"), done) }))
		require.NoError(t, write(t, m, func(d env.Disk, done func(error)) { d.Replace("snapshot", text("two"), done) }))
		appendSynced(t, m, "old", []byte("x"))
		require.NoError(t, write(t, m, func(d env.Disk, done func(error)) { d.Remove("old", done) }))
		p, ok := m.Disk().Durable("log")
		assert.True(t, ok)
		assert.Len(t, p, 1600)
		cycle(m)
		assert.Equal(t, strings.Repeat("a", 700)+strings.Repeat("b", 900), trimZeros(loaded["log"]))
		assert.Equal(t, "two", loaded["snapshot"])
		assert.NotContains(t, loaded, "old")
	}
}

func TestUnsyncedWritesSurviveInAnySubsetOfSectors(t *testing.T) {
	seen := map[string]bool{}
	sizes := map[int]bool{}
	for seed := range uint64(400) {
		w := newTestWorld(t, seed, Options{})
		m, loaded := reader(w)
		appendSynced(t, m, "log", bytes.Repeat([]byte("s"), 512))
		inside(t, m, func(e *env.Env) {
			for _, c := range "abc" {
				e.Disk.Append("log", bytes.Repeat([]byte(string(c)), 1024), nil)
			}
		})
		w.RunFor(time.Second)
		require.Len(t, m.Disk().Content("log"), 512+3*1024)
		m.PowerOff()
		size := len(m.Disk().Content("log"))
		sizes[size] = true
		m.PowerOn()
		got := loaded["log"]
		require.Equal(t, strings.Repeat("s", 512), got[:512], "what was synced stays")
		shape := ""
		for s := 512; s < 512+3*1024; s += 512 {
			if s >= size {
				shape += "."
				continue
			}
			sector := got[s:min(s+512, size)]
			c := sector[0]
			assert.True(t, c == 0 || c == "abc"[(s-512)/1024], "a sector holds what was written there, or zeros")
			assert.Equal(t, strings.Repeat(string(c), len(sector)), sector, "a sector is written wholly or not at all")
			if c == 0 {
				c = '0'
			}
			shape += string(c)
		}
		seen[shape] = true
	}
	assert.True(t, seen["aabbcc"], "all")
	assert.True(t, seen["......"], "nothing")
	assert.Greater(t, len(seen), 40, "any subset")
	assert.Greater(t, len(sizes), 20, "any size")
	reordered := false
	for s := range seen {
		reordered = reordered || strings.HasPrefix(s, "00") && strings.Contains(s, "cc")
	}
	assert.True(t, reordered, "a later write without an earlier one")
}

func TestAWriteUnderWayMayOrMayNotHappen(t *testing.T) {
	outcomes := map[string]int{}
	for seed := range uint64(300) {
		w := newTestWorld(t, seed, Options{})
		m, loaded := reader(w)
		require.NoError(t, write(t, m, func(d env.Disk, done func(error)) { d.Replace("f", text("old"), done) }))
		inside(t, m, func(e *env.Env) {
			e.Disk.Replace("f", text("new"), func(error) { t.Error("done after the crash") })
			e.Disk.Append("g", []byte("g"), func(error) { t.Error("done after the crash") })
			e.Clock.After(300*time.Microsecond, m.PowerOff)
		})
		w.RunTill(time.Second, func() bool { return !m.Powered() })
		m.PowerOn()
		outcomes[loaded["f"]]++
		if g, ok := loaded["g"]; ok {
			outcomes["g="+trimZeros(g)]++
		} else {
			outcomes["no g"]++
		}
	}
	assert.Len(t, outcomes, 5, "%v", outcomes)
	assert.Positive(t, outcomes["old"])
	assert.Positive(t, outcomes["new"])
	assert.Positive(t, outcomes["g="], "a file may be there without its content")
	assert.Positive(t, outcomes["g=g"])
	assert.Positive(t, outcomes["no g"])
}

func TestAKillLosesNothingThatWasWritten(t *testing.T) {
	for seed := range uint64(50) {
		w := newTestWorld(t, seed, Options{})
		m, loaded := reader(w)
		inside(t, m, func(e *env.Env) { e.Disk.Append("log", []byte("abc"), nil) })
		w.RunFor(time.Second)
		m.Kill()
		m.Start()
		assert.Equal(t, "abc", trimZeros(loaded["log"]))
	}
}

func TestWhatAKilledProcessLeftUnsyncedMayStillBeLost(t *testing.T) {
	lost := 0
	for seed := range uint64(50) {
		w := newTestWorld(t, seed, Options{})
		m, loaded := reader(w)
		inside(t, m, func(e *env.Env) { e.Disk.Append("log", []byte("abc"), nil) })
		w.RunFor(time.Second)
		m.Kill()
		m.Start()
		require.Equal(t, "abc", trimZeros(loaded["log"]))
		cycle(m)
		if trimZeros(loaded["log"]) != "abc" {
			lost++
		}
	}
	assert.Positive(t, lost)
	assert.Less(t, lost, 50)
}

func TestAFailedSyncMarksPagesClean(t *testing.T) {
	lost := 0
	for seed := range uint64(50) {
		w := newTestWorld(t, seed, Options{})
		m, loaded := reader(w)
		appendSynced(t, m, "log", bytes.Repeat([]byte("a"), 512))
		m.Disk().FailSync()
		err := write(t, m, func(d env.Disk, done func(error)) { d.Append("log", bytes.Repeat([]byte("b"), 2048), done) })
		require.ErrorIs(t, err, ErrIO)
		var pe *fs.PathError
		require.True(t, errors.As(err, &pe))
		assert.Equal(t, "log", pe.Path)
		// The next sync succeeds: whoever goes on now has lost data and does not know.
		appendSynced(t, m, "log", bytes.Repeat([]byte("c"), 512))
		assert.Len(t, m.Disk().Content("log"), 3072)
		assert.NotContains(t, string(m.Disk().Content("log")), "\x00", "the cache has it all")
		cycle(m)
		got := loaded["log"]
		assert.Equal(t, strings.Repeat("a", 512), got[:512])
		assert.Equal(t, strings.Repeat("c", 512), got[2560:3072])
		if strings.Contains(got[512:2560], "\x00") {
			lost++
		}
	}
	assert.Equal(t, 50, lost, "at least one sector is gone")
}

func TestAFailedSyncLeavesAReplacedFileAsItWas(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m, loaded := reader(w)
	require.NoError(t, write(t, m, func(d env.Disk, done func(error)) { d.Replace("f", text("old"), done) }))
	m.Disk().FailSync()
	require.ErrorIs(t, write(t, m, func(d env.Disk, done func(error)) { d.Replace("f", text("new"), done) }), ErrIO)
	cycle(m)
	assert.Equal(t, "old", loaded["f"])
	m.Disk().SetReadOnly(true)
	require.ErrorIs(t, write(t, m, func(d env.Disk, done func(error)) { d.Replace("f", text("new"), done) }), ErrReadOnly)
}

func TestAFullDiskKeepsNothingOfTheWriteAndRecovers(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m, loaded := reader(w)
	appendSynced(t, m, "log", make([]byte, 600))
	m.Disk().SetCapacity(1000)
	add := func(d env.Disk, done func(error)) { d.Append("log", bytes.Repeat([]byte("x"), 600), done) }
	require.ErrorIs(t, write(t, m, add), env.ErrFull)
	assert.Equal(t, 600, m.Disk().Used())
	require.ErrorIs(t, write(t, m, func(d env.Disk, done func(error)) { d.Replace("f", text(strings.Repeat("y", 500)), done) }), env.ErrFull)
	m.Disk().SetCapacity(2000)
	require.NoError(t, write(t, m, add))
	cycle(m)
	assert.Equal(t, strings.Repeat("x", 600), trimZeros(loaded["log"])[600:])
	assert.NotContains(t, loaded, "f")
}

func TestNothingFollowsAnAppendThatFoundNoRoom(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m, _ := reader(w)
	m.Disk().SetCapacity(100)
	err := write(t, m, func(d env.Disk, done func(error)) {
		d.Append("log", make([]byte, 200), nil)
		d.Append("log", []byte("behind"), done)
	})
	require.ErrorIs(t, err, env.ErrFull)
	assert.Zero(t, m.Disk().Used())
	appendSynced(t, m, "log", []byte("again"))
	assert.Equal(t, "again", string(m.Disk().Content("log")))
}

func TestAStallDelaysAllWritesAndKeepsTheirOrder(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m, _ := reader(w)
	var done []int
	m.Disk().Stall(10 * time.Second)
	inside(t, m, func(e *env.Env) {
		for i := range 20 {
			e.Disk.Append("log", []byte{byte(i)}, func(error) { done = append(done, i) })
		}
	})
	w.RunFor(9 * time.Second)
	assert.Empty(t, done)
	w.RunFor(2 * time.Second)
	require.Len(t, done, 20)
	for i, d := range done {
		assert.Equal(t, i, d)
		assert.Equal(t, byte(i), m.Disk().Content("log")[i])
	}
}

func TestRotStays(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m, loaded := reader(w)
	_, _, ok := m.Disk().Rot("")
	assert.False(t, ok)
	appendSynced(t, m, "log", bytes.Repeat([]byte("a"), 5000))
	name, at, ok := m.Disk().Rot("")
	require.True(t, ok)
	assert.Equal(t, "log", name)
	for range 3 {
		cycle(m)
		assert.NotEqual(t, byte('a'), loaded["log"][at])
		assert.Equal(t, 4999, strings.Count(loaded["log"], "a"))
	}
	assert.False(t, m.Disk().RotAt("log", 5000))
}

func TestAnUnreadableFile(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m, loaded := reader(w)
	appendSynced(t, m, "log", []byte("one"))
	m.Disk().SetUnreadable("log", true)
	m.Kill()
	m.Start()
	require.Len(t, m.Exits(), 2)
	assert.Equal(t, "start", m.Exits()[1].Why)
	assert.ErrorIs(t, m.Exits()[1].Err, ErrIO)
	m.Disk().SetUnreadable("log", false)
	m.Start()
	assert.Equal(t, "one", trimZeros(loaded["log"]))
}

func TestWipeAndImage(t *testing.T) {
	w := newTestWorld(t, 1, Options{})
	m, loaded := reader(w)
	appendSynced(t, m, "log", []byte("one"))
	image := m.Disk().Image()
	appendSynced(t, m, "log", []byte("two"))
	assert.Panics(t, m.Disk().Wipe)
	m.PowerOff()
	m.Disk().Wipe()
	m.PowerOn()
	assert.Empty(t, loaded)
	m.PowerOff()
	m.Disk().Restore(image)
	m.PowerOn()
	assert.Equal(t, "one", trimZeros(loaded["log"]))
}

func TestReservedRoomReadsAsZeros(t *testing.T) {
	some, none := false, false
	for seed := range uint64(30) {
		w := newTestWorld(t, seed, Options{})
		m, loaded := reader(w)
		appendSynced(t, m, "log", []byte("abc"))
		cycle(m)
		require.Equal(t, "abc", trimZeros(loaded["log"]))
		some, none = some || loaded["log"] != "abc", none || loaded["log"] == "abc"
	}
	assert.True(t, some && none)
}

func TestMisuseOfTheDiskIsAFinding(t *testing.T) {
	for name, fn := range map[string]func(e *env.Env){
		"load later":     func(e *env.Env) { _, _ = e.Disk.Load("log") },
		"names later":    func(e *env.Env) { _, _ = e.Disk.Names() },
		"append to old":  func(e *env.Env) { e.Disk.Append("log", nil, nil) },
		"path":           func(e *env.Env) { e.Disk.Append("a/b/c", nil, nil) },
		"changed buffer": func(e *env.Env) { p := []byte("x"); e.Disk.Append("new", p, nil); p[0]++ },
	} {
		w := newTestWorld(t, 1, Options{})
		m, _ := reader(w)
		appendSynced(t, m, "log", []byte("x"))
		cycle(m)
		inside(t, m, fn)
		w.RunFor(time.Second)
		assert.NotNil(t, w.Failure(), name)
	}
}
