package member

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

// cluster answers requests by their method and path; of several answers to one each
// comes once, and the last one for ever.
type cluster struct {
	answers map[string][]answer
	now     time.Duration
}

type answer struct {
	status int
	body   string
	err    error
}

func (c *cluster) Do(_ context.Context, r *client.Request) (*client.Response, error) {
	name := r.Method + " " + r.Path
	list := c.answers[name]
	if len(list) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	if len(list) > 1 {
		c.answers[name] = list[1:]
	}
	if list[0].err != nil {
		return nil, list[0].err
	}
	return &client.Response{Status: list[0].status, Body: io.NopCloser(strings.NewReader(list[0].body))}, nil
}

func (c *cluster) Now() time.Duration { return c.now }
func (c *cluster) Float64() float64   { return 0.5 }
func (c *cluster) Sleep(_ context.Context, d time.Duration) error {
	c.now += d
	return nil
}

func (c *cluster) run(line string) (status int, out, errs string) {
	var o, e bytes.Buffer
	t := &tool.Tool{
		Out: &o, Err: &e, Getenv: func(string) string { return "" },
		Connect: func(tool.Connection) (client.Doer, error) { return c, nil },
	}
	status = Run(context.Background(), t, append([]string{"member"}, strings.Fields(line)...))
	return status, o.String(), e.String()
}

const (
	two     = `{"members":[{"id":"1f","name":"a","peerURLs":["http://a:2380"],"clientURLs":["http://a:2379"]},{"id":"2f","name":"b","peerURLs":["http://b:2380"],"clientURLs":["http://b:2379"]}]}`
	leader  = `{"id":"1f","name":"a","peerURLs":["http://a:2380"],"clientURLs":["http://a:2379"]}`
	learner = `{"leader":"1f","members":[{"id":"3f","name":"","votes":false,"state":"not heard of","match":0,"behind":7,"replaces":"2f","waits":"it has not been heard of: start it, or remove it"}]}`
	voter   = `{"leader":"1f","members":[{"id":"3f","name":"b","votes":true,"state":"replicating","match":7,"behind":0}]}`
)

func running() *cluster {
	return &cluster{answers: map[string][]answer{
		"GET /v2/members":             {{200, two, nil}},
		"GET /v2/members/leader":      {{200, leader, nil}},
		"GET /v2/stats/members":       {{200, learner, nil}, {200, learner, nil}, {503, "", nil}, {200, voter, nil}},
		"POST /v2/members/2f/replace": {{201, `{"id":"3f","name":"","peerURLs":["http://b:2380"],"clientURLs":[]}`, nil}},
		"DELETE /v2/members/2f":       {{409, `{"message":"cannot remove member 2f: would leave 1"}`, nil}},
		"PUT /v2/members/2f":          {{204, "", nil}},
	}}
}

func TestReplaceWaits(t *testing.T) {
	status, out, errs := running().run("replace b --wait")
	assert.Equal(t, 0, status)
	assert.Equal(t, "member 3f takes the place of 2f (b)\non the machine http://b:2380: stop keelson if it runs, clear DATA-DIR and start it as before\nmember 3f votes\n", out)
	assert.Equal(t, "3f: it has not been heard of: start it, or remove it\n3f: no answer of the leader\n", errs)
	c := running()
	c.answers["GET /v2/stats/members"] = []answer{{200, learner, nil}}
	status, _, errs = c.run("replace b --wait --wait-max 3s")
	assert.Equal(t, 1, status)
	assert.Contains(t, errs, "3f does not vote after 3s; it goes on by itself")
}

func TestVerbs(t *testing.T) {
	for _, c := range []struct {
		line   string
		status int
		out    string
		errs   string
	}{
		{"list", 0, "ID  NAME  ROLE    PEER URLS      CLIENT URLS\n1f  a     leader  http://a:2380  http://a:2379\n2f  b     member  http://b:2380  http://b:2379\n", ""},
		{"replace 2f -o json", 0, "{\n  \"id\": \"3f\",\n  \"name\": \"\",\n  \"peerURLs\": [\n    \"http://b:2380\"\n  ],\n  \"clientURLs\": []\n}\n", ""},
		{"remove b", 1, "", "keelson member: remove: cannot remove member 2f: would leave 1\n"},
		{"remove c", 1, "", "keelson member: remove: no member has the ID or name c: see \"keelson member list\"\n"},
		{"update b http://b:1,http://c:1", 0, "member 2f (b) is found at http://b:1,http://c:1\n", ""},
		{"promote-status", 0, "ID  NAME  VOTES  STATE         ENTRIES BEHIND  NOTE\n3f  -     no     not heard of  7               takes the place of 2f; it has not been heard of: start it, or remove it\n", ""},
		{"add x", 2, "", "keelson member add: want NAME PEER-URL[,PEER-URL…]\n"},
		{"list x", 2, "", "keelson member list: want no arguments\n"},
		{"replace", 2, "", "keelson member replace: want at least ID-or-NAME\n"},
		{"list -o xml", 2, "", "keelson member list: --output=xml: want simple or json\n"},
		{"bogus", 2, "", "keelson member: unknown command \"bogus\": want list, add, replace, remove, update or promote-status\n"},
	} {
		status, out, errs := running().run(c.line)
		assert.Equal(t, c.status, status, c.line)
		assert.Equal(t, c.out, out, c.line)
		assert.Equal(t, c.errs, errs, c.line)
	}
}

func TestUnknownOutcome(t *testing.T) {
	c := running()
	c.answers["DELETE /v2/members/2f"] = []answer{{500, `{"message":"Internal Server Error: late"}`, nil}}
	status, _, errs := c.run("remove b")
	assert.Equal(t, exitUnknown, status)
	assert.Contains(t, errs, "keelson member remove: outcome unknown: it may have been done, or be done soon: ")
	assert.True(t, strings.HasSuffix(errs, "\nhint: see \"keelson member list\" before you try again\n"), errs)
	assert.NotContains(t, errs, "\n\n")
}

// A name that cannot be told from another in the list would make that list useless.
func TestNamesOfNewMembersAreTheirOwn(t *testing.T) {
	for line, want := range map[string]string{
		"add a http://c:2380":     "member 1f is called a: choose another name, or \"keelson member replace a\"",
		"add a=b http://c:2380":   `NAME "a=b": want one that is not empty`,
		"add c,d http://c:2380":   `NAME "c,d": want one that is not empty`,
		"add c\xff http://c:2380": `NAME "c\xff": want one that is not empty`,
		"add c\a http://c:2380":   `NAME "c\a": want one that is not empty`,
	} {
		status, out, errs := running().run(line)
		assert.NotZero(t, status, line)
		assert.Empty(t, out)
		assert.Contains(t, errs, want)
	}
}

// Others that were added and have not started have no name yet.
func TestTheListOfANewMemberCanBeStartedWith(t *testing.T) {
	c := running()
	with := strings.Replace(two, "]}]}", `]},{"id":"4f","name":"","peerURLs":["http://d:2380"],"clientURLs":[],"isLearner":true},{"id":"3f","name":"","peerURLs":["http://c:2380"],"clientURLs":[]}]}`, 1)
	c.answers["GET /v2/members"] = []answer{{200, with, nil}}
	c.answers["POST /v2/members"] = []answer{{201, `{"id":"3f","name":"","peerURLs":["http://c:2380"],"clientURLs":[]}`, nil}}
	status, out, errs := c.run("add c http://c:2380")
	assert.Zero(t, status, errs)
	assert.Contains(t, out, "--initial-cluster a=http://a:2380,b=http://b:2380,4f=http://d:2380,c=http://c:2380\n")
}
