package discovery

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/store"
)

// backend is a member that is alone and writes at once.
type backend struct {
	store    *store.Store
	watchers *store.Watchers
	number   uint64
	now      store.Time
	down     bool
}

func (b *backend) Propose(c store.Command, done func(store.Result)) {
	if b.down {
		done(store.Result{Err: &store.Error{Code: store.CodeRaftInternal, Cause: "no leader"}})
		return
	}
	b.number++
	c.ID = store.ID{Node: 1, Incarnation: 1, Number: b.number}
	done(b.store.Apply(&store.Batch{Time: b.now, Commands: []store.Command{c}}, b.watchers.Notify)[0])
}

func (b *backend) ReadIndex(done func(*store.Error)) { done(nil) }
func (b *backend) View() *store.View                 { return b.store.View() }
func (b *backend) Info() *gateway.Info               { return &gateway.Info{Leader: 1, Self: 1} }

func (b *backend) Watch(key string, recursive bool, fn func(*store.Event)) func() {
	return b.watchers.Add(key, recursive, fn).Cancel
}

// reply takes one answer.
type reply struct {
	head *gateway.Reply
	body string
	over bool
}

func (r *reply) Reply(p *gateway.Reply) { r.head, r.body, r.over = p, r.body+string(p.Body), !p.More }
func (r *reply) Chunk(p []byte) bool    { r.body += string(p); return true }
func (r *reply) End()                   { r.over = true }

func (r *reply) header(name string) string {
	for _, h := range r.head.Header {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}

type service struct {
	*backend
	*Service
}

func newService(o Options) *service {
	b := &backend{store: store.New(), watchers: store.NewWatchers()}
	o.Host = "http://disc:8087"
	return &service{b, New(gateway.New(b, gateway.Options{}), rand.New(rand.NewPCG(1, 2)), o)}
}

// do asks with a line such as "PUT /new?size=3 form".
func (s *service) do(line string) *reply {
	method, rest, _ := strings.Cut(line, " ")
	target, form, _ := strings.Cut(rest, " ")
	path, query, _ := strings.Cut(target, "?")
	req := &gateway.Request{Method: method, Path: path, Query: query}
	if form != "" {
		req.ContentType, req.Body = "application/x-www-form-urlencoded; charset=utf-8", []byte(form)
	}
	r := &reply{}
	s.Serve(req, r)
	return r
}

func (s *service) token(t *testing.T, query string) string {
	t.Helper()
	r := s.do("POST /new" + query)
	require.Equal(t, 200, r.head.Status, r.body)
	token, ok := strings.CutPrefix(r.body, "http://disc:8087")
	require.True(t, ok && IsToken(token[1:]), r.body)
	return token
}

func TestTokensAreMadeByAnyMethod(t *testing.T) {
	s := newService(Options{})
	for line, size := range map[string]string{
		"GET /new": "3", "PUT /new?size=5": "5", "POST /new size=7": "7", "DELETE /new?size=-1": "-1",
	} {
		r := s.do(line)
		require.Equal(t, 200, r.head.Status)
		got := s.do("GET " + strings.TrimPrefix(r.body, "http://disc:8087") + "/_config/size")
		assert.Contains(t, got.body, `"value":"`+size+`"`, line)
	}
	r := s.do("GET /new?size=x")
	assert.Equal(t, 400, r.head.Status)
	assert.Equal(t, "strconv.Atoi: parsing \"x\": invalid syntax\n", r.body)
	assert.Equal(t, 400, s.do("GET /new?ttl=never").head.Status)
	s.down = true
	r = s.do("GET /new")
	assert.Equal(t, 400, r.head.Status)
	assert.Contains(t, r.body, "Unable to generate token")
}

func TestATokenIsADirectoryOfTheStore(t *testing.T) {
	s := newService(Options{})
	token := s.token(t, "")
	watch := s.do("GET " + token + "?wait=true&recursive=true")
	r := s.do("PUT " + token + "/1a?prevExist=false value=a=http://x:1")
	assert.Equal(t, 201, r.head.Status)
	assert.Contains(t, r.body, `"key":"/_etcd/registry`+token+`/1a"`)
	assert.Contains(t, watch.body, `"value":"a=http://x:1"`)
	assert.True(t, watch.over)
	assert.Contains(t, s.do("PUT "+token+"/1a?prevExist=false value=b").body, `"errorCode":105`)
	list := s.do("GET " + token + "/")
	assert.Contains(t, list.body, `"value":"a=http://x:1"`)
	assert.NotContains(t, list.body, "_config")
	assert.Equal(t, 200, s.do("DELETE "+token+"/1a").head.Status)
}

func TestTheSizeOfATokenStays(t *testing.T) {
	s := newService(Options{})
	token := s.token(t, "")
	for _, line := range []string{"PUT %/_config/size value=9", "DELETE %/_config/size", "DELETE %", "POST % value=1"} {
		r := s.do(strings.Replace(line, "%", token, 1))
		assert.Equal(t, 405, r.head.Status, line)
		assert.NotEmpty(t, r.header("Allow"))
	}
	for _, line := range []string{"PUT %/_config value=9", "DELETE %/_config?recursive=true", "PUT %/_config%2fsize value=9", "PUT %/a/b value=1", "DELETE %/..?recursive=true", "DELETE %/%2e%2e?recursive=true"} {
		assert.Equal(t, 404, s.do(strings.Replace(line, "%", token, 1)).head.Status, line)
	}
	assert.Contains(t, s.do("GET "+token+"/_config/size").body, `"value":"3"`)
}

func TestTokensExpireOnRequest(t *testing.T) {
	s := newService(Options{TTL: time.Hour})
	hour, day := s.token(t, ""), s.token(t, "?ttl=24h&size=1")
	s.do("PUT " + hour + "/1 value=a=http://x:1")
	alive := func(token string) bool { return s.do("GET "+token+"/_config/size").head.Status == 200 }
	s.now = store.Time(59 * time.Minute)
	s.do("PUT " + day + "/1 value=a=http://x:1")
	assert.True(t, alive(hour) && alive(day))
	s.now = store.Time(61 * time.Minute)
	s.do("PUT " + day + "/1 value=a=http://x:1")
	assert.False(t, alive(hour))
	assert.True(t, alive(day))
	s.now = store.Time(25 * time.Hour)
	s.do("PUT /" + strings.Repeat("0", 32) + "/1 value=a")
	assert.False(t, alive(day))
}

func TestOnAServerOfItsOwn(t *testing.T) {
	s := newService(Options{Alone: true})
	assert.Equal(t, "OK", s.do("GET /health").body)
	assert.Equal(t, 302, s.do("GET /").head.Status)
	assert.Contains(t, s.do("GET /robots.txt").body, "Disallow: /")
	assert.Equal(t, 404, s.do("GET /v2/keys/").head.Status)
	s.down = true
	assert.Equal(t, 400, s.do("GET /health").head.Status)
}

func TestAMemberKeepsItsOwnPages(t *testing.T) {
	s := newService(Options{})
	token := s.token(t, "")
	for path, ours := range map[string]bool{
		"/new": true, token: true, token + "/1": true, "/" + strings.Repeat("ab", 20): true,
		"/health": false, "/": false, "/v2/keys/new": false, "/" + strings.Repeat("AB", 16): false, "/version": false,
	} {
		assert.Equal(t, ours, s.Handles(&gateway.Request{Path: path}), path)
		assert.False(t, s.Handles(&gateway.Request{Path: path, Peer: true}), path)
	}
}

// web is a store elsewhere, reached over HTTP.
type web struct {
	keys Keys
	sent []*env.WebRequest
	gone bool
}

type relay struct{ r env.WebReceiver }

func (x relay) Reply(p *gateway.Reply) {
	var h []env.WebHeader
	for _, one := range p.Header {
		h = append(h, env.WebHeader(one))
	}
	x.r.Head(p.Status, h)
	x.r.Chunk(p.Body)
	if !p.More {
		x.r.End(nil)
	}
}
func (x relay) Chunk(p []byte) bool { x.r.Chunk(p); return true }
func (x relay) End()                { x.r.End(nil) }

func (w *web) Do(req *env.WebRequest, r env.WebReceiver) func() {
	w.sent = append(w.sent, req)
	if w.gone {
		r.End(env.ErrUnsent)
		return func() {}
	}
	target, query, _ := strings.Cut(strings.TrimPrefix(req.URL, "http://store:2379"), "?")
	q := &gateway.Request{Method: req.Method, Path: target, Query: query, Body: req.Body}
	for _, h := range req.Header {
		if h.Name == "Content-Type" {
			q.ContentType = h.Value
		}
	}
	return w.keys.Serve(q, relay{r})
}

func TestTokensMayBeKeptElsewhere(t *testing.T) {
	b := &backend{store: store.New(), watchers: store.NewWatchers()}
	w := &web{keys: gateway.New(b, gateway.Options{})}
	_, err := NewBacking(w, "store:2379")
	require.Error(t, err)
	keys, err := NewBacking(w, "http://store:2379/")
	require.NoError(t, err)
	s := &service{b, New(keys, rand.New(rand.NewPCG(1, 2)), Options{Host: "http://disc:8087", Alone: true})}
	token := s.token(t, "?size=2")
	watch := s.do("GET " + token + "?wait=true&recursive=true")
	assert.Equal(t, 200, watch.head.Status)
	assert.Equal(t, 201, s.do("PUT "+token+"/1 value=a=http://x:1").head.Status)
	assert.Contains(t, watch.body, `"value":"a=http://x:1"`)
	assert.True(t, watch.over)
	assert.Equal(t, "OK", s.do("GET /health").body)
	for _, req := range w.sent {
		assert.True(t, strings.HasPrefix(req.URL, "http://store:2379/v2/keys/_etcd/registry/"), req.URL)
	}
	w.gone = true
	assert.Equal(t, 502, s.do("GET "+token).head.Status)
	assert.Equal(t, 400, s.do("GET /new").head.Status)
}

// Whatever is asked, nothing but tokens is touched.
func FuzzRequests(f *testing.F) {
	f.Add("GET", "/new", "size=3", []byte("ttl=4"))
	f.Add("PUT", "/00000000000000000000000000000000/1", "prevExist=false", []byte("value=a=http://x:1"))
	f.Add("DELETE", "/00000000000000000000000000000000/../../x", "recursive=true", []byte(nil))
	f.Fuzz(func(t *testing.T, method, path, query string, body []byte) {
		s := newService(Options{Alone: true})
		s.backend.Propose(store.Command{Op: store.OpSet, Key: "/other", Value: "1"}, func(store.Result) {})
		r := &reply{}
		s.Serve(&gateway.Request{Method: method, Path: path, Query: query, ContentType: "application/x-www-form-urlencoded", Body: body}, r)
		require.NotNil(t, r.head)
		n, err := s.View().Get("/", true)
		require.Nil(t, err)
		require.Len(t, n.Nodes, 1)
		require.Equal(t, "/other", n.Nodes[0].Key)
	})
}
