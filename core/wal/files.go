package wal

import (
	"io"

	"github.com/keelson/keelson/core/env"
)

// File is one file of a log that was made elsewhere.
type File struct {
	Name    string
	Content io.WriterTo // immutable, may be written again
}

// Files gives the files of a log that holds exactly s, whose body is given, and rec
// behind it: what Open would find had a node installed the snapshot and appended the
// record. It is for making the directory of a node that never ran.
func Files(cluster uint64, node env.NodeID, s Snapshot, body io.WriterTo, rec Record) []File {
	id := Identity{Cluster: cluster, Node: node, First: 1}
	e := NewEncoder(id, 0)
	p := e.Begin(nil)
	p = appendHeader(p, &header{cluster: cluster, node: node, incarnation: 1})
	p = appendPosition(p, kindReset, position{s.Index, s.Term})
	if len(rec.HardState) > 0 {
		p = AppendHardState(p, rec.HardState)
	}
	for _, entry := range rec.Entries {
		p = AppendEntry(p, entry)
	}
	e.End(p, 0)
	return []File{
		{snapshotName, &snapshotFile{id, s, body}},
		{segmentName(id.First), stored(p)},
	}
}
