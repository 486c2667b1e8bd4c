package gateway

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keelson/keelson/core/store"
)

// TestKeys walks through conversations; each line is a request, the status, and
// the body without its newline. The store begins at index 3.
func TestKeys(t *testing.T) {
	type line struct {
		ask    string
		status int
		want   string
	}
	for name, lines := range map[string][]line{
		"set replaces": {
			{"PUT /v2/keys/m value=hi", 201, `{"action":"set","node":{"key":"/m","value":"hi","modifiedIndex":4,"createdIndex":4}}`},
			{"GET /v2/keys/m", 200, `{"action":"get","node":{"key":"/m","value":"hi","modifiedIndex":4,"createdIndex":4}}`},
			{"PUT /v2/keys/m value=ho", 200, `{"action":"set","node":{"key":"/m","value":"ho","modifiedIndex":5,"createdIndex":5},"prevNode":{"key":"/m","value":"hi","modifiedIndex":4,"createdIndex":4}}`},
			{"PUT /v2/keys/m", 200, `{"action":"set","node":{"key":"/m","value":"","modifiedIndex":6,"createdIndex":6},"prevNode":{"key":"/m","value":"ho","modifiedIndex":5,"createdIndex":5}}`},
			{"DELETE /v2/keys/m", 200, `{"action":"delete","node":{"key":"/m","modifiedIndex":7,"createdIndex":6},"prevNode":{"key":"/m","value":"","modifiedIndex":6,"createdIndex":6}}`},
			{"GET /v2/keys/m", 404, `{"errorCode":100,"message":"Key not found","cause":"/m","index":7}`},
		},
		"directories": {
			{"GET /v2/keys", 200, `{"action":"get","node":{"dir":true}}`},
			{"PUT /v2/keys/d/a dir=true&value=ignored", 201, `{"action":"set","node":{"key":"/d/a","dir":true,"modifiedIndex":4,"createdIndex":4}}`},
			{"GET /v2/keys/", 200, `{"action":"get","node":{"dir":true,"nodes":[{"key":"/d","dir":true,"modifiedIndex":4,"createdIndex":4}]}}`},
			{"GET /v2/keys/d/", 200, `{"action":"get","node":{"key":"/d","dir":true,"nodes":[{"key":"/d/a","dir":true,"modifiedIndex":4,"createdIndex":4}],"modifiedIndex":4,"createdIndex":4}}`},
			{"GET /v2/keys/d/a", 200, `{"action":"get","node":{"key":"/d/a","dir":true,"modifiedIndex":4,"createdIndex":4}}`},
			{"PUT /v2/keys/d/a/_h value=1", 201, `{"action":"set","node":{"key":"/d/a/_h","value":"1","modifiedIndex":5,"createdIndex":5}}`},
			{"GET /v2/keys/d/a", 200, `{"action":"get","node":{"key":"/d/a","dir":true,"modifiedIndex":4,"createdIndex":4}}`},
			{"GET /v2/keys/d/a/_h", 200, `{"action":"get","node":{"key":"/d/a/_h","value":"1","modifiedIndex":5,"createdIndex":5}}`},
			{"PUT /v2/keys/d value=1", 403, `{"errorCode":102,"message":"Not a file","cause":"/d","index":5}`},
			{"PUT /v2/keys/d/a/_h/x value=1", 400, `{"errorCode":104,"message":"Not a directory","cause":"/d/a/_h","index":5}`},
			{"DELETE /v2/keys/d", 403, `{"errorCode":102,"message":"Not a file","cause":"/d","index":5}`},
			{"DELETE /v2/keys/d?dir=true", 403, `{"errorCode":108,"message":"Directory not empty","cause":"/d","index":5}`},
			{"GET /v2/keys/nope/x/y", 404, `{"errorCode":100,"message":"Key not found","cause":"/nope","index":5}`},
			{"PUT /v2/keys/ value=1", 400, `{"errorCode":107,"message":"Root is read only","cause":"/","index":5}`},
			{"DELETE /v2/keys?prevIndex=1", 403, `{"errorCode":102,"message":"Not a file","index":5}`},
			{"DELETE /v2/keys/d?recursive=true", 200, `{"action":"delete","node":{"key":"/d","dir":true,"modifiedIndex":6,"createdIndex":4},"prevNode":{"key":"/d","dir":true,"modifiedIndex":4,"createdIndex":4}}`},
		},
		"conditions": {
			{"PUT /v2/keys/c?prevExist=false value=one&prevIndex=9", 201, `{"action":"create","node":{"key":"/c","value":"one","modifiedIndex":4,"createdIndex":4}}`},
			{"PUT /v2/keys/c?prevExist=false value=one", 412, `{"errorCode":105,"message":"Key already exists","cause":"/c","index":4}`},
			{"PUT /v2/keys/c?prevValue=two value=x", 412, `{"errorCode":101,"message":"Compare failed","cause":"[two != one]","index":4}`},
			{"PUT /v2/keys/c?prevValue=two&prevIndex=7 value=x", 412, `{"errorCode":101,"message":"Compare failed","cause":"[two != one] [7 != 4]","index":4}`},
			{"PUT /v2/keys/c?prevValue=one&prevIndex=4&prevExist=true value=x", 200, `{"action":"compareAndSwap","node":{"key":"/c","value":"x","modifiedIndex":5,"createdIndex":4},"prevNode":{"key":"/c","value":"one","modifiedIndex":4,"createdIndex":4}}`},
			{"PUT /v2/keys/c?prevExist=true&dir=true", 200, `{"action":"update","node":{"key":"/c","value":"","modifiedIndex":6,"createdIndex":4},"prevNode":{"key":"/c","value":"x","modifiedIndex":5,"createdIndex":4}}`},
			{"PUT /v2/keys/nope?prevExist=true value=1", 404, `{"errorCode":100,"message":"Key not found","cause":"/nope","index":6}`},
			{"DELETE /v2/keys/c?prevIndex=5", 412, `{"errorCode":101,"message":"Compare failed","cause":"[5 != 6]","index":6}`},
			{"DELETE /v2/keys/c?prevIndex=6", 200, `{"action":"compareAndDelete","node":{"key":"/c","modifiedIndex":7,"createdIndex":4},"prevNode":{"key":"/c","value":"","modifiedIndex":6,"createdIndex":4}}`},
		},
		"in order": {
			{"POST /v2/keys/q value=J1&prevExist=false&refresh=0", 201, `{"action":"create","node":{"key":"/q/00000000000000000004","value":"J1","modifiedIndex":4,"createdIndex":4}}`},
			{"POST /v2/keys value=J2", 201, `{"action":"create","node":{"key":"/00000000000000000005","value":"J2","modifiedIndex":5,"createdIndex":5}}`},
			{"POST /v2/keys/q dir=1", 201, `{"action":"create","node":{"key":"/q/00000000000000000006","dir":true,"modifiedIndex":6,"createdIndex":6}}`},
		},
		"no value on success": {
			{"PUT /v2/keys/n?noValueOnSuccess=true value=1", 201, `{"action":"set"}`},
			{"PUT /v2/keys/n?noValueOnSuccess=true&prevExist=true value=2", 200, `{"action":"update"}`},
			{"POST /v2/keys/n2?noValueOnSuccess=true", 201, `{"action":"create"}`},
			{"PUT /v2/keys/n?noValueOnSuccess=true&prevValue=9", 412, `{"errorCode":101,"message":"Compare failed","cause":"[9 != 2]","index":6}`},
			{"GET /v2/keys/n?noValueOnSuccess=true", 200, `{"action":"get","node":{"key":"/n","value":"2","modifiedIndex":5,"createdIndex":4}}`},
			{"DELETE /v2/keys/n?noValueOnSuccess=true", 200, `{"action":"delete","node":{"key":"/n","modifiedIndex":7,"createdIndex":4},"prevNode":{"key":"/n","value":"2","modifiedIndex":5,"createdIndex":4}}`},
		},
		"time to live": {
			{"PUT /v2/keys/t ttl=5&value=1", 201, `{"action":"set","node":{"key":"/t","value":"1","expiration":"2025-11-20T11:14:59.922523342Z","ttl":5,"modifiedIndex":4,"createdIndex":4}}`},
			{"PUT /v2/keys/t refresh=true&ttl=7", 200, `{"action":"set","node":{"key":"/t","value":"1","expiration":"2025-11-20T11:15:01.922523342Z","ttl":7,"modifiedIndex":5,"createdIndex":5},"prevNode":{"key":"/t","value":"1","expiration":"2025-11-20T11:14:59.922523342Z","ttl":5,"modifiedIndex":4,"createdIndex":4}}`},
			{"PUT /v2/keys/z ttl=0", 201, `{"action":"set","node":{"key":"/z","value":"","expiration":"2025-11-20T11:14:54.922523342Z","modifiedIndex":6,"createdIndex":6}}`},
			{"PUT /v2/keys/p ttl=99999999999", 201, `{"action":"set","node":{"key":"/p","value":"","modifiedIndex":8,"createdIndex":8}}`},
			{"PUT /v2/keys/e ttl=", 201, `{"action":"set","node":{"key":"/e","value":"","modifiedIndex":9,"createdIndex":9}}`},
			{"PUT /v2/keys/none refresh=true&ttl=7", 404, `{"errorCode":100,"message":"Key not found","cause":"/none","index":9}`},
		},
		"paths": {
			{"PUT /v2/keys/a%2Fb value=1", 201, `{"action":"set","node":{"key":"/a/b","value":"1","modifiedIndex":4,"createdIndex":4}}`},
			{"GET /v2/keys/a/b/", 200, `{"action":"get","node":{"key":"/a/b","value":"1","modifiedIndex":4,"createdIndex":4}}`},
			{"PUT /v2/keys/prod%252Fdb value=1", 201, `{"action":"set","node":{"key":"/prod%2Fdb","value":"1","modifiedIndex":5,"createdIndex":5}}`},
			{"PUT /v2/keys/a+b?value=q+%26%3c value=1", 201, `{"action":"set","node":{"key":"/a+b","value":"1","modifiedIndex":6,"createdIndex":6}}`},
			{"PUT /v2/keys/%ff?value=q+%26%3c%e2%80%a8", 201, `{"action":"set","node":{"key":"/\ufffd","value":"q \u0026\u003c\u2028","modifiedIndex":7,"createdIndex":7}}`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(Options{})
			s.skip(3)
			for _, l := range lines {
				r := s.do(l.ask)
				assert.Equal(t, l.status, r.Status, l.ask)
				assert.Equal(t, l.want+"\n", string(r.Body), l.ask)
				assert.Equal(t, "application/json", r.header("Content-Type"), l.ask)
				assert.Equal(t, "7e27652122e8b2ae", r.header("X-Etcd-Cluster-Id"), l.ask)
				if r.Status < 300 {
					assert.Equal(t, strconv.FormatUint(uint64(s.store.Index()), 10), r.header("X-Etcd-Index"), l.ask)
					assert.Equal(t, "40", r.header("X-Raft-Index"), l.ask)
					assert.Equal(t, "2", r.header("X-Raft-Term"), l.ask)
				} else {
					assert.Empty(t, r.header("X-Raft-Index"), l.ask)
				}
			}
		})
	}
}

// TestChecks lists what is refused before the store is asked: the code and the
// cause. Each line breaks a rule and all later ones as well where it can.
func TestChecks(t *testing.T) {
	all := "?prevIndex=x&waitIndex=x&recursive=x&sorted=x&wait=x&dir=x&quorum=x&stream=x&prevValue=&noValueOnSuccess=x&ttl=x&prevExist=x&refresh=x"
	without := func(names ...string) string {
		q := "&" + all[1:]
		for _, n := range names {
			q = strings.Replace(strings.Replace(q, "&"+n+"=x", "", 1), "&"+n+"=", "", 1)
		}
		return "?" + strings.TrimPrefix(q, "&")
	}
	order := []string{"prevIndex", "waitIndex", "recursive", "sorted", "wait", "dir", "quorum", "stream", "prevValue", "noValueOnSuccess", "ttl", "prevExist", "refresh"}
	codes := []store.Code{203, 203, 209, 209, 209, 209, 209, 209, 201, 209, 202, 209, 209}
	for i, name := range order {
		cause := `invalid value for "` + name + `"`
		switch name {
		case "prevValue":
			cause = `"prevValue" cannot be empty`
		case "prevExist", "refresh":
			cause = "invalid value for " + name
		}
		for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
			_, err := Parse(request(method + " /v2/keys/a" + without(order[:i]...)))
			assert.Equal(t, &store.Error{Code: codes[i], Cause: cause}, err, "%s %s", method, name)
		}
	}
	for line, want := range map[string]store.Error{
		"PUT /v2/keys/a?wait=true&prevValue=":                {Code: 209, Cause: `"wait" can only be used with GET requests`},
		"HEAD /v2/keys/a?wait=1":                             {Code: 209, Cause: `"wait" can only be used with GET requests`},
		"PUT /v2/keys/a?prevIndex=":                          {Code: 203, Cause: `invalid value for "prevIndex"`},
		"PUT /v2/keys/a?prevIndex=-1":                        {Code: 203, Cause: `invalid value for "prevIndex"`},
		"GET /v2/keys/a?waitIndex=18446744073709551616":      {Code: 203, Cause: `invalid value for "waitIndex"`},
		"GET /v2/keys/a?recursive=":                          {Code: 209, Cause: `invalid value for "recursive"`},
		"GET /v2/keys/a?recursive=yes":                       {Code: 209, Cause: `invalid value for "recursive"`},
		"GET /v2/keys/a?ttl=abc":                             {Code: 202, Cause: `invalid value for "ttl"`},
		"PUT /v2/keys/a ttl=-1":                              {Code: 202, Cause: `invalid value for "ttl"`},
		"PUT /v2/keys/a ttl=1.5":                             {Code: 202, Cause: `invalid value for "ttl"`},
		"PUT /v2/keys/a refresh=true&value=x":                {Code: 211, Cause: "A value was provided on a refresh"},
		"PUT /v2/keys/a refresh=true&value=":                 {Code: 212, Cause: "No TTL value set"},
		"PUT /v2/keys/a refresh=true&ttl=":                   {Code: 212, Cause: "No TTL value set"},
		"PUT /v2/keys/a?value=%zz":                           {Code: 210, Cause: `invalid URL escape "%zz"`},
		"GET /v2/keys/a?x=%zz&prevIndex=x":                   {Code: 210, Cause: `invalid URL escape "%zz"`},
		"GET /v2/keys/a?x;y=1&z=%":                           {Code: 210, Cause: "invalid semicolon separator in query"},
		"PUT /v2/keys/a value=1;2":                           {Code: 210, Cause: "invalid semicolon separator in query"},
		"PUT /v2/keys/a?v=%aa%q value=%":                     {Code: 210, Cause: `invalid URL escape "%"`},
		"PUT /v2/keys/a?prevExist=true&refresh=1 value=x+y+": {Code: 211, Cause: "A value was provided on a refresh"},
	} {
		_, err := Parse(request(line))
		assert.Equal(t, &want, err, line)
	}
	s := newServer(Options{})
	s.skip(5)
	r := s.do("GET /v2/keys/a?ttl=abc")
	assert.Equal(t, 400, r.Status)
	assert.Equal(t, `{"errorCode":202,"message":"The given TTL in POST form is not a number","cause":"invalid value for \"ttl\"","index":0}`+"\n", string(r.Body))
	assert.Equal(t, []Header{{"Content-Type", "application/json"}, {"X-Etcd-Cluster-Id", "7e27652122e8b2ae"}, {"X-Etcd-Index", "0"}}, r.Header)
}

func TestForms(t *testing.T) {
	value := func(req *Request) string {
		op, err := Parse(req)
		require.NoError(t, err)
		return op.Command.Value
	}
	put := func(contentType, body string) *Request {
		return &Request{Method: "PUT", Path: "/v2/keys/a", Query: "value=query", ContentType: contentType, Body: []byte(body)}
	}
	assert.Equal(t, "body", value(put(formType, "value=body&value=second")))
	assert.Equal(t, "body", value(put("Application/X-WWW-Form-URLencoded ; charset=utf-8", "value=body")))
	assert.Equal(t, "a b+", value(put(formType, "value=a+b%2B")))
	assert.Equal(t, "v", value(put(formType, "%76alue=v")), "names are escaped too")
	assert.Equal(t, "query", value(put(formType, "Value=body&x")), "names are case-sensitive")
	for _, other := range []string{"", "application/json", "text/plain", "multipart/form-data; boundary=x"} {
		assert.Equal(t, "query", value(put(other, "value=body&%zz;")), other)
	}
	del := put(formType, "recursive=x&;")
	del.Method = "DELETE"
	_, err := Parse(del)
	require.NoError(t, err, "bodies of DELETE are ignored")

	big := put(formType, "")
	big.BodyTooBig = true
	_, err = Parse(big)
	require.Equal(t, &store.Error{Code: 210, Cause: "http: POST too large"}, err)
	big.ContentType = "application/json"
	assert.Equal(t, "query", value(big))
	big = put(formType, "value="+strings.Repeat("x", BodyMax-6))
	assert.Len(t, value(big), BodyMax-6)
	big.Body = append(big.Body, 'x')
	_, err = Parse(big)
	require.Equal(t, &store.Error{Code: 210, Cause: "http: POST too large"}, err)
}

func TestRefusals(t *testing.T) {
	s := newServer(Options{})
	for _, c := range []struct {
		ask      string
		status   int
		body     string
		location string
		allow    string
	}{
		{"PATCH /v2/keys/a", 405, "Method Not Allowed\n", "", "HEAD,GET,PUT,POST,DELETE"},
		{"OPTIONS /v2/keys", 405, "Method Not Allowed\n", "", "HEAD,GET,PUT,POST,DELETE"},
		{"get /v2/keys", 405, "Method Not Allowed\n", "", "HEAD,GET,PUT,POST,DELETE"},
		{"PATCH /v2/members", 405, "Method Not Allowed\n", "", "GET,POST,DELETE,PUT"},
		{"PUT /v2/machines", 405, "Method Not Allowed\n", "", "GET,HEAD"},
		{"POST /v2/stats/store", 405, "Method Not Allowed\n", "", "GET"},
		{"HEAD /version", 405, "", "", "GET"},
		{"GET /v2/keysx", 404, "404 page not found\n", "", ""},
		{"GET /v2/machines/", 404, "404 page not found\n", "", ""},
		{"GET /v2/stats", 404, "404 page not found\n", "", ""},
		{"GET /", 404, "404 page not found\n", "", ""},
		{"GET /v2/keys/%zz", 400, "400 Bad Request", "", ""},
		{"GET /v2/keys//a", 301, "<a href=\"/v2/keys/a\">Moved Permanently</a>.\n\n", "/v2/keys/a", ""},
		{"PUT /v2/keys//a?prevExist=x&b=%zz", 301, "", "/v2/keys/a?prevExist=x&b=%zz", ""},
		{"BOGUS /v2/keys/x/../a/?q=<", 301, "", "/v2/keys/a/?q=<", ""},
		{"DELETE /v2/keys/%2e%2e/..", 301, "", "/", ""},
		{"DELETE /v2/keys/a%2F%2Fb", 301, "", "/v2/keys/a/b", ""},
		{"DELETE /v2//keys/a%252Fb", 301, "", "/v2/keys/a%252Fb", ""},
		{"DELETE /v2//keys/%0d%0a?x=\r\n\xff", 301, "", "/v2/keys/%0D%0A?x=%0d%0a%ff", ""},
		{"DELETE //", 301, "", "/", ""},
	} {
		r := s.do(c.ask)
		assert.Equal(t, c.status, r.Status, c.ask)
		assert.Equal(t, c.body, string(r.Body), c.ask)
		assert.Equal(t, c.location, r.header("Location"), c.ask)
		assert.Equal(t, c.allow, r.header("Allow"), c.ask)
		assert.Empty(t, r.header("X-Etcd-Cluster-Id"), c.ask)
		if c.status != 301 {
			assert.Equal(t, "text/plain; charset=utf-8", r.header("Content-Type"), c.ask)
		}
	}
}

func TestHead(t *testing.T) {
	s := newServer(Options{})
	s.do("PUT /v2/keys/m value=hi")
	for _, path := range []string{"/v2/keys/m", "/v2/keys/none", "/v2/keys/m?ttl=x", "/v2/machines", "/v2/keys//m", "/nope"} {
		get, head := s.do("GET "+path), s.do("HEAD "+path)
		assert.Equal(t, get.Status, head.Status, path)
		assert.Empty(t, head.Body, path)
		assert.Equal(t, append(get.Header, Header{"Content-Length", strconv.Itoa(len(get.Body))}), head.Header, path)
	}
}

func TestFreshness(t *testing.T) {
	for query, rounds := range map[string][2]int{ // with the default, with ReadDefaultLocal
		"":                          {1, 0},
		"?quorum=true":              {1, 1},
		"?quorum=false":             {0, 0},
		"?quorum=true&wait=true":    {1, 1},
		"?recursive=true&sorted=1":  {1, 0},
		"?quorum=f&recursive=false": {0, 0},
	} {
		for i, local := range []bool{false, true} {
			s := newServer(Options{ReadDefaultLocal: local})
			r := s.do("GET /v2/keys" + query)
			assert.Equal(t, 200, r.Status, query)
			assert.False(t, r.More, query)
			assert.Equal(t, rounds[i], s.reads, "%s, local by default: %t", query, local)
			off, ok := s.LocalGet(s.View(), s.Info(), request("GET /v2/keys"+query))
			assert.Equal(t, rounds[i] == 0, ok, query)
			if ok {
				assert.Equal(t, r, off)
			}
		}
	}
}

func TestLocalGetOnlyReads(t *testing.T) {
	s := newServer(Options{ReadDefaultLocal: true})
	for _, line := range []string{"PUT /v2/keys/a value=1", "GET /v2/keys?wait=true", "GET /v2/keys?ttl=x", "GET /v2/keys//", "GET /health"} {
		_, ok := s.LocalGet(s.View(), s.Info(), request(line))
		assert.False(t, ok, line)
	}
	r, ok := s.LocalGet(s.View(), s.Info(), request("HEAD /v2/keys"))
	require.True(t, ok)
	assert.Equal(t, s.do("HEAD /v2/keys"), r)
}

// TestReadSeesTheIndexItWaitedFor: the answer is of the state after the round.
func TestReadSeesTheIndexItWaitedFor(t *testing.T) {
	s := newServer(Options{})
	s.held = true
	r := newReader()
	s.Serve(request("GET /v2/keys/a"), r)
	require.Nil(t, r.reply)
	s.apply(store.Command{Op: store.OpSet, Key: "/a", Value: "1"})
	s.release()
	require.NotNil(t, r.reply)
	assert.Equal(t, 200, r.reply.Status)
	assert.Equal(t, "1", r.reply.header("X-Etcd-Index"))
}

func TestCancelledRequestsAreNotAnswered(t *testing.T) {
	s := newServer(Options{})
	s.held = true
	for _, line := range []string{"GET /v2/keys", "PUT /v2/keys/a value=1", "GET /health"} {
		r := newReader()
		cancel := s.Serve(request(line), r)
		cancel()
		cancel()
		s.release()
		assert.Nil(t, r.reply, line)
	}
	assert.Equal(t, store.Index(1), s.store.Index(), "a write that nobody waits for still happens")
}

func TestTimeLimit(t *testing.T) {
	s := newServer(Options{})
	s.held = true
	req := request("PUT /v2/keys/a value=1")
	req.TimeoutMS = 100
	r := newReader()
	s.Serve(req, r)
	require.Nil(t, r.reply)
	require.Len(t, s.alarms, 1)
	s.alarms[0]()
	require.NotNil(t, r.reply)
	assert.Equal(t, 500, r.reply.Status)
	assert.Equal(t, `{"errorCode":300,"message":"Raft Internal Error","cause":"etcdserver: request timed out","index":1}`+"\n", string(r.reply.Body))
	s.release() // would panic if it answered again

	r = newReader()
	s.Serve(request("GET /health"), r)
	s.alarms[1]()
	assert.Equal(t, 503, r.reply.Status)
}

func TestNoQuorum(t *testing.T) {
	s := newServer(Options{})
	s.do("PUT /v2/keys/a value=1")
	s.down = &store.Error{Code: store.CodeRaftInternal, Cause: "etcdserver: request timed out", Index: 1}
	for _, line := range []string{"PUT /v2/keys/a", "POST /v2/keys/a", "DELETE /v2/keys/a", "GET /v2/keys/a", "GET /v2/keys/a?quorum=true"} {
		r := s.do(line)
		assert.Equal(t, 500, r.Status, line)
		assert.Equal(t, `{"errorCode":300,"message":"Raft Internal Error","cause":"etcdserver: request timed out","index":1}`+"\n", string(r.Body), line)
	}
	assert.Equal(t, 200, s.do("GET /v2/keys/a?quorum=false").Status)
	assert.Equal(t, 503, s.do("GET /health").Status)
}

func TestPages(t *testing.T) {
	s := newServer(Options{Version: "0.1.0"})
	self := `{"id":"ac7c97ef0ec193b0","name":"ra","peerURLs":["http://127.0.0.1:2380"],"clientURLs":["http://127.0.0.1:2379"]}`
	members := `{"members":[` +
		`{"id":"ffff","name":"rc","peerURLs":["http://10.0.0.3:2380"],"clientURLs":["http://10.0.0.3:4001","http://10.0.0.3:2379"]},` +
		`{"id":"24e2ba8d9dc7b432","name":"","peerURLs":["http://10.0.0.2:2380"],"clientURLs":[]},` + self + "]}\n"
	for _, c := range []struct {
		ask    string
		status int
		body   string
		kind   string
	}{
		{"GET /v2/members", 200, members, "application/json"},
		{"GET /v2/members/", 200, members, "application/json"},
		{"GET /v2/members/leader", 200, self + "\n", "application/json"},
		{"GET /v2/members/x", 404, `{"message":"Not found"}`, "application/json"},
		{"POST /v2/members", 415, `{"message":"Bad Content-Type , accept application/json"}`, "application/json"},
		{"DELETE /v2/members/ffff", 501, `{"message":"this server does not change members"}`, "application/json"},
		{"GET /v2/machines", 200, "http://10.0.0.3:2379, http://10.0.0.3:4001, http://127.0.0.1:2379", "text/plain; charset=utf-8"},
		{"GET /version", 200, `{"etcdserver":"2.3.8","etcdcluster":"2.3.0","keelson":"0.1.0"}`, "application/json"},
		{"GET /health", 200, `{"health":"true"}`, "text/plain; charset=utf-8"},
		{"GET /v2/stats/self", 200, `{"name":"ra","id":"ac7c97ef0ec193b0","state":"StateLeader","startTime":"2025-11-20T11:14:54.922523342Z","leaderInfo":{"leader":"ac7c97ef0ec193b0","uptime":"5.092271233s","startTime":"2025-11-20T11:14:54.922523342Z"},"recvAppendRequestCnt":0,"sendAppendRequestCnt":0}`, "application/json"},
		{"GET /v2/stats/leader", 200, `{"leader":"ac7c97ef0ec193b0","followers":{}}`, "application/json"},
		{"GET /v2/stats/store", 200, `{"getsSuccess":0,"getsFail":0,"setsSuccess":0,"setsFail":0,"deleteSuccess":0,"deleteFail":0,"updateSuccess":0,"updateFail":0,"createSuccess":0,"createFail":0,"compareAndSwapSuccess":0,"compareAndSwapFail":0,"compareAndDeleteSuccess":0,"compareAndDeleteFail":0,"expireCount":0,"watchers":0}`, "application/json"},
	} {
		r := s.do(c.ask)
		assert.Equal(t, c.status, r.Status, c.ask)
		assert.Equal(t, c.body, string(r.Body), c.ask)
		assert.Equal(t, c.kind, r.header("Content-Type"), c.ask)
		if strings.Contains(c.ask, "members") {
			assert.Equal(t, "7e27652122e8b2ae", r.header("X-Etcd-Cluster-Id"), c.ask)
		}
	}
	s.traffic.Followers = []Progress{{ID: 0xffff, Current: 1500 * time.Microsecond, Average: 2 * time.Millisecond, Minimum: 1, Maximum: 10010 * time.Microsecond, Succeeded: 231}}
	assert.Equal(t, `{"leader":"ac7c97ef0ec193b0","followers":{"ffff":{"latency":{"current":1.5,"average":2,"standardDeviation":0,"minimum":0.000001,"maximum":10.01},"counts":{"fail":0,"success":231}}}}`,
		string(s.do("GET /v2/stats/leader").Body))
	s.traffic.Received = Flow{Messages: 30, Recent: 7, RecentBytes: 600, Span: 1100 * time.Millisecond}
	s.traffic.Sent.Messages = 3
	assert.Contains(t, string(s.do("GET /v2/stats/self").Body), `"recvAppendRequestCnt":30,"recvPkgRate":6.36,"recvBandwidthRate":545.45,"sendAppendRequestCnt":3}`)
	s.traffic.Sent, s.traffic.Received = s.traffic.Received, Flow{}
	assert.Contains(t, string(s.do("GET /v2/stats/self").Body), `"recvAppendRequestCnt":0,"sendAppendRequestCnt":30,"sendPkgRate":6.36,"sendBandwidthRate":545.45}`)

	s.info.Leader, s.info.Role, s.info.RaftIndex = 0, Candidate, 0
	r := s.do("GET /v2/members/leader")
	assert.Equal(t, 503, r.Status)
	assert.Equal(t, `{"message":"During election"}`, string(r.Body))
	r = s.do("GET /v2/stats/leader")
	assert.Equal(t, 403, r.Status)
	assert.Equal(t, `{"message":"not current leader"}`, string(r.Body))
	r = s.do("GET /health")
	assert.Equal(t, 503, r.Status)
	assert.Equal(t, "{\"health\":\"false\"}\n", string(r.Body))
	assert.Contains(t, string(s.do("GET /version").Body), `"etcdcluster":"not_decided"`)
	assert.Contains(t, string(s.do("GET /v2/stats/self").Body), `"state":"StateCandidate"`)
}

func TestStoreStatsCountReads(t *testing.T) {
	s := newServer(Options{})
	s.do("PUT /v2/keys/a value=1")
	s.do("GET /v2/keys/a")
	s.do("GET /v2/keys/a?quorum=false")
	s.do("GET /v2/keys/b")
	s.CountGets(10, 20)
	s.start(t, "GET /v2/keys/a?wait=true")
	assert.Equal(t, `{"getsSuccess":12,"getsFail":21,"setsSuccess":1,"setsFail":0,"deleteSuccess":0,"deleteFail":0,"updateSuccess":0,"updateFail":0,"createSuccess":0,"createFail":0,"compareAndSwapSuccess":0,"compareAndSwapFail":0,"compareAndDeleteSuccess":0,"compareAndDeleteFail":0,"expireCount":0,"watchers":1}`,
		string(s.do("GET /v2/stats/store").Body))
}
