package wal

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzScan: nothing that a disk may hold panics, and what Scan accepts is
// consistent.
func FuzzScan(f *testing.F) {
	d := newTestDisk()
	l, _, err := Open(d, calm{}, options)
	require.NoError(f, err)
	l.Append(Record{HardState: []byte("h")}, nil)
	fill(l, d, 1, 5, 1)
	good := d.files[segmentName(1)].cache
	torn := bytes.Clone(good)
	clear(torn[150:200])
	f.Add(good)
	f.Add(torn)
	f.Add(append(bytes.Clone(good), make([]byte, 100)...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		s := Scan(p, Identity{Cluster: options.Cluster, Node: options.Node, First: 1})
		end := 0
		for i, fr := range s.Frames {
			require.Equal(t, end, fr.Offset)
			require.Equal(t, uint64(i+1), fr.Seq)
			require.Less(t, fr.Synced, fr.Seq)
			end = fr.end()
		}
		require.Equal(t, end, s.End)
		for _, fr := range s.Later {
			require.GreaterOrEqual(t, fr.Offset, end)
			end = fr.end()
		}

		d := newTestDisk()
		d.files[segmentName(1)] = &file{cache: bytes.Clone(p)}
		_, r, err := Open(d, calm{}, options)
		var rot *RotError
		var wrong *WrongError
		if err != nil {
			require.True(t, errors.As(err, &rot) || errors.As(err, &wrong), "%v", err)
			return
		}
		d.run()
		_, again, err := Open(d, calm{}, options)
		require.NoError(t, err)
		require.Equal(t, len(r.Entries), len(again.Entries))
		require.Equal(t, r.HardState, again.HardState)
		require.Equal(t, r.Incarnation+1, again.Incarnation)
	})
}

// FuzzSnapshot: a snapshot file is read back as it was written, or refused.
func FuzzSnapshot(f *testing.F) {
	id := Identity{Cluster: 7, Node: 3}
	file := func(s Snapshot, body string) []byte {
		var b bytes.Buffer
		_, err := (&snapshotFile{id, s, text(body)}).WriteTo(&b)
		require.NoError(f, err)
		return b.Bytes()
	}
	f.Add(file(Snapshot{Index: 5, Term: 2, Meta: []byte("meta")}, "body"))
	f.Add(file(Snapshot{}, ""))
	f.Add([]byte("keelsnap"))
	f.Fuzz(func(t *testing.T, p []byte) {
		s, body, err := parseSnapshot(p, id)
		if err != nil {
			var rot *RotError
			var wrong *WrongError
			require.True(t, errors.As(err, &rot) || errors.As(err, &wrong), "%v", err)
			return
		}
		var b bytes.Buffer
		_, err = (&snapshotFile{id, *s, text(body)}).WriteTo(&b)
		require.NoError(t, err)
		require.Equal(t, p, b.Bytes())
	})
}
