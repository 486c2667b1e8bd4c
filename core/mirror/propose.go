package mirror

import (
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/retry"
	"github.com/keelson/keelson/core/store"
)

const (
	// writeMax bounds the wait for the answer to a write at one endpoint. A member
	// answers within 5 s and two election timeouts.
	writeMax = 15 * time.Second
	// seenMax is how long the outcome of a write is kept back until the view shows it.
	seenMax = 2 * time.Second
)

// Propose sends c as a request, as a member would propose it: done runs once, with
// the result, or with an error of code 300 where the outcome is unknown or nobody was
// reached, which the cause tells apart. Where the mirror is up to date the view holds
// the write when done runs. It is a control.Proposer.
func (m *Mirror) Propose(c store.Command, done func(store.Result)) {
	urls := m.cfg.Endpoints()
	if c.Fence.Key != "" {
		done(unsent("a request cannot carry a fence", m.index()))
		return
	}
	if m.stopped || len(urls) == 0 {
		done(unsent("no endpoint is known", m.index()))
		return
	}
	w := &write{m: m, c: c, done: done, left: len(urls), from: m.from}
	w.next()
}

func (m *Mirror) index() store.Index {
	if m.view == nil {
		return 0
	}
	return m.view.Index()
}

func unsent(why string, index store.Index) store.Result {
	return store.Result{Err: &store.Error{Code: store.CodeRaftInternal, Cause: "not sent: " + why, Index: index}, Index: index}
}

func unknown(why string, index store.Index) store.Result {
	return store.Result{Err: &store.Error{Code: store.CodeRaftInternal, Cause: "the outcome is unknown: " + why, Index: index}, Index: index}
}

// write is one command on its way. It implements env.WebReceiver, for one endpoint
// after the other.
type write struct {
	m      *Mirror
	c      store.Command
	done   func(store.Result)
	left   int
	from   int
	base   string
	status int
	unsent bool // the answer says that nobody acted on it
	index  store.Index
	body   []byte
}

func (w *write) next() {
	urls := w.m.cfg.Endpoints()
	if len(urls) == 0 || w.left == 0 {
		w.done(unsent("no endpoint took it", w.m.index()))
		return
	}
	w.base = urls[w.from%len(urls)]
	w.from++
	w.left--
	w.status, w.unsent, w.index, w.body = 0, false, 0, nil
	req := request(w.base, &w.c)
	req.Header = append(req.Header, w.m.cfg.Header...)
	w.m.env.Web.Do(req, w)
}

// request is c as the keys API has it.
func request(base string, c *store.Command) *env.WebRequest {
	q := url.Values{}
	body := url.Values{}
	method := "PUT"
	switch c.Op {
	case store.OpCreate:
		q.Set("prevExist", "false")
	case store.OpUpdate:
		q.Set("prevExist", "true")
	case store.OpCreateInOrder:
		method = "POST"
	case store.OpDelete, store.OpCompareAndDelete:
		method = "DELETE"
	}
	if c.PrevValue != "" {
		q.Set("prevValue", c.PrevValue)
	}
	if c.PrevIndex != 0 {
		q.Set("prevIndex", strconv.FormatUint(uint64(c.PrevIndex), 10))
	}
	flags(q, c)
	if method != "DELETE" {
		if c.Value != "" {
			body.Set("value", c.Value)
		}
		if c.HasTTL {
			body.Set("ttl", strconv.FormatInt(int64((max(c.TTL, 0)+time.Second-1)/time.Second), 10))
		}
	}
	target := (&url.URL{Path: "/v2/keys" + c.Key, RawQuery: q.Encode()}).String()
	req := &env.WebRequest{Method: method, URL: base + target, Timeout: writeMax, Connect: connectMax}
	if len(body) > 0 {
		req.Body = []byte(body.Encode())
		req.Header = []env.WebHeader{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}
	}
	return req
}

func flags(q url.Values, c *store.Command) {
	set := func(name string, on bool) {
		if on {
			q.Set(name, "true")
		}
	}
	set("dir", c.Dir)
	set("recursive", c.Recursive)
	set("refresh", c.Refresh)
}

// Head takes the beginning of an answer.
func (w *write) Head(status int, header []env.WebHeader) {
	w.status = status
	for _, h := range header {
		switch h.Name {
		case retry.Header:
			w.unsent = h.Value == retry.Unsent
		case "X-Etcd-Index":
			n, _ := strconv.ParseUint(h.Value, 10, 64)
			w.index = store.Index(n)
		}
	}
}

// Chunk takes a part of the body.
func (w *write) Chunk(p []byte) { w.body = append(w.body, p...) }

// End takes the end of the answer, or the reason why there is none.
func (w *write) End(err error) {
	if w.m.stopped {
		return
	}
	o, why := w.outcome(err)
	switch retry.Of(o).For("PUT") {
	case retry.GiveAnswer:
		r := w.result()
		if w.c.Refresh && r.result.Event != nil {
			r.until = 0 // nobody is woken by it, so it would be shown late, and it changes nothing
		}
		w.m.hold(r)
	case retry.TryNext:
		w.next()
	default:
		w.m.env.Rare.Mark("mirror: outcome of a write unknown")
		w.done(unknown(w.base+": "+why, w.m.index()))
	}
}

func (w *write) outcome(err error) (retry.Outcome, string) {
	switch {
	case errors.Is(err, env.ErrUnsent), err == nil && w.status >= 500 && w.unsent:
		return retry.NotSent, ""
	case err != nil:
		return retry.Unknown, err.Error()
	case w.status >= 500 && w.status != 501:
		return retry.ServerAtFault, refusal(w.status, w.body).Cause
	case w.status == 0 || w.status >= 300 && w.status < 400:
		return retry.Unknown, "answer " + strconv.Itoa(w.status)
	}
	return retry.Answered, ""
}

// result reads an answer that decides.
func (w *write) result() *waiting {
	if w.status >= 400 {
		e := refusal(w.status, w.body)
		return &waiting{done: w.done, result: store.Result{Err: e, Index: e.Index}, until: e.Index}
	}
	e, err := parseEvent(w.body)
	if err != nil {
		return &waiting{done: w.done, result: unknown(w.base+": "+err.Error(), w.m.index())}
	}
	return &waiting{done: w.done, result: store.Result{Event: e, Index: max(w.index, e.Index)}, until: e.Index}
}

func parseEvent(text []byte) (*store.Event, error) {
	var raw struct {
		Action string    `json:"action"`
		Node   *nodeText `json:"node"`
		Prev   *nodeText `json:"prevNode"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	if raw.Node == nil {
		return nil, errors.New("an answer without a node")
	}
	n, err := raw.Node.node()
	if err != nil {
		return nil, err
	}
	e := &store.Event{Action: store.Action(raw.Action), Index: n.Modified, Node: n}
	switch e.Action {
	case store.ActionDelete, store.ActionCompareAndDelete, store.ActionExpire:
		n.Deleted = true
	}
	if raw.Prev != nil {
		if e.Prev, err = raw.Prev.node(); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// waiting is an outcome that is kept back until the view shows it, so that a
// controller that looks again sees what it did.
type waiting struct {
	done   func(store.Result)
	result store.Result
	until  store.Index
	timer  env.Timer
}

func (m *Mirror) hold(w *waiting) {
	if m.view == nil || m.view.Index() >= w.until {
		w.done(w.result)
		return
	}
	m.waiting = append(m.waiting, w)
	w.timer = m.env.Clock.After(seenMax, func() { m.release(func(have *waiting) bool { return have == w }) })
}

// reached gives the outcomes that the view shows.
func (m *Mirror) reached(index store.Index) {
	m.release(func(w *waiting) bool { return w.until <= index })
}

func (m *Mirror) release(due func(*waiting) bool) {
	all := m.waiting
	m.waiting = nil
	var now []*waiting
	for _, w := range all {
		if due(w) {
			now = append(now, w)
		} else {
			m.waiting = append(m.waiting, w)
		}
	}
	for _, w := range now {
		w.timer.Stop()
		w.done(w.result)
	}
}
