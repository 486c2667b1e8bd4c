package gateway

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/store"
)

// guarded is a fake that keeps users and roles. Work waits until it is released.
type guarded struct {
	*fake
	jobs []func()
	mux  *Mux
}

func (g *guarded) Auth() (*auth.State, store.Index) {
	n, missing := g.View().Get(store.SecretKey, false)
	if missing != nil {
		return &auth.State{}, 0
	}
	s, err := auth.Decode(n.Value)
	if err != nil {
		panic(err)
	}
	return s, n.Modified
}

func (g *guarded) Work(fn, done func()) { g.jobs = append(g.jobs, fn, done) }

func (g *guarded) work() {
	for len(g.jobs) > 0 {
		job := g.jobs[0]
		g.jobs = g.jobs[1:]
		job()
	}
}

// Propose tells watches first who may still see what, as a node does.
func (g *guarded) Propose(c store.Command, done func(store.Result)) {
	if c.Key == store.SecretKey {
		g.number++
		res := g.store.Apply(&store.Batch{Commands: []store.Command{c}}, nil)[0]
		if !res.Stale {
			g.mux.AuthChanged()
		}
		g.run(func() { done(res) })
		return
	}
	g.fake.Propose(c, done)
}

// as sends a request with credentials, "name:password" or none.
func (g *guarded) as(who, line string) *Reply {
	return g.begin(who, line).reply
}

func (g *guarded) begin(who, line string) *reader {
	req := request(line)
	if strings.HasPrefix(req.Path, authPath) {
		req.ContentType = "application/json"
	}
	req.User, req.Password, _ = strings.Cut(who, ":")
	r := newReader()
	g.mux.Serve(req, r)
	g.work()
	return r
}

func newGuarded() *guarded {
	g := &guarded{fake: newFake()}
	g.mux = New(g, Options{Passwords: auth.Bcrypt(auth.CostMin)})
	return g
}

// enabled is a guarded server with the users root, ann (role team: reads /team and
// all in it, writes /team/w) and bob (no role), and a guest who may read /pub.
func enabled(t require.TestingT) *guarded {
	g := newGuarded()
	for _, line := range []string{
		`PUT /v2/auth/users/root {"user":"root","password":"r"}`,
		`PUT /v2/auth/users/ann {"user":"ann","password":"a"}`,
		`PUT /v2/auth/users/bob {"user":"bob","password":"b"}`,
		`PUT /v2/auth/roles/team {"role":"team","permissions":{"kv":{"read":["/team/*"],"write":["/team/w"]}}}`,
		`PUT /v2/auth/users/ann {"user":"ann","grant":["team"]}`,
		`PUT /v2/auth/roles/guest {"role":"guest","permissions":{"kv":{"read":["/pub"]}}}`,
		`PUT /v2/keys/team/x value=1`,
		`PUT /v2/keys/pub value=1`,
		`PUT /v2/keys/file value=1`,
		`PUT /v2/auth/enable`,
	} {
		r := g.as("", line)
		require.NotNil(t, r, line)
		require.Less(t, r.Status, 300, "%s: %s", line, r.Body)
	}
	return g
}

func TestWhoMayDoWhat(t *testing.T) {
	g := enabled(t)
	for _, c := range []struct {
		who, line string
		status    int
	}{
		{"", "GET /v2/keys/pub", 200},
		{"", "GET /v2/keys/pub?quorum=false", 200},
		{"", "GET /v2/keys/team/x", 401},
		{"", "HEAD /v2/keys/team/x", 401},
		{"", "PUT /v2/keys/pub value=2", 401},
		{"", "GET /v2/keys/none", 401},
		{"bob:b", "GET /v2/keys/pub", 401}, // a known user is no guest
		{"bob:wrong", "GET /v2/keys/pub", 401},
		{"nobody:r", "GET /v2/keys/pub", 401},
		{"ann:a", "GET /v2/keys/team/x", 200},
		{"ann:x", "GET /v2/keys/team/x", 401},
		{"ann:a", "GET /v2/keys/team", 401},
		{"ann:a", "GET /v2/keys/team/", 200},
		{"ann:a", "GET /v2/keys/team/?recursive=true", 200},
		{"ann:a", "GET /v2/keys/?recursive=true", 401},
		{"ann:a", "PUT /v2/keys/team/w value=1", 201},
		{"ann:a", "PUT /v2/keys/team/y value=1", 401},
		{"ann:a", "DELETE /v2/keys/team/w?recursive=true", 401},
		{"ann:a", "DELETE /v2/keys/team/w", 200},
		{"ann:a", "GET /v2/keys/team/?wait=true&recursive=true", 200},
		{"ann:a", "GET /v2/keys/?wait=true&recursive=true", 401},
		{"ann:a", "GET /v2/keys/team/x?recursive=maybe", 400},
		{"ann:a", "GET /v2/mirror?prefix=/team", 401},
		{"ann:a", "GET /v2/mirror?prefix=/team/x", 200},
		{"ann:a", "GET /v2/snapshot", 401},
		{"root:r", "GET /v2/snapshot", 200},
		{"ann:a", "DELETE /v2/members/123", 401},
		{"root:r", "DELETE /v2/members/123", 501},
		{"", "GET /v2/members", 200},
		{"", "GET /health", 200},
		{"", "GET /v2/auth/enable", 200},
		{"", "GET /v2/auth/users", 401},
		{"ann:a", "GET /v2/auth/users/ann", 401},
		{"root:r", "GET /v2/auth/users", 200},
		{"root:r", "GET /v2/keys/?recursive=true", 200},
		{"root:r", "PUT /v2/keys/anything value=1", 201},
	} {
		r := g.as(c.who, c.line)
		if assert.NotNil(t, r, c) {
			assert.Equal(t, c.status, r.Status, "%v: %s", c, r.Body)
		}
	}
	r := g.as("", "PUT /v2/keys/pub value=2")
	assert.Equal(t, `{"errorCode":110,"message":"The request requires user authentication","cause":"Insufficient credentials","index":0}`+"\n", string(r.Body))
	assert.Equal(t, "0", r.header("X-Etcd-Index"))
	r = g.as("", "GET /v2/auth/users")
	assert.Equal(t, `{"message":"Insufficient credentials"}`, string(r.Body))
}

// The right to what is in a directory is not the right to a file of its name.
func TestASlashIsNoWayAround(t *testing.T) {
	g := enabled(t)
	require.Equal(t, 200, g.as("root:r", `PUT /v2/auth/roles/team {"role":"team","grant":{"kv":{"read":["/file/*"],"write":["/file/*"]}}}`).Status)
	for _, line := range []string{"GET /v2/keys/file/", "PUT /v2/keys/file/ value=2", "DELETE /v2/keys/file/"} {
		assert.Equal(t, 401, g.as("ann:a", line).Status, line)
	}
}

func TestListingsShowWhatMayBeRead(t *testing.T) {
	g := enabled(t)
	require.Equal(t, 201, g.as("root:r", "PUT /v2/keys/team/sub/z value=1").Status)
	require.Equal(t, 200, g.as("root:r", `PUT /v2/auth/roles/guest {"role":"guest","grant":{"kv":{"read":["/team","/team/sub/*"]}}}`).Status)
	r := g.as("", "GET /v2/keys/team")
	assert.Equal(t, 200, r.Status)
	assert.NotContains(t, string(r.Body), "/team/x")
	assert.Contains(t, string(r.Body), "/team/sub")
}

// The key that holds users and roles is not there for anybody.
func TestTheSecretIsNotThere(t *testing.T) {
	for _, g := range []*guarded{newGuarded(), enabled(t)} {
		for line, status := range map[string]int{
			"GET /v2/keys" + store.SecretKey:                   404,
			"GET /v2/keys" + store.SecretKey + "/x":            404,
			"GET /v2/keys" + store.SecretKey + "?wait=true":    404,
			"PUT /v2/keys" + store.SecretKey + " value=x":      400,
			"POST /v2/keys" + store.SecretKey + " value=x":     400,
			"DELETE /v2/keys" + store.SecretKey:                400,
			"GET /v2/keys/%5Fkeelson.auth":                     404,
			"GET /v2/keys/?recursive=true":                     200,
			"GET /v2/mirror?prefix=/":                          200,
			"GET /v2/mirror?prefix=/&wait=true&from=99":        400,
			"GET /v2/mirror?prefix=" + store.SecretKey:         200,
			"GET /v2/keys/?wait=true&recursive=true&stream=1":  200,
			"GET /v2/keys/?wait=true&recursive=true&waitIndex": 400,
		} {
			r := g.begin("root:r", line)
			assert.Equal(t, status, r.reply.Status, line)
			assert.Equal(t, 201, g.as("root:r", `PUT /v2/auth/users/u {"user":"u","password":"p"}`).Status)
			assert.Equal(t, 200, g.as("root:r", `DELETE /v2/auth/users/u`).Status)
			assert.NotContains(t, string(r.reply.Body)+strings.Join(r.chunks, ""), "$2a$", line)
		}
	}
}

func TestRevokedWatchesEnd(t *testing.T) {
	g := enabled(t)
	w := g.begin("ann:a", "GET /v2/keys/team/?wait=true&recursive=true&stream=true")
	guest := g.begin("", "GET /v2/keys/pub?wait=true&stream=true")
	g.as("root:r", "PUT /v2/keys/team/new value=1")
	require.Len(t, w.chunks, 1)
	require.Equal(t, 200, g.as("root:r", `PUT /v2/auth/users/bob {"user":"bob","password":"b2"}`).Status)
	assert.Zero(t, w.ended, "what has nothing to do with ann")
	require.Equal(t, 200, g.as("root:r", `PUT /v2/auth/users/ann {"user":"ann","revoke":["team"]}`).Status)
	assert.Equal(t, 1, w.ended)
	g.as("root:r", "PUT /v2/keys/team/new value=2")
	g.as("root:r", "PUT /v2/keys/pub value=2")
	assert.Len(t, w.chunks, 1)
	assert.Len(t, guest.chunks, 1)
	assert.Equal(t, 401, g.as("ann:a", "GET /v2/keys/team/?wait=true&recursive=true").Status)
}

func TestAChangedPasswordEndsWatches(t *testing.T) {
	g := enabled(t)
	w := g.begin("ann:a", "GET /v2/keys/team/x?wait=true")
	require.Equal(t, 200, g.as("root:r", `PUT /v2/auth/users/ann {"user":"ann","password":"a2"}`).Status)
	assert.Equal(t, 1, w.ended)
	assert.Equal(t, 401, g.as("ann:a", "GET /v2/keys/team/x").Status)
	assert.Equal(t, 200, g.as("ann:a2", "GET /v2/keys/team/x").Status)
}

// A file that becomes a directory would show its value to those who may only see
// what is in it.
func TestEventsAreJudgedOneByOne(t *testing.T) {
	g := enabled(t)
	w := g.begin("ann:a", "GET /v2/keys/team/?wait=true&recursive=true&stream=true")
	g.as("root:r", "DELETE /v2/keys/team?recursive=true")
	require.Len(t, w.chunks, 1, "the end of the directory is told")
	g.as("root:r", "PUT /v2/keys/team value=secret")
	g.as("root:r", "PUT /v2/keys/team?dir=true")
	for _, c := range w.chunks {
		assert.NotContains(t, c, "secret")
	}
}

// A write that was judged before a right was taken away, and is applied after, does
// not happen.
func TestWritesAreJudgedByTheStateTheyMeet(t *testing.T) {
	g := enabled(t)
	revoke := g.begin("root:r", `PUT /v2/auth/roles/team {"role":"team","revoke":{"kv":{"write":["/team/w"]}}}`)
	require.Equal(t, 200, revoke.reply.Status)
	// The command as it was when it set out.
	_, index := g.Auth()
	res := g.apply(store.Command{Op: store.OpSet, Key: "/team/w", Value: "late", Guarded: true, Guard: index - 1})
	assert.True(t, res[0].Stale)
	assert.Equal(t, 401, g.as("ann:a", "PUT /v2/keys/team/w value=1").Status)
}

// Two administrators who change users at once both succeed.
func TestNoChangeIsLost(t *testing.T) {
	g := enabled(t)
	g.held = true
	one := newReader()
	two := newReader()
	for name, r := range map[string]*reader{"u1": one, "u2": two} {
		req := request(`PUT /v2/auth/users/` + name + ` {"user":"` + name + `","password":"p"}`)
		req.User, req.Password = "root", "r"
		g.mux.Serve(req, r)
	}
	for range 10 {
		g.release()
		g.work()
	}
	g.held = false
	g.release()
	require.NotNil(t, one.reply)
	require.NotNil(t, two.reply)
	assert.Equal(t, 201, one.reply.Status)
	assert.Equal(t, 201, two.reply.Status)
	s, _ := g.Auth()
	_, ok1 := s.User("u1")
	_, ok2 := s.User("u2")
	assert.True(t, ok1 && ok2)
}

// Only one password is checked at a time, and those who have proved who they are do
// not wait for those who guess.
func TestGuessingIsBounded(t *testing.T) {
	g := enabled(t)
	require.Equal(t, 200, g.as("ann:a", "GET /v2/keys/team/x").Status)
	full := 0
	for i := range 2 * checksMax {
		req := request("GET /v2/keys/team/x")
		req.User, req.Password = "ann", strings.Repeat("x", i+1)
		r := newReader()
		g.mux.Serve(req, r)
		if r.reply != nil {
			full++
			assert.Equal(t, 401, r.reply.Status)
		}
	}
	assert.Len(t, g.jobs, 2, "one check, and what follows it")
	assert.Equal(t, checksMax-1, full)
	req := request("GET /v2/keys/team/x")
	req.User, req.Password = "ann", "a"
	r := newReader()
	g.mux.Serve(req, r)
	assert.Equal(t, 200, r.reply.Status)
}

func TestPeersAreNotJudged(t *testing.T) {
	g := enabled(t)
	req := request("GET /members")
	req.Peer = true
	r := newReader()
	g.mux.Serve(req, r)
	assert.Equal(t, 200, r.reply.Status)
}

// Where nobody is asked who he is, there is nothing that users and roles protect.
func TestPeersGetNoMoreThanTheyNeed(t *testing.T) {
	for _, g := range []*guarded{newGuarded(), enabled(t)} {
		for _, line := range []string{
			"GET /v2/keys/team/x", "PUT /v2/keys/team/x value=1", "GET /v2/keys/?wait=true&recursive=true",
			"GET /v2/mirror?prefix=/", "GET /v2/snapshot", "GET /v2/auth/users", "DELETE /v2/auth/enable",
			"GET /v2/members", "DELETE /v2/members/1f", "DELETE /members/1f", "PUT /members/1f",
			"POST /members/1f", "POST /v2/members/1f/replace", "POST /members/replace", "GET /v2/stats/self",
		} {
			req := request(line)
			req.Peer = true
			r := newReader()
			g.mux.Serve(req, r)
			assert.Equal(t, 404, r.reply.Status, line)
			assert.Empty(t, r.chunks, line)
		}
	}
}

func TestLocalReadsOutsideTheLoopAreOff(t *testing.T) {
	g := enabled(t)
	_, ok := g.mux.LocalGet(g.View(), &Info{}, request("GET /v2/keys/pub?quorum=false"))
	assert.False(t, ok)
}

// Whatever patterns a reader has and whatever is written, a stream never shows him a
// value of a key that he may not read.
func TestStreamsShowOnlyWhatMayBeRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := enabled(t)
		pattern := rapid.SampledFrom([]string{"/a", "/a/*", "/a/b", "/a/b/*", "/a*", "/b/*"})
		read := rapid.SliceOfNDistinct(pattern, 1, 3, rapid.ID).Draw(t, "read")
		body := `{"role":"r","permissions":{"kv":{"read":["` + strings.Join(read, `","`) + `"]}}}`
		require.Equal(t, 201, g.as("root:r", "PUT /v2/auth/roles/r "+body).Status)
		require.Equal(t, 200, g.as("root:r", `PUT /v2/auth/users/bob {"user":"bob","grant":["r"]}`).Status)
		key := rapid.SampledFrom([]string{"/a", "/a/", "/a/b", "/a/b/", "/b", "/b/", "/"})
		w := g.begin("bob:b", "GET /v2/keys"+key.Draw(t, "watched")+"?wait=true&stream=true&recursive="+rapid.SampledFrom([]string{"0", "1"}).Draw(t, "recursive"))
		target := rapid.SampledFrom([]string{"/a", "/a/b", "/a/b/c", "/ab", "/b", "/b/c"})
		for range rapid.IntRange(1, 10).Draw(t, "writes") {
			k := target.Draw(t, "key")
			g.as("root:r", rapid.SampledFrom([]string{"PUT /v2/keys" + k + " value=V" + k, "DELETE /v2/keys" + k + "?recursive=true", "PUT /v2/keys" + k + "?dir=true"}).Draw(t, "write"))
		}
		state, _ := g.Auth()
		u, _ := state.User("bob")
		for _, chunk := range w.chunks {
			for _, k := range []string{"/a", "/a/b", "/a/b/c", "/ab", "/b", "/b/c"} {
				if !state.Of(u).Read(k) {
					assert.NotContains(t, chunk, `"V`+k+`"`)
				}
			}
		}
	})
}
