package etcdctl_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/cmd/cli/etcdctl"
	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/realnet/web"
)

// originals finds the programs to compare with. On CI they must be there.
func originals(t *testing.T) {
	t.Helper()
	for program, pkg := range map[string]string{"etcd": "etcd-server", "etcdctl": "etcd-client"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is missing: install the Debian packages etcd-server and etcd-client", program)
			}
			t.Skipf("%s is missing: install the Debian package %s", program, pkg)
		}
	}
}

func freeURL(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return "http://" + l.Addr().String()
}

// startOriginal starts the original server with the API of old switched on, and
// gives its client URL.
func startOriginal(t *testing.T) string {
	t.Helper()
	originals(t)
	clients, peers := freeURL(t), freeURL(t)
	cmd := exec.Command("etcd", "--enable-v2=true", "--name", "ra", "--data-dir", t.TempDir(),
		"--listen-client-urls", clients, "--advertise-client-urls", clients,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
		"--initial-cluster", "ra="+peers, "--unsafe-no-fsync")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("server: %.3000s", log.String())
		}
	})
	require.Eventually(t, func() bool {
		r, err := http.Get(clients + "/health")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	}, 30*time.Second, 50*time.Millisecond, "the original server does not become healthy")
	return clients
}

// line is one command line and what it is given.
type line struct {
	args  string // words are split at spaces; {} is the server's URL
	stdin string
}

func (l line) words(url string) []string {
	var words []string
	for _, w := range strings.Split(l.args, " ") {
		w = strings.ReplaceAll(w, "{}", url)
		words = append(words, strings.NewReplacer("~", " ", "''", "").Replace(w))
	}
	return words
}

// outcome is what a command line left behind.
type outcome struct {
	Stdout, Stderr string
	Status         int
}

func runOriginal(t *testing.T, url string, l line) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "etcdctl", l.words(url)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "ETCDCTL_API=2", "ETCDCTL_ENDPOINTS=" + url}
	cmd.Stdin = strings.NewReader(l.stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("etcdctl %s: %v", l.args, err)
	}
	return outcome{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// theirVersion is what our command says its version is when it is compared.
const theirVersion = "3.4.23"

func newTool(in io.Reader, out, errs io.Writer, env map[string]string) *tool.Tool {
	return &tool.Tool{
		Version: theirVersion, In: in, Out: out, Err: errs,
		Getenv:  func(name string) string { return env[name] },
		Environ: func() []string { return []string{"PATH=" + os.Getenv("PATH")} },
		Connect: func(c tool.Connection) (client.Doer, error) {
			return web.New(web.Config{CertFile: c.CertFile, KeyFile: c.KeyFile, CAFile: c.CAFile, DialTimeout: c.DialTimeout})
		},
		Run: func(ctx context.Context, p *tool.Process) error {
			cmd := exec.CommandContext(ctx, p.Args[0], p.Args[1:]...)
			cmd.Env, cmd.Stdout, cmd.Stderr = p.Env, p.Out, p.Err
			err := cmd.Run()
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				return nil
			}
			return err
		},
	}
}

func runOurs(ctx context.Context, url string, l line) outcome {
	var out, errs bytes.Buffer
	t := newTool(strings.NewReader(l.stdin), &out, &errs, map[string]string{"ETCDCTL_ENDPOINTS": url})
	status := etcdctl.Run(ctx, t, append([]string{"etcdctl"}, l.words(url)...))
	return outcome{out.String(), errs.String(), status}
}

// same lists the command lines that must leave the same bytes and status with
// the original and with ours. They run in this order, each list on a server of
// its own, so that even indexes are equal.
var same = []line{
	{args: "--version"},
	{args: "-v"},
	{args: "-version"},
	{args: "bogus"},
	{args: "member bogus"},
	{args: "help bogus"},
	{args: "set --help"},
	{args: "set -h"},
	{args: "help set"},
	{args: "get --help"},
	{args: "mk --help"},
	{args: "mkdir --help"},
	{args: "ls --help"},
	{args: "rm --help"},
	{args: "rmdir --help"},
	{args: "setdir --help"},
	{args: "update --help"},
	{args: "updatedir --help"},
	{args: "watch --help"},
	{args: "exec-watch --help"},
	{args: "cluster-health --help"},
	{args: "member --help"},
	{args: "member"},
	{args: "member add --help"},
	{args: "member list --help"},
	{args: "member remove --help"},
	{args: "member update --help"},
	{args: "set"},
	{args: "set /a"},
	{args: "set /a one"},
	{args: "set /a two", stdin: "ignored"},
	{args: "set /in", stdin: "from stdin\n"},
	{args: "get /in"},
	{args: "mk /in2", stdin: "x"},
	{args: "update /in2", stdin: "y"},
	{args: "set /a b c"},
	{args: "set /a ''"},
	{args: "get /a"},
	{args: "set -- /dash -v"},
	{args: "get /dash"},
	{args: "set /minus -5"},
	{args: "set k v"},
	{args: "get k"},
	{args: "get /k more"},
	{args: "set /ttl v --ttl 100"},
	{args: "set /ttl --ttl 100 v"},
	{args: "set --ttl=100 /ttl v"},
	{args: "set -ttl 100 /ttl v"},
	{args: "set /ttl v --ttl -5"},
	{args: "set /ttl v --ttl 0"},
	{args: "set /a --ttl abc v"},
	{args: "--timeout 5s get /a"},
	{args: "set /a one"},
	{args: "set /a two --swap-with-value nope"},
	{args: "set /a two --swap-with-value one"},
	{args: "set /a three --swap-with-index 7"},
	{args: "set /a three --swap-with-value x --swap-with-index 7"},
	{args: "set /none x --swap-with-value y"},
	{args: "get"},
	{args: "get /none"},
	{args: "get /none/x/y"},
	{args: "get /a/x"},
	{args: "get /a --quorum"},
	{args: "get -q /a"},
	{args: "-o json get /a"},
	{args: "-o extended get /a"},
	{args: "--output=json get /a"},
	{args: "-o bogus get /a"},
	{args: "get --bogus"},
	{args: "mk"},
	{args: "mk /m 1"},
	{args: "mk /m 2"},
	{args: "mk /q job --in-order"},
	{args: "mk /q job2 --in-order --ttl 100"},
	{args: "-o json mk /q job --in-order"},
	{args: "mk /q x"},
	{args: "mk /z x --ttl 100"},
	{args: "update"},
	{args: "update /m"},
	{args: "update /m 3"},
	{args: "update /none 3"},
	{args: "-o extended update /m 4"},
	{args: "mkdir"},
	{args: "mkdir /d"},
	{args: "mkdir /d"},
	{args: "mkdir /d/e/f"},
	{args: "mkdir /dt --ttl 100"},
	{args: "-o json mkdir /dj"},
	{args: "-o extended mkdir /dx"},
	{args: "mkdir /m"},
	{args: "setdir"},
	{args: "setdir /s"},
	{args: "setdir /s"},
	{args: "setdir /m"},
	{args: "-o extended setdir /s2"},
	{args: "updatedir"},
	{args: "updatedir /d --ttl 100"},
	{args: "updatedir /d"},
	{args: "updatedir /none"},
	{args: "-o json updatedir /d"},
	{args: "get /d"},
	{args: "get /"},
	{args: "-o json get /d"},
	{args: "ls --sort"},
	{args: "ls --sort -p"},
	{args: "ls --sort --recursive -p"},
	{args: "ls -r --sort /d"},
	{args: "ls /m"},
	{args: "ls /none"},
	{args: "ls /d -p"},
	{args: "ls /s --quorum"},
	{args: "-o extended ls /d"},
	{args: "-o json ls --sort /q"},
	{args: "ls --bogus"},
	{args: "rm"},
	{args: "rm /none"},
	{args: "rm /m"},
	{args: "set /m 1"},
	{args: "-o extended rm /m"},
	{args: "set /m 1"},
	{args: "-o json rm /m"},
	{args: "set /m 1"},
	{args: "rm /m --with-value 2"},
	{args: "rm /m --with-index 2"},
	{args: "rm /m --with-value 2 --with-index 2"},
	{args: "rm /m --with-value 1"},
	{args: "set /m 1"},
	{args: "-o extended rm /m --with-value 1"},
	{args: "rm /d --with-value 1"},
	{args: "rm /d"},
	{args: "rm /d --dir"},
	{args: "rm /dj --dir"},
	{args: "-o extended rm /dx --dir"},
	{args: "rm /d --recursive"},
	{args: "rmdir"},
	{args: "rmdir /s"},
	{args: "rmdir /none"},
	{args: "rmdir /q"},
	{args: "set /m 1"},
	{args: "rmdir /m"},
	{args: "-o json rmdir /s2"},
	{args: "rm /"},
	{args: "set / x"},
	{args: "set /q x"},
	{args: "set /a/x y"},
	{args: "set /x/../y/./z v"},
	{args: "get /y/z"},
	{args: "set /sp~ace/%41?x=1#f v<>&☃"},
	{args: "get /sp~ace/%41?x=1#f"},
	{args: "-o json get /sp~ace/%41?x=1#f"},
	{args: "ls /sp~ace"},
	{args: "member list"},
	{args: "member list x"},
	{args: "member add"},
	{args: "member add x"},
	{args: "member add x bogus"},
	{args: "member remove"},
	{args: "member remove ra"},
	{args: "member remove 123"},
	{args: "member update"},
	{args: "member update x"},
	{args: "member update 123 http://127.0.0.1:9"},
	{args: "cluster-health"},
	{args: "cluster-health extra"},
	{args: "--no-sync cluster-health"},
	{args: "watch"},
	{args: "watch --bogus"},
	{args: "watch /a --after-index 4"},
	{args: "watch / --recursive --after-index 4"},
	{args: "-o json watch /a --after-index 4"},
	{args: "-o extended watch /m --after-index 4"},
	{args: "watch /x --after-index abc"},
	{args: "exec-watch"},
	{args: "exec-watch /a"},
	{args: "--no-sync get /a"},
	{args: "--endpoint {} get /a"},
	{args: "-C {} get /a"},
	{args: "--endpoints {} get /a"},
	{args: "--endpoints http://127.0.0.1:1 get /a"},
	{args: "--no-sync --endpoints http://127.0.0.1:1 get /a"},
	{args: "--endpoints http://127.0.0.1:1 member list"},
	{args: "--endpoints http://127.0.0.1:1 cluster-health"},
	{args: "--endpoints http://127.0.0.1:1 watch /a"},
	{args: "--cert-file /none get /a"},
	{args: "--ca-file /none get /a"},
	{args: "--total-timeout 1ns get /a"},
	{args: "--no-sync --total-timeout 1ns get /a"},
	{args: "-u root:x get /a"},
	{args: "--debug set /c 1"},
	{args: "--debug mk /c 1"},
	{args: "--debug --no-sync rm /c --with-value 1"},
	{args: "--debug mkdir /cd --ttl 100"},
	{args: "--debug updatedir /cd"},
	{args: "--debug rm /cd --dir --recursive"},
	{args: "--debug mk /q x --in-order"},
	{args: "--debug member list"},
	{args: "--debug watch /a --after-index 4"},
	{args: "--debug set /c 2 --swap-with-value 1 --swap-with-index 4"},
	{args: "user"},
	{args: "user --help"},
	{args: "user add --help"},
	{args: "user get --help"},
	{args: "user list --help"},
	{args: "user remove --help"},
	{args: "user grant --help"},
	{args: "user revoke --help"},
	{args: "user passwd --help"},
	{args: "role"},
	{args: "role --help"},
	{args: "role add --help"},
	{args: "role get --help"},
	{args: "role list --help"},
	{args: "role remove --help"},
	{args: "role grant --help"},
	{args: "role revoke --help"},
	{args: "auth"},
	{args: "auth --help"},
	{args: "auth enable --help"},
	{args: "auth disable --help"},
	{args: "auth bogus"},
	{args: "user bogus"},
	{args: "auth enable"},
	{args: "auth enable x"},
	{args: "auth disable"},
	{args: "user list"},
	{args: "user list x"},
	{args: "user add"},
	{args: "user add a b"},
	{args: "user add :"},
	{args: "user add root:rp"},
	{args: "user add ann:a"},
	{args: "user add ann:b"},
	{args: "user add ann:"},
	{args: "user add bob:b:c"},
	{args: "user add empty:"},
	{args: "user list"},
	{args: "user get root"},
	{args: "user get ann"},
	{args: "user get none"},
	{args: "user get"},
	{args: "user remove bob"},
	{args: "user remove bob"},
	{args: "user remove"},
	{args: "user passwd"},
	{args: "user passwd a b"},
	{args: "role list"},
	{args: "role list x"},
	{args: "role add"},
	{args: "role add r1"},
	{args: "role add r1"},
	{args: "role add r2"},
	{args: "role add root"},
	{args: "role get"},
	{args: "role get r1"},
	{args: "role get none"},
	{args: "role get root"},
	{args: "role grant r1 --path /a --read"},
	{args: "role grant r1 --path /a --read"},
	{args: "role grant r1 --path /b/* --readwrite"},
	{args: "role grant r1 --path /b2/* --rw"},
	{args: "role grant r1 --path /c --write"},
	{args: "role grant r1 --path c --write"},
	{args: "role grant r1 --path c"},
	{args: "role grant r1 --path /c"},
	{args: "role grant r1 --path /c --read --write"},
	{args: "role grant r1 --read"},
	{args: "role grant --path /c --read"},
	{args: "role grant"},
	{args: "role grant none --path /c --read"},
	{args: "role grant root --path /c --read"},
	{args: "role get r1"},
	{args: "role revoke r1 --path /a --read"},
	{args: "role revoke r1 --path /a --read"},
	{args: "role revoke r2 --path /a --read"},
	{args: "role revoke r2 --path /a --read"},
	{args: "role revoke r1 --path /b/* --write"},
	{args: "role revoke none --path /a --read"},
	{args: "role revoke r1"},
	{args: "role get r1"},
	{args: "role list"},
	{args: "user grant ann --roles r1"},
	{args: "user grant ann --roles r1"},
	{args: "user grant ann --roles r2"},
	{args: "user grant ann"},
	{args: "user grant --roles r1"},
	{args: "user grant none --roles r1"},
	{args: "user get ann"},
	{args: "user revoke ann --roles r2"},
	{args: "user revoke ann --roles r2"},
	{args: "user revoke ann"},
	{args: "user revoke none --roles r1"},
	{args: "role remove r2"},
	{args: "role remove r2"},
	{args: "role remove root"},
	{args: "role remove"},
	{args: "user get ann"},
	{args: "--debug user add dbg:1"},
	{args: "--debug user get dbg"},
	{args: "--debug user list"},
	{args: "--debug user grant dbg --roles r1"},
	{args: "--debug user revoke dbg --roles r1"},
	{args: "--debug role add r8"},
	{args: "--debug role grant r8 --path /x --read"},
	{args: "--debug role revoke r8 --path /x --read"},
	{args: "--debug role list"},
	{args: "--debug role remove r8"},
	{args: "--debug user remove dbg"},
	{args: "--debug auth disable"},
	{args: "auth enable"},
	{args: "auth enable"},
	{args: "user list"},
	{args: "role list"},
	{args: "role get guest"},
	{args: "role add x"},
	{args: "role grant r1 --path /x --read"},
	{args: "user get ann"},
	{args: "user add z:z"},
	{args: "user remove ann"},
	{args: "user grant ann --roles r1"},
	{args: "-u root:rp auth enable"},
	{args: "-u root:bad user list"},
	{args: "-u root:rp user list"},
	{args: "-u root:rp role list"},
	{args: "-u root:rp role get guest"},
	{args: "-u root:rp user remove root"},
	{args: "set /g 1"},
	{args: "-u root:rp role revoke guest --path /* --rw"},
	{args: "set /g 1"},
	{args: "get /g"},
	{args: "ls"},
	{args: "watch /g"},
	{args: "exec-watch /g -- true"},
	{args: "-u root:rp set /g 2"},
	{args: "-u root:bad get /g"},
	{args: "-u ann:a get /g"},
	{args: "-u ann:a get /b/x"},
	{args: "-u root:rp set /b/x 1"},
	{args: "-u ann:a get /b/x"},
	{args: "-u ann:a set /b2/x 1"},
	{args: "-u ann:a ls /b/"},
	{args: "-u ann:a rm /b2/x"},
	{args: "member list"},
	{args: "cluster-health"},
	{args: "auth disable"},
	{args: "-u ann:a auth disable"},
	{args: "-u root:rp auth disable"},
	{args: "-u root:rp auth disable"},
	{args: "--no-sync --endpoints http://127.0.0.1:1 user list"},
	{args: "--endpoints http://127.0.0.1:1 auth enable"},
}

// volatile matches what differs between two runs of anything.
var volatile = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`"expiration":"[^"]*"`), `"expiration":"TIME"`},
	{regexp.MustCompile(`\b[0-9a-f]{10,16}\b`), "ID"},
	{regexp.MustCompile(`"ttl":\d+`), `"ttl":N`},
	{regexp.MustCompile(`TTL: [1-9]\d*`), "TTL: N"},
}

func (o outcome) steady(urls ...string) outcome {
	fix := func(s string) string {
		for i, u := range urls {
			s = strings.ReplaceAll(s, u, fmt.Sprintf("URL%d", i))
			s = strings.ReplaceAll(s, strings.TrimPrefix(u, "http://"), fmt.Sprintf("URL%d", i))
		}
		s = regexp.MustCompile(`peerURLs=\S+`).ReplaceAllString(s, "peerURLs=PEERS")
		for _, v := range volatile {
			s = v.re.ReplaceAllString(s, v.with)
		}
		return s
	}
	return outcome{fix(o.Stdout), fix(o.Stderr), o.Status}
}

func TestSameAsTheOriginal(t *testing.T) {
	theirs, ours := startOriginal(t), startOriginal(t)
	for _, l := range same {
		t.Run(l.args, func(t *testing.T) {
			want := runOriginal(t, theirs, l).steady(theirs)
			have := runOurs(t.Context(), ours, l).steady(ours)
			assert.Equal(t, want, have)
		})
	}
	t.Logf("%d command lines compared", len(same))
}
