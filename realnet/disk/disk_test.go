package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/keelson/keelson/core/env"
)

// lane stands for the loop: it runs what is posted when the test says so.
type lane struct {
	mu    sync.Mutex
	queue []func()
	more  chan struct{}
}

func newLane() *lane { return &lane{more: make(chan struct{}, 1000)} }

func (l *lane) post(fn func()) bool {
	l.mu.Lock()
	l.queue = append(l.queue, fn)
	l.mu.Unlock()
	l.more <- struct{}{}
	return true
}

// until runs what is posted until ok.
func (l *lane) until(t testing.TB, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-l.more:
		case <-time.After(5 * time.Second):
			t.Fatal("no completion")
		}
		l.mu.Lock()
		fn := l.queue[0]
		l.queue = l.queue[1:]
		l.mu.Unlock()
		fn()
	}
}

func open(t testing.TB, dir string) (*Disk, *lane) {
	t.Helper()
	l := newLane()
	d, err := Open(dir, l.post, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d, l
}

// do waits for one request.
func do(t testing.TB, l *lane, ask func(done func(error))) error {
	t.Helper()
	var out error
	finished := false
	ask(func(err error) { out, finished = err, true })
	require.False(t, finished, "a completion never runs inside the call that asked for it")
	l.until(t, func() bool { return finished })
	return out
}

func load(t testing.TB, d *Disk, name string) string {
	t.Helper()
	p, err := d.Load(name)
	require.NoError(t, err)
	return string(bytes.TrimRight(p, "\x00"))
}

func TestAppendsAreMergedAndKeepTheirOrder(t *testing.T) {
	d, l := open(t, t.TempDir())
	syncs := 0
	hold := make(chan struct{})
	d.sys.datasync = func(fd *os.File) error {
		<-hold
		syncs++
		return datasync(fd)
	}
	var order []int
	want := ""
	for i := range 100 {
		piece := fmt.Sprintf("%d,", i)
		want += piece
		var done func(error)
		if i%3 != 1 {
			done = func(err error) { assert.NoError(t, err); order = append(order, i) }
		}
		d.Append("wal", []byte(piece), done)
	}
	close(hold)
	l.until(t, func() bool { return len(order) == 67 })
	assert.IsIncreasing(t, order)
	assert.LessOrEqual(t, syncs, 3, "what waits for the disk shares one sync")
	assert.Equal(t, want, load(t, d, "wal"))
}

func TestAppendWithoutDoneIsNotSynced(t *testing.T) {
	d, _ := open(t, t.TempDir())
	d.sys.datasync = func(*os.File) error { t.Error("synced"); return nil }
	d.Append("wal", []byte("a"), nil)
	d.workers.Wait()
	assert.Equal(t, "a", load(t, d, "wal"))
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	d, l := open(t, dir)
	_, err := d.Load("snapshot")
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, content := range []string{"one", "two", ""} {
		require.NoError(t, do(t, l, func(done func(error)) { d.Replace("snapshot", bytes.NewReader([]byte(content)), done) }))
		assert.Equal(t, content, load(t, d, "snapshot"))
	}
	require.NoError(t, do(t, l, func(done func(error)) { d.Append("snapshot", []byte("+"), done) }))
	assert.Equal(t, "+", load(t, d, "snapshot"))
	require.NoError(t, do(t, l, func(done func(error)) { d.Remove("snapshot", done) }))
	require.NoError(t, do(t, l, func(done func(error)) { d.Remove("snapshot", done) }), "a missing file is no error")
	names, err := d.Names()
	require.NoError(t, err)
	assert.Empty(t, names)
}

type broken struct{ n int }

func (b broken) WriteTo(w io.Writer) (int64, error) {
	w.Write(make([]byte, b.n))
	return int64(b.n), errors.New("half of it is missing")
}

func TestFailedContentLeavesTheFileAsItWas(t *testing.T) {
	dir := t.TempDir()
	d, l := open(t, dir)
	require.NoError(t, do(t, l, func(done func(error)) { d.Replace("snapshot", bytes.NewReader([]byte("good")), done) }))
	err := do(t, l, func(done func(error)) { d.Replace("snapshot", broken{1 << 20}, done) })
	assert.EqualError(t, err, "half of it is missing")
	assert.Equal(t, "good", load(t, d, "snapshot"))
	assert.NoFileExists(t, filepath.Join(dir, "snapshot.tmp"))
	require.NoError(t, do(t, l, func(done func(error)) { d.Replace("snapshot", bytes.NewReader([]byte("better")), done) }))
}

func TestUnfinishedReplaceIsRemovedAtStart(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "snapshot.tmp"), []byte("half"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "snapshot"), []byte("whole"), 0o600))
	d, _ := open(t, dir)
	names, err := d.Names()
	require.NoError(t, err)
	assert.Equal(t, []string{"snapshot"}, names)
	assert.NoFileExists(t, filepath.Join(dir, "snapshot.tmp"))
}

func TestFullDiskKeepsNothingOfTheRequest(t *testing.T) {
	d, l := open(t, t.TempDir())
	require.NoError(t, do(t, l, func(done func(error)) { d.Append("wal", []byte("kept;"), done) }))

	room := false
	reached, hold := make(chan struct{}), make(chan struct{})
	d.sys.writeAt = func(fd *os.File, p []byte, at int64) (int, error) {
		if room {
			return fd.WriteAt(p, at)
		}
		reached <- struct{}{}
		<-hold
		n, _ := fd.WriteAt(p[:len(p)/2], at)
		return n, unix.ENOSPC
	}
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	d.Append("wal", []byte("lost;"), note)
	<-reached
	d.Append("wal", []byte("behind it;"), note)
	close(hold)
	d.workers.Wait()
	room = true
	d.Append("wal", []byte("before the node knows;"), note)
	l.until(t, func() bool { return len(errs) == 3 })
	for _, err := range errs {
		assert.ErrorIs(t, err, env.ErrFull)
	}
	require.NoError(t, do(t, l, func(done func(error)) { d.Append("wal", []byte("again"), done) }))
	assert.Equal(t, "kept;again", load(t, d, "wal"))
}

func TestFullDiskIsNotFilledWithEmptyFiles(t *testing.T) {
	d, l := open(t, t.TempDir())
	d.sys.writeAt = func(*os.File, []byte, int64) (int, error) { return 0, unix.ENOSPC }
	for _, name := range []string{"wal-1", "wal-2"} {
		err := do(t, l, func(done func(error)) { d.Append(name, []byte("lost;"), done) })
		require.ErrorIs(t, err, env.ErrFull)
	}
	names, err := d.Names()
	require.NoError(t, err)
	assert.Empty(t, names)
	d.sys.writeAt = (*os.File).WriteAt
	require.NoError(t, do(t, l, func(done func(error)) { d.Append("wal-2", []byte("kept"), done) }))
	assert.Equal(t, "kept", load(t, d, "wal-2"))
}

func TestLackOfRoomIsToldByTheNextWhoCanHear(t *testing.T) {
	d, l := open(t, t.TempDir())
	require.NoError(t, do(t, l, func(done func(error)) { d.Append("wal", []byte("kept;"), done) }))
	d.sys.writeAt = func(*os.File, []byte, int64) (int, error) { return 0, unix.ENOSPC }
	d.Append("wal", []byte("lost;"), nil)
	d.workers.Wait()
	d.sys.writeAt = (*os.File).WriteAt
	d.Append("wal", []byte("behind it;"), nil)
	d.workers.Wait()
	err := do(t, l, func(done func(error)) { d.Append("wal", []byte("heard;"), done) })
	require.ErrorIs(t, err, env.ErrFull)
	require.NoError(t, do(t, l, func(done func(error)) { d.Append("wal", []byte("again"), done) }))
	assert.Equal(t, "kept;again", load(t, d, "wal"))
}

func TestSyncErrorIsForEver(t *testing.T) {
	d, l := open(t, t.TempDir())
	d.sys.datasync = func(*os.File) error { return unix.EIO }
	err := do(t, l, func(done func(error)) { d.Append("wal", []byte("a"), done) })
	require.ErrorIs(t, err, unix.EIO)
	assert.ErrorContains(t, err, "sync ")
	d.sys.datasync = func(*os.File) error { t.Error("tried again"); return nil }
	for _, ask := range []func(func(error)){
		func(done func(error)) { d.Append("wal", []byte("b"), done) },
		func(done func(error)) { d.Append("other", []byte("b"), done) },
		func(done func(error)) { d.Replace("snapshot", bytes.NewReader(nil), done) },
		func(done func(error)) { d.Remove("wal", done) },
	} {
		assert.Equal(t, err, do(t, l, ask))
	}
}

func TestOneProcessHoldsADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "on", "the", "way")
	d, l := open(t, dir)
	_, err := Open(dir, l.post, Options{})
	require.EqualError(t, err, "data directory "+dir+": in use by another process")
	require.NoError(t, d.Close())
	again, err := Open(dir, l.post, Options{})
	require.NoError(t, err)
	again.Close()

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Open(file, l.post, Options{})
	assert.ErrorIs(t, err, unix.ENOTDIR)
}

func TestNamesOutsideTheDirectoryAreRefused(t *testing.T) {
	d, l := open(t, t.TempDir())
	for _, name := range []string{"", ".", "..", "../a", "a/..", "./a", "/a", "a/", "a/b/c", "a.tmp", "a/b.tmp", "a\x00"} {
		assert.ErrorContains(t, do(t, l, func(done func(error)) { d.Append(name, []byte("x"), done) }), "want one path element", name)
		_, err := d.Load(name)
		assert.Error(t, err, name)
	}
}

func TestDirectories(t *testing.T) {
	dir, apart := t.TempDir(), filepath.Join(t.TempDir(), "log")
	o := Options{Apart: map[string]string{"member/wal-": apart}}
	l := newLane()
	d, err := Open(dir, l.post, o)
	require.NoError(t, err)
	for _, name := range []string{"member/wal-1", "member/other", "identity"} {
		require.NoError(t, do(t, l, func(done func(error)) { d.Append(name, []byte(name), done) }))
	}
	require.NoError(t, do(t, l, func(done func(error)) { d.Replace("proxy/cluster", bytes.NewReader([]byte("{}")), done) }))
	require.NoError(t, do(t, l, func(done func(error)) { d.Remove("none/at-all", done) }))
	assert.FileExists(t, filepath.Join(apart, "wal-1"))
	assert.NoDirExists(t, filepath.Join(dir, "none"))
	_, err = Open(t.TempDir(), l.post, o)
	assert.ErrorContains(t, err, "data directory "+apart+": in use by another process")
	require.NoError(t, d.Close())

	for _, left := range []string{"member/snapshot.tmp", "identity.tmp"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, left), nil, 0o600))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "foreign", "deeper"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "foreign", "deeper", "file"), nil, 0o600))
	d, err = Open(dir, l.post, o)
	require.NoError(t, err)
	names, err := d.Names()
	require.NoError(t, err)
	assert.Equal(t, []string{"identity", "member/other", "member/wal-1", "proxy/cluster"}, names)
	p, err := d.Load("member/wal-1")
	require.NoError(t, err)
	assert.Equal(t, "member/wal-1", string(bytes.TrimRight(p, "\x00")))
	assert.NoFileExists(t, filepath.Join(dir, "member", "snapshot.tmp"))
	require.NoError(t, do(t, l, func(done func(error)) { d.Remove("member/wal-1", done) }))
	assert.NoFileExists(t, filepath.Join(apart, "wal-1"))
	require.NoError(t, d.Close())
}

func TestWhatAnEarlierLifeWroteIsNotAppendedTo(t *testing.T) {
	dir := t.TempDir()
	d, l := open(t, dir)
	require.NoError(t, do(t, l, func(done func(error)) { d.Append("wal", []byte("a"), done) }))
	require.NoError(t, d.Close())
	d, l = open(t, dir)
	assert.ErrorIs(t, do(t, l, func(done func(error)) { d.Append("wal", []byte("b"), done) }), fs.ErrExist)
}

func TestRemovedFileStartsAnew(t *testing.T) {
	d, l := open(t, t.TempDir())
	d.Append("wal", []byte("old"), nil)
	d.Remove("wal", nil)
	require.NoError(t, do(t, l, func(done func(error)) { d.Append("wal", []byte("new"), done) }))
	assert.Equal(t, "new", load(t, d, "wal"))
	require.NoError(t, do(t, l, func(done func(error)) { d.Remove("wal", done) }))
	l.until(t, func() bool { return len(d.files) == 0 })
}

func TestLoneAppendIsDoneAtTheEndOfTheTurn(t *testing.T) {
	idle := true
	l := newLane()
	d, err := Open(t.TempDir(), l.post, Options{Idle: func() bool { return idle }})
	require.NoError(t, err)
	defer d.Close()
	d.sys.datasync = func(*os.File) error { return nil } // the quickest of disks
	write := func(text string) (done *bool) {
		done = new(bool)
		d.Append("wal", []byte(text), func(err error) { require.NoError(t, err); *done = true })
		return done
	}
	first := write("a") // makes the file, which takes longer
	d.AfterTurn()
	l.until(t, func() bool { return *first })
	d.workers.Wait()

	second := write("b")
	assert.Equal(t, "a", load(t, d, "wal"), "nothing happens within the turn")
	d.AfterTurn()
	assert.Equal(t, "ab", load(t, d, "wal"))
	assert.False(t, *second, "the completion runs in a later turn")
	l.until(t, func() bool { return *second })

	idle = false
	third := write("c")
	d.AfterTurn()
	l.until(t, func() bool { return *third })
	assert.Equal(t, "abc", load(t, d, "wal"))
}

func BenchmarkAppend(b *testing.B) {
	d, l := open(b, b.TempDir())
	p := make([]byte, 400)
	for b.Loop() {
		if err := do(b, l, func(done func(error)) { d.Append("wal", p, done) }); err != nil {
			b.Fatal(err)
		}
	}
}
