package node

import (
	"bytes"
	"fmt"
	"io"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/replica"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/wal"
)

// Name is who a member is, and where.
type Name struct {
	Cluster uint64
	ID      env.NodeID
}

// Alone is the log of a member made over into that of a cluster which it forms alone.
type Alone struct {
	replica.Salvaged
	Files map[string][]byte // of the new log
}

// MakeAlone reads the log of the member that was, from a disk that stays as it is, and
// makes that of the member that is to be. Nothing that the log holds is dropped.
func MakeAlone(d env.Disk, rare env.Rare, was, is Name) (*Alone, error) {
	_, rec, err := wal.Open(untouched{d}, rare, wal.Options{Cluster: was.Cluster, Node: was.ID})
	if err != nil {
		return nil, err
	}
	m := &salvager{store: store.New()}
	s, err := replica.Salvage(rec, m)
	if err == nil {
		err = m.err
	}
	if err != nil {
		return nil, err
	}
	m.store.Adopt()
	a := &Alone{Salvaged: *s, Files: make(map[string][]byte)}
	for _, f := range s.Files(is.Cluster, is.ID, m) {
		var b bytes.Buffer
		if _, err := f.Content.WriteTo(&b); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		a.Files[f.Name] = b.Bytes()
	}
	return a, nil
}

// untouched is a disk to which nothing is written, for reading a log as its member
// would.
type untouched struct{ env.Disk }

func (untouched) Append(string, []byte, func(error))       {}
func (untouched) Replace(string, io.WriterTo, func(error)) {}
func (untouched) Remove(string, func(error))               {}

// salvager is a store as the machine of a log without a replica.
type salvager struct {
	store *store.Store
	err   error
}

func (m *salvager) Apply(index uint64, entry []byte) {
	b, err := store.DecodeBatchUpTo(entry, store.NextBatch)
	switch {
	case m.err != nil:
	case err != nil:
		m.err = fmt.Errorf("entry %d: %w", index, err)
	default:
		m.store.Apply(b, nil)
	}
}

func (m *salvager) Snapshot() replica.Snapshot { return m.store.View() }

func (m *salvager) Restore(r io.Reader) (err error) {
	m.store, err = store.Load(r)
	return err
}
