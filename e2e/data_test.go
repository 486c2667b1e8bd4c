package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/client"
)

var setOptions = client.SetOptions{}

// content is everything that a member shows of the store, but for the times to
// live, of which only whether there is one.
func (c *cluster) content(t *testing.T, i int) string {
	t.Helper()
	e, err := c.keys(t, i).Get(t.Context(), "/", client.GetOptions{Recursive: true})
	require.NoError(t, err)
	var still func(n *client.Node)
	still = func(n *client.Node) {
		if n.TTL > 0 {
			n.TTL, n.Expiration = 1, &time.Time{}
		}
		for _, k := range n.Nodes {
			still(k)
		}
	}
	still(e.Node)
	text, err := json.MarshalIndent(e.Node, "", " ")
	require.NoError(t, err)
	return string(text)
}

// What was acknowledged is there after every member was killed at once: values,
// indexes, directories, times to live, the names of in-order keys and of members.
func TestEverythingSurvivesTheDeathOfAll(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil, "--snapshot-count", "40")
	keys, ctx := c.keys(t), within(t, 60)
	must := func(_ *client.Event, err error) {
		t.Helper()
		require.NoError(t, err)
	}
	for i := range 60 {
		must(keys.Set(ctx, fmt.Sprintf("/many/%d/key", i%20), fmt.Sprintf("value %d", i), setOptions))
	}
	must(keys.Create(ctx, "/empty", "", client.SetOptions{Dir: true}))
	must(keys.Set(ctx, "/lease", "long", client.SetOptions{TTL: time.Hour}))
	for range 3 {
		must(keys.CreateInOrder(ctx, "/queue", "job", setOptions))
	}
	must(keys.Delete(ctx, "/many/7", client.DeleteOptions{Recursive: true}))
	must(keys.CompareAndSwap(ctx, "/many/8/key", "ünïcode \u2028 <&>", client.Condition{PrevValue: "value 48"}, setOptions))
	before := c.content(t, 0)
	require.Contains(t, before, "value 59")
	members, _, err := get(ctx, c.doer, c.client[0], "/v2/members")
	require.NoError(t, err)
	for round := range 2 {
		for _, m := range c.members {
			m.Process.Kill()
		}
		for i, m := range c.members {
			<-m.ended
			c.start(t, i)
		}
		c.healthy(t)
		for i := range c.members {
			require.Equal(t, before, c.content(t, i), "%s in round %d", name(i), round)
		}
		after, _, err := get(ctx, c.doer, c.client[0], "/v2/members")
		require.NoError(t, err)
		assert.JSONEq(t, string(members), string(after))
	}
	snapshots, err := filepath.Glob(filepath.Join(c.dir, "*", "member", "snapshot"))
	require.NoError(t, err)
	assert.NotEmpty(t, snapshots, "snapshots took part")
}

// A member whose log has rotted says where, and comes back as a new one with what
// the others hold.
func TestRottenLogIsRebuiltFromTheOthers(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, nil)
	keys, ctx := c.keys(t), within(t, 60)
	for i := range 30 {
		_, err := keys.Set(ctx, fmt.Sprintf("/k%d", i), strings.Repeat("v", 100), setOptions)
		require.NoError(t, err)
	}
	victim := c.others(c.leader(t))[0]
	before, _, err := get(ctx, c.doer, c.client[victim], "/v2/stats/self")
	require.NoError(t, err)
	c.kill(victim)
	file := longest(t, filepath.Join(c.data(victim), "member", "wal-*"))
	flip(t, file)

	c.start(t, victim)
	_, err = c.keys(t, c.others(victim)...).Set(ctx, "/goes-on", "yes", setOptions)
	require.NoError(t, err)
	c.healthy(t)
	assert.Regexp(t, filepath.Base(file)+`: damaged at byte \d+`, c.members[victim].err.String())
	e, err := c.keys(t, victim).Get(ctx, "/goes-on", client.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "yes", e.Node.Value)
	assert.Equal(t, c.content(t, 0), c.content(t, victim))
	after, _, err := get(ctx, c.doer, c.client[victim], "/v2/stats/self")
	require.NoError(t, err)
	id := regexp.MustCompile(`"id":"[0-9a-f]+"`)
	assert.NotEqual(t, id.Find(before), id.Find(after), "with a new ID, so that the old one's votes count no more")
	until(t, "there are three members", func() bool {
		body, _, err := get(ctx, c.doer, c.client[0], "/v2/members")
		return err == nil && strings.Count(string(body), `"peerURLs"`) == 3
	})
}

// Where nobody else has the data, rot is refused in one line that says where it is,
// and nothing is changed: with the byte put right the member serves.
func TestRottenLogOfALoneMemberIsRefused(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, nil)
	keys, ctx := c.keys(t), within(t, 60)
	for i := range 30 {
		_, err := keys.Set(ctx, fmt.Sprintf("/k%d", i), strings.Repeat("v", 100), setOptions)
		require.NoError(t, err)
	}
	c.kill(0)
	file := longest(t, filepath.Join(c.data(0), "member", "wal-*"))
	flip(t, file)
	for range 2 {
		c.start(t, 0)
		p := c.members[0]
		assert.Equal(t, 1, p.end(t))
		said := plain(p.err.String())
		require.Len(t, said, 1, p.err.String())
		assert.Regexp(t, `^keelson: serve: .*`+filepath.Base(file)+`: damaged at byte \d+`, said[0])
	}
	flip(t, file)
	c.start(t, 0)
	c.healthy(t)
	e, err := keys.Get(ctx, "/k29", client.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("v", 100), e.Node.Value)
}

func longest(t *testing.T, pattern string) (file string) {
	t.Helper()
	all, err := filepath.Glob(pattern)
	require.NoError(t, err)
	var most int64
	for _, f := range all {
		info, err := os.Stat(f)
		require.NoError(t, err)
		if info.Size() > most {
			file, most = f, info.Size()
		}
	}
	require.NotEmpty(t, file)
	return file
}

// flip turns over one bit in the middle of what was written to a file, whose end
// may be room kept in advance.
func flip(t *testing.T, file string) {
	t.Helper()
	p, err := os.ReadFile(file)
	require.NoError(t, err)
	used := len(strings.TrimRight(string(p), "\x00"))
	p[used/2] ^= 1
	require.NoError(t, os.WriteFile(file, p, 0o600))
}

// plain gives the lines that are not of the log.
func plain(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "level=") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}
