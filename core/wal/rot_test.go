package wal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func refused(t testing.TB, d *testDisk) *RotError {
	t.Helper()
	_, _, err := Open(d, calm{}, options)
	var rot *RotError
	require.ErrorAs(t, err, &rot)
	return rot
}

func TestMissingSegmentIsNamed(t *testing.T) {
	d := newTestDisk()
	l, _ := mustOpen(t, d)
	fill(l, d, 1, 200, 1)
	names, _ := d.Names()
	require.Greater(t, len(names), 4)
	for _, name := range names[:len(names)-1] {
		f := d.files[name]
		delete(d.files, name)
		rot := refused(t, d)
		require.Equal(t, name, rot.File)
		require.Contains(t, rot.Error(), "missing, but wal-")
		d.files[name] = f
	}
	_, r := mustOpen(t, d)
	require.Len(t, r.Entries, 200)
}

func TestSnapshotMustBeThereAndWhole(t *testing.T) {
	d := newTestDisk()
	l, _ := mustOpen(t, d)
	fill(l, d, 1, 100, 1)
	l.Snapshot(Snapshot{Index: 50, Term: 1}, text("first"), nil)
	d.run()
	first := &file{cache: d.files[snapshotName].cache}
	l.Snapshot(Snapshot{Index: 90, Term: 1}, text("second"), nil)
	d.run()
	second := d.files[snapshotName]

	for i := range second.cache {
		d.files[snapshotName] = &file{cache: bytes.Clone(second.cache)}
		d.files[snapshotName].cache[i] ^= 0x40
		require.Equal(t, snapshotName, refused(t, d).File)
	}
	d.files[snapshotName] = first
	require.Contains(t, refused(t, d).Error(), "older than entry 90")
	delete(d.files, snapshotName)
	refused(t, d)
	d.files[snapshotName] = second
	mustOpen(t, d)

	for name := range d.files {
		if name != snapshotName {
			delete(d.files, name)
		}
	}
	require.Contains(t, refused(t, d).Error(), "there is a snapshot but no log")
}

func TestNewerVersionIsNamed(t *testing.T) {
	d := newTestDisk()
	mustOpen(t, d)
	d.run()
	p := d.files[segmentName(1)].cache
	at := bytes.Index(p, []byte(segmentMagic)) + len(segmentMagic)
	binary.LittleEndian.PutUint16(p[at:], 2)
	size := binary.LittleEndian.Uint32(p)
	binary.LittleEndian.PutUint32(p[4:], crc32.Checksum(p[8:size], castagnoli()))
	_, _, err := Open(d, calm{}, options)
	require.EqualError(t, err, "wal: open wal-0000000000000001: format version 2, this program knows 1;"+
		" start the version of the program that wrote it")
}

// Values may hold copies of segments, even this log's own. They prove nothing.
func TestValuesAreNoEvidence(t *testing.T) {
	d := newTestDisk()
	l, _ := mustOpen(t, d)
	fill(l, d, 1, 100, 1)
	names, _ := d.Names()
	copied := d.files[names[len(names)-2]].cache
	l.Append(Record{Entries: []Entry{{Index: 101, Term: 1, Data: copied}}}, func(error) {})
	o := d.queue[0]
	d.write(o)
	d.queue = nil
	f := d.files[o.name]
	f.cache[len(f.cache)-len(o.append)+4] ^= 1 // the frame around the copy is torn
	_, r := mustOpen(t, d)
	require.Equal(t, entries(1, 100, 1), r.Entries)
}

// A frame behind a hole that nothing proves must not come back when a later
// life has used its place in the log.
func TestUnprovenFramesStayGone(t *testing.T) {
	d := newTestDisk()
	l, _ := mustOpen(t, d)
	d.run()
	for i := range uint64(3) {
		l.Append(Record{Entries: entries(i+1, i+1, 1)}, func(error) {})
	}
	f := d.files[segmentName(1)]
	hole := len(f.cache) + 10
	for len(d.queue) > 0 {
		d.write(d.take(0))
	}
	f.cache[hole] ^= 1
	f.synced = len(f.cache)

	l, r := mustOpen(t, d)
	require.Empty(t, r.Entries)
	d.run()
	fill(l, d, 1, 1, 2)
	f.cache[hole] ^= 1 // even if the hole heals
	_, r = mustOpen(t, d)
	require.Equal(t, entries(1, 1, 2), r.Entries)
}

func TestRecordsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := Identity{Cluster: rapid.Uint64().Draw(t, "cluster"), Node: 3, First: rapid.Uint64Range(1, 1<<40).Draw(t, "first")}
		e := NewEncoder(id, rapid.Uint32().Draw(t, "chain"))
		var p []byte
		var want [][]Entry
		for range rapid.IntRange(0, 5).Draw(t, "frames") {
			start := len(p)
			p = e.Begin(p)
			var list []Entry
			for range rapid.IntRange(0, 4).Draw(t, "entries") {
				entry := Entry{
					Index: rapid.Uint64().Draw(t, "index"),
					Term:  rapid.Uint64().Draw(t, "term"),
					Data:  rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "data"),
				}
				p = AppendEntry(p, entry)
				list = append(list, entry)
			}
			e.End(p[start:], e.Seq())
			want = append(want, list)
		}
		s := Scan(append(p, make([]byte, 40)...), id)
		require.Empty(t, s.Bad)
		require.Equal(t, len(p), s.End)
		require.Len(t, s.Frames, len(want))
		for i, f := range s.Frames {
			var got []Entry
			var st state
			require.NoError(t, st.apply(f.Records, func(e Entry, _ bool) error { got = append(got, e); return nil }))
			require.Equal(t, want[i], got)
		}
	})
}
