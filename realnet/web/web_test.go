package web_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/realnet/web"
)

func open(t *testing.T, c web.Config) *web.Doer {
	d, err := web.New(c)
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func TestRequestsArriveAsTheyAre(t *testing.T) {
	var got []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		got = append(got, r.Method, r.RequestURI, r.Header.Get("Content-Type"), string(body), user, password)
		w.Header().Set("X-Etcd-Index", "7")
		w.WriteHeader(201)
		io.WriteString(w, "answer")
	}))
	defer s.Close()
	resp, err := open(t, web.Config{}).Do(t.Context(), &client.Request{
		Endpoint: s.URL, Method: "PUT", Path: "/v2/keys/a%252Fb%20c", Query: "x=1&y=%26", ContentType: "text/x", Body: "value=1",
		User: "u", Password: "p", Timeout: time.Minute,
	})
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, []string{"PUT", "/v2/keys/a%252Fb%20c?x=1&y=%26", "text/x", "value=1", "u", "p"}, got)
	assert.Equal(t, 201, resp.Status)
	assert.Equal(t, "7", resp.Header["X-Etcd-Index"])
	assert.Equal(t, "answer", string(text))
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	s := httptest.NewServer(http.RedirectHandler("/elsewhere", http.StatusTemporaryRedirect))
	defer s.Close()
	resp, err := open(t, web.Config{}).Do(t.Context(), &client.Request{Endpoint: s.URL, Method: "GET", Path: "/"})
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, 307, resp.Status)
	assert.Equal(t, "/elsewhere", resp.Header["Location"])
}

func TestRefusedConnectionIsNotSent(t *testing.T) {
	_, err := open(t, web.Config{}).Do(t.Context(), &client.Request{Endpoint: "http://127.0.0.1:1", Method: "PUT", Path: "/"})
	assert.EqualError(t, err, "dial tcp 127.0.0.1:1: connect: connection refused")
	assert.NotErrorIs(t, err, client.ErrUnknown)
	for _, bad := range []string{"127.0.0.1:1", "ftp://x", "http://", "http://a b", "http://%zz"} {
		_, err = open(t, web.Config{}).Do(t.Context(), &client.Request{Endpoint: bad, Method: "PUT", Path: "/"})
		require.Error(t, err, bad)
		assert.NotErrorIs(t, err, client.ErrUnknown, bad)
	}
}

// A server that takes the request and hangs up leaves its outcome unknown, and
// the transport does not send it again by itself.
func TestLostAnswerIsUnknown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	var requests atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			if n, _ := c.Read(buf); n > 0 {
				requests.Add(1)
			}
			c.Close()
		}
	}()
	_, err = open(t, web.Config{}).Do(t.Context(), &client.Request{Endpoint: "http://" + l.Addr().String(), Method: "PUT", Path: "/", Body: "x"})
	assert.ErrorIs(t, err, client.ErrUnknown)
	assert.Equal(t, int32(1), requests.Load())
}

// A kept connection that the server has closed in the meantime is no reason for
// an unknown outcome: nothing was written to it.
func TestClosedIdleConnection(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	d := open(t, web.Config{})
	for range 5 {
		resp, err := d.Do(t.Context(), &client.Request{Endpoint: s.URL, Method: "PUT", Path: "/", Body: "x"})
		require.NoError(t, err)
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		s.CloseClientConnections()
		time.Sleep(5 * time.Millisecond)
	}
}

func TestTimeouts(t *testing.T) {
	done := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/head" {
			w.(http.Flusher).Flush()
		}
		<-done
	}))
	defer s.Close()
	defer close(done)
	d := open(t, web.Config{})
	_, err := d.Do(t.Context(), &client.Request{Endpoint: s.URL, Method: "PUT", Path: "/hang", Timeout: 20 * time.Millisecond})
	assert.ErrorIs(t, err, client.ErrTimeout)
	assert.ErrorIs(t, err, client.ErrUnknown)

	resp, err := d.Do(t.Context(), &client.Request{Endpoint: s.URL, Method: "GET", Path: "/head", Timeout: 50 * time.Millisecond})
	require.NoError(t, err)
	_, err = io.ReadAll(resp.Body)
	assert.Error(t, err, "the body is bounded too")
	resp.Body.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	resp, err = d.Do(ctx, &client.Request{Endpoint: s.URL, Method: "GET", Path: "/head", Timeout: 50 * time.Millisecond, Stream: true})
	require.NoError(t, err)
	_, err = io.ReadAll(resp.Body)
	assert.ErrorIs(t, err, context.DeadlineExceeded, "the body of a stream is bounded by its caller only")
	resp.Body.Close()
}

func TestCertificates(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	resp, err := open(t, web.Config{CAFile: ca}).Do(t.Context(), &client.Request{Endpoint: s.URL, Method: "GET", Path: "/"})
	require.NoError(t, err)
	resp.Body.Close()
	_, err = open(t, web.Config{}).Do(t.Context(), &client.Request{Endpoint: s.URL, Method: "GET", Path: "/"})
	var unknown x509.UnknownAuthorityError
	assert.True(t, errors.As(err, &unknown), "%v", err)

	empty := filepath.Join(dir, "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, c := range []web.Config{{CAFile: "/none"}, {CAFile: empty}, {CertFile: ca}, {CertFile: empty, KeyFile: empty}} {
		_, err := web.New(c)
		assert.Error(t, err)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) })}
	go s.Serve(l)
	defer s.Close()
	resp, err := open(t, web.Config{}).Do(t.Context(), &client.Request{Endpoint: "unix://" + path, Method: "GET", Path: "/v2/keys/a%20b"})
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, "/v2/keys/a%20b", string(text))
}

func TestManyAtOnce(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	defer s.Close()
	d := open(t, web.Config{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				body := strings.Repeat("x", 100)
				resp, err := d.Do(t.Context(), &client.Request{Endpoint: s.URL, Method: "PUT", Path: "/", Body: body, Timeout: 10 * time.Second})
				if !assert.NoError(t, err) {
					return
				}
				text, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				assert.Equal(t, body, string(text))
			}
		})
	}
	wg.Wait()
}

func TestSleep(t *testing.T) {
	d := open(t, web.Config{})
	before := d.Now()
	require.NoError(t, d.Sleep(t.Context(), 10*time.Millisecond))
	assert.GreaterOrEqual(t, d.Now()-before, 10*time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, d.Sleep(ctx, time.Hour), context.Canceled)
}
