package revive

import (
	"bytes"
	"io/fs"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/archive"
	"github.com/keelson/keelson/core/bootstrap"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/core/wal"
)

// directoryOf is a data directory in memory.
type directoryOf map[string][]byte

func (d directoryOf) Names() ([]string, error) { return slices.Sorted(maps.Keys(d)), nil }
func (d directoryOf) Load(name string) ([]byte, error) {
	if p, ok := d[name]; ok {
		return p, nil
	}
	return nil, fs.ErrNotExist
}

func stored(t *testing.T, files []wal.File) directoryOf {
	d := directoryOf{}
	for _, f := range files {
		var b bytes.Buffer
		_, err := f.Content.WriteTo(&b)
		require.NoError(t, err)
		d[f.Name] = b.Bytes()
	}
	return d
}

func backup(t *testing.T, value string) []byte {
	s := store.New()
	s.Apply(&store.Batch{Time: 1e9, Commands: []store.Command{
		{ID: store.ID{Node: 5, Incarnation: 3, Number: 1}, Op: store.OpSet, Key: "/a", Value: value, HasTTL: true, TTL: time.Hour},
		{Op: store.OpSet, Key: "/_etcd/members/5", Value: "{}"},
	}}, nil)
	var b bytes.Buffer
	_, err := archive.New(archive.Meta{}, s.View()).WriteTo(&b)
	require.NoError(t, err)
	return b.Bytes()
}

func conf(name string) bootstrap.Config {
	return bootstrap.Config{
		Name: name, PeerURLs: []string{"http://" + name + ":2380"}, Token: "t",
		InitialCluster: "a=http://a:2380,b=http://b:2380,c=http://c:2380",
	}
}

// state opens a restored directory as its member would.
func state(t *testing.T, d directoryOf) (*bootstrap.Identity, *wal.Recovered, *store.Store) {
	id, err := Identity(d)
	require.NoError(t, err)
	rec, err := wal.Peek(Log(d), wal.Identity{Cluster: id.Cluster, Node: id.ID})
	require.NoError(t, err)
	s, err := store.Load(bytes.NewReader(rec.Body))
	require.NoError(t, err)
	return id, rec, s
}

// All members of a restored cluster begin with one state and agree on who they are.
func TestMembersOfOneBackupAreOneCluster(t *testing.T) {
	p := backup(t, "x")
	var first *bootstrap.Identity
	var hash uint64
	for _, name := range []string{"a", "b", "c"} {
		made, err := Restore(bytes.NewReader(p), conf(name))
		require.NoError(t, err)
		id, rec, s := state(t, stored(t, made.Files))
		assert.EqualValues(t, 1, rec.Snapshot.Index)
		assert.Empty(t, rec.Entries)
		assert.True(t, id.Begun)
		assert.Equal(t, made.Backup.Content, s.View().ContentHash())
		assert.False(t, s.Applied(store.ID{Node: 5, Incarnation: 1, Number: 1}))
		if first == nil {
			first, hash = id, s.View().Hash()
		}
		assert.Equal(t, first.Cluster, id.Cluster)
		assert.Equal(t, first.Members, id.Members)
		assert.Equal(t, hash, s.View().Hash())
	}
	other, err := Restore(bytes.NewReader(backup(t, "y")), conf("a"))
	require.NoError(t, err)
	assert.NotEqual(t, first.Cluster, other.Identity.Cluster)
	assert.NotEqual(t, first.ID, other.Identity.ID)
}

// A copy holds what the log held, under new names.
func TestCopy(t *testing.T) {
	made, err := Restore(bytes.NewReader(backup(t, "x")), conf("a"))
	require.NoError(t, err)
	src := stored(t, made.Files)
	for _, f := range wal.Files(made.Identity.Cluster, made.Identity.ID, wal.Snapshot{Index: 1, Term: 1, Meta: []byte("meta")}, content("body"),
		wal.Record{HardState: []byte("hard"), Entries: []wal.Entry{{Index: 2, Term: 1, Data: []byte("two")}}}) {
		var b bytes.Buffer
		_, err := f.Content.WriteTo(&b)
		require.NoError(t, err)
		src["member/"+f.Name] = b.Bytes()
	}
	before := maps.Clone(src)
	files, err := Copy(src, 77, 99)
	require.NoError(t, err)
	assert.Equal(t, before, src)
	d := stored(t, files)
	id, err := Identity(d)
	require.NoError(t, err)
	assert.EqualValues(t, 77, id.ID)
	assert.EqualValues(t, 99, id.Cluster)
	assert.Equal(t, "a", id.Members[0].Name)
	rec, err := wal.Peek(Log(d), wal.Identity{Cluster: 99, Node: 77})
	require.NoError(t, err)
	assert.Equal(t, "hard", string(rec.HardState))
	assert.Equal(t, []wal.Entry{{Index: 2, Term: 1, Data: []byte("two")}}, rec.Entries)
	assert.Equal(t, "body", string(rec.Body))

	_, err = Copy(directoryOf{}, 1, 1)
	assert.ErrorContains(t, err, "not the data directory of a member")
}
