package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/retry"
	"github.com/keelson/keelson/core/store"
)

// Membership is what a Backend may offer besides, so that members can be changed.
// Without it changes are answered with 501.
type Membership interface {
	// ChangeMembers has a change carried out by whoever leads. Done is called once,
	// at the latest when the backend's time limit for requests has passed.
	ChangeMembers(c MemberChange, done func(MemberOutcome))
	// Following tells, on the leader, how far the other members are, by ID.
	Following() []Following
}

// Following is how far one member is, as its leader sees it.
type Following struct {
	Member
	Match    uint64     // the last entry of the log that it is known to hold
	Behind   uint64     // entries
	State    string     // "replicating", "receives the state" or "not heard of"
	Replaces env.NodeID // in whose place it was added, if that one is still there
	Waits    string     // why it does not vote yet
}

// ChangeKind is what a change of the members does.
type ChangeKind uint8

// The changes that clients ask for. A member that is added holds the log at first
// and votes when it has caught up. One that is replaced leaves at the moment at
// which the new one has caught up.
const (
	AddMember ChangeKind = iota + 1
	RemoveMember
	UpdateMember
	ReplaceMember
)

// MemberChange is one change of the members.
type MemberChange struct {
	Kind     ChangeKind
	ID       env.NodeID // of all but AddMember
	PeerURLs []string   // sorted; of ReplaceMember those of the old one if empty
	// Repair says that it was asked for where members call, by nobody who is known to
	// be allowed it: who takes part is not replaced so.
	Repair bool `json:",omitempty"`
}

// MemberOutcome is how a change ended. Where both Refusal and Unknown are zero it
// was carried out.
type MemberOutcome struct {
	Member  Member // as it is now; of AddMember and ReplaceMember
	Refusal *MemberRefusal
	// Unknown says that nobody knows whether it was, and why.
	Unknown string
}

// MemberRefusal says why a change was refused. Nothing was changed.
type MemberRefusal struct {
	Status  int
	Message string
	plain   bool // a line of text, as the original gives it
}

// Error gives the status and the text of the answer.
func (r *MemberRefusal) Error() string { return fmt.Sprintf("%d: %s", r.Status, r.Message) }

// reply is the answer.
func (r *MemberRefusal) reply(info *Info) *Reply {
	if !r.plain {
		return membersReply(info, r.Status, message(r.Message))
	}
	text := refuse("", r.Status, r.Message).Reply
	text.Header = append(text.Header, Header{"X-Etcd-Cluster-Id", strconv.FormatUint(info.ClusterID, 16)})
	return text
}

// PeerURLsMax bounds the peer URLs of one member.
const PeerURLsMax = 16

// parseMembersChange reads a request that is no GET. Sub is the path below that of
// the members.
func parseMembersChange(req *Request, sub string) (Operation, error) {
	name := strings.TrimPrefix(sub, "/")
	op := Operation{Kind: KindMembersChange, Change: &MemberChange{}, TimeoutMS: req.TimeoutMS}
	if req.Method == "POST" {
		name, replace := strings.CutSuffix(name, "/replace")
		switch {
		case replace && name != "":
			op.Change.Kind, op.Member = ReplaceMember, name
			if len(req.Body) == 0 {
				return op, nil
			}
		case name != "":
			return Operation{}, &MemberRefusal{Status: 404, Message: "Not found"}
		default:
			op.Change.Kind = AddMember
		}
		return op, op.Change.readURLs(req)
	}
	if name == "" {
		return Operation{}, &MemberRefusal{Status: 405, Message: "Method Not Allowed\n", plain: true}
	}
	id, err := strconv.ParseUint(name, 16, 64)
	if err != nil || id == 0 {
		return Operation{}, &MemberRefusal{Status: 404, Message: "No such member: " + name}
	}
	op.Change.Kind, op.Change.ID = RemoveMember, env.NodeID(id)
	if req.Method == "PUT" {
		op.Change.Kind = UpdateMember
		return op, op.Change.readURLs(req)
	}
	return op, nil
}

// readURLs reads {"peerURLs":[…]}.
func (c *MemberChange) readURLs(req *Request) error {
	kind := req.ContentType
	if i := strings.IndexByte(kind, ';'); i >= 0 {
		kind = strings.ToLower(strings.TrimSpace(kind[:i]))
	}
	if kind != "application/json" {
		return &MemberRefusal{Status: 415, Message: "Bad Content-Type " + kind + ", accept application/json"}
	}
	if req.BodyTooBig {
		return &MemberRefusal{Status: 400, Message: fmt.Sprintf("the body is larger than %d bytes", BodyMax)}
	}
	var body struct {
		PeerURLs []string `json:"peerURLs"`
	}
	err := json.Unmarshal(req.Body, &body)
	if err == nil && c.Kind == ReplaceMember && len(body.PeerURLs) == 0 {
		return nil
	}
	if err == nil {
		c.PeerURLs, err = PeerURLs(body.PeerURLs)
	}
	if err != nil {
		return &MemberRefusal{Status: 400, Message: err.Error()}
	}
	return nil
}

// PeerURLs checks where a member says it can be reached by others, and gives the URLs
// sorted. The texts of its errors are those that clients know.
func PeerURLs(list []string) ([]string, error) {
	if len(list) == 0 {
		return nil, fmt.Errorf("no valid URLs given")
	}
	if len(list) > PeerURLsMax {
		return nil, fmt.Errorf("%d URLs given, at most %d are taken", len(list), PeerURLsMax)
	}
	var all []string
	for _, raw := range list {
		raw = strings.TrimSpace(raw)
		u, err := url.Parse(raw)
		if err != nil {
			return nil, err
		}
		if u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("URL scheme must be http or https: %s", raw)
		}
		if strings.LastIndexByte(u.Host, ':') <= strings.LastIndexByte(u.Host, ']') {
			return nil, fmt.Errorf(`URL address does not have the form "host:port": %s`, raw)
		}
		if u.Path != "" {
			return nil, fmt.Errorf("URL must not contain a path: %s", raw)
		}
		if err := dialable(u); err != nil {
			return nil, fmt.Errorf("%w: %s", err, raw)
		}
		all = append(all, u.String())
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// dialable refuses what no member could listen on, or would not be asked for.
func dialable(u *url.URL) error {
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("URL must be no more than a scheme, a host and a port")
	case u.Hostname() == "":
		return errors.New("URL must name a host")
	case strings.ContainsFunc(u.Hostname(), func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("URL must have a host in ASCII")
	case err != nil || port == 0:
		return errors.New("URL must have a port from 1 to 65535")
	}
	return nil
}

// changeMembers has a change carried out.
func (m *Mux) changeMembers(op *Operation, c *call) {
	b, ok := m.b.(Membership)
	if !ok {
		c.reply(membersReply(m.b.Info(), 501, message("this server does not change members")))
		return
	}
	change := *op.Change
	ask := func() { b.ChangeMembers(change, func(o MemberOutcome) { c.reply(m.changed(change.Kind, &o)) }) }
	if op.Member == "" {
		ask()
		return
	}
	name := op.Member
	m.b.ReadIndex(func(err *store.Error) { // this member may not have heard of the name yet
		id, found := named(m.b.Info().Members, name)
		switch {
		case c.over:
		case err != nil:
			c.reply(membersReply(m.b.Info(), 503, message("During election")))
		case !found:
			c.reply(membersReply(m.b.Info(), 404, message("No such member: "+name)))
		default:
			change.ID = id
			ask()
		}
	})
}

// named finds a member by its ID or, if no other has the same, its name.
func named(members []Member, name string) (id env.NodeID, found bool) {
	n := 0
	for i := range members {
		if members[i].Name == name {
			id, n = members[i].ID, n+1
		}
	}
	if n == 1 {
		return id, true
	}
	number, err := strconv.ParseUint(name, 16, 64)
	return env.NodeID(number), err == nil && number != 0 // the leader knows whether there is one
}

// changed is the answer to a change that came to an end.
func (m *Mux) changed(kind ChangeKind, o *MemberOutcome) *Reply {
	info := m.b.Info()
	switch {
	case o.Refusal != nil:
		r := o.Refusal.reply(info)
		if o.Refusal.Status >= 500 { // others may take it
			r.Header = append(r.Header, Header{retry.Header, retry.Unsent})
		}
		return r
	case o.Unknown != "":
		return unknownChange(info, o.Unknown)
	case kind == AddMember || kind == ReplaceMember:
		return membersReply(info, 201, append(appendMember(nil, &o.Member), '\n'))
	default:
		return &Reply{Status: 204, Header: []Header{{"X-Etcd-Cluster-Id", strconv.FormatUint(info.ClusterID, 16)}}}
	}
}

// unknownChange is the answer where nobody knows whether a change happened.
func unknownChange(info *Info, cause string) *Reply {
	return membersReply(info, 500, message("Internal Server Error: "+cause+": outcome unknown, see the list of members"))
}

// followingReply is the page about how far members are.
func (m *Mux) followingReply(info *Info) *Reply {
	b, ok := m.b.(Membership)
	if info.Role != Leader || !ok {
		return jsonReply(403, message("not current leader"))
	}
	type row struct {
		ID       string `json:"id"`
		Name     string `json:"name"`
		Votes    bool   `json:"votes"`
		State    string `json:"state"`
		Match    uint64 `json:"match"`
		Behind   uint64 `json:"behind"`
		Replaces string `json:"replaces,omitempty"`
		Waits    string `json:"waits,omitempty"`
	}
	page := struct {
		Leader  string `json:"leader"`
		Members []row  `json:"members"`
	}{info.Self.String(), []row{}}
	for _, f := range b.Following() {
		r := row{ID: f.ID.String(), Name: f.Name, Votes: !f.Learner, State: f.State, Match: f.Match, Behind: f.Behind, Waits: f.Waits}
		if f.Replaces != 0 {
			r.Replaces = f.Replaces.String()
		}
		page.Members = append(page.Members, r)
	}
	text, err := json.Marshal(page)
	if err != nil { // numbers and strings always encode
		panic(err)
	}
	return jsonReply(200, text)
}
