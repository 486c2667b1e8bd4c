package locksmithctl

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

// server holds keys as the API does, as far as locks go.
type server struct {
	mu     sync.Mutex
	index  uint64
	values map[string]string
	at     map[string]uint64
	down   map[string]bool // endpoints that refuse connections
	asked  []string
}

func newServer() *server {
	return &server{values: map[string]string{}, at: map[string]uint64{}, down: map[string]bool{}}
}

func (s *server) Do(_ context.Context, r *client.Request) (*client.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Endpoint)
	if s.down[r.Endpoint] {
		return nil, errors.New("dial tcp: connect: connection refused")
	}
	key, _ := url.PathUnescape(strings.TrimPrefix(r.Path, "/v2/keys"))
	query, _ := url.ParseQuery(r.Query)
	body, _ := url.ParseQuery(r.Body)
	status, text := s.answer(r.Method, key, query, body)
	return &client.Response{Status: status, Header: map[string]string{}, Body: io.NopCloser(strings.NewReader(text))}, nil
}

func (s *server) answer(method, key string, query, body url.Values) (int, string) {
	_, exists := s.values[key]
	switch {
	case method == "GET" && !exists:
		return 404, fmt.Sprintf(`{"errorCode":100,"message":"Key not found","cause":%q,"index":%d}`, key, s.index)
	case method == "PUT" && query.Get("prevExist") == "false" && exists:
		return 412, fmt.Sprintf(`{"errorCode":105,"message":"Key already exists","cause":%q,"index":%d}`, key, s.index)
	case method == "PUT" && query.Get("prevIndex") != "" && query.Get("prevIndex") != fmt.Sprint(s.at[key]):
		return 412, fmt.Sprintf(`{"errorCode":101,"message":"Compare failed","cause":"[%s != %d]","index":%d}`, query.Get("prevIndex"), s.at[key], s.index)
	case method == "PUT":
		s.index++
		s.values[key], s.at[key] = body.Get("value"), s.index
	}
	return 200, fmt.Sprintf(`{"action":"x","node":{"key":%q,"value":%q,"modifiedIndex":%d,"createdIndex":1}}`, key, s.values[key], s.at[key])
}

func (s *server) Sleep(ctx context.Context, d time.Duration) error {
	time.Sleep(d / 10)
	return ctx.Err()
}
func (s *server) Now() time.Duration { return 0 }
func (s *server) Float64() float64   { return rand.Float64() }

type result struct {
	out, err string
	status   int
}

func (s *server) run(env map[string]string, args ...string) result {
	var out, errs bytes.Buffer
	t := &tool.Tool{
		Version: "1.2", In: strings.NewReader(""), Out: &out, Err: &errs,
		Getenv:  func(name string) string { return env[name] },
		Connect: func(tool.Connection) (client.Doer, error) { return s, nil },
		ReadFile: func(name string) ([]byte, error) {
			if id := env["machine-id"]; name == "/etc/machine-id" && id != "" {
				return []byte(id), nil
			}
			return nil, fs.ErrNotExist
		},
	}
	status := Run(context.Background(), t, append([]string{"locksmithctl"}, args...))
	return result{out.String(), errs.String(), status}
}

func TestTranscript(t *testing.T) {
	s := newServer()
	env := map[string]string{"machine-id": "89e20c71\n"}
	for _, step := range []struct {
		args string
		want result
	}{
		{"status", result{"Available: 1\nMax: 1\n", "", 0}},
		{"lock", result{"", "", 0}},
		{"status", result{"Available: 0\nMax: 1\n\nMACHINE ID\n89e20c71\n", "", 0}},
		{"lock", result{"", "Error locking: semaphore is at 0\n", 1}},
		{"lock bbb", result{"", "Error locking: semaphore is at 0\n", 1}},
		{"-debug=false lock bbb", result{"", "Error locking: semaphore is at 0\n", 1}},
		{"set-max 3", result{"Old-Max: 1\nMax: 3\n", "", 0}},
		{"lock bbb", result{"", "", 0}},
		{"lock bbb", result{"", "Error locking: holder exists\n", 1}},
		{"unlock ccc", result{"", "Error unlocking: holder does not exist\n", 1}},
		{"unlock", result{"", "", 0}},
		{"unlock bbb", result{"", "", 0}},
		{"status", result{"Available: 3\nMax: 3\n", "", 0}},
		{"set-max 0", result{"Old-Max: 3\nMax: 0\n", "", 0}},
		{"status", result{"Available: 0\nMax: 0\n", "", 0}},
		{"set-max", result{"", "New maximum value must be set.\n", 1}},
		{"set-max x", result{"", "Invalid maximum value: x\n", 1}},
		{"set-max -- -2", result{"", "Invalid maximum value: -2\n", 1}},
		{"set-max 99999999999", result{"", "Invalid maximum value: 99999999999\n", 1}},
		{"-group lb status", result{"Available: 1\nMax: 1\n", "", 0}},
		{"--group=prod/database lock x", result{"", "", 0}},
		{"bogus", result{"locksmithctl: unknown subcommand: \"bogus\"\nRun 'locksmithctl help' for usage.\n", "", 2}},
		{"reboot", result{"locksmithctl: unknown subcommand: \"reboot\"\nRun 'locksmithctl help' for usage.\n", "", 2}},
		{"help nope", result{"Unrecognized command: nope\n", "", 1}},
		{"-version", result{"locksmithctl version 1.2\n", "", 0}},
		{"--version status", result{"locksmithctl version 1.2\n", "", 0}},
	} {
		assert.Equal(t, step.want, s.run(env, strings.Fields(step.args)...), step.args)
	}
	const root = "/coreos.com/updateengine/rebootlock"
	assert.Equal(t, `{"semaphore":0,"max":0,"holders":[]}`, s.values[root+"/semaphore"])
	assert.Equal(t, `{"semaphore":1,"max":1,"holders":null}`, s.values[root+"/groups/lb/semaphore"])
	assert.Equal(t, `{"semaphore":0,"max":1,"holders":["x"]}`, s.values[root+"/groups/prod%2Fdatabase/semaphore"])
}

func TestUsage(t *testing.T) {
	s := newServer()
	for _, args := range []string{"-bogus", "set-max -2", "status -x"} {
		r := s.run(nil, strings.Fields(args)...)
		assert.Equal(t, 2, r.status, args)
		assert.Regexp(t, "^flag provided but not defined: -", r.err)
		assert.Contains(t, r.err, "USAGE:")
	}
	help := s.run(nil)
	assert.Equal(t, 0, help.status)
	assert.Equal(t, help, s.run(nil, "help"))
	for _, v := range verbs() {
		assert.Contains(t, help.out, v.name)
		assert.Contains(t, s.run(nil, "help", v.name).out, v.help)
	}
	assert.Empty(t, s.asked, "none of this needs a server")
}

func TestNoMachineID(t *testing.T) {
	assert.Equal(t, result{"", "Cannot read machine-id\n", 1}, newServer().run(nil, "lock"))
	assert.Equal(t, result{"", "Cannot read machine-id\n", 1}, newServer().run(map[string]string{"machine-id": "\n"}, "unlock"))
}

func TestEndpointsInOrder(t *testing.T) {
	s := newServer()
	env := map[string]string{"LOCKSMITHCTL_ENDPOINT": "http://a,http://b", "LOCKSMITHCTL_GROUP": "lb"}
	s.down["http://a"] = true
	require.Equal(t, 0, s.run(env, "status").status)
	assert.Equal(t, []string{"http://a", "http://b"}, s.asked[:2])
	assert.Contains(t, s.values, "/coreos.com/updateengine/rebootlock/groups/lb/semaphore")

	s.down["http://b"] = true
	for _, args := range []string{"status", "lock x", "unlock x", "set-max 2"} {
		r := s.run(env, strings.Fields(args)...)
		assert.Equal(t, 1, r.status)
		assert.True(t, strings.HasPrefix(r.err, "Error initializing etcd client: "), r.err)
	}
	r := s.run(env, "-endpoint", "http://c", "-endpoint", "d", "-group=", "status")
	assert.Equal(t, 0, r.status, "the last flag wins, and flags win over the environment")
	assert.Equal(t, "http://d", s.asked[len(s.asked)-1])
	assert.Contains(t, s.values, "/coreos.com/updateengine/rebootlock/semaphore")
	assert.Equal(t, 2, s.run(map[string]string{"LOCKSMITHCTL_DEBUG": "x"}, "status").status)
}

func TestCertificatesGoTogether(t *testing.T) {
	r := newServer().run(nil, "-etcd-cafile", "ca.pem", "status")
	assert.Equal(t, result{"", "Error initializing etcd client: etcd-cafile, etcd-certfile and etcd-keyfile must be given together\n", 1}, r)
}

func TestUnreadableDocument(t *testing.T) {
	s := newServer()
	const key = "/coreos.com/updateengine/rebootlock/semaphore"
	s.values[key], s.at[key] = "broken", 1
	for _, args := range []string{"status", "lock x", "unlock x", "set-max 2"} {
		r := s.run(nil, strings.Fields(args)...)
		assert.Equal(t, 1, r.status, args)
		assert.NotEmpty(t, r.err)
		assert.Empty(t, r.out)
	}
	assert.Equal(t, "broken", s.values[key])
}

func TestDebugNamesHolders(t *testing.T) {
	s := newServer()
	s.run(nil, "lock", "aaa")
	assert.Contains(t, s.run(nil, "-debug", "lock", "bbb").err, "reboot lock default: 1 of 1 slots held by aaa\nError locking: semaphore is at 0\n")
}

// Ten at once on ten slots all get one, where the original lost eight.
func TestTenAtOnce(t *testing.T) {
	s := newServer()
	require.Equal(t, 0, s.run(nil, "set-max", "10").status)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			assert.Equal(t, result{}, s.run(nil, "lock", fmt.Sprint("m", i)))
		})
	}
	wg.Wait()
	assert.Contains(t, s.run(nil, "status").out, "Available: 0\nMax: 10\n")
}

func TestReferencePage(t *testing.T) {
	text, err := os.ReadFile("../../../docs/locksmithctl.md")
	require.NoError(t, err)
	page := string(text)
	for _, v := range verbs() {
		assert.Containsf(t, page, strings.TrimSpace("### "+v.name+" "+v.args)+"\n\n"+v.help, "help of %s", v.name)
	}
	var o options
	o.flagSet(&tool.Tool{Err: io.Discard}).VisitAll(func(f *flag.Flag) {
		env := "`" + environmentName(f.Name) + "`"
		if f.Name == "version" {
			env = ""
		}
		assert.Contains(t, page, strings.TrimRight(fmt.Sprintf("| `-%s` | %s", f.Name, env), " ")+" |")
		assert.Contains(t, page, f.Usage)
	})
}
