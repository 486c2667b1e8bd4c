package waldump

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/wal"
)

// The status says whether a member could start: from a log in its place or apart, not
// from one of which nobody knows whose it is.
func TestStatus(t *testing.T) {
	files := tool.Memory{}
	create := func(name, content string) { require.NoError(t, files.Create(name, strings.NewReader(content))) }
	create("whole/identity", `{"id":7,"cluster":9,"begun":true,"members":[{"ID":7,"Name":"n1"}]}`)
	create("apart/identity", `{"id":7,"cluster":9,"begun":true,"members":[{"ID":7,"Name":"n1"}]}`)
	create("other/letter", "dear reader")
	for _, f := range wal.Files(9, 7, wal.Snapshot{Index: 1, Term: 1, Meta: []byte("m")}, strings.NewReader("body"), wal.Record{HardState: []byte("h")}) {
		var content bytes.Buffer
		_, err := f.Content.WriteTo(&content)
		require.NoError(t, err)
		create("whole/member/"+f.Name, content.String())
		create("nobody/member/"+f.Name, content.String())
		if tool.Segment(f.Name) {
			create("logs/"+f.Name, content.String())
		} else {
			create("apart/member/"+f.Name, content.String())
		}
	}
	for _, c := range []struct {
		line   string
		status int
		says   string
	}{
		{"whole", 0, "verdict: the log is whole: 0 entries behind the snapshot"},
		{"--wal-dir logs apart", 0, "verdict: the log is whole: 0 entries behind the snapshot"},
		{"apart", 1, "the log is not whole"},
		{"nobody", 1, "no member could start from it: there is no file \"identity\""},
		{"other", 1, "this is not the data directory of a member"},
		{"--from 5 --to 2 whole", 2, "--from=5 is behind --to=2"},
		{"-o yaml whole", 2, "--output=yaml: want simple or json"},
	} {
		var out, errs bytes.Buffer
		tl := &tool.Tool{In: &bytes.Buffer{}, Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Files: files}
		status := Run(context.Background(), tl, append([]string{"wal", "dump"}, strings.Fields(c.line)...))
		assert.Equal(t, c.status, status, c.line)
		assert.Contains(t, out.String()+errs.String(), c.says, c.line)
		if status != 0 {
			assert.NotContains(t, out.String(), "verdict", c.line)
		}
	}
}
