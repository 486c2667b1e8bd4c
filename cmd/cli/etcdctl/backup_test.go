package etcdctl

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/revive"
	"github.com/keelson/keelson/core/wal"
)

// A copy has new IDs and the same content; nothing is printed, and nothing that is
// there is written over.
func TestBackup(t *testing.T) {
	files := tool.Memory{}
	require.NoError(t, files.Create("old/identity", strings.NewReader(`{"id":7,"cluster":9,"begun":true,"members":[{"ID":7,"Name":"n1"}]}`)))
	for _, f := range wal.Files(9, 7, wal.Snapshot{Index: 1, Term: 1, Meta: []byte("m")}, strings.NewReader("body"), wal.Record{HardState: []byte("h")}) {
		require.NoError(t, files.Create("old/member/"+f.Name, f.Content))
	}
	run := func(line string) (int, string, string) {
		var out, errs bytes.Buffer
		n := byte(0)
		tl := &tool.Tool{
			In: &bytes.Buffer{}, Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Files: files,
			Random: func() (p [8]byte) { n++; p[0], p[7] = n, 1; return p },
		}
		return Run(context.Background(), tl, append([]string{"etcdctl"}, strings.Fields(line)...)), out.String(), errs.String()
	}
	peek := func(d tool.DataDir) *wal.Recovered {
		id, err := revive.Identity(d)
		require.NoError(t, err)
		assert.NotEqual(t, env.NodeID(7), id.ID)
		assert.NotEqual(t, uint64(9), id.Cluster)
		rec, err := wal.Peek(revive.Log(d), wal.Identity{Cluster: id.Cluster, Node: id.ID})
		require.NoError(t, err)
		return rec
	}
	status, out, errs := run("backup --data-dir old --backup-dir new")
	assert.Equal(t, []any{0, "", ""}, []any{status, out, errs})
	assert.Equal(t, "body", string(peek(tool.DataDir{Files: files, Dir: "new"}).Body))

	status, out, errs = run("backup --data-dir new --backup-dir b --backup-wal-dir w")
	assert.Equal(t, []any{0, "", ""}, []any{status, out, errs})
	assert.Equal(t, "h", string(peek(tool.DataDir{Files: files, Dir: "b", Wal: "w"}).HardState))
	status, _, errs = run("backup --data-dir b --wal-dir w --backup-dir c")
	assert.Zero(t, status, errs)

	status, _, errs = run("backup --data-dir old --backup-dir new")
	assert.Equal(t, 1, status)
	assert.Equal(t, "Error:  backup old: new is not empty: name another directory, or move it away\n", errs)
	_, _, errs = run("backup --data-dir none --backup-dir x")
	assert.Contains(t, errs, "this is not the data directory of a member")
	_, _, errs = run("backup --backup-dir x")
	assert.Equal(t, "Error:  --data-dir is required\n", errs)
}
