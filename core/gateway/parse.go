package gateway

import (
	"fmt"
	"html"
	"net/url"
	"path"
	"strings"

	"github.com/keelson/keelson/core/auth"
	"github.com/keelson/keelson/core/store"
)

// Kind is what a request asks for.
type Kind uint8

// The kinds of operations. KindRead, KindWatch and KindWrite are the keys API.
const (
	KindRead Kind = iota + 1
	KindWatch
	KindWrite
	KindMembers       // the list
	KindMembersLeader // one member
	KindMembersOther  // a path below the members that has nothing
	KindMembersChange // add, change or remove
	KindMachines
	KindStatsStore
	KindStatsSelf
	KindStatsLeader
	KindStatsMembers
	KindVersion
	KindHealth
	KindPeerMembers // the list as other members ask for it
	KindSnapshot
	KindMirror  // of Prefixes: a listing, or with Stream a feed from WaitIndex on
	KindAuth    // users and roles
	KindForeign // a request to another API: see Admit
)

// Freshness is how recent a read has to be.
type Freshness uint8

// The choices of freshness: what the server does by default, every write that was
// acknowledged before the request, or whatever this member has.
const (
	FreshDefault Freshness = iota
	FreshLinearizable
	FreshLocal
)

// Operation is one request that is well formed.
type Operation struct {
	Kind Kind
	Head bool // answer without the body

	// Of reads and watches.
	Key       string // clean: begins with "/", no slash at the end but of the root
	Recursive bool
	Sorted    bool // children are always sorted; noted for completeness
	Freshness Freshness
	Stream    bool
	WaitIndex store.Index // 0 is from now
	Prefixes  []string    // of a mirror, clean keys

	// Of writes. ID and Settled are left to the backend.
	Command store.Command
	NoValue bool // answer with the action alone

	// Of changes of members. Member, if not empty, is the ID or the name of the one
	// that Change is about.
	Change *MemberChange
	Member string

	Auth *AuthRequest // of KindAuth

	// TimeoutMS is the request's own limit in milliseconds; 0 is the server's.
	TimeoutMS int

	// Who asks, and whether the path of a key had a slash at its end, which is how
	// rights tell a directory from what is in it.
	User, Password string
	Peer           bool
	Slash          bool

	judge func(auth.Rights) bool // of KindForeign
}

// Refusal is a request that is answered without asking the node: a redirect, an
// unknown path, a method that the path does not have.
type Refusal struct{ Reply *Reply }

// Error gives the status and the text of the answer.
func (r *Refusal) Error() string {
	return fmt.Sprintf("%d: %s", r.Reply.Status, strings.TrimSpace(string(r.Reply.Body)))
}

// Parse tells what req asks for. It is a pure function. An error is a *Refusal,
// a *MemberRefusal, or a *store.Error with index 0; the first check that fails decides, in the
// order of Fields.
func Parse(req *Request) (Operation, error) {
	op, err := parse(req)
	op.User, op.Password, op.Peer = req.User, req.Password, req.Peer
	return op, err
}

func parse(req *Request) (Operation, error) {
	p, err := cleanPath(req)
	if err != nil {
		return Operation{}, err
	}
	if req.Peer {
		return parsePeer(req, p)
	}
	if key, ok := below(p, "/v2/keys"); ok {
		return parseKeys(req, key)
	}
	if sub, ok := below(p, "/v2/members"); ok {
		return parseMembers(req, sub)
	}
	if _, ok := below(p, authPath); ok {
		return parseAuth(req, p)
	}
	for _, g := range pages {
		if g.path == p {
			return parsePage(req, g)
		}
	}
	return Operation{}, refuse(req.Method, 404, "404 page not found\n")
}

// page is an endpoint at one exact path.
type page struct {
	path    string
	kind    Kind
	methods string // as the Allow header lists them
	doc     string
}

// pages holds the endpoints beside keys and members. The reference page lists
// them too.
var pages = [...]page{
	{"/v2/machines", KindMachines, "GET,HEAD", "the client URLs of all members"},
	{"/v2/stats/store", KindStatsStore, "GET", "how often each operation succeeded and failed"},
	{"/v2/stats/self", KindStatsSelf, "GET", "this member's role and leader"},
	{"/v2/stats/leader", KindStatsLeader, "GET", "how the followers keep up, on the leader"},
	{"/v2/stats/members", KindStatsMembers, "GET", "how far the other members are and what keeps them from voting, on the leader"},
	{"/version", KindVersion, "GET", "the API level and this server's version"},
	{"/v2/snapshot", KindSnapshot, "GET", "a backup of all keys; `quorum=false` takes this member's own state"},
	{"/v2/mirror", KindMirror, "GET", "what keeps a copy of some prefixes up to date"},
	{"/health", KindHealth, "GET", "whether a linearizable read can be answered"},
}

const (
	keysMethods    = "HEAD,GET,PUT,POST,DELETE"
	membersMethods = "GET,POST,DELETE,PUT"
)

func parsePage(req *Request, g page) (Operation, error) {
	if !allows(g.methods, req.Method) {
		return Operation{}, notAllowed(req.Method, g.methods)
	}
	op := Operation{Kind: g.kind, Head: req.Method == "HEAD"}
	switch g.kind {
	case KindSnapshot:
		return parseSnapshot(req, op)
	case KindMirror:
		return parseMirror(req)
	}
	return op, nil
}

func parseMembers(req *Request, sub string) (Operation, error) {
	if !allows(membersMethods, req.Method) {
		return Operation{}, notAllowed(req.Method, membersMethods)
	}
	switch {
	case req.Method != "GET":
		return parseMembersChange(req, sub)
	case sub == "" || sub == "/":
		return Operation{Kind: KindMembers}, nil
	case sub == "/leader":
		return Operation{Kind: KindMembersLeader}, nil
	default:
		return Operation{Kind: KindMembersOther}, nil
	}
}

// DepthMax bounds the elements of a key. Each node of an answer carries its whole
// key, so a listing of a chain costs the square of its length.
const DepthMax = 1024

func parseKeys(req *Request, key string) (Operation, error) {
	if !allows(keysMethods, req.Method) {
		return Operation{}, notAllowed(req.Method, keysMethods)
	}
	f, bad := readForm(req)
	if bad != nil {
		return Operation{}, bad
	}
	v, bad := f.read(req.Method)
	if bad != nil {
		return Operation{}, bad
	}
	key, slash := strings.CutSuffix(key, "/")
	if key == "" {
		key, slash = "/", false
	}
	if _, ok := below(key, store.SecretKey); ok {
		return Operation{}, secret(req.Method)
	}
	if kept(req.Method, key) {
		return Operation{}, &store.Error{Code: store.CodeKeyword, Cause: MembersKey}
	}
	if strings.Count(key, "/") > DepthMax {
		return Operation{}, &store.Error{Code: store.CodeInvalidField, Cause: fmt.Sprintf("a key has at most %d elements", DepthMax)}
	}
	op := v.operation(req.Method, key)
	op.TimeoutMS, op.Slash = req.TimeoutMS, slash
	return op, nil
}

// secret is the answer about the key that the API does not know.
func secret(method string) error {
	if method == "GET" || method == "HEAD" {
		return &store.Error{Code: store.CodeKeyNotFound, Cause: store.SecretKey}
	}
	return &store.Error{Code: store.CodeKeyword, Cause: store.SecretKey}
}

// MembersKey is the hidden directory in which members say who they are, one file for
// each, named with its ID. Clients may read it.
const MembersKey = "/_etcd/members"

// kept says that a request would write where only members write. A directory above goes
// with what is in it, and so does its TTL.
func kept(method, key string) bool {
	if method == "GET" || method == "HEAD" {
		return false
	}
	if _, inside := below(key, MembersKey); inside {
		return true
	}
	_, above := below(MembersKey, key)
	return above && method != "POST"
}

func (v *values) operation(method, key string) Operation {
	switch method {
	case "PUT":
		return Operation{Kind: KindWrite, Command: v.put(key), NoValue: v.noValue}
	case "POST":
		return Operation{Kind: KindWrite, Command: v.post(key), NoValue: v.noValue}
	case "DELETE":
		return Operation{Kind: KindWrite, Command: v.delete(key)}
	}
	op := Operation{Kind: KindRead, Head: method == "HEAD", Key: key, Recursive: v.recursive, Sorted: v.sorted}
	if v.wait && v.quorum != yes {
		op.Kind, op.Stream, op.WaitIndex = KindWatch, v.stream, v.waitIndex
		return op
	}
	op.Freshness = [...]Freshness{unsaid: FreshDefault, no: FreshLocal, yes: FreshLinearizable}[v.quorum]
	return op
}

// put chooses among the operations that PUT stands for.
func (v *values) put(key string) store.Command {
	conditional := v.prevIndex > 0 || v.prevValue != ""
	c := v.withTTL(store.Command{Op: store.OpSet, Key: key, Value: v.value, Dir: v.dir, Refresh: v.refresh})
	switch {
	case v.prevExist == no:
		c.Op, c.Refresh = store.OpCreate, false
	case conditional:
		c.Op, c.Dir = store.OpCompareAndSwap, false
		c.PrevValue, c.PrevIndex = v.prevValue, v.prevIndex
	case v.prevExist == yes:
		c.Op, c.Dir = store.OpUpdate, false
	}
	if c.Dir {
		c.Value = ""
	}
	return c
}

func (v *values) post(key string) store.Command {
	c := store.Command{Op: store.OpCreateInOrder, Key: key, Value: v.value, Dir: v.dir}
	if c.Dir {
		c.Value = ""
	}
	return v.withTTL(c)
}

func (v *values) delete(key string) store.Command {
	if v.prevIndex > 0 || v.prevValue != "" {
		return store.Command{Op: store.OpCompareAndDelete, Key: key, PrevValue: v.prevValue, PrevIndex: v.prevIndex}
	}
	return store.Command{Op: store.OpDelete, Key: key, Dir: v.dir, Recursive: v.recursive}
}

func (v *values) withTTL(c store.Command) store.Command {
	if v.ttlGiven && !v.endless {
		c.HasTTL, c.TTL = true, v.ttl
	}
	return c
}

// cleanPath decodes the path, once. A path that is not in its shortest form is
// redirected to it, whatever the method, before anything else is looked at.
func cleanPath(req *Request) (string, error) {
	p, err := url.PathUnescape(req.Path)
	if err != nil {
		return "", refuse(req.Method, 400, "400 Bad Request")
	}
	if p == "" || p[0] != '/' {
		return "", redirect(req, path.Clean("/"+p))
	}
	short := path.Clean(p)
	if p == short {
		return p, nil
	}
	if !strings.HasSuffix(p, "/") {
		return "", redirect(req, short)
	}
	if short != "/" {
		short += "/" // a slash at the end is kept, and dropped later
	}
	if p == short {
		return p, nil
	}
	return "", redirect(req, short)
}

// below gives what follows prefix in p: nothing, or a slash and more.
func below(p, prefix string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(p, prefix)
	return rest, ok && (rest == "" || rest[0] == '/')
}

func allows(methods, method string) bool {
	for methods != "" {
		var m string
		if m, methods, _ = strings.Cut(methods, ","); m == method {
			return true
		}
	}
	return false
}

func notAllowed(method, methods string) *Refusal {
	r := refuse(method, 405, "Method Not Allowed\n")
	r.Reply.Header = append(r.Reply.Header, Header{"Allow", methods})
	return r
}

func refuse(method string, status int, text string) *Refusal {
	r := &Reply{Status: status, Body: []byte(text), Header: []Header{
		{"Content-Type", "text/plain; charset=utf-8"},
		{"X-Content-Type-Options", "nosniff"},
	}}
	return &Refusal{bare(r, method == "HEAD")}
}

// redirect points to the path decoded, with the query as it was.
func redirect(req *Request, to string) *Refusal {
	u := url.URL{Path: to, RawQuery: req.Query}
	at := printable(u.String())
	r := &Reply{Status: 301, Header: []Header{{"Location", at}}}
	if req.Method == "GET" || req.Method == "HEAD" {
		r.Header = append(r.Header, Header{"Content-Type", "text/html; charset=utf-8"})
		r.Body = []byte("<a href=\"" + html.EscapeString(at) + "\">Moved Permanently</a>.\n\n")
	}
	return &Refusal{bare(r, req.Method == "HEAD")}
}

// printable escapes what may not stand in a header line.
func printable(s string) string {
	const hex = "0123456789abcdef"
	var b []byte
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f {
			b = append(b, '%', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}
