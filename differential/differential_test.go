// Package differential compares the key-value API with the original server, request by request.
package differential

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each sequence is drawn from its seed and sent to both servers; the answers must
// be equal in status, headers and body. Indexes are compared relative to where a
// server stood at the start, times to live to the second.
func TestAnswersEqualTheOriginals(t *testing.T) {
	ours, theirs := startOurs(t), startOriginal(t)
	const seeds, length = 40, 60
	for seed := range uint64(seeds) {
		r := rand.New(rand.NewPCG(seed, 2))
		ours.rebase(t)
		theirs.rebase(t)
		root := fmt.Sprintf("/s%d", seed)
		var log []string
		for range length {
			req := draw(r, root)
			log = append(log, req.String())
			a, b := ours.answer(t, req), theirs.answer(t, req)
			if a != b {
				t.Fatalf("seed %d: after\n%s\nours:\n%s\ntheirs:\n%s", seed, strings.Join(log, "\n"), a, b)
			}
		}
	}
}

// The answers that need no state: methods, paths, forms.
func TestOddRequestsEqualTheOriginals(t *testing.T) {
	ours, theirs := startOurs(t), startOriginal(t)
	ours.rebase(t)
	theirs.rebase(t)
	long := strings.Repeat("k", 300)
	for _, req := range []request{
		{"GET", "/v2/keysx", "", ""},
		{"PATCH", "/v2/keys/a", "", ""},
		{"PUT", "/v2/keys/a", "value=%zz", formType},
		{"PUT", "/v2/keys/a", "a;b", formType},
		{"GET", "/v2/keys/a?x=%zz", "", ""},
		{"GET", "/v2/keys/a?a;b", "", ""},
		{"PUT", "/v2/keys/a", `{"value":"x"}`, "application/json"},
		{"PUT", "/v2/keys/j", "value=x", ""},
		{"PUT", "/v2/keys/c", "value=1&value=2", formType + "; charset=utf-8"},
		{"PUT", "/v2/keys/c?value=q", "value=b", formType},
		{"PUT", "/v2/keys/c?value=q", "", ""},
		{"PUT", "/v2/keys/d%2Fe", "value=x", formType},
		{"PUT", "/v2/keys/f/", "value=x", formType},
		{"PUT", "/v2/keys/sp%20ace", "value=a+b%20c", formType},
		{"GET", "/v2/keys/sp%20ace", "", ""},
		{"PUT", "/v2/keys/" + long, "value=x", formType},
		{"PUT", "/v2/keys/u", "value=%E2%80%A8%3C%3E%26%01%22%5C%FF", formType},
		{"GET", "/v2/keys/u", "", ""},
		{"GET", "/v2/keys?ttl=abc", "", ""},
		{"GET", "/v2/keys?sorted=true&ttl=", "", ""},
		{"GET", "/v2/keys?prevIndex=", "", ""},
		{"GET", "/v2/keys?waitIndex=x", "", ""},
		{"PUT", "/v2/keys/a?wait=true", "value=1", formType},
		{"HEAD", "/v2/keys/c?wait=true", "", ""},
		{"HEAD", "/v2/keys/c", "", ""},
		{"HEAD", "/v2/keys/nope", "", ""},
		{"PUT", "/v2/keys/a", "prevValue=", formType},
		{"PUT", "/v2/keys/a", "prevExist=maybe", formType},
		{"PUT", "/v2/keys/a", "refresh=x", formType},
		{"PUT", "/v2/keys/a", "refresh=true&value=x&ttl=3", formType},
		{"PUT", "/v2/keys/a", "refresh=true", formType},
		{"PUT", "/v2/keys/a", "ttl=-1", formType},
		{"PUT", "/v2/keys/a", "ttl=1.5", formType},
		{"PUT", "/v2/keys/big", "value=x&ttl=99999999999", formType},
		{"PUT", "/v2/keys/_h/x", "value=1", formType},
		{"GET", "/v2/keys/_h", "", ""},
		{"GET", "/v2/keys/a?recursive=x", "", ""},
		{"GET", "/v2/keys/a?sorted=", "", ""},
		{"GET", "/v2/keys/a?stream=no", "", ""},
		{"GET", "/v2/keys/a?quorum=nah", "", ""},
		{"PUT", "/v2/keys/a", "dir=2", formType},
		{"PUT", "/v2/keys/a", "noValueOnSuccess=2", formType},
		{"PUT", "/v2/keys/nv", "value=1&noValueOnSuccess=true", formType},
		{"DELETE", "/v2/keys", "", ""},
		{"PUT", "/v2/keys", "value=1", formType},
		{"PUT", "/v2/keys/?prevExist=true", "value=1", formType},
		{"PUT", "/v2/keys/?prevIndex=1", "value=1", formType},
		{"DELETE", "/v2/keys/?prevIndex=1", "", ""},
		{"DELETE", "/v2/keys/?recursive=true", "", ""},
		{"GET", "/nowhere", "", ""},
		{"GET", "/v2/members/zzz", "", ""},
		{"PATCH", "/v2/members", "", ""},
		{"POST", "/v2/machines", "", ""},
		{"GET", "/v2/stats/nope", "", ""},
		{"GET", "/v2/keys/a//b", "", ""},
		{"GET", "/v2/keys/a/../b", "", ""},
	} {
		t.Run(req.String(), func(t *testing.T) {
			require.Equal(t, theirs.answer(t, req), ours.answer(t, req))
		})
	}
}

// draw makes one request over a handful of keys, so that they meet often.
func draw(r *rand.Rand, root string) request {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	key := root + pick("/a", "/b", "/d", "/d/x", "/d/y", "/d/e", "/d/e/f", "/_h", "/_h/x", "/d/_z", "", "/a/b", "/q")
	f := url.Values{}
	some := func(chance int, k string, values ...string) {
		if r.IntN(100) < chance {
			f.Set(k, pick(values...))
		}
	}
	method := pick("GET", "GET", "PUT", "PUT", "PUT", "PUT", "POST", "DELETE", "DELETE", "HEAD")
	switch method {
	case "GET", "HEAD":
		f.Set("sorted", "true")
		some(40, "recursive", "true", "1", "false")
		some(30, "quorum", "true", "false")
		some(5, "ttl", "abc", "5", "")
	case "PUT":
		some(85, "value", "one", "two", "", "ünï", "<&>")
		some(20, "ttl", "100", "1000", "", "x")
		some(20, "dir", "true", "false")
		some(25, "prevExist", "true", "false", "true", "x")
		some(20, "prevValue", "one", "two", "nope", "")
		some(15, "prevIndex", "0", "999999", "7", "x")
		some(8, "refresh", "true", "false")
		some(10, "noValueOnSuccess", "true", "false")
	case "POST":
		some(80, "value", "one", "two")
		some(15, "dir", "true")
		some(15, "ttl", "100")
		some(10, "prevExist", "true", "false")
	case "DELETE":
		some(30, "dir", "true", "false")
		some(30, "recursive", "true", "false")
		some(20, "prevValue", "one", "two", "")
		some(10, "prevIndex", "999999", "0", "zz")
	}
	req := request{method: method, path: "/v2/keys" + key}
	if method == "PUT" || method == "POST" {
		req.body, req.contentType = f.Encode(), formType
	} else if q := f.Encode(); q != "" {
		req.path += "?" + q
	}
	return req
}

// canonical sorts the members of JSON objects; it serves to compare documents
// whose order is promised nowhere.
func canonical(t *testing.T, body string) string {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal([]byte(body), &v))
	out, err := json.Marshal(v)
	require.NoError(t, err)
	return string(out)
}

// The documents of the other endpoints have the originals' members.
func TestOtherDocumentsHaveTheOriginalsMembers(t *testing.T) {
	ours, theirs := startOurs(t), startOriginal(t)
	for _, path := range []string{"/v2/stats/store", "/v2/stats/self", "/v2/stats/leader", "/v2/members", "/health"} {
		t.Run(path, func(t *testing.T) {
			require.Equal(t, theirs.members(t, path), ours.members(t, path))
		})
	}
}

// members lists the names in a JSON document, in their order, once each.
func (s *server) members(t *testing.T, path string) []string {
	t.Helper()
	resp, err := http.Get(s.url + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	canonical(t, string(body))
	var names []string
	for _, m := range regexp.MustCompile(`"(\w+)":`).FindAllStringSubmatch(string(body), -1) {
		// Rates are left out where they are zero, which is a matter of time.
		if !slices.Contains(names, m[1]) && !strings.HasSuffix(m[1], "Rate") {
			names = append(names, m[1])
		}
	}
	return names
}
