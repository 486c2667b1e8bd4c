package etcdctl_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/cmd/cli/etcdctl"
)

// output collects what a running command prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// put sends one plain request: method, path with query, and form.
func put(t *testing.T, url, request string) {
	t.Helper()
	words := append(strings.Fields(request), "")
	r, err := http.NewRequestWithContext(t.Context(), words[0], url+"/v2/keys"+words[1], strings.NewReader(words[2]))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	resp.Body.Close()
	require.Less(t, resp.StatusCode, 300, request)
}

func watchers(t *testing.T, url string) bool {
	resp, err := http.Get(url + "/v2/stats/store")
	require.NoError(t, err)
	defer resp.Body.Close()
	var text bytes.Buffer
	_, err = text.ReadFrom(resp.Body)
	require.NoError(t, err)
	return !strings.Contains(text.String(), `"watchers":0`)
}

// started is a command that runs until it ends by itself or is interrupted.
type started struct {
	out, errs output
	interrupt func()
	done      chan int
}

func startOriginalCommand(t *testing.T, url string, args []string) *started {
	s := &started{done: make(chan int, 1)}
	cmd := exec.Command("etcdctl", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "ETCDCTL_API=2", "ETCDCTL_ENDPOINTS=" + url}
	cmd.Stdout, cmd.Stderr = &s.out, &s.errs
	require.NoError(t, cmd.Start())
	s.interrupt = func() { cmd.Process.Signal(os.Interrupt) }
	t.Cleanup(func() { cmd.Process.Kill() })
	go func() {
		cmd.Wait()
		s.done <- cmd.ProcessState.ExitCode()
	}()
	return s
}

func startOurs(t *testing.T, url string, args []string) *started {
	s := &started{done: make(chan int, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	s.interrupt = cancel
	tool := newTool(strings.NewReader(""), &s.out, &s.errs, map[string]string{"ETCDCTL_ENDPOINTS": url})
	go func() { s.done <- etcdctl.Run(ctx, tool, append([]string{"etcdctl"}, args...)) }()
	return s
}

// TestWatchesSameAsTheOriginal runs watches of both kinds while keys change.
func TestWatchesSameAsTheOriginal(t *testing.T) {
	theirs, ours := startOriginal(t), startOriginal(t)
	for _, c := range []struct {
		args  string
		does  []string
		lines int  // of output to wait for
		ends  bool // by itself
	}{
		{"watch /w", []string{"PUT /w value=1"}, 1, true},
		{"watch /w", []string{"DELETE /w"}, 1, true},
		{"-o json watch /w", []string{"PUT /w value=2"}, 1, true},
		{"-o extended watch -r /", []string{"PUT /w value=3"}, 9, true},
		{"-o extended watch /w", []string{"DELETE /w"}, 6, true},
		{"watch --recursive /d", []string{"PUT /d/e?dir=true", "PUT /d/f value="}, 2, true},
		{"watch / --recursive --forever", []string{
			"PUT /x value=1", "PUT /x?prevExist=true value=2", "PUT /x?prevValue=2 value=3", "PUT /z?dir=true", "PUT /z/a value=1",
			"DELETE /z?recursive=true", "DELETE /x?prevValue=3", "POST /q value=job", "PUT /t value=1&ttl=0",
		}, 16, false},
		{"exec-watch --recursive /e -- sh -c echo~$ETCD_WATCH_ACTION~$ETCD_WATCH_KEY~[$ETCD_WATCH_VALUE]~$ETCD_WATCH_MODIFIED_INDEX;exit~3", []string{
			"PUT /e/1 value=one", "PUT /e/2?dir=true",
		}, 2, false},
		{"exec-watch -r /e -- /no/such/program", []string{"PUT /e/1 value=one"}, 0, true},
	} {
		t.Run(c.args, func(t *testing.T) {
			args := line{args: c.args}.words("")
			var results []outcome
			for url, s := range map[string]*started{theirs: startOriginalCommand(t, theirs, args), ours: startOurs(t, ours, args)} {
				require.Eventually(t, func() bool { return watchers(t, url) }, 10*time.Second, 10*time.Millisecond)
				for _, request := range c.does {
					put(t, url, request)
				}
				assert.Eventually(t, func() bool { return strings.Count(s.out.String()+s.errs.String(), "\n") >= c.lines }, 5*time.Second, 10*time.Millisecond)
				if !c.ends {
					s.interrupt()
				}
				status := <-s.done
				o := outcome{s.out.String(), s.errs.String(), status}.steady(url)
				o.Stderr = strings.TrimSuffix(o.Stderr, "\n") // the original forgets one
				results = append(results, o)
			}
			assert.Equal(t, results[0], results[1])
		})
	}
}

// The original takes the last word for the key when no flag comes first; ours
// works as the manual says.
func TestExecWatchAsTheManualSays(t *testing.T) {
	url := startOriginal(t)
	s := startOurs(t, url, []string{"exec-watch", "/foo/bar", "--", "sh", "-c", "env | grep ETCD | sort"})
	require.Eventually(t, func() bool { return watchers(t, url) }, 10*time.Second, 10*time.Millisecond)
	put(t, url, "PUT /foo/bar value=Hello")
	assert.Eventually(t, func() bool { return strings.Count(s.out.String(), "\n") >= 4 }, 5*time.Second, 10*time.Millisecond)
	s.interrupt()
	assert.Equal(t, 0, <-s.done)
	assert.Regexp(t, `^ETCD_WATCH_ACTION=set\nETCD_WATCH_KEY=/foo/bar\nETCD_WATCH_MODIFIED_INDEX=\d+\nETCD_WATCH_VALUE=Hello\n$`, s.out.String())
}
