package httpd

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/store"
	"github.com/keelson/keelson/realnet"
)

// alone is a node of one: what is proposed is applied at once.
type alone struct {
	store    *store.Store
	watchers *store.Watchers
	stuck    bool // writes are never answered
}

func (a *alone) Propose(c store.Command, done func(store.Result)) {
	if a.stuck {
		return
	}
	b := &store.Batch{Time: a.store.Time() + 1, Commands: []store.Command{c}}
	done(a.store.Apply(b, a.watchers.Notify)[0])
}
func (a *alone) ReadIndex(done func(*store.Error)) { done(nil) }
func (a *alone) View() *store.View                 { return a.store.View() }
func (a *alone) Watch(key string, recursive bool, fn func(*store.Event)) func() {
	return a.watchers.Add(key, recursive, fn).Cancel
}
func (a *alone) Info() *gateway.Info { return &gateway.Info{ClusterID: 0xabc, Self: 1, Term: 2} }

type fixture struct {
	*Server
	node *alone
	mux  *gateway.Mux
	loop *realnet.Loop
	url  string
	addr string
}

func start(t testing.TB, change func(*Options)) *fixture {
	t.Helper()
	f := &fixture{node: &alone{store: store.New(), watchers: store.NewWatchers()}, loop: realnet.NewLoop()}
	f.mux = gateway.New(f.node, gateway.Options{})
	o := Options{Post: f.loop.Post, Serve: f.mux.Serve, Do: f.mux.Do, Log: realnet.NewLog(io.Discard, 0)}
	if change != nil {
		change(&o)
	}
	f.Server = New(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f.addr = l.Addr().String()
	f.url = "http://" + f.addr
	f.Serve(l)
	go f.loop.Run(func() {
		f.Publish(f.node.store.View(), f.node.Info())
		f.AfterTurn()
	})
	t.Cleanup(func() {
		f.loop.Stop()
		<-f.loop.Stopped()
		f.Close()
	})
	return f
}

// on runs fn on the loop and waits for it.
func (f *fixture) on(fn func()) {
	done := make(chan struct{})
	f.loop.Post(func() { fn(); close(done) })
	<-done
}

func (f *fixture) watches() (n int) {
	f.on(func() { n = f.mux.Watches() })
	return n
}

func do(t testing.TB, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(p)
}

// raw is a connection on which a test writes bytes of its own.
type raw struct {
	net.Conn
	t  testing.TB
	in *bufio.Reader
}

func dial(t testing.TB, addr string) *raw {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &raw{c, t, bufio.NewReader(c)}
}

func (r *raw) send(text string) {
	r.t.Helper()
	_, err := io.WriteString(r, text)
	require.NoError(r.t, err)
}

func (r *raw) head() *http.Response {
	r.t.Helper()
	resp, err := http.ReadResponse(r.in, nil)
	require.NoError(r.t, err)
	return resp
}

func (r *raw) answer() (int, string) {
	r.t.Helper()
	resp := r.head()
	p, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return resp.StatusCode, string(p)
}

const form = "Content-Type: application/x-www-form-urlencoded\r\n"

func put(key, value string) string {
	body := "value=" + url.QueryEscape(value)
	return fmt.Sprintf("PUT /v2/keys%s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s", key, form, len(body), body)
}

func get(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n" }

func TestRequestsOnOneConnection(t *testing.T) {
	f := start(t, nil)
	c := dial(t, f.addr)
	for i := range 100 {
		c.send(put("/a", fmt.Sprint(i)))
		_, body := c.answer()
		assert.Contains(t, body, fmt.Sprintf(`"node":{"key":"/a","value":"%d"`, i))
	}
	c.send(get("/v2/keys/a"))
	resp := c.head()
	assert.Equal(t, 200, resp.StatusCode)
	assert.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	assert.Equal(t, "abc", resp.Header.Get("X-Etcd-Cluster-Id"))
	assert.Equal(t, "100", resp.Header.Get("X-Etcd-Index"))
	assert.NotEmpty(t, resp.Header.Get("Date"))
	io.ReadAll(resp.Body)

	c.send("HEAD /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n")
	head, err := http.ReadResponse(c.in, &http.Request{Method: "HEAD"})
	require.NoError(t, err)
	assert.Positive(t, head.ContentLength)

	c.send("GET /v2/keys/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	status, body := c.answer()
	assert.Equal(t, 404, status)
	assert.Contains(t, body, `"errorCode":100`)
	_, err = c.in.ReadByte()
	assert.Equal(t, io.EOF, err)
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	f := start(t, nil)
	c := dial(t, f.addr)
	c.send(put("/a", "1") + get("/v2/keys/a") + put("/a", "2") + get("/v2/keys/a"))
	for _, want := range []string{`"set"`, `"value":"1"`, `"set"`, `"value":"2"`} {
		_, body := c.answer()
		assert.Contains(t, body, want)
	}
}

func TestBytesThatComeOneByOne(t *testing.T) {
	f := start(t, nil)
	c := dial(t, f.addr)
	for _, b := range []byte(put("/slow", "x")) {
		c.send(string(b))
	}
	status, _ := c.answer()
	assert.Equal(t, 201, status)
}

// Each of these is handed to net/http, on the same connection.
func TestUnusualRequests(t *testing.T) {
	f := start(t, func(o *Options) {
		o.Pages = map[string]http.Handler{"/metrics": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "figures") })}
	})
	long := strings.Repeat("v", 2<<20)
	for _, c := range []struct {
		name, text string
		status     int
		body       string
	}{
		{"HTTP/1.0", "GET /v2/keys/ HTTP/1.0\r\n\r\n", 200, `"dir":true`},
		{"chunked", "PUT /v2/keys/chunked HTTP/1.1\r\nHost: x\r\n" + form + "Transfer-Encoding: chunked\r\n\r\n7\r\nvalue=a\r\n1\r\nb\r\n0\r\n\r\n", 201, `"value":"ab"`},
		{"other path", get("/version"), 200, `etcdserver`},
		{"unknown path", get("/nothing/here"), 404, `404 page not found`},
		{"page", get("/metrics"), 200, `figures`},
		{"no host", "GET /v2/keys/ HTTP/1.1\r\n\r\n", 400, ``},
		{"absolute", "GET http://x/v2/keys/ HTTP/1.1\r\nHost: x\r\n\r\n", 200, `"dir":true`},
		{"long body", put("/long", long), 201, `"key":"/long"`},
		{"too long body", put("/long", strings.Repeat("v", gateway.BodyMax)), 400, `http: POST too large`},
		{"many fields", "GET /v2/keys/ HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 100) + "\r\n", 200, `"dir":true`},
		{"bad method", "PATCH /v2/keys/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405, `Method Not Allowed`},
		{"bare newlines", "GET /v2/keys/ HTTP/1.1\nHost: x\n\n", 200, `"dir":true`},
		{"garbage", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, ``},
		{"two lengths", "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, ``},
		{"bad escape", get("/v2/keys/%zz"), 400, ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := dial(t, f.addr)
			go io.WriteString(conn, c.text)
			status, body := conn.answer()
			assert.Equal(t, c.status, status, body)
			assert.Contains(t, body, c.body)
		})
	}
	t.Run("expect", func(t *testing.T) {
		conn := dial(t, f.addr)
		conn.send("PUT /v2/keys/expect HTTP/1.1\r\nHost: x\r\n" + form + "Expect: 100-continue\r\nContent-Length: 7\r\n\r\n")
		line, err := conn.in.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, "HTTP/1.1 100 Continue\r\n", line)
		conn.in.ReadString('\n')
		conn.send("value=e")
		status, _ := conn.answer()
		assert.Equal(t, 201, status)
		conn.send(get("/v2/keys/expect"))
		_, body := conn.answer()
		assert.Contains(t, body, `"value":"e"`, "the connection goes on")
	})
}

func TestWatchSendsItsHeadAtOnce(t *testing.T) {
	f := start(t, nil)
	for name, extra := range map[string]string{"plain": "", "net/http": "TE: trailers\r\n"} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, f.addr)
			c.send("GET /v2/keys/w?wait=true HTTP/1.1\r\nHost: x\r\n" + extra + "\r\n")
			resp := c.head()
			assert.Equal(t, 200, resp.StatusCode)
			assert.Equal(t, 1, f.Watchers())
			do(t, "PUT", f.url+"/v2/keys/w", "value=now")
			p, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.Contains(t, string(p), `"value":"now"`)
			assert.Zero(t, f.watches())
			c.send(get("/v2/keys/w"))
			_, body := c.answer()
			assert.Contains(t, body, `"value":"now"`, "the connection goes on")
			assert.Zero(t, f.Watchers())
		})
	}
}

func TestStreamDeliversEachEventOnceInOrder(t *testing.T) {
	f := start(t, nil)
	var readers sync.WaitGroup
	const watchers, events = 50, 90 // so few that nobody is cut off for being behind, however slow this machine is
	for i := range watchers {
		extra := ""
		if i%10 == 0 {
			extra = "TE: trailers\r\n" // by net/http
		}
		c := dial(t, f.addr)
		c.send("GET /v2/keys/s?wait=true&stream=true&recursive=true HTTP/1.1\r\nHost: x\r\n" + extra + "\r\n")
		resp := c.head()
		readers.Go(func() {
			lines := bufio.NewScanner(resp.Body)
			for e := range events {
				if !assert.True(t, lines.Scan()) {
					return
				}
				assert.Contains(t, lines.Text(), fmt.Sprintf(`"value":"%d"`, e))
			}
		})
	}
	c := dial(t, f.addr)
	for e := range events {
		c.send(put("/s/k", fmt.Sprint(e)))
		c.answer()
	}
	readers.Wait()
	assert.Equal(t, watchers, f.Watchers())
}

func TestClientThatLeavesEndsItsWatch(t *testing.T) {
	f := start(t, nil)
	for _, extra := range []string{"", "TE: trailers\r\n"} {
		c := dial(t, f.addr)
		c.send("GET /v2/keys/w?wait=true HTTP/1.1\r\nHost: x\r\n" + extra + "\r\n")
		c.head()
		require.Equal(t, 1, f.watches())
		c.Close()
		require.Eventually(t, func() bool { return f.watches() == 0 && f.Watchers() == 0 }, 5*time.Second, time.Millisecond)
	}
}

func TestReaderThatTakesNothingLosesItsStream(t *testing.T) {
	f := start(t, nil)
	c := dial(t, f.addr)
	c.send(get("/v2/keys/s?wait=true&stream=true&recursive=true"))
	resp := c.head()
	value := strings.Repeat("x", 20<<10)
	writer := dial(t, f.addr)
	written := 0
	require.Eventually(t, func() bool {
		writer.send(put("/s/k", value))
		writer.answer()
		written++
		return f.watches() == 0
	}, 15*time.Second, time.Microsecond)
	assert.Greater(t, written, behindMax)
	p, err := io.ReadAll(resp.Body)
	require.NoError(t, err, "what it had coming still arrives, then the body ends")
	assert.GreaterOrEqual(t, bytes.Count(p, []byte("\n")), behindMax)
}

func TestBurstOfOneTurnIsNotTheReadersFault(t *testing.T) {
	f := start(t, nil)
	c := dial(t, f.addr)
	c.send(get("/v2/keys/s?wait=true&stream=true&recursive=true"))
	resp := c.head()
	const events = 5 * behindMax
	f.on(func() {
		for range events {
			f.node.Propose(store.Command{Op: store.OpSet, Key: "/s/k"}, func(store.Result) {})
		}
	})
	lines := bufio.NewScanner(resp.Body)
	for range events {
		require.True(t, lines.Scan())
	}
}

func TestLocalReadSeesOnesOwnWrite(t *testing.T) {
	f := start(t, nil)
	c := dial(t, f.addr)
	for i := range 200 {
		c.send(put("/a", fmt.Sprint(i)))
		c.answer()
		c.send(get("/v2/keys/a?quorum=false"))
		_, body := c.answer()
		require.Contains(t, body, fmt.Sprintf(`"value":"%d"`, i))
	}
}

func TestSlowHeadIsCutOff(t *testing.T) {
	f := start(t, func(o *Options) {
		o.HeadTimeout, o.BodyTimeout, o.IdleTimeout = 50*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond
	})
	for _, text := range []string{"GET /v2/ke", "", "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nva", "GET /v2/keys/ HTTP/1.0\r\nHo"} {
		c := dial(t, f.addr)
		c.send(text)
		_, err := io.ReadAll(c.in)
		assert.NoError(t, err, text)
	}
}

func TestDrainLosesNoRequest(t *testing.T) {
	f := start(t, nil)
	waiting := dial(t, f.addr)
	waiting.send(get("/v2/keys/w?wait=true"))
	head := waiting.head()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			c := dial(t, f.addr)
			for {
				if i%2 == 0 {
					c.send(put("/a", "x"))
				} else {
					c.send("PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nContent-Length: 0\r\n\r\n")
				}
				resp := c.head()
				_, err := io.ReadAll(resp.Body)
				assert.NoError(t, err)
				if resp.Close {
					return
				}
				select {
				case <-stop:
					t.Error("the server never said that it leaves")
					return
				default:
				}
			}
		})
	}
	time.Sleep(30 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, f.Drain(ctx))
	close(stop)
	clients.Wait()
	p, err := io.ReadAll(head.Body)
	assert.NoError(t, err, "a watch ends as one that has no event")
	assert.Empty(t, p)
	_, err = net.Dial("tcp", f.addr)
	assert.Error(t, err)
}

func TestCloseDoesNotWaitForTheNode(t *testing.T) {
	f := start(t, nil)
	f.on(func() { f.node.stuck = true })
	for _, extra := range []string{"", "TE: trailers\r\n"} {
		c := dial(t, f.addr)
		c.send("PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\n" + extra + "Content-Length: 0\r\n\r\n")
	}
	time.Sleep(20 * time.Millisecond)
	done := make(chan struct{})
	go func() { f.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("Close hangs")
	}
}

func TestStoppedLoopIsAnError(t *testing.T) {
	f := start(t, nil)
	f.loop.Stop()
	<-f.loop.Stopped()
	status, body := do(t, "PUT", f.url+"/v2/keys/a", "value=x")
	assert.Equal(t, 500, status)
	assert.Equal(t, `{"errorCode":300,"message":"Raft Internal Error","cause":"etcdserver: server stopped","index":0}`+"\n", body)
}

// What parseHead understands, net/http understands in the same way.
func FuzzParseHead(f *testing.F) {
	for _, s := range []string{
		put("/a", "b"), get("/v2/keys/?recursive=true&x=%20"), get("/v2/keysx"), "GET /v2/keys HTTP/1.1\r\n\r\n",
		"POST /v2/keys/q HTTP/1.1\r\nHost: [::1]:2379\r\ncontent-LENGTH: 3\r\nContent-type: \ta \r\nConnection: Keep-Alive\r\n\r\nabc",
		"DELETE /v2/keys/a%2Fb HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX: \r\n\r\n",
		"GET /v2/keys/a HTTP/1.1\r\nHost: a\r\nAuthorization: Basic cm9vdDpwOncg\r\n\r\n", "GET /v2/keys/a HTTP/1.1\r\nHost: a\r\nAuthorization: bASIC Og==\r\n\r\n",
		"GET /v2/keys/a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET /v2/keys/a HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "GET /v2/keys/a HTTP/1.1\r\nHost : a\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		var h head
		if parseHead(p, &h) != plain {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(p)))
		require.NoError(t, err)
		target, _, _ := strings.Cut(r.RequestURI, "?")
		_, query, _ := strings.Cut(r.RequestURI, "?")
		assert.Equal(t, r.Method, h.method)
		assert.Equal(t, target, h.path)
		assert.Equal(t, query, h.query)
		assert.Equal(t, r.Header.Get("Content-Type"), h.contentType)
		assert.Equal(t, max(r.ContentLength, 0), h.length)
		assert.Equal(t, r.Close, h.close)
		user, password, _ := r.BasicAuth()
		assert.Equal(t, user, h.user)
		assert.Equal(t, password, h.password)
		assert.Empty(t, r.TransferEncoding)
		assert.Less(t, h.size, len(p)+1)
	})
}

// Who asks is told anew with each request of a connection.
func TestCredentialsAreNotInherited(t *testing.T) {
	var h head
	const with = "GET /v2/keys/a HTTP/1.1\r\nHost: a\r\nAuthorization: Basic cm9vdDpwdw==\r\n\r\n"
	for range 2 {
		require.Equal(t, plain, parseHead([]byte(with), &h))
		assert.Equal(t, []string{"root", "pw"}, []string{h.user, h.password})
	}
	require.Equal(t, plain, parseHead([]byte("GET /v2/keys/a HTTP/1.1\r\nHost: a\r\n\r\n"), &h))
	assert.Empty(t, h.user+h.password)
	for _, odd := range []string{"Bearer x", "Basic", "Basic !", "Basic cm9vdA==", "Basic cm9vdDpwdw==\r\nAuthorization: Basic cm9vdDpwdw=="} {
		assert.Equal(t, unusual, parseHead([]byte("GET /v2/keys/a HTTP/1.1\r\nHost: a\r\nAuthorization: "+odd+"\r\n\r\n"), new(head)), odd)
	}
}

func BenchmarkParseHead(b *testing.B) {
	p := []byte("PUT /v2/keys/dir12/key1234 HTTP/1.1\r\nHost: 127.0.0.1:2379\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 262\r\nContent-Type: application/x-www-form-urlencoded\r\nAccept-Encoding: gzip\r\n\r\n")
	var h head
	b.ReportAllocs()
	for b.Loop() {
		if parseHead(p, &h) != plain {
			b.Fatal("not plain")
		}
	}
}

func BenchmarkPut(b *testing.B) {
	f := start(b, nil)
	text := put("/dir12/key1234", strings.Repeat("v", 256))
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		c := dial(b, f.addr)
		c.SetDeadline(time.Time{})
		buf := make([]byte, 4096)
		for p.Next() {
			c.send(text)
			if _, err := c.Read(buf); err != nil {
				b.Error(err)
			}
		}
	})
}

var (
	_ gateway.Backend = (*alone)(nil)
	_ env.Log         = realnet.Log{}
)
