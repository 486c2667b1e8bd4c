package httpd

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/realnet"
	"github.com/keelson/keelson/realnet/authority"
	"github.com/keelson/keelson/realnet/secure"
)

// secured is a fixture that clients of an authority reach by TLS, too.
type secured struct {
	*fixture
	keeper *secure.Keeper
	https  string
}

func startSecured(t *testing.T) *secured {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tls")
	_, err := authority.Init(dir, "a", authority.Order{Name: "m"}, time.Now())
	require.NoError(t, err)
	k, err := secure.Open(secure.Files{
		Cert: authority.Peer.Cert(dir), Key: authority.Peer.Key(dir), CA: filepath.Join(dir, authority.CertFile), ClientAuth: true,
	}, secure.Options{Log: realnet.NewLog(io.Discard, 0), Strangers: true})
	require.NoError(t, err)
	t.Cleanup(k.Close)
	s := &secured{keeper: k}
	s.fixture = start(t, func(o *Options) {
		o.Stranger = secure.IsStranger
		o.Pages = map[string]http.Handler{"/metrics": page("figures")}
		o.Welcome = map[string]http.Handler{"/welcome": page("come in")}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.https = "https://" + l.Addr().String()
	s.Serve(k.Listen(l, nil))
	return s
}

func page(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
}

// client is one with its own connections, with a certificate or as a stranger.
func (s *secured) client(t *testing.T, stranger bool) *http.Client {
	c := s.keeper.Client("localhost")
	if stranger {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	}
	tr := &http.Transport{TLSClientConfig: c}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func ask(c *http.Client, method, url, body string) (int, string, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(p), err
}

func TestStrangersSeeTheWelcomePageOnly(t *testing.T) {
	s := startSecured(t)
	friend, stranger := s.client(t, false), s.client(t, true)
	status, _, err := ask(friend, "PUT", s.https+"/v2/keys/a", "value=secret")
	require.NoError(t, err)
	require.Equal(t, 201, status)
	for _, path := range []string{"/v2/keys/a", "/v2/keys/a?quorum=false", "/v2/keys/a?wait=true", "/metrics", "/welcome/", "/", "/version"} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			status, text, err := ask(stranger, method, s.https+path, "")
			require.NoError(t, err)
			assert.Equal(t, 401, status, "%s %s", method, path)
			assert.Contains(t, text, "a client certificate is required")
		}
	}
	for _, c := range []*http.Client{friend, stranger} {
		status, text, err := ask(c, "POST", s.https+"/welcome", "")
		require.NoError(t, err)
		assert.Equal(t, 200, status)
		assert.Equal(t, "come in", text)
	}
	status, text, err := ask(friend, "GET", s.https+"/v2/keys/a", "")
	require.NoError(t, err)
	assert.Equal(t, 200, status)
	assert.Contains(t, text, "secret")
	status, _, err = ask(http.DefaultClient, "GET", s.url+"/v2/keys/a", "")
	require.NoError(t, err)
	assert.Equal(t, 200, status, "a plain listener is not concerned")
}

// Over TLS no byte is written past the record layer: small and large answers, many
// clients at once, watches that stream, requests one behind the other.
func TestLoadOverTLS(t *testing.T) {
	s := startSecured(t)
	watcher := s.client(t, false)
	resp, err := watcher.Get(s.https + "/v2/keys/load?wait=true&stream=true&recursive=true")
	require.NoError(t, err)
	defer resp.Body.Close()

	const clients, each = 8, 60
	var tasks sync.WaitGroup
	for n := range clients {
		c := s.client(t, false)
		tasks.Go(func() {
			for i := range each {
				value := strings.Repeat(fmt.Sprint(i%10), 1+i*i*40)
				key := fmt.Sprintf("%s/v2/keys/load/%d-%d", s.https, n, i)
				status, _, err := ask(c, "PUT", key, "value="+value)
				if !assert.NoError(t, err) || !assert.Equal(t, 201, status) {
					return
				}
				status, text, err := ask(c, "GET", key, "")
				if !assert.NoError(t, err) || !assert.Equal(t, 200, status) || !assert.Contains(t, text, `"`+value+`"`) {
					return
				}
			}
		})
	}
	events := json.NewDecoder(resp.Body)
	seen := make(map[string]bool)
	for range clients * each {
		var e struct{ Node struct{ Key string } }
		require.NoError(t, events.Decode(&e))
		seen[e.Node.Key] = true
	}
	tasks.Wait()
	assert.Len(t, seen, clients*each)

	// Two requests in one record.
	raw, err := tls.Dial("tcp", strings.TrimPrefix(s.https, "https://"), s.keeper.Client("localhost"))
	require.NoError(t, err)
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(raw, put("/p", "1")+put("/p", "2")+"GET /v2/keys/p HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	text, err := io.ReadAll(raw)
	require.NoError(t, err)
	assert.Equal(t, 3, strings.Count(string(text), "HTTP/1.1 20"))
	assert.Contains(t, string(text), `"value":"2"`)
}
