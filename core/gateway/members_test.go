package gateway

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/store"
)

// group is a fake whose members can be changed.
type group struct {
	*fake
	asked   []MemberChange
	outcome MemberOutcome
}

func (g *group) ChangeMembers(c MemberChange, done func(MemberOutcome)) {
	g.asked = append(g.asked, c)
	done(g.outcome)
}

// The texts are those of the original server.
func TestMemberChanges(t *testing.T) {
	const text = "application/json"
	for _, c := range []struct {
		request string
		kind    string
		body    string
		status  int
		want    string
	}{
		{"POST /v2/members", "", "", 415, `{"message":"Bad Content-Type , accept application/json"}`},
		{"POST /v2/members", "text/plain; x=y", "{}", 415, `{"message":"Bad Content-Type text/plain, accept application/json"}`},
		{"POST /v2/members", text, "", 400, `{"message":"unexpected end of JSON input"}`},
		{"POST /v2/members", text, `{"peerURLs":[]}`, 400, `{"message":"no valid URLs given"}`},
		{"POST /v2/members", text, `{"peerURLs":["127.0.0.1:1"]}`, 400, `{"message":"parse \"127.0.0.1:1\": first path segment in URL cannot contain colon"}`},
		{"POST /v2/members", text, `{"peerURLs":["http://127.0.0.1"]}`, 400, `{"message":"URL address does not have the form \"host:port\": http://127.0.0.1"}`},
		{"POST /v2/members", text, `{"peerURLs":["http://[::1]"]}`, 400, `{"message":"URL address does not have the form \"host:port\": http://[::1]"}`},
		{"POST /v2/members", text, `{"peerURLs":["http://127.0.0.1:1/a"]}`, 400, `{"message":"URL must not contain a path: http://127.0.0.1:1/a"}`},
		{"POST /v2/members", text, `{"peerURLs":["ftp://127.0.0.1:1"]}`, 400, `{"message":"URL scheme must be http or https: ftp://127.0.0.1:1"}`},
		{"POST /v2/members", text, `{"peerURLs":["http://a:99999"]}`, 400, `{"message":"URL must have a port from 1 to 65535: http://a:99999"}`},
		{"POST /v2/members", text, `{"peerURLs":["http://a:"]}`, 400, `{"message":"URL must have a port from 1 to 65535: http://a:"}`},
		{"POST /v2/members", text, `{"peerURLs":["http://:1"]}`, 400, `{"message":"URL must name a host: http://:1"}`},
		{"POST /v2/members", text, `{"peerURLs":["http://u:p@a:1"]}`, 400, `{"message":"URL must be no more than a scheme, a host and a port: http://u:p@a:1"}`},
		{"POST /v2/members", text, `{"peerURLs":["http://a:1?x"]}`, 400, `{"message":"URL must be no more than a scheme, a host and a port: http://a:1?x"}`},
		{"POST /v2/members", text, "{\"peerURLs\":[\"http://\xff:1\"]}", 400, "{\"message\":\"URL must have a host in ASCII: http://\ufffd:1\"}"},
		{"POST /v2/members", text, `{"peerURLs":["http://[::1]:1"]}`, 201, `{"id":"1f","name":"","peerURLs":["http://a:1"],"clientURLs":[]}` + "\n"},
		{"POST /v2/members/foo", text, `{"peerURLs":["http://127.0.0.1:1"]}`, 404, `{"message":"Not found"}`},
		{"POST /v2/members", "application/json; charset=x", `{"peerURLs":["http://b:1"," http://a:1"]}`, 201, `{"id":"1f","name":"","peerURLs":["http://a:1"],"clientURLs":[]}` + "\n"},
		{"DELETE /v2/members", "", "", 405, "Method Not Allowed\n"},
		{"PUT /v2/members/", "", "", 405, "Method Not Allowed\n"},
		{"DELETE /v2/members/zzz", "", "", 404, `{"message":"No such member: zzz"}`},
		{"DELETE /v2/members/0", "", "", 404, `{"message":"No such member: 0"}`},
		{"POST /v2/members/0/replace", "", "", 404, `{"message":"No such member: 0"}`},
		{"DELETE /v2/members/1f", "", "", 204, ""},
		{"PUT /v2/members/1f", "", "", 415, `{"message":"Bad Content-Type , accept application/json"}`},
		{"PUT /v2/members/1f", text, `{"peerURLs":["http://b:1"]}`, 204, ""},
		{"POST /v2/members/1f/replace", "", "", 201, `{"id":"1f","name":"","peerURLs":["http://a:1"],"clientURLs":[]}` + "\n"},
		{"POST /v2/members/rc/replace", text, "{}", 201, `{"id":"1f","name":"","peerURLs":["http://a:1"],"clientURLs":[]}` + "\n"},
		{"POST /v2/members/nobody/replace", "", "", 404, `{"message":"No such member: nobody"}`},
	} {
		g := &group{fake: newFake(), outcome: MemberOutcome{Member: Member{ID: 0x1f, PeerURLs: []string{"http://a:1"}}}}
		got := g.ask(c.request, c.kind, c.body, false)
		assert.Equal(t, c.status, got.Status, "%s %s", c.request, c.body)
		assert.Equal(t, c.want, string(got.Body), "%s %s", c.request, c.body)
	}
}

func (g *group) Following() []Following {
	return []Following{
		{Member: Member{ID: 0x1f, Name: "rb"}, Match: 12, State: "replicating"},
		{Member: Member{ID: 0xff, Learner: true}, State: "not heard of", Behind: 12, Replaces: 0x1f, Waits: "it has not been heard of"},
	}
}

func TestFollowing(t *testing.T) {
	g := &group{fake: newFake()}
	assert.JSONEq(t, `{"leader":"ac7c97ef0ec193b0","members":[
		{"id":"1f","name":"rb","votes":true,"state":"replicating","match":12,"behind":0},
		{"id":"ff","name":"","votes":false,"state":"not heard of","match":0,"behind":12,"replaces":"1f","waits":"it has not been heard of"}]}`,
		string(g.ask("GET /v2/stats/members", "", "", false).Body))
	g.info.Role = Follower
	assert.Equal(t, 403, g.ask("GET /v2/stats/members", "", "", false).Status)
}

func (g *group) ask(request, kind, body string, peer bool) *Reply {
	method, path, _ := strings.Cut(request, " ")
	r := &reader{room: -1}
	New(g, Options{}).Serve(&Request{Method: method, Path: path, ContentType: kind, Body: []byte(body), Peer: peer}, r)
	return r.reply
}

func TestMemberOutcomes(t *testing.T) {
	g := &group{fake: newFake()}
	g.outcome.Refusal = &MemberRefusal{Status: 409, Message: "etcdserver: peerURL exists"}
	got := g.ask("POST /v2/members", "application/json", `{"peerURLs":["http://b:1"]}`, false)
	assert.Equal(t, 409, got.Status)
	assert.Equal(t, `{"message":"etcdserver: peerURL exists"}`, string(got.Body))
	assert.Contains(t, got.Header, Header{"X-Etcd-Cluster-Id", "7e27652122e8b2ae"})
	g.outcome = MemberOutcome{Unknown: "etcdserver: request timed out"}
	got = g.ask("DELETE /v2/members/rc/", "", "", false)
	assert.Equal(t, 404, got.Status, "names are for replace alone")
	got = g.ask("DELETE /v2/members/ffff", "", "", false)
	assert.Equal(t, 500, got.Status)
	assert.Equal(t, `{"message":"Internal Server Error: etcdserver: request timed out: outcome unknown, see the list of members"}`, string(got.Body))
}

// Other members may ask for the same, where they call.
func TestPeersChangeMembers(t *testing.T) {
	g := &group{fake: newFake()}
	assert.Equal(t, 404, g.ask("POST /members/rc/replace", "", "", false).Status)
	assert.Equal(t, 201, g.ask("POST /members/rc/replace", "", "", true).Status)
	assert.Equal(t, []MemberChange{{Kind: ReplaceMember, ID: 0xffff, Repair: true}}, g.asked)
}

// Whatever is asked for is refused with a reason or makes sense.
func FuzzMemberRequest(f *testing.F) {
	f.Add("POST", "", "application/json", []byte(`{"peerURLs":["http://10.0.0.1:2380"]}`))
	f.Add("PUT", "/1f", "application/json; x", []byte(`{"peerURLs":["https://[::1]:2380","http://a:0"]}`))
	f.Add("POST", "/a/b/replace", "", []byte{})
	f.Fuzz(func(t *testing.T, method, sub, kind string, body []byte) {
		op, err := parseMembers(&Request{Method: method, Body: body, ContentType: kind}, sub)
		var member *MemberRefusal
		var no *Refusal
		var bad *store.Error
		if err != nil {
			require.True(t, errors.As(err, &member) || errors.As(err, &no) || errors.As(err, &bad), "%v", err)
			return
		}
		if op.Kind != KindMembersChange {
			return
		}
		c := op.Change
		require.True(t, (c.ID == 0) == (c.Kind == AddMember) || op.Member != "" || c.ID == 0)
		if c.Kind == AddMember || c.Kind == UpdateMember {
			require.NotEmpty(t, c.PeerURLs)
		}
		again, err := PeerURLs(c.PeerURLs)
		if len(c.PeerURLs) > 0 {
			require.NoError(t, err)
			require.Equal(t, c.PeerURLs, again)
			require.True(t, slices.IsSorted(again))
		}
	})
}

// What members say of themselves is theirs to write, whoever may write everything.
func TestRecordsOfMembersAreKept(t *testing.T) {
	g := enabled(t)
	require.Equal(t, 200, g.as("root:r", `PUT /v2/auth/roles/guest {"role":"guest","grant":{"kv":{"read":["*"],"write":["*"]}}}`).Status)
	for _, c := range []struct {
		line   string
		status int
	}{
		{"PUT /v2/keys/_etcd/members/1f value=x", 400},
		{"POST /v2/keys/_etcd/members value=x", 400},
		{"DELETE /v2/keys/_etcd/members/1f", 400},
		{"DELETE /v2/keys/_etcd/members?recursive=true", 400},
		{"DELETE /v2/keys/_etcd?recursive=true", 400},
		{"DELETE /v2/keys/%5Fetcd/?recursive=true", 400},
		{"PUT /v2/keys/_etcd dir=true&ttl=5&prevExist=true", 400},
		{"GET /v2/keys/_etcd/members", 404},
		{"POST /v2/keys/_etcd value=x", 201},
		{"PUT /v2/keys/_etcd/registry/t/1f value=x", 201},
		{"DELETE /v2/keys/_etcd/registry?recursive=true", 200},
	} {
		for _, who := range []string{"root:r", ""} {
			require.Contains(t, []int{201, 200}, g.as("", "PUT /v2/keys/_etcd/registry/t/2f value=x").Status)
			got := g.as(who, c.line).Status
			assert.True(t, got == c.status || c.status == 201 && got == 200, "%s as %q: %d", c.line, who, got)
		}
	}
}

func TestTheListIsAsTheClusterKnowsIt(t *testing.T) {
	s := newServer(Options{})
	s.held = true
	ask := func() *reader {
		r := newReader()
		s.Serve(request("GET /v2/members"), r)
		return r
	}
	r := ask()
	assert.Nil(t, r.reply, "asked the leader first")
	s.info.Members = s.info.Members[:2]
	s.release()
	assert.NotContains(t, string(r.reply.Body), `"rc"`)

	r = ask()
	s.alarms[len(s.alarms)-1]()
	assert.Equal(t, 200, r.reply.Status, "what this member knows, where nobody answers")
	r = ask()
	s.info.Removed = true
	s.release()
	assert.Equal(t, 503, r.reply.Status, "it was removed meanwhile")
	assert.Equal(t, "unsent", r.reply.header("X-Keelson-Outcome"))
	assert.JSONEq(t, `{"message":"etcdserver: the member has been permanently removed from the cluster"}`, string(r.reply.Body))
	s.info.Removed, s.info.Leader = false, 0
	assert.Equal(t, 200, ask().reply.Status)
}

func TestARemovedMemberGivesNothingOfItsOwn(t *testing.T) {
	s := newServer(Options{ReadDefaultLocal: true})
	_, ok := s.LocalGet(s.View(), s.Info(), request("GET /v2/keys/a?quorum=false"))
	assert.True(t, ok)
	s.info.Removed = true
	_, ok = s.LocalGet(s.View(), s.Info(), request("GET /v2/keys/a?quorum=false"))
	assert.False(t, ok)
}

// On a peer URL nobody proves who he is: a place is given there only to a member that
// needs it, where it is.
func TestRepairIsAskedForOnPeerURLs(t *testing.T) {
	g := &group{fake: newFake(), outcome: MemberOutcome{Member: Member{ID: 0x1f}}}
	ask := func(body string) *Reply {
		r := newReader()
		New(g, Options{}).Serve(&Request{Method: "POST", Path: "/members/ffff/replace", ContentType: "application/json", Body: []byte(body), Peer: true}, r)
		return r.reply
	}
	assert.Equal(t, 201, ask("").Status)
	assert.Equal(t, []MemberChange{{Kind: ReplaceMember, ID: 0xffff, Repair: true}}, g.asked)
	assert.Equal(t, 400, ask(`{"peerURLs":["http://elsewhere:1"]}`).Status)
	assert.Len(t, g.asked, 1)
}
