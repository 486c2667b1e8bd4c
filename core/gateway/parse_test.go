package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keelson/keelson/core/store"
)

func TestOperations(t *testing.T) {
	c := func(op store.Op, change func(*store.Command)) Operation {
		cmd := store.Command{Op: op, Key: "/k"}
		if change != nil {
			change(&cmd)
		}
		return Operation{Kind: KindWrite, Command: cmd}
	}
	for line, want := range map[string]Operation{
		"PUT /v2/keys/k value=v&prevExist=&":                 nilOperation,
		"PUT /v2/keys/k value=v":                             c(store.OpSet, func(c *store.Command) { c.Value = "v" }),
		"PUT /v2/keys/k dir=T&value=v":                       c(store.OpSet, func(c *store.Command) { c.Dir = true }),
		"PUT /v2/keys/k prevIndex=0&ttl=3":                   c(store.OpSet, func(c *store.Command) { c.HasTTL, c.TTL = true, 3e9 }),
		"PUT /v2/keys/k refresh=1&ttl=0":                     c(store.OpSet, func(c *store.Command) { c.HasTTL, c.Refresh = true, true }),
		"PUT /v2/keys/k ttl=9223372036":                      c(store.OpSet, func(c *store.Command) { c.HasTTL, c.TTL = true, 9223372036e9 }),
		"PUT /v2/keys/k ttl=9223372037":                      c(store.OpSet, nil),
		"PUT /v2/keys/k ttl=18446744073709551616":            nilOperation,
		"PUT /v2/keys/k prevExist=0&prevValue=a&prevIndex=9": c(store.OpCreate, nil),
		"PUT /v2/keys/k prevExist=0&refresh=1&ttl=1":         c(store.OpCreate, func(c *store.Command) { c.HasTTL, c.TTL = true, 1e9 }),
		"PUT /v2/keys/k prevExist=0&dir=1&value=x":           c(store.OpCreate, func(c *store.Command) { c.Dir = true }),
		"PUT /v2/keys/k prevExist=1&dir=1&value=x":           c(store.OpUpdate, func(c *store.Command) { c.Value = "x" }),
		"PUT /v2/keys/k prevExist=1&refresh=1&ttl=1":         c(store.OpUpdate, func(c *store.Command) { c.HasTTL, c.TTL, c.Refresh = true, 1e9, true }),
		"PUT /v2/keys/k prevExist=1&prevIndex=3":             c(store.OpCompareAndSwap, func(c *store.Command) { c.PrevIndex = 3 }),
		"PUT /v2/keys/k prevValue=a&value=b&dir=1":           c(store.OpCompareAndSwap, func(c *store.Command) { c.PrevValue, c.Value = "a", "b" }),
		"PUT /v2/keys/k prevValue=a&refresh=1&ttl=1":         c(store.OpCompareAndSwap, func(c *store.Command) { c.PrevValue, c.HasTTL, c.TTL, c.Refresh = "a", true, 1e9, true }),
		"POST /v2/keys/k value=v&prevIndex=4&refresh=0":      c(store.OpCreateInOrder, func(c *store.Command) { c.Value = "v" }),
		"POST /v2/keys/k dir=1&ttl=2&prevExist=1":            c(store.OpCreateInOrder, func(c *store.Command) { c.Dir, c.HasTTL, c.TTL = true, true, 2e9 }),
		"DELETE /v2/keys/k":                                  c(store.OpDelete, nil),
		"DELETE /v2/keys/k?dir=1&prevExist=0&value=x":        c(store.OpDelete, func(c *store.Command) { c.Dir = true }),
		"DELETE /v2/keys/k?recursive=1":                      c(store.OpDelete, func(c *store.Command) { c.Recursive = true }),
		"DELETE /v2/keys/k?prevIndex=7&recursive=1":          c(store.OpCompareAndDelete, func(c *store.Command) { c.PrevIndex = 7 }),
		"DELETE /v2/keys/k?prevValue=a":                      c(store.OpCompareAndDelete, func(c *store.Command) { c.PrevValue = "a" }),
		"GET /v2/keys/k?sorted=1&stream=1&waitIndex=4":       {Kind: KindRead, Key: "/k", Sorted: true},
		"GET /v2/keys?quorum=0":                              {Kind: KindRead, Key: "/", Freshness: FreshLocal},
		"HEAD /v2/keys/?quorum=1&recursive=1":                {Kind: KindRead, Key: "/", Head: true, Recursive: true, Freshness: FreshLinearizable},
		"GET /v2/keys/k?wait=1&stream=1&waitIndex=4":         {Kind: KindWatch, Key: "/k", Stream: true, WaitIndex: 4},
		"GET /v2/keys/k?wait=1&recursive=1&quorum=0":         {Kind: KindWatch, Key: "/k", Recursive: true},
		"GET /v2/keys/k?wait=1&quorum=1":                     {Kind: KindRead, Key: "/k", Freshness: FreshLinearizable},
	} {
		op, err := Parse(request(line))
		if want.Kind == 0 {
			assert.Error(t, err, line)
			continue
		}
		assert.NoError(t, err, line)
		assert.Equal(t, want, op, line)
	}
}

var nilOperation = Operation{}

// TestFieldTable holds the table against itself: names are unique and every field
// but "value" says how it refuses.
func TestFieldTable(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Fields() {
		assert.False(t, seen[f.Name], f.Name)
		seen[f.Name] = true
		assert.NotEmpty(t, f.Methods, f.Name)
		assert.NotEmpty(t, f.Kind.String(), f.Name)
		if f.Name != "value" {
			assert.NotEmpty(t, f.Code.Message(), f.Name)
			assert.NotEmpty(t, f.Cause, f.Name)
		}
	}
}

// plainForm is what the standard library makes of the same request: the slow
// second version of readForm.
func plainForm(req *Request) (url.Values, error) {
	r := &http.Request{
		Method: req.Method, URL: &url.URL{RawQuery: req.Query}, Header: http.Header{"Content-Type": {req.ContentType}},
		Body: io.NopCloser(strings.NewReader(string(req.Body))),
	}
	err := r.ParseForm()
	return r.Form, err
}

func checkForm(t require.TestingT, req *Request) {
	f, bad := readForm(req)
	want, err := plainForm(req)
	if err != nil {
		require.Equal(t, &store.Error{Code: store.CodeInvalidForm, Cause: err.Error()}, bad, "%+v", req)
		return
	}
	require.Nil(t, bad, "%+v", req)
	for i, field := range fields {
		require.Equal(t, want.Has(field.Name), f.given[i], "%s in %+v", field.Name, req)
		require.Equal(t, want.Get(field.Name), f.text[i], "%s in %+v", field.Name, req)
	}
}

func formTexts() *rapid.Generator[string] {
	names := []string{"x", "Value", "%76alue", "", "a;b", "%zz"}
	for _, f := range fields {
		names = append(names, f.Name)
	}
	pair := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom(names).Draw(t, "name") + rapid.SampledFrom([]string{"=", "", "==", "=%", "=;"}).Draw(t, "sign") +
			rapid.SampledFrom([]string{"", "1", "true", "f", "a+b", "%41", "%4", "18446744073709551615", "é"}).Draw(t, "text")
	})
	return rapid.Map(rapid.SliceOfN(pair, 0, 6), func(p []string) string { return strings.Join(p, "&") })
}

func TestFormsEqualTheStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkForm(t, &Request{
			Method:      rapid.SampledFrom([]string{"GET", "PUT", "POST", "DELETE", "HEAD"}).Draw(t, "method"),
			Query:       formTexts().Draw(t, "query"),
			Body:        []byte(formTexts().Draw(t, "body")),
			ContentType: rapid.SampledFrom([]string{formType, formType + "; charset=utf-8", "text/plain", "application/json"}).Draw(t, "type"),
		})
	})
}

// FuzzParse: whatever arrives, the answer is an operation that the store can do or
// a refusal that can be sent.
func FuzzParse(f *testing.F) {
	for _, s := range [][4]string{
		{"GET", "/v2/keys/a", "recursive=true&sorted=true", ""},
		{"PUT", "/v2/keys/a%2Fb", "prevExist=false", "value=1&ttl=5"},
		{"PUT", "/v2/keys/prod%252Fdb", "value=%zz", "value=a;b"},
		{"POST", "/v2/keys//q", "", "dir=true&ttl=99999999999"},
		{"DELETE", "/v2/keys/..%2f.", "dir=1&prevIndex=18446744073709551615", ""},
		{"HEAD", "/v2/keys/", "wait=true", "x"},
		{"OPTIONS", "*", "", ""},
		{"GET", "/v2/members/leader", "", ""},
		{"GET", "/v2/stats/self/", "a", ""},
		{"GET", "", "\xff\x00", "\xff"},
	} {
		f.Add(s[0], s[1], s[2], s[3], true)
	}
	for _, field := range fields {
		f.Add("PUT", "/v2/keys/k", field.Name+"=", field.Name+"=1", true)
		f.Add("GET", "/v2/keys/k", field.Name+"=true&"+field.Name+"=x", "", false)
	}
	s := newServer(Options{})
	f.Fuzz(func(t *testing.T, method, path, query, body string, form bool) {
		req := &Request{Method: method, Path: path, Query: query, Body: []byte(body)}
		if form {
			req.ContentType = formType
		}
		if strings.Count(query, "&") < 9999 && strings.Count(body, "&") < 9999 { // the library's own limit
			checkForm(t, req)
		}
		op, err := Parse(req)
		if err == nil {
			checkOperation(t, req, &op)
			return
		}
		assert.Equal(t, Operation{}, op)
		checkReply(t, s.Failure(req, err))
		var api *store.Error
		if errors.As(err, &api) {
			assert.Zero(t, api.Index)
		}
		again := *req
		again.Query += "&" // must not change what it is
		_, err2 := Parse(&again)
		assert.Equal(t, err == nil, err2 == nil)
	})
}

func checkOperation(t *testing.T, req *Request, op *Operation) {
	switch op.Kind {
	case KindRead, KindWatch:
		checkKey(t, op.Key)
		assert.Equal(t, store.Command{}, op.Command)
		assert.False(t, op.Head && op.Kind == KindWatch)
		assert.False(t, op.Stream && op.Kind == KindRead)
	case KindWrite:
		c := op.Command
		checkKey(t, c.Key)
		assert.Equal(t, store.ID{}, c.ID)
		assert.GreaterOrEqual(t, int64(c.TTL), int64(0))
		assert.True(t, c.HasTTL || c.TTL == 0)
		assert.False(t, c.Refresh && c.Value != "")
		assert.False(t, c.Dir && c.Value != "")
		conditional := c.PrevIndex != 0 || c.PrevValue != ""
		assert.Equal(t, c.Op == store.OpCompareAndSwap || c.Op == store.OpCompareAndDelete, conditional)
	default:
		assert.NotZero(t, op.Kind)
		assert.Empty(t, op.Key)
	}
}

func checkKey(t *testing.T, key string) {
	assert.True(t, strings.HasPrefix(key, "/"), "%q", key)
	assert.Equal(t, path.Clean(key), key)
}

func checkReply(t *testing.T, r *Reply) {
	assert.GreaterOrEqual(t, r.Status, 300)
	assert.False(t, r.More)
	for _, h := range r.Header {
		assert.NotEmpty(t, h.Name)
		assert.False(t, strings.ContainsAny(h.Value, "\r\n\x00"), "%q", h.Value)
	}
}

// TestRedirectsLeadSomewhere: one redirect is enough.
func TestRedirectsLeadSomewhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{"/", "//", ".", "..", "a", "%2f", "%2e", "%252f", "é", "%ff", "%3f", ";", "+", ":"}), 0, 8)
		req := &Request{Method: "GET", Path: "/v2/keys" + strings.Join(parts.Draw(t, "path"), ""), Query: "recursive=true"}
		_, err := Parse(req)
		var no *Refusal
		if !errors.As(err, &no) || no.Reply.Status != 301 {
			return
		}
		at, err := url.Parse(no.Reply.header("Location"))
		require.NoError(t, err)
		require.Equal(t, "recursive=true", at.RawQuery)
		_, err = Parse(&Request{Method: "GET", Path: at.EscapedPath(), Query: at.RawQuery})
		require.False(t, errors.As(err, &no) && no.Reply.Status == 301, "%q leads to %q", req.Path, at)
	})
}

func TestAKeyHasABoundedDepth(t *testing.T) {
	deepest := "/v2/keys" + strings.Repeat("/a", DepthMax)
	_, err := Parse(&Request{Method: "GET", Path: deepest})
	require.NoError(t, err)
	_, err = Parse(&Request{Method: "GET", Path: deepest + "/a"})
	require.ErrorContains(t, err, "at most 1024 elements")
}
