package differential

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is refused, and how, is the original's to the byte, but for the names of its
// packages and the schemes that later versions added.
func TestMemberRequestsEqualTheOriginals(t *testing.T) {
	ours, theirs := startOurs(t), startOriginal(t)
	const text = "application/json"
	for _, req := range []request{
		{"POST", "/v2/members", "", ""},
		{"POST", "/v2/members", "{}", "text/plain; x=y"},
		{"POST", "/v2/members", "", text},
		{"POST", "/v2/members", "{", text},
		{"POST", "/v2/members", "{}", text},
		{"POST", "/v2/members", `{"peerURLs":[]}`, text},
		{"POST", "/v2/members", `{"peerURLs":[1]}`, text},
		{"POST", "/v2/members", `{"peerURLs":["127.0.0.1:1"]}`, text},
		{"POST", "/v2/members", `{"peerURLs":["http://127.0.0.1"]}`, text},
		{"POST", "/v2/members", `{"peerURLs":["http://[::1]"]}`, text},
		{"POST", "/v2/members", `{"peerURLs":["http://127.0.0.1:1/a"]}`, text},
		{"POST", "/v2/members", `{"peerURLs":["ftp://127.0.0.1:1"]}`, text},
		{"POST", "/v2/members", `{"peerURLs":["PEER"]}`, text},
		{"POST", "/v2/members", `{"peerURLs":["http://127.0.0.1:9"," PEER "]}`, text},
		{"DELETE", "/v2/members", "", ""},
		{"PUT", "/v2/members/", "", ""},
		{"PUT", "/v2/members/zzz", "", ""},
		{"PUT", "/v2/members/1", "", ""},
		{"PUT", "/v2/members/1", "{", text},
		{"PUT", "/v2/members/1", `{"peerURLs":["http://127.0.0.1:9"]}`, text},
		{"DELETE", "/v2/members/zzz", "", ""},
		{"DELETE", "/v2/members/1", "", ""},
		{"DELETE", "/v2/members/00000000000000001", "", ""},
		{"PUT", "/v2/members/SELF", `{"peerURLs":["PEER","http://127.0.0.1:9"]}`, text},
		{"GET", "/v2/members", "", ""},
		{"PUT", "/v2/members/SELF", `{"peerURLs":["PEER"]}`, text},
		{"POST", "/v2/members", `{"peerURLs":["http://127.0.0.1:9"]}`, text + "; charset=utf-8"},
		{"GET", "/v2/members", "", ""},
	} {
		t.Run(req.String(), func(t *testing.T) {
			require.Equal(t, theirs.memberAnswer(t, req), ours.memberAnswer(t, req))
		})
	}
}

type memberList struct {
	Members []struct {
		ID       string
		Name     string
		PeerURLs []string
	}
}

// self is the one member of a server that has a name.
func (s *server) self(t *testing.T) (id string, peer string) {
	t.Helper()
	resp, err := http.Get(s.url + "/v2/members")
	require.NoError(t, err)
	defer resp.Body.Close()
	var list memberList
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&list))
	for _, m := range list.Members {
		if m.Name != "" {
			return m.ID, m.PeerURLs[0] // ports of our own are below 9, as texts
		}
	}
	t.Fatalf("%s: no member has a name", s.name)
	return "", ""
}

var memberID = regexp.MustCompile(`\b[0-9a-f]{10,16}\b`)

// memberAnswer sends a request about members, in which SELF and PEER stand for the
// server's own, and gives the answer in comparable form.
func (s *server) memberAnswer(t *testing.T, r request) string {
	t.Helper()
	id, peer := s.self(t)
	fill := strings.NewReplacer("SELF", id, "PEER", peer)
	r.path, r.body = fill.Replace(r.path), fill.Replace(r.body)
	resp, err := s.open(context.Background(), r)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return s.head(resp) + s.plainMembers(string(body), peer)
}

// plainMembers leaves out what differs between any two servers.
func (s *server) plainMembers(text, peer string) string {
	text = strings.NewReplacer(
		peer, "PEER", s.url, "URL",
		"membership: ", "etcdserver: ", "http, https, unix, or unixs", "http or https",
		`,"isLearner":true`, "",
	).Replace(text)
	return listedMembers.ReplaceAllStringFunc(memberID.ReplaceAllString(text, "ID"), func(list string) string {
		one := listedMember.FindAllString(list, -1)
		slices.Sort(one) // they come by their IDs, which are drawn
		return `"members":[` + strings.Join(one, ",") + "]}"
	})
}

var (
	listedMembers = regexp.MustCompile(`"members":\[\{.*\}\]\}`)
	listedMember  = regexp.MustCompile(`\{[^{}]*\}`)
)

// The original's client shows the same whichever server it asks, and ours the same as
// the original's.
func TestMemberCommandsEqualTheOriginals(t *testing.T) {
	if _, err := exec.LookPath("etcdctl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("the original client is missing: install the Debian package etcd-client")
		}
		t.Skip("the original client is missing: install the Debian package etcd-client")
	}
	program, err := built()
	require.NoError(t, err)
	lines := []string{
		"member add n2", "member add n2 PEER", "member add n2 bogus", "member remove one", "member remove 123", "member update SELF PEER,http://127.0.0.1:9",
		"member update 123 http://127.0.0.1:9", "member update SELF PEER", "member list", "member add n2 http://127.0.0.1:9",
	}
	run := func(s *server, client []string) (all []string) {
		id, peer := s.self(t)
		for _, line := range lines {
			words := strings.Fields(strings.NewReplacer("SELF", id, "PEER", peer).Replace(line))
			args := append(client[:len(client):len(client)], words...)
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "ETCDCTL_API=2", "ETCDCTL_ENDPOINTS=" + s.url}
			var out, errs strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &errs
			_ = cmd.Run() // the status is compared
			all = append(all, line+"\n"+s.plainMembers(out.String()+"! "+errs.String(), peer)+cmd.ProcessState.String())
		}
		return all
	}
	want := run(startOriginal(t), []string{"etcdctl"})
	require.Equal(t, steadyOrder(want), steadyOrder(run(startOurs(t), []string{"etcdctl"})))
	require.Equal(t, steadyOrder(want), steadyOrder(run(startOurs(t), []string{program, "etcdctl"})))
}

// steadyOrder sorts the list of an addition: members come by their IDs.
func steadyOrder(all []string) []string {
	for i, text := range all {
		all[i] = strings.ReplaceAll(text, `"n2=http://127.0.0.1:9,one=PEER"`, `"one=PEER,n2=http://127.0.0.1:9"`)
	}
	return all
}
