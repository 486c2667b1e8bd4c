package linearizability

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/client"
)

// formType is the content type of a body with fields.
const formType = "application/x-www-form-urlencoded"

// Request turns an operation into the request that carries it. Timeout bounds
// the wait for the answer; 0 is no bound.
func (in *Input) Request(endpoint string, timeout time.Duration) *client.Request {
	q := url.Values{}
	add := func(on bool, name, value string) {
		if on {
			q.Set(name, value)
		}
	}
	add(in.Recursive, "recursive", "true")
	add(in.Dir, "dir", "true")
	add(in.PrevValue != "", "prevValue", in.PrevValue)
	add(in.PrevIndex != 0, "prevIndex", strconv.FormatUint(in.PrevIndex, 10))
	add(in.Refresh, "refresh", "true")
	add(in.HasTTL, "ttl", strconv.FormatInt(in.TTLSeconds, 10))
	r := &client.Request{Endpoint: endpoint, Path: "/v2/keys" + (&url.URL{Path: in.Key}).EscapedPath(), Timeout: timeout}
	switch in.Kind {
	case Get:
		r.Method = "GET"
		add(true, "quorum", strconv.FormatBool(!in.Local))
	case Delete, CAD:
		r.Method = "DELETE"
	default:
		r.Method = "PUT"
		if in.Kind == Post {
			r.Method = "POST"
		}
		add(in.Kind == Create, "prevExist", "false")
		add(in.Kind == Update, "prevExist", "true")
		add(!in.Refresh && in.Value != "", "value", in.Value)
		r.ContentType, r.Body = formType, q.Encode()
		return r
	}
	r.Query = q.Encode()
	return r
}

// InputOf reads an operation out of a request; false means that the request is
// no operation on keys, or a watch.
func InputOf(r *client.Request) (Input, bool) {
	path, err := url.PathUnescape(r.Path)
	key, inKeys := strings.CutPrefix(path, "/v2/keys")
	if err != nil || !inKeys || key != "" && key[0] != '/' {
		return Input{}, false
	}
	q, err := url.ParseQuery(r.Query)
	if err != nil {
		return Input{}, false
	}
	body := url.Values{}
	if strings.HasPrefix(strings.ToLower(r.ContentType), formType) && (r.Method == "PUT" || r.Method == "POST") {
		if body, err = url.ParseQuery(r.Body); err != nil {
			return Input{}, false
		}
	}
	return inputOf(r.Method, "/"+strings.Trim(key, "/"), func(name string) string {
		if body.Has(name) {
			return body.Get(name)
		}
		return q.Get(name)
	})
}

func inputOf(method, key string, field func(string) string) (Input, bool) {
	is := func(name string) bool { on, _ := strconv.ParseBool(field(name)); return on }
	in := Input{Key: key, Recursive: is("recursive"), Dir: is("dir"), PrevValue: field("prevValue")}
	in.PrevIndex, _ = strconv.ParseUint(field("prevIndex"), 10, 64)
	conditional := in.PrevIndex > 0 || in.PrevValue != ""
	switch method {
	case "GET":
		in.Kind, in.Local = Get, field("quorum") == "false"
		return in, !is("wait")
	case "DELETE":
		in.Kind = Delete
		if conditional {
			in.Kind = CAD
		}
		return in, true
	case "PUT", "POST":
	default:
		return Input{}, false
	}
	in.Value = field("value")
	if ttl := field("ttl"); ttl != "" {
		n, err := strconv.ParseInt(ttl, 10, 64)
		if err != nil {
			return Input{}, false
		}
		in.HasTTL, in.TTLSeconds = true, n
	}
	if method == "POST" {
		in.Kind = Post
		return in, true
	}
	in.Refresh = is("refresh")
	exist := field("prevExist")
	switch {
	case exist != "" && !is("prevExist"):
		in.Kind, in.PrevIndex, in.PrevValue, in.Refresh = Create, 0, "", false
	case conditional:
		in.Kind = CAS
	case exist != "":
		in.Kind = Update
	default:
		in.Kind = Set
	}
	return in, true
}

// wire is an answer of the keys API.
type wire struct {
	ErrorCode int       `json:"errorCode"`
	Cause     string    `json:"cause"`
	Index     uint64    `json:"index"`
	Action    string    `json:"action"`
	Node      *wireNode `json:"node"`
	PrevNode  *wireNode `json:"prevNode"`
}

type wireNode struct {
	Key           string      `json:"key"`
	Value         string      `json:"value"`
	Dir           bool        `json:"dir"`
	Expiration    string      `json:"expiration"`
	Nodes         []*wireNode `json:"nodes"`
	CreatedIndex  uint64      `json:"createdIndex"`
	ModifiedIndex uint64      `json:"modifiedIndex"`
}

func (n *wireNode) node() *Node {
	if n == nil {
		return nil
	}
	out := &Node{Key: n.Key, Value: n.Value, Dir: n.Dir, Created: n.CreatedIndex, Modified: n.ModifiedIndex, HasTTL: n.Expiration != ""}
	if out.Key == "" {
		out.Key = "/"
	}
	for _, k := range n.Nodes {
		out.Nodes = append(out.Nodes, k.node())
	}
	return out
}

// Decode reads an answer's body. index is the store index of its head.
func Decode(body []byte, index uint64) (Output, error) {
	var w wire
	if err := json.Unmarshal(body, &w); err != nil {
		return Output{}, fmt.Errorf("answer of %d bytes: %w", len(body), err)
	}
	if w.ErrorCode != 0 {
		return Output{Code: w.ErrorCode, Cause: w.Cause, Index: w.Index}, nil
	}
	if w.Node == nil {
		return Output{}, fmt.Errorf("answer without node: %.80s", body)
	}
	out := Output{Action: w.Action, Node: w.Node.node(), Prev: w.PrevNode.node(), Index: index}
	if out.Action != "get" {
		out.Index = out.Node.Modified
	}
	return out, nil
}

// DecodeEvent reads one event of a watch.
func DecodeEvent(body []byte) (*Event, error) {
	out, err := Decode(body, 0)
	if err != nil {
		return nil, err
	}
	if out.Code != 0 {
		return nil, fmt.Errorf("an error where an event was due: %.80s", body)
	}
	return &Event{Index: out.Index, Action: out.Action, Node: out.Node, Prev: out.Prev}, nil
}

// IndexOf reads the store index of an answer's head, 0 where there is none.
func IndexOf(r *client.Response) uint64 {
	n, _ := strconv.ParseUint(r.Header["X-Etcd-Index"], 10, 64)
	return n
}

// Do carries in to endpoint over d and records it. The answer is returned as
// recorded; an error means that the outcome is unknown.
func (r *Recorder) Do(ctx context.Context, d client.Doer, c int, endpoint string, in Input, timeout time.Duration) (Output, error) {
	p := r.Begin(c, endpoint, in)
	resp, err := d.Do(ctx, in.Request(endpoint, timeout))
	if err != nil {
		if !errors.Is(err, client.ErrUnknown) {
			p.Fail()
		}
		return Output{}, err
	}
	body, err := io.ReadAll(resp.Body)
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return Output{}, fmt.Errorf("%v: read answer: %w", in, err)
	}
	out, err := Decode(body, IndexOf(resp))
	if err != nil {
		return Output{}, fmt.Errorf("%v: status %d: %w", in, resp.Status, err)
	}
	p.End(out)
	return out, nil
}

// Doer wraps d so that everything client c does through it is recorded, each
// attempt of a retry as an operation of its own. To hold a client to what its
// caller was told, record its calls with Begin and End instead.
func (r *Recorder) Doer(c int, d client.Doer) client.Doer { return &recorded{d, r, c} }

type recorded struct {
	client.Doer
	r *Recorder
	c int
}

func (d *recorded) Do(ctx context.Context, req *client.Request) (*client.Response, error) {
	in, ok := InputOf(req)
	if !ok {
		return d.watch(ctx, req)
	}
	p := d.r.Begin(d.c, req.Endpoint, in)
	resp, err := d.Doer.Do(ctx, req)
	if err != nil {
		if !errors.Is(err, client.ErrUnknown) {
			p.Fail()
		}
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if out, err := Decode(body, IndexOf(resp)); err == nil {
		p.End(out)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func (d *recorded) watch(ctx context.Context, req *client.Request) (*client.Response, error) {
	q, err := url.ParseQuery(req.Query)
	key, keys := strings.CutPrefix(req.Path, "/v2/keys")
	if err != nil || !keys || q.Get("wait") != "true" {
		return d.Doer.Do(ctx, req)
	}
	if key, err = url.PathUnescape(key); err != nil {
		return d.Doer.Do(ctx, req)
	}
	from, _ := strconv.ParseUint(q.Get("waitIndex"), 10, 64)
	w := d.r.Watch(d.c, req.Endpoint, "/"+strings.Trim(key, "/"), q.Get("recursive") == "true", q.Get("stream") == "true", from)
	resp, err := d.Doer.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	if resp.Status != 200 {
		return refused(w, resp)
	}
	w.Accepted(IndexOf(resp))
	resp.Body = &watched{body: resp.Body, seen: w}
	return resp, nil
}

func refused(w *Seen, resp *client.Response) (*client.Response, error) {
	body, err := io.ReadAll(resp.Body)
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("read refusal of a watch: %w", err)
	}
	if out, err := Decode(body, 0); err == nil {
		w.Refused(out.Code, out.Index)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// watched notes the events that pass through a watch's body.
type watched struct {
	body io.ReadCloser
	seen *Seen
	part []byte // of a line that is not complete
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.body.Read(p)
	w.part = append(w.part, p[:n]...)
	for {
		line, rest, whole := bytes.Cut(w.part, []byte("\n"))
		if !whole {
			return n, err
		}
		if e, bad := DecodeEvent(line); bad == nil {
			w.seen.Event(e)
		}
		w.part = rest
	}
}

func (w *watched) Close() error { return w.body.Close() }

// Follow reads a watch's body line by line, records each event in w and passes
// it to fn until fn says false, the body ends or breaks.
func (w *Seen) Follow(body io.Reader, fn func(*Event) bool) error {
	lines := bufio.NewReader(body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if err == io.EOF {
				return nil
			}
			return fmt.Errorf("read watch: %w", err)
		}
		e, err := DecodeEvent(line)
		if err != nil {
			return err
		}
		w.Event(e)
		if !fn(e) {
			return nil
		}
	}
}
