package differential

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// authLines are requests "WHO METHOD PATH BODY": who is user:password, or - for
// nobody. What is left out is where we differ on purpose: see docs/auth.md.
const authLines = `
- GET /v2/auth/enable
- GET /v2/auth/users
- GET /v2/auth/roles
- PUT /v2/auth/enable
- DELETE /v2/auth/enable
- POST /v2/auth/enable
- HEAD /v2/auth/enable
- GET /v2/auth
- GET /v2/auth/
- GET /v2/auth/enable/
- GET /v2/auth/usersx
- GET /v2/auth/users/
- GET /v2/auth/users//d
- GET /v2/auth/users/none
- GET /v2/auth/users/a/b
- GET /v2/auth/roles/a/b
- GET /v2/auth/roles/none
- GET /v2/auth/roles/root
- GET /v2/auth/roles/guest
- PUT /v2/auth/users/root {"user":"root","password":"r"}
- PUT /v2/auth/users/root {"user":"root","password":"r"}
- GET /v2/auth/users/root
- PUT /v2/auth/users/root {"user":"other","password":"r"}
- PUT /v2/auth/users/a {"user":"a","password":""}
- PUT /v2/auth/users/a {"user":"a"}
- PUT /v2/auth/users/a {"password":"x"}
- PUT /v2/auth/users/a {"user":"a","password":"x","roles":["nope"]}
- PUT /v2/auth/users/a {"user":"a","password":"x","roles":["nope"]}
- GET /v2/auth/users/a
- GET /v2/auth/users
- PUT /v2/auth/users/b {"user":"b","password":"x","grant":["g"]}
- PUT /v2/auth/users/b {
- PUT /v2/auth/users/b
- PUT /v2/auth/users/b []
- PUT /v2/auth/users/b null
- PUT /v2/auth/users/b {"user":5}
- PUT /v2/auth/users/b {"user":"b","password":"x"} more
- PUT /v2/auth/users/b {"user":"b"}
- PUT /v2/auth/users/b {"user":"b"}
- PUT /v2/auth/users/b {"user":"b","password":"y"}
- PUT /v2/auth/users/b {"user":"b","password":"y","roles":["z"]}
- PUT /v2/auth/users/b {"user":"b","roles":["z"]}
- PUT /v2/auth/users/b {"user":"b","roles":["z"],"grant":["y"]}
- POST /v2/auth/users/b {}
- PUT /v2/auth/users {}
- DELETE /v2/auth/users
- HEAD /v2/auth/users
- PUT /v2/auth/users/sp%20ace {"user":"sp ace","password":"x"}
- GET /v2/auth/users/sp%20ace
- PUT /v2/auth/users/d/ {"user":"d","password":"x"}
- GET /v2/auth/users/d/
- DELETE /v2/auth/users/d
- DELETE /v2/auth/users/d
- PUT /v2/auth/roles/r {"role":"r","permissions":{"kv":{"read":["/a/*"],"write":["/a/w","/a/d/*"]}}}
- PUT /v2/auth/roles/r {"role":"r"}
- PUT /v2/auth/roles/q {"role":"q"}
- PUT /v2/auth/roles/q {"role":"q","revoke":{"kv":{"read":["/none"]}}}
- PUT /v2/auth/roles/q {"role":"q","revoke":{"kv":{"read":["/none"]}}}
- PUT /v2/auth/roles/z {"role":"z","permissions":{"kv":{"read":["z","a","*","/x*y","a","//"],"write":null}}}
- PUT /v2/auth/roles/z {"role":"z","grant":{"kv":{"write":["/b","/a"]}}}
- PUT /v2/auth/roles/x {"role":"y"}
- PUT /v2/auth/roles/x {}
- PUT /v2/auth/roles/x
- PUT /v2/auth/roles/x {"role":"x","grant":{"kv":{"read":["/g"]}}}
- PUT /v2/auth/roles/x {"role":"x","permissions":{"kv":{"read":"g"}}}
- PUT /v2/auth/roles/r {"role":"r","grant":{"kv":{"read":["/g","/b"],"write":["/c"]}}}
- PUT /v2/auth/roles/r {"role":"r","grant":{"kv":{"read":["/g"]}}}
- PUT /v2/auth/roles/r {"role":"r","revoke":{"kv":{"read":["/g"],"write":["/c"]}}}
- PUT /v2/auth/roles/r {"role":"r","revoke":{"kv":{"read":["/g"]}}}
- PUT /v2/auth/roles/r {"role":"r","grant":{"kv":{"read":["/m"]}},"revoke":{"kv":{"read":["/m"]}}}
- PUT /v2/auth/roles/r {"role":"r","grant":{"kv":{"read":["/m","/m"]}}}
- PUT /v2/auth/roles/r {"role":"r","grant":{}}
- PUT /v2/auth/roles/r {"role":"r","permissions":{"kv":{"read":["/z"]}},"revoke":{"kv":{"read":["/m"]}}}
- PUT /v2/auth/roles/root {"role":"root","grant":{"kv":{"read":["/x"]}}}
- DELETE /v2/auth/roles/root
- DELETE /v2/auth/roles/none
- POST /v2/auth/roles {}
- GET /v2/auth/roles
- PUT /v2/auth/users/u {"user":"u","password":"p"}
- PUT /v2/auth/users/u {"user":"u","grant":["r","q"]}
- PUT /v2/auth/users/u {"user":"u","grant":["r"]}
- PUT /v2/auth/users/u {"user":"u","grant":["nope"]}
- GET /v2/auth/users/u
- PUT /v2/auth/users/u {"user":"u","revoke":["nope"]}
- PUT /v2/auth/users/u {"user":"u","revoke":["nope"]}
- PUT /v2/auth/users/u {"user":"u","grant":["z"],"revoke":["z"]}
- PUT /v2/auth/users/u {"user":"u","grant":["z","z"]}
- PUT /v2/auth/users/root {"user":"root","grant":["q"]}
- PUT /v2/auth/users/root {"user":"root","revoke":["root"]}
- GET /v2/auth/users/root
- DELETE /v2/auth/roles/q
- GET /v2/auth/users/u
- GET /v2/auth/users
- PUT /v2/keys/a/x?value=1
- PUT /v2/keys/pub?value=1
- PUT /v2/auth/enable
root:r PUT /v2/auth/enable
- PUT /v2/auth/enable
- GET /v2/auth/enable
u:bad GET /v2/auth/enable
- GET /v2/auth/users
u:p GET /v2/auth/users
root:bad GET /v2/auth/users
root:r GET /v2/auth/users
root:r GET /v2/auth/roles
root:r GET /v2/auth/roles/guest
- PUT /v2/keys/pub?value=2
u:p PUT /v2/keys/pub?value=2
u:bad GET /v2/keys/pub
none:p GET /v2/keys/pub
b:y GET /v2/keys/pub
root:r PUT /v2/auth/roles/guest {"role":"guest","revoke":{"kv":{"write":["/*"]}}}
- GET /v2/keys/pub
- GET /v2/keys/
- PUT /v2/keys/pub?value=3
- DELETE /v2/keys/pub
- POST /v2/keys/pub?value=3
u:p PUT /v2/keys/a/w?value=1
u:p PUT /v2/keys/a/w/x?value=1
u:p PUT /v2/keys/a/d/1?value=1
u:p PUT /v2/keys/a/d?value=1
u:p GET /v2/keys/a
u:p GET /v2/keys/a/?sorted=true
u:p GET /v2/keys/a?recursive=true
u:p GET /v2/keys/a/?recursive=true&sorted=true
u:p GET /v2/keys/a/d?recursive=true
u:p GET /v2/keys/?recursive=true
u:p GET /v2/keys/a/none
u:p HEAD /v2/keys/pub
u:p GET /v2/keys/pub?recursive=x
u:p PATCH /v2/keys/pub
u:p GET /v2/keys/pub?wait=true
u:p GET /v2/keys/a?wait=true&recursive=true
u:p GET /v2/keys/a/w?wait=true&waitIndex=1
u:p DELETE /v2/keys/a/d?recursive=true
u:p POST /v2/keys/a/d?value=1
u:p DELETE /v2/keys/a/d/?recursive=true
u:p DELETE /v2/keys/a/d/1
u:p PUT /v2/keys/a/d/e?dir=true
u:p PUT /v2/keys/?value=1
u:p GET /v2/keys/_hidden
root:r GET /v2/keys/?recursive=true&sorted=true
- DELETE /v2/members/123
u:p DELETE /v2/members/123
root:r DELETE /v2/members/123
- GET /v2/machines?x
- GET /v2/auth/users/x/y
- GET /v2/auth/users/none
u:p PUT /v2/auth/users/u {"user":"u","password":"n"}
u:p PUT /v2/auth/users/u {
root:r PUT /v2/auth/users/u {
root:r PUT /v2/auth/users/u {"user":"u","password":"n"}
u:p GET /v2/keys/a/x
u:n GET /v2/keys/a/x
root:r PUT /v2/auth/users/u {"user":"u","grant":["root"]}
u:n GET /v2/auth/roles
u:n PUT /v2/keys/pub?value=4
u:n DELETE /v2/auth/users/root
root:r PUT /v2/auth/users/root {"user":"root","password":"n"}
root:r GET /v2/auth/users
root:n DELETE /v2/auth/roles/guest
- GET /v2/keys/pub
- GET /v2/keys/pub?quorum=false
- GET /v2/keys/pub?quorum=true
u:n GET /v2/keys/pub?quorum=false
root:n DELETE /v2/auth/roles/r
root:n GET /v2/auth/users
root:n DELETE /v2/auth/enable
root:n DELETE /v2/auth/enable
- PUT /v2/auth/enable
- GET /v2/keys/pub
root:n GET /v2/auth/roles
- DELETE /v2/auth/enable
root:n DELETE /v2/auth/enable
- DELETE /v2/auth/users/root
`

var (
	anyIndex = regexp.MustCompile(`"(index|modifiedIndex|createdIndex)":[1-9]\d*`)
	history  = regexp.MustCompile(`cleared \[\d+/\d+\]`)
	machine  = regexp.MustCompile(`http://127.0.0.1:\d+`)
)

// sendAs sends one line and gives the answer without indexes, since the original
// writes each user and role as a key of its own.
func (s *server) sendAs(t *testing.T, line string) string {
	t.Helper()
	parts := append(strings.SplitN(line, " ", 4), "")
	req, err := http.NewRequestWithContext(t.Context(), parts[1], s.url+parts[2], strings.NewReader(parts[3]))
	require.NoError(t, err)
	if user, password, ok := strings.Cut(parts[0], ":"); ok {
		req.SetBasicAuth(user, password)
	}
	if strings.Contains(parts[2], "/auth/") {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := noRedirects.Do(req)
	require.NoError(t, err, line)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err, line)
	text := anyIndex.ReplaceAllString(string(body), `"$1":N`)
	text = machine.ReplaceAllString(history.ReplaceAllString(text, "cleared"), "URL")
	return fmt.Sprintf("%d %s allow=%q cluster=%v index0=%v\n%s", resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("Allow"),
		resp.Header.Get("X-Etcd-Cluster-Id") != "", resp.Header.Get("X-Etcd-Index") == "0", text)
}

// Users, roles and what they are refused are as with the original.
func TestAuthEqualsTheOriginals(t *testing.T) {
	ours, theirs := startOurs(t), startOriginal(t)
	lines := strings.Split(strings.TrimSpace(authLines), "\n")
	for i, line := range lines {
		assert.Equal(t, theirs.sendAs(t, line), ours.sendAs(t, line), "line %d: %s", i+1, line)
	}
	t.Logf("%d requests compared", len(lines))
}
