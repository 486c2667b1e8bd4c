package files

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOnlyFilesAreReplaced(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.Mkdir(in("directory"), 0o755))
	require.NoError(t, syscall.Mkfifo(in("pipe"), 0o600))
	require.NoError(t, os.Symlink(in("pipe"), in("link")))
	for name, want := range map[string]string{"directory": "is a directory", "pipe": "a device or a pipe", "link": "a device or a pipe"} {
		before, err := os.Lstat(in(name))
		require.NoError(t, err)
		assert.ErrorContains(t, Create(in(name), bytes.NewBufferString("x")), want)
		after, err := os.Lstat(in(name))
		require.NoError(t, err)
		assert.True(t, os.SameFile(before, after), name)
	}
	require.NoError(t, Create(in("file"), bytes.NewBufferString("one")))
	require.NoError(t, Create(in("file"), bytes.NewBufferString("two")))
	text, err := os.ReadFile(in("file"))
	require.NoError(t, err)
	assert.Equal(t, "two", string(text))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 4)
}

func TestWhatAKilledProcessLeftIsSwept(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, left := range []string{".backup.part-123", ".backup.part-5", ".backup.part-mine", ".backup2.part-7"} {
		require.NoError(t, os.WriteFile(at(left), nil, 0o600))
	}
	require.NoError(t, os.MkdirAll(at(".n1.part-9/member"), 0o700))
	release := hold(at(".backup.part-5"))

	require.NoError(t, Create(at("backup"), bytes.NewReader([]byte("all"))))
	require.NoError(t, Place(at("n1"), func() (string, io.WriterTo, bool) { return "", nil, false }))
	names := func() (all []string) {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			all = append(all, e.Name())
		}
		return all
	}
	assert.Equal(t, []string{".backup.part-5", ".backup.part-mine", ".backup2.part-7", "backup", "n1"}, names())

	release()
	require.NoError(t, Create(at("backup"), bytes.NewReader([]byte("more"))))
	assert.NotContains(t, names(), ".backup.part-5")
}
