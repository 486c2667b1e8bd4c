package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/store"
)

// Node is a key at one index. The order of the fields is that of the original
// client's JSON.
type Node struct {
	Key           string     `json:"key"`
	Dir           bool       `json:"dir,omitempty"`
	Value         string     `json:"value"`
	Nodes         []*Node    `json:"nodes"` // children, only where asked for
	CreatedIndex  uint64     `json:"createdIndex"`
	ModifiedIndex uint64     `json:"modifiedIndex"`
	Expiration    *time.Time `json:"expiration,omitempty"` // nil for a permanent key
	TTL           int64      `json:"ttl,omitempty"`        // seconds left
}

// Event is the answer to a keys request, and what a watch delivers.
type Event struct {
	Action   string `json:"action"`
	Node     *Node  `json:"node"`
	PrevNode *Node  `json:"prevNode"`
	// Index is the store's index when the server answered; for a watch, when
	// the server accepted it.
	Index uint64 `json:"-"`
}

// Keys is the key-value side of a cluster. All errors are a *Error where the
// server refused, a *ClusterError where no server answered, or the context's.
// After an error of a write, errors.Is(err, ErrUnknown) says that it may have
// happened all the same.
type Keys struct{ c *Client }

// Keys gives the key-value side of the cluster.
func (c *Client) Keys() *Keys { return &Keys{c} }

// Reading says how fresh a read must be.
type Reading int

// The kinds of reads.
const (
	// ByDefault leaves it to the server: keelson's reads are linearizable
	// unless it was started otherwise, the original's are local.
	ByDefault Reading = iota
	// Linearizable asks for a read that sees every write finished before it.
	Linearizable
	// Local asks for what the answering member knows, possibly stale.
	Local
)

// GetOptions says what Get shows.
type GetOptions struct {
	Recursive bool // the whole subtree instead of one level
	Sorted    bool // children by key
	Reading   Reading
}

// SetOptions goes with every write of a value.
type SetOptions struct {
	// TTL is how long the key lives, rounded up to seconds; 0 is for ever.
	TTL time.Duration
	// Dir makes or changes a directory; the value is not sent.
	Dir bool
	// Refresh renews the TTL, keeps the value and wakes no watcher.
	Refresh bool
}

// Condition restricts a write to a key that is as expected. Zero fields are not
// asked; at least one must be given.
type Condition struct {
	PrevValue string
	PrevIndex uint64
}

// DeleteOptions says what Delete may remove besides a file.
type DeleteOptions struct {
	Dir       bool // an empty directory
	Recursive bool // a directory with all that it holds
}

// Get reads a key or lists a directory.
func (k *Keys) Get(ctx context.Context, key string, o GetOptions) (*Event, error) {
	q := url.Values{
		"recursive": {strconv.FormatBool(o.Recursive)},
		"sorted":    {strconv.FormatBool(o.Sorted)},
	}
	if o.Reading != ByDefault {
		q.Set("quorum", strconv.FormatBool(o.Reading == Linearizable))
	}
	return k.do(ctx, &call{method: "GET", path: keyPath(key), query: q.Encode()})
}

// Set writes a key, whether or not it exists.
func (k *Keys) Set(ctx context.Context, key, value string, o SetOptions) (*Event, error) {
	return k.put(ctx, key, value, url.Values{}, o)
}

// Create makes a key that must not exist yet (code 105).
func (k *Keys) Create(ctx context.Context, key, value string, o SetOptions) (*Event, error) {
	return k.put(ctx, key, value, url.Values{"prevExist": {"false"}}, o)
}

// Update changes a key that must exist (code 100). For a directory it sets or
// removes the TTL.
func (k *Keys) Update(ctx context.Context, key, value string, o SetOptions) (*Event, error) {
	return k.put(ctx, key, value, url.Values{"prevExist": {"true"}}, o)
}

// CompareAndSwap writes a key that must be as expected (code 101).
func (k *Keys) CompareAndSwap(ctx context.Context, key, value string, is Condition, o SetOptions) (*Event, error) {
	return k.put(ctx, key, value, is.values(), o)
}

// CreateInOrder makes a child of dir, named with the store's index so that later
// children sort behind it.
func (k *Keys) CreateInOrder(ctx context.Context, dir, value string, o SetOptions) (*Event, error) {
	return k.do(ctx, &call{
		method: "POST", path: keyPath(dir),
		contentType: contentForm, body: form(value, o).Encode(),
	})
}

// Delete removes a key.
func (k *Keys) Delete(ctx context.Context, key string, o DeleteOptions) (*Event, error) {
	q := url.Values{}
	if o.Dir {
		q.Set("dir", "true")
	}
	if o.Recursive {
		q.Set("recursive", "true")
	}
	return k.do(ctx, &call{method: "DELETE", path: keyPath(key), query: q.Encode()})
}

// CompareAndDelete removes a file that must be as expected (code 101).
func (k *Keys) CompareAndDelete(ctx context.Context, key string, is Condition) (*Event, error) {
	return k.do(ctx, &call{method: "DELETE", path: keyPath(key), query: is.values().Encode()})
}

func (c Condition) values() url.Values {
	q := url.Values{}
	if c.PrevValue != "" {
		q.Set("prevValue", c.PrevValue)
	}
	if c.PrevIndex != 0 {
		q.Set("prevIndex", strconv.FormatUint(c.PrevIndex, 10))
	}
	return q
}

func (k *Keys) put(ctx context.Context, key, value string, q url.Values, o SetOptions) (*Event, error) {
	if o.Dir {
		q.Set("dir", "true")
	}
	if o.Refresh {
		q.Set("refresh", "true")
	}
	return k.do(ctx, &call{
		method: "PUT", path: keyPath(key), query: q.Encode(),
		contentType: contentForm, body: form(value, o).Encode(),
	})
}

func form(value string, o SetOptions) url.Values {
	f := url.Values{}
	if !o.Dir && !o.Refresh {
		f.Set("value", value)
	}
	if o.TTL > 0 {
		f.Set("ttl", strconv.FormatInt(seconds(o.TTL), 10))
	}
	return f
}

func seconds(d time.Duration) int64 {
	return int64(d/time.Second) + min(1, int64(d%time.Second))
}

func (k *Keys) do(ctx context.Context, q *call) (*Event, error) {
	a, err := k.c.do(ctx, q)
	if err != nil {
		return nil, err
	}
	return event(q, a)
}

// event decodes an answer. One that makes no sense after a write leaves its
// outcome unknown.
func event(q *call, a *answer) (*Event, error) {
	if a.status != 200 && a.status != 201 {
		return nil, refusal(a.status, a.text)
	}
	e, err := decodeEvent(a.text)
	if err == nil {
		e.Index, err = indexOf(a.header)
	}
	if err != nil && !q.read() {
		return nil, fmt.Errorf("%w: %w", err, ErrUnknown)
	}
	return e, err
}

func decodeEvent(text []byte) (*Event, error) {
	var e Event
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, fmt.Errorf("client: answer is not JSON of the keys API: %w", err)
	}
	if !whole(e.Node) {
		return nil, fmt.Errorf("client: answer with a node missing: %.100q", text)
	}
	return &e, nil
}

// whole says that a node and all below it are there, so that nobody stumbles
// over a null in a server's JSON.
func whole(n *Node) bool {
	if n == nil {
		return false
	}
	for _, child := range n.Nodes {
		if !whole(child) {
			return false
		}
	}
	return true
}

func indexOf(header map[string]string) (uint64, error) {
	text := header[headerStoreIndex]
	if text == "" {
		return 0, nil
	}
	i, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("client: header %s: %w", headerStoreIndex, err)
	}
	return i, nil
}

// keyPath is the escaped request path of a key. A slash at the end stays.
func keyPath(key string) string {
	p := path.Clean("/v2/keys" + path.Clean("/"+key))
	if p == "/v2/keys" || strings.HasSuffix(key, "/") {
		p += "/"
	}
	return (&url.URL{Path: p}).EscapedPath()
}

// isGap says whether err tells that the history is gone.
func isGap(err error) bool { return HasCode(err, store.CodeIndexCleared) }
