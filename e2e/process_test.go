package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// waitMax bounds every wait for something that must come true.
const waitMax = 20 * time.Second

// until polls for something that must come true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(waitMax)
	for !ok() {
		if time.Now().After(end) {
			require.FailNowf(t, "waited too long", "for %v: %s", waitMax, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// text collects what a process writes.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// process is a program that was started. It never outlives the test.
type process struct {
	*exec.Cmd
	out, err text
	ended    chan struct{}
}

// launch starts a program in a namespace.
func launch(t *testing.T, s *space, dir string, env []string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(args[0], args[1:]...), ended: make(chan struct{})}
	p.Dir = dir
	p.Env = append(environ(), env...)
	p.Stdout, p.Stderr = &p.out, &p.err
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, s.do(p.Start))
	go func() {
		p.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() && !p.ProcessState.Success() {
			t.Logf("%s:\n%s%s", strings.Join(args, " "), tail(p.out.String(), 2000), tail(p.err.String(), 2000))
		}
	})
	return p
}

// environ is the environment without what would change the programs' minds.
func environ() (env []string) {
	for _, line := range os.Environ() {
		if strings.HasPrefix(line, "ETCD") || strings.HasPrefix(line, "LOCKSMITH") || strings.HasPrefix(line, "KEELSON") || strings.Contains(strings.ToLower(line), "_proxy=") {
			continue
		}
		env = append(env, line)
	}
	return append(env, "KEELSON_UNITS=off") // the systemd of this machine is nothing to tests
}

func tail(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return "…" + s[len(s)-most:]
}

func (p *process) kill() {
	p.Process.Kill()
	<-p.ended
}

// end waits for the process and gives its exit status.
func (p *process) end(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.ProcessState.ExitCode()
	case <-time.After(waitMax):
		require.FailNow(t, "does not end", "%v\n%s%s", p.Args, p.out.String(), p.err.String())
		return 0
	}
}

// result is how a program ended.
type result struct {
	status   int
	out, err string
}

func (r result) String() string { return fmt.Sprintf("status %d\n%s%s", r.status, r.out, r.err) }

// run runs a program to its end.
func run(t *testing.T, s *space, env []string, args ...string) result {
	t.Helper()
	p := launch(t, s, t.TempDir(), env, args...)
	status := p.end(t)
	return result{status, p.out.String(), p.err.String()}
}
