package mirror

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/store"
)

// talk is one connection to one endpoint. It implements env.WebReceiver.
type talk struct {
	m       *Mirror
	number  uint64 // of all connections
	base    string
	listing bool
	copy    *store.Copy // what was listed so far
	heard   bool        // it has said that it is up to date
	index   store.Index // of the listing, once it is whole
	fresh   bool
	whole   bool

	cancel func()
	quiet  env.Timer
	since  env.Instant // when the member last said that it is up to date
	status int
	rest   []byte // of a line
	over   bool
}

// quit ends the talk without a word to the mirror.
func (t *talk) quit() {
	if t.over {
		return
	}
	t.over = true
	t.cancel()
	if t.quiet != nil {
		t.quiet.Stop()
	}
}

// listen waits for the next sign of life.
func (t *talk) listen() {
	if t.quiet != nil {
		t.quiet.Stop()
	}
	t.quiet = t.m.env.Clock.After(silenceMax, func() {
		t.fail(fmt.Errorf("nothing came for %v", silenceMax))
	})
}

func (t *talk) fail(err error) {
	if !t.over {
		t.m.fail(fmt.Errorf("mirror: %s: %w", t.base, err))
	}
}

// Head takes the beginning of an answer.
func (t *talk) Head(status int, header []env.WebHeader) {
	t.status = status
	t.since = t.m.env.Clock.Now()
	t.listen()
	if status != 200 {
		return
	}
	if err := t.m.belongs(clusterOf(header)); err != nil {
		t.fail(err)
	}
}

func clusterOf(header []env.WebHeader) string {
	for _, h := range header {
		if strings.EqualFold(h.Name, "X-Etcd-Cluster-Id") {
			return h.Value
		}
	}
	return ""
}

// Chunk takes a part of the body.
func (t *talk) Chunk(p []byte) {
	if t.over {
		return
	}
	t.listen()
	t.rest = append(t.rest, p...)
	if t.status != 200 {
		t.rest = t.rest[:min(len(t.rest), 4<<10)]
		return
	}
	for !t.over {
		line, after, ok := bytes.Cut(t.rest, []byte{'\n'})
		if !ok {
			break
		}
		t.rest = after
		t.take(line)
	}
	t.rest = bytes.Clone(t.rest)
	if len(t.rest) > lineMax {
		t.fail(fmt.Errorf("a line of more than %d bytes", lineMax))
	}
}

// take takes one line. One that does not fit to what came before means that what is
// held cannot be trusted to follow from what will come.
func (t *talk) take(text []byte) {
	l, err := parseLine(text)
	if err == nil {
		if t.listing {
			err = t.listed(l)
		} else {
			err = t.told(l)
		}
	}
	if err != nil {
		t.m.gap(err.Error())
		t.fail(err)
	}
}

// listed takes a line of a listing.
func (t *talk) listed(l *line) error {
	switch {
	case t.whole:
		return errors.New("a line behind the end of the listing")
	case l.node != nil && l.action == "":
		return t.copy.Put(l.node, t.m.now())
	case l.node == nil:
		t.index, t.fresh, t.whole = l.index, l.fresh, true
		return nil
	}
	return errors.New("an event in a listing")
}

// told takes a line of a feed.
func (t *talk) told(l *line) error {
	m := t.m
	switch {
	case l.action != "":
		return m.apply(&store.Event{Action: l.action, Index: l.node.Modified, Node: l.node, Refresh: l.refresh})
	case l.node != nil:
		return errors.New("a listing in a feed")
	}
	now := m.env.Clock.Now()
	if l.fresh {
		t.since = now
	}
	if now.Sub(t.since) > staleMax {
		m.env.Rare.Mark("mirror: leave a member that is out of touch")
		t.fail(fmt.Errorf("this member could not tell for %v whether it is up to date", staleMax))
		return nil
	}
	if err := m.reach(l.index, l.fresh); err != nil {
		return err
	}
	if l.fresh {
		m.passed(t)
	}
	return nil
}

// End takes the end of the answer, or the reason why there is none.
func (t *talk) End(err error) {
	if t.over {
		return
	}
	switch {
	case err != nil:
		t.fail(err)
	case t.status == 200 && t.whole:
		t.done()
	case t.status == 200 && t.listing:
		t.fail(errors.New("a listing without its end"))
	case t.status == 200:
		t.fail(errors.New("the feed has ended"))
	default:
		t.refused()
	}
}

// done follows a whole listing: the same endpoint is asked for what comes next.
func (t *talk) done() {
	m := t.m
	if err := m.replace(t.copy, t.index, t.fresh); err != nil {
		t.fail(err)
		return
	}
	m.hush()
	if t.fresh {
		m.passed(t)
	}
	m.again(0)
}

// refused takes an answer that is an error.
func (t *talk) refused() {
	e := refusal(t.status, t.rest)
	if e.Code == store.CodeIndexCleared {
		t.m.gap(e.Cause)
	}
	t.fail(e)
}

// refusal reads the body of an error.
func refusal(status int, body []byte) *store.Error {
	var e struct {
		Code    store.Code  `json:"errorCode"`
		Message string      `json:"message"`
		Cause   string      `json:"cause"`
		Index   store.Index `json:"index"`
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Code == 0 {
		cause := e.Message
		if cause == "" {
			cause = fmt.Sprintf("answer %d is not one of this API: %.100q", status, body)
		}
		return &store.Error{Code: store.CodeRaftInternal, Cause: cause}
	}
	return &store.Error{Code: e.Code, Cause: e.Cause, Index: e.Index}
}

// line is one line of the page: a node, an event, or how far what came reaches.
type line struct {
	action  store.Action
	refresh bool
	node    *store.Node
	index   store.Index
	fresh   bool
}

type nodeText struct {
	Key        *string     `json:"key"`
	Value      string      `json:"value"`
	Dir        bool        `json:"dir"`
	Expiration string      `json:"expiration"`
	TTL        int64       `json:"ttl"`
	Modified   store.Index `json:"modifiedIndex"`
	Created    store.Index `json:"createdIndex"`
}

func (n *nodeText) node() (*store.Node, error) {
	shown := &store.Node{Key: "/", Value: n.Value, Dir: n.Dir, Modified: n.Modified, Created: n.Created}
	if n.Key != nil {
		shown.Key = *n.Key
	}
	if n.Expiration != "" {
		at, err := time.Parse(time.RFC3339Nano, n.Expiration)
		if err != nil {
			return nil, fmt.Errorf("expiration of %.100q: %w", shown.Key, err)
		}
		shown.Expires, shown.TTL = at.UnixNano(), seconds(n.TTL)
		if shown.Expires == 0 {
			return nil, fmt.Errorf("expiration of %.100q is no time", shown.Key)
		}
	}
	return shown, nil
}

// seconds is a duration that was told in seconds, at most the longest there is.
func seconds(n int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Second)
	return time.Duration(min(max(n, -most), most)) * time.Second
}

// actions are those that an event can have.
var actions = []store.Action{
	store.ActionSet, store.ActionCreate, store.ActionUpdate, store.ActionCompareAndSwap,
	store.ActionDelete, store.ActionCompareAndDelete, store.ActionExpire,
}

func parseLine(text []byte) (*line, error) {
	var raw struct {
		Action  string       `json:"action"`
		Refresh bool         `json:"refresh"`
		Node    *nodeText    `json:"node"`
		Index   *store.Index `json:"index"`
		Fresh   bool         `json:"fresh"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	l := &line{refresh: raw.Refresh, fresh: raw.Fresh}
	if raw.Node == nil {
		if raw.Index == nil || raw.Action != "" {
			return nil, fmt.Errorf("a line that says nothing: %.100q", text)
		}
		l.index = *raw.Index
		return l, nil
	}
	for _, a := range actions {
		if string(a) == raw.Action {
			l.action = a
		}
	}
	if raw.Action != "" && l.action == "" {
		return nil, fmt.Errorf("unknown action %.100q", raw.Action)
	}
	var err error
	l.node, err = raw.Node.node()
	return l, err
}
