package wal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// One entry of 256 bytes as a frame of its own.
func BenchmarkEncodeEntry(b *testing.B) {
	e := NewEncoder(Identity{Cluster: 7, Node: 3, First: 1}, 0)
	entry := Entry{Index: 1, Term: 3, Data: make([]byte, 256)}
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		entry.Index++
		p := AppendEntry(e.Begin(buf[:0]), entry)
		e.End(p, 0)
	}
}

// The same through a Log whose disk does nothing.
func BenchmarkAppend(b *testing.B) {
	d := &idleDisk{}
	l, _, err := Open(d, calm{}, Options{Cluster: 7, Node: 3})
	require.NoError(b, err)
	d.done(nil)
	rec := Record{Entries: []Entry{{Term: 3, Data: make([]byte, 256)}}}
	done := func(error) {}
	b.ReportAllocs()
	for b.Loop() {
		rec.Entries[0].Index++
		l.Append(rec, done)
		d.done(nil)
	}
}

// Recovery of 65536 entries of 256 bytes.
func BenchmarkOpen(b *testing.B) {
	d := newTestDisk()
	l, _, err := Open(d, calm{}, Options{Cluster: 7, Node: 3})
	require.NoError(b, err)
	data := make([]byte, 256)
	for i := range uint64(65536) {
		l.Append(Record{Entries: []Entry{{Index: i + 1, Term: 3, Data: data}}}, func(error) {})
		d.run()
	}
	b.ReportAllocs()
	for b.Loop() {
		_, r, err := Open(d, calm{}, Options{Cluster: 7, Node: 3})
		require.NoError(b, err)
		require.Len(b, r.Entries, 65536)
		d.queue = nil
	}
}

type idleDisk struct {
	testDisk
	done func(error)
}

func (d *idleDisk) Append(_ string, _ []byte, done func(error)) { d.done = done }
