package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
)

// Member is one voting machine of the cluster.
type Member struct {
	ID         string   `json:"id"` // hex without padding
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"` // empty until the member has started
	// Learner says that it holds the log and does not vote yet.
	Learner bool `json:"isLearner,omitempty"`
}

// Following is how far a member is, as the leader sees it.
type Following struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Votes    bool   `json:"votes"`
	State    string `json:"state"`
	Match    uint64 `json:"match"`  // the last entry of the log that it is known to hold
	Behind   uint64 `json:"behind"` // entries
	Replaces string `json:"replaces,omitempty"`
	Waits    string `json:"waits,omitempty"` // why it does not vote yet
}

// Members is the membership side of a cluster. All errors are a *MemberError
// where the server refused, a *ClusterError where none answered, or the
// context's.
type Members struct{ c *Client }

// Members gives the membership side of the cluster.
func (c *Client) Members() *Members { return &Members{c} }

// List gives the members in the server's order, which is that of their IDs.
func (m *Members) List(ctx context.Context) ([]Member, error) {
	var list struct {
		Members []Member `json:"members"`
	}
	err := m.do(ctx, &call{method: "GET", path: "/v2/members"}, 200, &list)
	return list.Members, err
}

// Leader gives the member that leads.
func (m *Members) Leader(ctx context.Context) (*Member, error) {
	var leader Member
	if err := m.do(ctx, &call{method: "GET", path: "/v2/members/leader"}, 200, &leader); err != nil {
		return nil, err
	}
	return &leader, nil
}

// Add makes a member that is then expected to start with these peer URLs.
func (m *Members) Add(ctx context.Context, peerURLs ...string) (*Member, error) {
	var added Member
	if err := m.do(ctx, withURLs("POST", "/v2/members", peerURLs), 201, &added); err != nil {
		return nil, err
	}
	return &added, nil
}

// Remove takes a member out of the cluster, for good.
func (m *Members) Remove(ctx context.Context, id string) error {
	return m.do(ctx, &call{method: "DELETE", path: memberPath(id)}, 204, nil)
}

// Update replaces the peer URLs of a member.
func (m *Members) Update(ctx context.Context, id string, peerURLs ...string) error {
	return m.do(ctx, withURLs("PUT", memberPath(id), peerURLs), 204, nil)
}

// Replace adds a member in the place of another, named by its ID or name, which leaves
// when the new one has caught up. Without peer URLs it is found where the old one was.
func (m *Members) Replace(ctx context.Context, member string, peerURLs ...string) (*Member, error) {
	var added Member
	if err := m.do(ctx, withURLs("POST", memberPath(member)+"/replace", peerURLs), 201, &added); err != nil {
		return nil, err
	}
	return &added, nil
}

// Following asks the leader how far the other members are.
func (m *Members) Following(ctx context.Context) ([]Following, error) {
	leader, err := m.Leader(ctx)
	if err != nil {
		return nil, err
	}
	if len(leader.ClientURLs) == 0 {
		return nil, fmt.Errorf("client: the leader %s says no address for clients", leader.ID)
	}
	o := m.c.o
	o.Endpoints = leader.ClientURLs
	var page struct {
		Members []Following `json:"members"`
	}
	err = New(m.c.doer, o).Members().do(ctx, &call{method: "GET", path: "/v2/stats/members"}, 200, &page)
	return page.Members, err
}

// Health asks one endpoint, and no other, whether it is healthy. An error says
// that there was no answer that makes sense.
func (m *Members) Health(ctx context.Context, endpoint string) (bool, error) {
	r := &Request{Endpoint: endpoint, Method: "GET", Path: "/health", Timeout: m.c.o.Timeout}
	resp, err := m.c.doer.Do(ctx, r)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, err
	}
	return healthy(text)
}

// healthy reads {"health":"true"}, as a string or as a boolean.
func healthy(text []byte) (bool, error) {
	var h struct {
		Health any `json:"health"`
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return false, err
	}
	return h.Health == "true" || h.Health == true, nil
}

func memberPath(id string) string {
	return (&url.URL{Path: "/v2/members/" + id}).EscapedPath()
}

func withURLs(method, path string, peerURLs []string) *call {
	body, err := json.Marshal(struct {
		PeerURLs []string `json:"peerURLs"`
	}{peerURLs})
	if err != nil {
		panic(err) // strings always encode
	}
	return &call{method: method, path: path, contentType: contentJSON, body: string(body)}
}

func (m *Members) do(ctx context.Context, q *call, want int, into any) error {
	a, err := m.c.do(ctx, q)
	if err != nil {
		return err
	}
	if a.status != want {
		return memberRefusal(a)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(a.text, into); err != nil {
		return fmt.Errorf("client: answer is not JSON of the members API: %w", err)
	}
	return nil
}

func memberRefusal(a *answer) error {
	e := &MemberError{Status: a.status}
	var body struct {
		Message string `json:"message"`
	}
	if err := json.Unmarshal(a.text, &body); err != nil || body.Message == "" {
		e.Message = fmt.Sprintf("client: answer %d is not one of the members API: %.100q", a.status, a.text)
		return e
	}
	e.Message = body.Message
	return e
}
