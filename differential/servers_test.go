package differential

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const formType = "application/x-www-form-urlencoded"

// patience bounds every wait. It is far above what a loaded machine needs: it only
// turns a hang into a failure.
const patience = 30 * time.Second

type request struct{ method, path, body, contentType string }

func (r request) String() string {
	s := r.method + " " + r.path
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	if r.body != "" {
		s += " " + r.body
	}
	return s
}

// server is one of the two.
type server struct {
	name string
	url  string
	base int64 // index at which the sequence began
	now  int64 // last index heard of
}

// rebase makes the present index the one that others are compared with.
func (s *server) rebase(t *testing.T) {
	t.Helper()
	s.now = 0
	_, err := s.send(request{method: "GET", path: "/v2/keys/?quorum=true"})
	require.NoError(t, err)
	require.NotZero(t, s.now)
	s.base = s.now
}

// answer sends the request and gives the answer in a form that two equal servers
// agree on to the byte.
func (s *server) answer(t *testing.T, r request) string {
	t.Helper()
	text, err := s.send(r)
	require.NoError(t, err, r)
	return text
}

func (s *server) send(r request) (string, error) {
	resp, err := s.open(context.Background(), r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("%s: %v: read the body: %w", s.name, r, err)
	}
	return s.head(resp) + s.normal(string(body)), nil
}

// open sends the request and waits for the head of the answer.
func (s *server) open(ctx context.Context, r request) (*http.Response, error) {
	path, query, _ := strings.Cut(r.path, "?")
	req, err := http.NewRequestWithContext(ctx, r.method, s.url, strings.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.URL.Opaque = strings.TrimPrefix(s.url, "http:") + path
	req.URL.RawQuery = query
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	resp, err := noRedirects.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %v: %w", s.name, r, err)
	}
	if n, err := strconv.ParseInt(resp.Header.Get("X-Etcd-Index"), 10, 64); err == nil && n > 0 {
		s.now = n
	}
	return resp, nil
}

// head is the status and headers in comparable form.
func (s *server) head(resp *http.Response) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", resp.StatusCode)
	for _, h := range []string{"Content-Type", "Allow", "Location"} {
		fmt.Fprintf(&b, "%s: %s\n", h, resp.Header.Get(h))
	}
	fmt.Fprintf(&b, "X-Etcd-Index: %s\n", s.relative(resp.Header.Get("X-Etcd-Index")))
	for _, h := range []string{"X-Raft-Index", "X-Raft-Term", "X-Etcd-Cluster-Id"} {
		fmt.Fprintf(&b, "%s: %v\n", h, resp.Header.Get(h) != "")
	}
	return b.String()
}

var noRedirects = &http.Client{
	Transport:     &http.Transport{ResponseHeaderTimeout: patience, MaxIdleConnsPerHost: 64},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (s *server) relative(index string) string {
	n, err := strconv.ParseInt(index, 10, 64)
	if err != nil || n == 0 {
		return index
	}
	return fmt.Sprintf("base%+d", n-s.base)
}

var (
	indexField = regexp.MustCompile(`"(index|modifiedIndex|createdIndex)":(\d+)`)
	inOrder    = regexp.MustCompile(`/(\d{20})`)
	condition  = regexp.MustCompile(`(\[\d+ != )(\d+)\]`)
	cleared    = regexp.MustCompile(`cleared \[(\d+)/(\d+)\]`)
	expiration = regexp.MustCompile(`"expiration":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"`)
	ttlField   = regexp.MustCompile(`"ttl":(-?\d+),`)
)

// normal rewrites what legitimately differs: indexes by their distance from the
// base, times by their form, times to live within fifty seconds. Times of a few
// seconds are left out, since they may be over on a slow machine.
func (s *server) normal(body string) string {
	body = indexField.ReplaceAllStringFunc(body, func(m string) string {
		p := indexField.FindStringSubmatch(m)
		return `"` + p[1] + `":` + s.relative(p[2])
	})
	body = inOrder.ReplaceAllStringFunc(body, func(m string) string {
		n, _ := strconv.ParseInt(m[1:], 10, 64)
		return fmt.Sprintf("/inorder%+d", n-s.base)
	})
	body = condition.ReplaceAllStringFunc(body, func(m string) string {
		p := condition.FindStringSubmatch(m)
		return p[1] + s.relative(p[2]) + "]"
	})
	body = cleared.ReplaceAllStringFunc(body, func(m string) string {
		p := cleared.FindStringSubmatch(m)
		return "cleared [" + s.relative(p[1]) + "/" + s.relative(p[2]) + "]"
	})
	body = expiration.ReplaceAllString(body, `"expiration":T`)
	return ttlField.ReplaceAllStringFunc(body, func(m string) string {
		n, _ := strconv.Atoi(ttlField.FindStringSubmatch(m)[1])
		if n < 10 {
			return ""
		}
		for _, round := range []int{100, 1000} {
			if n > round-50 && n <= round {
				n = round
			}
		}
		return fmt.Sprintf(`"ttl":%d,`, n)
	})
}

func startOriginal(t *testing.T) *server {
	t.Helper()
	path, err := exec.LookPath("etcd")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("the original server is missing: install the Debian package etcd-server")
		}
		t.Skip("the original server is missing: install the Debian package etcd-server")
	}
	return start(t, "theirs", path, "--enable-v2=true", "--logger=zap", "--log-level=error")
}

func startOurs(t *testing.T) *server {
	t.Helper()
	path, err := built()
	require.NoError(t, err)
	return start(t, "ours", path, "serve")
}

// built is our program, built once for all tests.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "differential")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "keelson")
	out, err := exec.Command("go", "build", "-o", path, "github.com/keelson/keelson/cmd/keelson").CombinedOutput()
	if err != nil {
		return path, fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	path, err := built()
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.RemoveAll(filepath.Dir(path))
	os.Exit(code)
}

// start runs a server of one member. Between the choice of a port and its use
// somebody else may take it, so a server that finds one taken is started again.
func start(t *testing.T, name, path string, args ...string) *server {
	t.Helper()
	for range 10 {
		s, log := tryStart(t, name, path, args)
		if s != nil {
			return s
		}
		require.Contains(t, log, "address already in use", "%s did not start", path)
	}
	t.Fatalf("%s: every port is taken", path)
	return nil
}

func tryStart(t *testing.T, name, path string, args []string) (s *server, log string) {
	t.Helper()
	client, peer := "http://"+freeAddr(t), "http://"+freeAddr(t)
	cmd := exec.Command(path, append(args[:len(args):len(args)], "--name", "one", "--data-dir", filepath.Join(t.TempDir(), "data"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "one="+peer)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), "KEELSON_UNITS=off") // a flag wins
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	s = &server{name: name, url: client}
	for end := time.Now().Add(patience); !s.ready(); {
		require.True(t, time.Now().Before(end), "%s does not answer", path)
		select {
		case <-ended:
			return nil, out.String()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return s, ""
}

// ready tells that the server leads itself and has ended its own writes to the
// store: who it is, and the version of its cluster.
func (s *server) ready() bool {
	for path, want := range map[string]string{
		"/v2/keys/?quorum=true": `"action":"get"`,
		"/v2/members":           `"clientURLs":["http`,
		"/version":              `"etcdcluster":"`,
	} {
		resp, err := http.Get(s.url + path)
		if err != nil {
			return false
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), want) || strings.Contains(string(body), "not_decided") {
			return false
		}
	}
	return true
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
