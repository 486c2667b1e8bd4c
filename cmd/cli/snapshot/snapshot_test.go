package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/archive"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/core/store"
)

// console runs commands against one server that answers with body.
type console struct {
	files   tool.Memory
	body    []byte
	asked   []client.Request
	fail    error
	members string
}

func (c *console) Do(_ context.Context, req *client.Request) (*client.Response, error) {
	if c.fail != nil {
		return nil, c.fail
	}
	if req.Path == "/v2/members" {
		return &client.Response{Status: 200, Body: io.NopCloser(strings.NewReader(`{"members":[` + c.members + `]}`))}, nil
	}
	c.asked = append(c.asked, *req)
	return &client.Response{Status: 200, Header: map[string]string{"X-Etcd-Index": "7"}, Body: io.NopCloser(bytes.NewReader(c.body))}, nil
}
func (c *console) Sleep(context.Context, time.Duration) error { return nil }
func (c *console) Now() time.Duration                         { return 0 }
func (c *console) Float64() float64                           { return 0.5 }

func (c *console) run(line string) (status int, out, errs string) {
	var o, e bytes.Buffer
	t := &tool.Tool{
		In: &bytes.Buffer{}, Out: &o, Err: &e, Getenv: func(string) string { return "" }, Files: c.files,
		Connect: func(tool.Connection) (client.Doer, error) { return c, nil },
	}
	status = Run(context.Background(), t, append([]string{"snapshot"}, strings.Fields(line)...))
	return status, o.String(), e.String()
}

func newConsole(t *testing.T) *console {
	s := store.New()
	b := &store.Batch{Time: 1}
	for i := range 20 {
		b.Commands = append(b.Commands, store.Command{Op: store.OpSet, Key: fmt.Sprintf("/k%d", i), Value: "v"})
	}
	s.Apply(b, nil)
	var p bytes.Buffer
	_, err := archive.New(archive.Meta{Cluster: "abc", Member: "7", Name: "n1", Taken: time.Unix(1.6e9, 0).UTC()}, s.View()).WriteTo(&p)
	require.NoError(t, err)
	return &console{files: tool.Memory{}, body: p.Bytes()}
}

func TestSaveInspectVerify(t *testing.T) {
	c := newConsole(t)
	status, out, errs := c.run("save b.snap --endpoints m1:2379")
	require.Zero(t, status, errs)
	assert.Regexp(t, `^saved b.snap: 20 keys at index 20, under 1 KiB, hash [0-9a-f]{16}\n$`, out)
	assert.Equal(t, "http://m1:2379", c.asked[0].Endpoint)
	assert.Equal(t, "/v2/snapshot", c.asked[0].Path)
	assert.Empty(t, c.asked[0].Query)
	assert.Equal(t, c.body, c.files["b.snap"])

	_, out, _ = c.run("verify b.snap")
	assert.Regexp(t, `^b.snap is whole: 20 keys at index 20, hash [0-9a-f]{16}\n$`, out)
	_, out, _ = c.run("inspect b.snap")
	assert.Contains(t, out, "format:  1\ncluster: abc\nmember:  7 n1\ntaken:   2020-09-13 12:26:40 UTC\nindex:   20\nkeys:    20\n")
	_, out, _ = c.run("inspect b.snap -o json")
	var d map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &d))
	assert.EqualValues(t, 20, d["index"])
	assert.EqualValues(t, 1, d["format"])

	c.run("save b.snap --local")
	assert.Equal(t, "quorum=false", c.asked[1].Query)

	c.members = `{"id":"1","clientURLs":["http://m2:2379"]}` // m1 is a proxy
	c.run("save b.snap --endpoints m1:2379")
	assert.Equal(t, "http://m2:2379", c.asked[2].Endpoint)
	c.run("save b.snap --endpoints m2:2379")
	assert.Equal(t, "http://m2:2379", c.asked[3].Endpoint)
}

func TestEveryRefusalSaysWhatAndWhere(t *testing.T) {
	c := newConsole(t)
	whole := c.body
	c.body = whole[:len(whole)/2]
	status, _, errs := c.run("save b.snap")
	assert.Equal(t, 1, status)
	assert.Regexp(t, `^keelson snapshot: save b.snap: the backup did not arrive whole \(damaged at byte \d+: cut short.*nothing was written`, errs)
	assert.Empty(t, c.files)

	c.fail = errors.New("dial m1: connection refused")
	_, _, errs = c.run("save b.snap")
	assert.Equal(t, "keelson snapshot: save: no member answered\nerror #0: dial m1: connection refused\nerror #1: dial m1: connection refused\n"+
		"hint: if the majority is lost for good, --local takes what one member has\n", errs)

	rotten := bytes.Clone(whole)
	rotten[len(rotten)/2] ^= 1
	c.files["rotten"] = rotten
	newer := bytes.Clone(whole)
	newer[8] = 9
	c.files["newer"] = newer
	for line, want := range map[string]string{
		"verify none":                  "keelson snapshot: none: file does not exist\n",
		"verify rotten":                "keelson snapshot: rotten: damaged at byte ",
		"inspect rotten":               "keelson snapshot: rotten: damaged at byte ",
		"inspect newer":                "keelson snapshot: newer: archive format 9 is not known here, this program reads 1: use the version",
		"restore x":                    "keelson snapshot restore: --data-dir is required\n",
		"verify":                       "keelson snapshot verify: want the name of one file, have 0 arguments\n",
		"frobnicate":                   `keelson snapshot: unknown command "frobnicate"`,
		"restore rotten --data-dir /d": "keelson snapshot: restore rotten: damaged at byte ",
	} {
		status, _, errs := c.run(line)
		assert.NotZero(t, status, line)
		assert.True(t, strings.HasPrefix(errs, want), "%s: %s", line, errs)
	}
	_, err := c.files.List("/d")
	assert.Error(t, err)
}

// Members made from one file are one cluster; from another file, another.
func TestRestore(t *testing.T) {
	c := newConsole(t)
	c.files["b"] = c.body
	cluster := " --initial-cluster a=http://a:2380,b=http://b:2380 --initial-advertise-peer-urls "
	seen := map[string]bool{}
	for _, line := range []string{
		"restore b --data-dir /1 --name a" + cluster + "http://a:2380",
		"restore b --data-dir /2 --name b" + cluster + "http://b:2380",
	} {
		status, out, errs := c.run(line)
		require.Zero(t, status, errs)
		seen[out[strings.LastIndex(out, " "):]] = true
	}
	assert.Len(t, seen, 1, "one cluster")
	names, err := c.files.List("/1")
	require.NoError(t, err)
	assert.Equal(t, []string{"identity", "member/snapshot", "member/wal-0000000000000001"}, names)

	_, _, errs := c.run("restore b --data-dir /1 --name a" + cluster + "http://a:2380")
	assert.Equal(t, "keelson snapshot: restore into /1: the directory is not empty: name another one, or move it away\n", errs)
	_, _, errs = c.run("restore b --data-dir /3 --name z" + cluster + "http://a:2380")
	assert.Equal(t, "keelson snapshot: restore b: couldn't find local name \"z\" in the initial cluster configuration: it has a,b: give this machine's name there as --name, or list it\n", errs)
	_, out, _ := c.run("restore b --data-dir /4 --initial-cluster-token other --name a" + cluster + "http://a:2380")
	assert.NotContains(t, seen, out[strings.LastIndex(out, " "):])
}
