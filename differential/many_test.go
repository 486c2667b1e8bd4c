package differential

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The history holds a thousand events, refreshes among them.
func TestClearedHistoryEqualsTheOriginals(t *testing.T) {
	t.Parallel()
	ours, theirs := startOurs(t), startOriginal(t)
	fill := func(s *server) {
		s.rebase(t)
		writes := s.together(t, 16, slices.Repeat([]request{{"PUT", "/v2/keys/fill/a", "value=1", formType}}, 1010))
		require.Len(t, writes, 1010)
	}
	fill(ours)
	fill(theirs)
	for _, s := range []script{
		lines("watch w /a?waitIndex={-1000}"),
		lines("watch w ?recursive=true&waitIndex={-1001}"),
		lines("watch w /a?stream=true&waitIndex={-1005}"),
		lines("watch w /a?waitIndex={-999}\nPUT /a value=1"),
		lines(`
			PUT /a value=1&ttl=100
			PUT /a refresh=true&ttl=100
			watch w /a?waitIndex={-1000}
			watch v /a?waitIndex={-999}
			watch u /a?waitIndex={-1}`),
	} {
		playEqual(t, ours, theirs, "/cleared", s)
	}
}

// Of many who do the same thing at once, as many succeed as with the original.
func TestConcurrentWritesEqualTheOriginals(t *testing.T) {
	t.Parallel()
	ours, theirs := startOurs(t), startOriginal(t)
	for _, c := range []struct {
		name string
		same request
	}{
		{"create", request{"PUT", "/v2/keys/c/one", "value=x&prevExist=false", formType}},
		{"create a directory", request{"PUT", "/v2/keys/c/dir", "dir=true&prevExist=false", formType}},
		{"update", request{"PUT", "/v2/keys/c/one", "value=y&prevExist=true", formType}},
		{"swap", request{"PUT", "/v2/keys/c/one", "value=z&prevValue=y", formType}},
		{"in order", request{"POST", "/v2/keys/c/queue", "value=x", formType}},
		{"delete", request{"DELETE", "/v2/keys/c/one", "", ""}},
		{"delete a directory", request{"DELETE", "/v2/keys/c/queue?recursive=true", "", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			answers := func(s *server) []string {
				s.rebase(t)
				return s.together(t, 16, slices.Repeat([]request{c.same}, 48))
			}
			require.Equal(t, answers(theirs), answers(ours))
		})
	}
}

// together sends requests, so many at once, and gives the answers sorted.
func (s *server) together(t *testing.T, atOnce int, rs []request) []string {
	t.Helper()
	var clients sync.WaitGroup
	var mu sync.Mutex
	var answers []string
	var failed error
	for part := range slices.Chunk(rs, (len(rs)+atOnce-1)/atOnce) {
		client := *s
		clients.Go(func() {
			for _, r := range part {
				answer, err := client.send(r)
				mu.Lock()
				answers = append(answers, answer)
				if err != nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	require.NoError(t, failed)
	slices.Sort(answers)
	return answers
}

// HEAD answers are those of GET without the body, to the last header and byte. Only
// the original's redirects say nothing of the length that GET would have.
func TestHeadOnTheWireEqualsTheOriginals(t *testing.T) {
	t.Parallel()
	ours, theirs := startOurs(t), startOriginal(t)
	for _, s := range []*server{ours, theirs} {
		s.rebase(t)
		s.answer(t, request{"PUT", "/v2/keys/d/a", "value=<one>", formType})
	}
	for _, path := range []string{
		"/v2/keys/d/a", "/v2/keys/d?recursive=true", "/v2/keys", "/v2/keys/nope/x", "/v2/keys/d/a?wait=true", "/v2/keys/d?recursive=x",
		"/v2/keys/d/a/b", "/v2/machines", "/v2/keysx", "/v2/members", "/v2/stats/self", "/health", "/version",
	} {
		t.Run(path, func(t *testing.T) {
			var names [2][]string
			for i, s := range []*server{ours, theirs} {
				head, body := s.wire(t, "HEAD", path)
				assert.Empty(t, body, "%s: a body", s.name)
				names[i] = headers(head)
				if strings.Contains(path, "wait=true") || !strings.HasPrefix(path, "/v2/keys/") {
					continue // GET is something else, or more is allowed
				}
				full, text := s.wire(t, "GET", path)
				assert.Contains(t, full, fmt.Sprintf("Content-Length: %d\r\n", len(text)), s.name)
				assert.Equal(t, full, head, s.name)
			}
			assert.Equal(t, names[1], names[0])
		})
	}
}

var varying = regexp.MustCompile(`(?m)^(Date|Content-Length|X-Raft-Index|X-Raft-Term|X-Etcd-Cluster-Id|X-Etcd-Index): .*$`)

// headers gives the status and the sorted headers, without values that differ and
// without those for scripts of other origins, which we do not offer.
func headers(head string) []string {
	list := strings.Split(varying.ReplaceAllString(strings.ReplaceAll(head, "\r", ""), "$1"), "\n")
	list = slices.DeleteFunc(list, func(h string) bool { return strings.HasPrefix(h, "Access-Control-") })
	slices.Sort(list[1:])
	return list
}

// wire sends a request by hand and gives the head of the answer, without its date,
// and everything behind it until the server closes.
func (s *server) wire(t *testing.T, method, path string) (head, body string) {
	t.Helper()
	host := strings.TrimPrefix(s.url, "http://")
	conn, err := net.DialTimeout("tcp", host, patience)
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", method, path, host)
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		require.NoError(t, err, "%s: %s %s: after\n%s", s.name, method, path, head)
		if line == "\r\n" {
			break
		}
		if !strings.HasPrefix(line, "Date: ") {
			head += line
		}
	}
	rest, err := io.ReadAll(in)
	require.NoError(t, err)
	return head, string(rest)
}
