package wal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What is cut from a log is said, with its place; a file whose number no log
// reaches is refused by name, because counting on from it would wrap.
func TestWhatIsCutIsSaid(t *testing.T) {
	d := newTestDisk()
	_, r := mustOpen(t, d)
	d.run()
	require.Empty(t, r.Cut)

	f := d.files[segmentName(1)]
	f.cache = append(f.cache, "not a record"...)
	_, r = mustOpen(t, d)
	d.run()
	require.Len(t, r.Cut, 1)
	require.Contains(t, r.Cut[0], segmentName(1)+" from byte ")

	d.files["wal-ffffffffffffffff"] = &file{cache: []byte("x")}
	_, _, err := Open(d, calm{}, options)
	require.ErrorContains(t, err, "wal-ffffffffffffffff: no log gets that far")
}
