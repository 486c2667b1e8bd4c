package wal

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
)

var options = Options{Cluster: 7, Node: 3, SegmentBytes: 2048}

func mustOpen(t testing.TB, d *testDisk) (*Log, *Recovered) {
	t.Helper()
	l, r, err := Open(d, calm{}, options)
	require.NoError(t, err)
	return l, r
}

func entries(from, to, term uint64) []Entry {
	var out []Entry
	for i := from; i <= to; i++ {
		out = append(out, Entry{Index: i, Term: term, Data: fmt.Appendf(nil, "entry %d of term %d", i, term)})
	}
	return out
}

// fill appends entries one by one, each synced.
func fill(l *Log, d *testDisk, from, to, term uint64) {
	for _, e := range entries(from, to, term) {
		l.Append(Record{Entries: []Entry{e}}, func(error) {})
		d.run()
	}
}

func TestAppendsComeBack(t *testing.T) {
	d := newTestDisk()
	l, r := mustOpen(t, d)
	require.Equal(t, uint64(1), r.Incarnation)
	require.False(t, l.Ready())
	d.run()
	require.True(t, l.Ready())
	l.Append(Record{HardState: []byte("h1")}, nil)
	fill(l, d, 1, 100, 1)
	l.Append(Record{HardState: []byte("h2"), Entries: entries(50, 60, 2)}, func(err error) { require.NoError(t, err) })
	d.run()

	for life := uint64(2); life < 5; life++ {
		l, r = mustOpen(t, d)
		d.run()
		require.Equal(t, life, r.Incarnation)
		require.Equal(t, "h2", string(r.HardState))
		require.Equal(t, append(entries(1, 49, 1), entries(50, 60, 2)...), r.Entries)
		require.True(t, l.Ready())
	}
}

func TestSnapshotRemovesSegments(t *testing.T) {
	d := newTestDisk()
	l, _ := mustOpen(t, d)
	l.Append(Record{HardState: []byte("h1")}, nil)
	fill(l, d, 1, 300, 1)
	before := len(d.files)
	l.Snapshot(Snapshot{Index: 250, Term: 1, Meta: []byte("meta")}, text("body"), func(err error) { require.NoError(t, err) })
	require.Len(t, d.files, before)
	d.run()
	require.Less(t, len(d.files), before)

	_, r := mustOpen(t, d)
	require.Equal(t, &Snapshot{Index: 250, Term: 1, Meta: []byte("meta")}, r.Snapshot)
	require.Equal(t, "body", string(r.Body))
	require.Equal(t, entries(251, 300, 1), r.Entries)
	require.Equal(t, "h1", string(r.HardState))
}

func TestRestoreReplacesTheLog(t *testing.T) {
	d := newTestDisk()
	l, _ := mustOpen(t, d)
	fill(l, d, 1, 120, 1)
	var order []int
	l.Append(Record{Entries: entries(121, 122, 1)}, func(error) { order = append(order, 1) })
	l.Restore(Snapshot{Index: 100, Term: 5}, text("five"), func(error) { order = append(order, 2) })
	l.Append(Record{HardState: []byte("t5"), Entries: entries(101, 103, 5)}, func(error) { order = append(order, 3) })
	d.run()
	require.Equal(t, []int{1, 2, 3}, order)

	_, r := mustOpen(t, d)
	require.Equal(t, uint64(100), r.Snapshot.Index)
	require.Equal(t, entries(101, 103, 5), r.Entries)
	require.Equal(t, "t5", string(r.HardState))
}

// A crash between the snapshot and the log that follows it must not bring
// entries of another history back behind the snapshot.
func TestRestoreCutInTheMiddle(t *testing.T) {
	d := newTestDisk()
	l, _ := mustOpen(t, d)
	fill(l, d, 1, 120, 1)
	l.Restore(Snapshot{Index: 100, Term: 5}, text("five"), nil)
	d.finish(0) // the snapshot
	for range 2 {
		d.queue = nil
		var r *Recovered
		l, r = mustOpen(t, d)
		require.Equal(t, uint64(100), r.Snapshot.Index)
		require.Empty(t, r.Entries)
	}
	d.run()
	fill(l, d, 101, 101, 5)
	_, r := mustOpen(t, d)
	require.Equal(t, entries(101, 101, 5), r.Entries)
}

func TestFullDiskKeepsOrder(t *testing.T) {
	d := newTestDisk()
	l, _ := mustOpen(t, d)
	d.run()
	var order []int
	for i := range 5 {
		l.Append(Record{Entries: entries(uint64(i+1), uint64(i+1), 1)}, func(err error) {
			require.NoError(t, err)
			order = append(order, i)
		})
	}
	d.finish(0)
	d.refuse(0, errFull)
	l.Retry() // too early: others are on their way
	d.finish(0)
	d.refuse(0, errFull)
	d.finish(0)
	require.True(t, l.Full())
	require.Equal(t, []int{0}, order)
	l.Append(Record{Entries: entries(6, 6, 1)}, func(error) { order = append(order, 5) })
	l.Retry()
	d.refuse(0, errFull)
	require.True(t, l.Full())
	l.Retry()
	d.run()
	require.False(t, l.Full())
	require.Equal(t, []int{0, 1, 2, 3, 4, 5}, order)

	_, r := mustOpen(t, d)
	require.Equal(t, entries(1, 6, 1), r.Entries)
}

func TestOtherErrorsStopTheLog(t *testing.T) {
	d := newTestDisk()
	var fatal error
	o := options
	o.Fatal = func(err error) { fatal = err }
	l, _, err := Open(d, calm{}, o)
	require.NoError(t, err)
	d.run()
	var got []error
	l.Append(Record{Entries: entries(1, 1, 1)}, func(err error) { got = append(got, err) })
	l.Append(Record{Entries: entries(2, 2, 1)}, func(err error) { got = append(got, err) })
	d.refuse(0, errors.New("input/output error"))
	require.ErrorContains(t, fatal, "append to wal-0000000000000001: input/output error")
	require.Equal(t, []error{fatal, fatal}, got)
	require.Equal(t, fatal, l.Err())
	d.run()
	l.Append(Record{Entries: entries(3, 3, 1)}, func(error) { t.Error("called after the end") })
	d.run()
	require.Len(t, got, 2)
}

func TestSomebodyElsesDisk(t *testing.T) {
	d := newTestDisk()
	mustOpen(t, d)
	d.run()
	var wrong *WrongError
	_, _, err := Open(d, calm{}, Options{Cluster: 8, Node: 3})
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, "wal: open wal-0000000000000001: belongs to cluster 7, this is 8;"+
		" point the node at its own data directory, or clear this one", err.Error())
	_, _, err = Open(d, calm{}, Options{Cluster: 7, Node: env.NodeID(4)})
	require.ErrorAs(t, err, &wrong)
}
