package httpd

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/gateway"
)

// described answers with what came in.
func described(req *gateway.Request, r gateway.Responder) func() {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s?%s peer=%t body=%s remote=%t\n", req.Method, req.Path, req.Query, req.Peer, req.Body, req.Remote != "")
	for _, h := range req.Header {
		fmt.Fprintf(&b, "%s: %s\n", h.Name, h.Value)
	}
	r.Reply(&gateway.Reply{Status: 203, Header: []gateway.Header{{Name: "X-Two", Value: "1"}, {Name: "X-Two", Value: "2"}}, Body: []byte(b.String())})
	return func() {}
}

const ofAnyKind = "PATCH /v2/keys/%61?x=%2f HTTP/1.1\r\nHost: here\r\nX-Mine: a\r\nX-Mine: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

func TestWholeRequestsAreHandedOver(t *testing.T) {
	f := start(t, func(o *Options) { o.Serve = described })
	f.SetMode(Whole)
	c := dial(t, f.addr)
	for range 2 { // on one connection
		c.send(ofAnyKind)
		resp := c.head()
		p, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		assert.Equal(t, 203, resp.StatusCode)
		assert.Equal(t, []string{"1", "2"}, resp.Header["X-Two"])
		assert.Equal(t, "PATCH /v2/keys/%61?x=%2f peer=false body=abc remote=true\nHost: here\nX-Mine: a\nX-Mine: b\n", string(p))
	}
	status, body := do(t, "GET", f.url+"/version", "")
	assert.Equal(t, 203, status)
	assert.Contains(t, body, "GET /version?")
}

func TestModeMayChange(t *testing.T) {
	f := start(t, func(o *Options) { o.Serve = described })
	f.SetMode(Starting)
	c := dial(t, f.addr)
	c.send("GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n")
	resp := c.head()
	assert.Equal(t, 203, resp.StatusCode)
	assert.True(t, resp.Close, "whoever asks again finds what the process has become")
	f.SetMode(Parsed)
	status, _ := do(t, "PUT", f.url+"/v2/keys/a", "value=1")
	assert.Equal(t, 201, status)
	status, _ = do(t, "GET", f.url+"/new?size=3", "")
	assert.Equal(t, 203, status, "what is no key is for Serve to know")
}

func TestConnectionsAreTakenFromOthers(t *testing.T) {
	f := start(t, func(o *Options) { o.Serve, o.Peer = described, true })
	ours, theirs := net.Pipe()
	go io.WriteString(ours, "members HTTP/1.1\r\nHost: x\r\n\r\n")
	f.Take(theirs, []byte("GET /"))
	ours.SetDeadline(time.Now().Add(5 * time.Second))
	p := make([]byte, 4096)
	n, err := ours.Read(p)
	require.NoError(t, err)
	assert.Contains(t, string(p[:n]), "GET /members? peer=true")
}

func TestOriginsOfBrowsers(t *testing.T) {
	ask := func(f *fixture, method, origin string) http.Header {
		req, err := http.NewRequest(method, f.url+"/v2/keys/", nil)
		require.NoError(t, err)
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, 200, resp.StatusCode)
		return resp.Header
	}
	const allow = "Access-Control-Allow-Origin"
	f := start(t, func(o *Options) { o.CORS = []string{"http://good.example"} })
	for _, method := range []string{"GET", "OPTIONS"} {
		h := ask(f, method, "http://good.example")
		assert.Equal(t, "http://good.example", h.Get(allow))
		assert.Equal(t, "POST, GET, OPTIONS, PUT, DELETE", h.Get("Access-Control-Allow-Methods"))
		assert.Empty(t, ask(f, method, "http://bad.example").Get(allow))
	}
	assert.Empty(t, ask(f, "GET", "").Get(allow))
	f = start(t, func(o *Options) { o.CORS = []string{"*"} })
	assert.Equal(t, "*", ask(f, "GET", "http://any.example").Get(allow))
	f = start(t, nil)
	assert.Empty(t, ask(f, "GET", "http://any.example").Get(allow))
}

// An answer that cannot be finished does not look like one that is whole.
func TestBrokenAnswersAreSeenToBe(t *testing.T) {
	for _, mode := range []Mode{Parsed, Whole} {
		var r gateway.Responder
		serve := func(_ *gateway.Request, to gateway.Responder) func() {
			r = to
			r.Reply(&gateway.Reply{Status: 200, Body: []byte("begun,"), More: true})
			return func() {}
		}
		f := start(t, func(o *Options) {
			o.Serve = serve
			o.Do = func(_ *gateway.Operation, to gateway.Responder) func() { return serve(nil, to) }
		})
		f.SetMode(mode)
		c := dial(t, f.addr)
		c.send("GET /v2/keys/a?wait=true HTTP/1.1\r\nHost: x\r\n\r\n")
		resp := c.head()
		f.on(func() { r.Chunk([]byte("more")) })
		p := make([]byte, 10)
		_, err := io.ReadFull(resp.Body, p)
		require.NoError(t, err)
		f.on(func() { r.(gateway.Breaker).Break() })
		_, err = io.ReadAll(resp.Body)
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
}

func TestSocketsOfTheFileSystem(t *testing.T) {
	f := start(t, nil)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	f.Serve(l)
	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer conn.Close()
	r := &raw{Conn: conn, t: t, in: dial(t, f.addr).in}
	r.in.Reset(conn)
	for i := range 3 {
		r.send("PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\nvalue=1")
		status, body := r.answer()
		assert.Equal(t, map[bool]int{true: 201, false: 200}[i == 0], status, body)
	}
}
