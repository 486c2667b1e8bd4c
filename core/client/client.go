package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keelson/keelson/core/gateway"
	"github.com/keelson/keelson/core/planted"
	"github.com/keelson/keelson/core/retry"
)

// Options says how a Client reaches its cluster.
type Options struct {
	// Endpoints are base URLs, such as http://10.0.0.1:2379.
	Endpoints []string
	// Timeout bounds one attempt at one endpoint; 0 is no bound.
	Timeout time.Duration
	// Total bounds one call with all its attempts; 0 is no bound. It does not
	// bound the wait of a watch.
	Total time.Duration
	// Rounds is how often all endpoints are tried in one call. 0 stands for as
	// often as Total allows, or 3 times where that is 0 too.
	Rounds int
	// Ordered tries the endpoints in the order given instead of a random one.
	Ordered bool
	// User and Password are sent with every request unless User is empty.
	User, Password string
	// Trace, if set, is told of each request before it is sent.
	Trace func(*Request)
}

// Back-off between rounds: the wait doubles from backoffMin to backoffMax, and
// each is stretched or shrunk by up to a half.
const (
	backoffMin = 50 * time.Millisecond
	backoffMax = 5 * time.Second
)

const (
	redirectsMax = 10
	// statusNotImplemented is a refusal like those below 500: nothing was done,
	// and asking elsewhere does not help.
	statusNotImplemented = 501
	roundsDefault        = 3
	contentForm          = "application/x-www-form-urlencoded"
	contentJSON          = "application/json"
	headerStoreIndex     = "X-Etcd-Index"
)

// Client sends requests to whichever endpoint answers. It belongs to one caller
// at a time.
type Client struct {
	doer Doer
	o    Options
	eps  []string
	// pinned is the endpoint that answered last; it is tried first.
	pinned int
}

// New makes a client. The endpoints are tried in random order, beginning with
// the one that answered last.
func New(d Doer, o Options) *Client {
	c := &Client{doer: d, o: o}
	c.setEndpoints(o.Endpoints)
	return c
}

// Endpoints lists the base URLs in use.
func (c *Client) Endpoints() []string { return slices.Clone(c.eps) }

func (c *Client) setEndpoints(eps []string) {
	c.eps, c.pinned = slices.Clone(eps), 0
	if c.o.Ordered {
		return
	}
	for i := len(c.eps) - 1; i > 0; i-- {
		j := int(c.doer.Float64() * float64(i+1))
		c.eps[i], c.eps[j] = c.eps[j], c.eps[i]
	}
}

// call is one request to whichever endpoint answers.
type call struct {
	method, path, query string
	contentType, body   string
	stream              bool
	// within bounds a stream as a whole; 0 is no bound.
	within time.Duration
}

func (c *call) read() bool { return retry.Reads(c.method) }

// answer is what a call brings back. Body is open only for streams.
type answer struct {
	status int
	header map[string]string
	text   []byte
	body   io.ReadCloser
}

// do runs a call to its end: attempts, rounds, back-off.
func (c *Client) do(ctx context.Context, q *call) (*answer, error) {
	if len(c.eps) == 0 {
		return nil, ErrNoEndpoints
	}
	began := c.doer.Now()
	for round := 0; ; round++ {
		a, last, err := c.round(ctx, q, began)
		if err == nil || last || !c.mayGoOn(round, began) {
			return a, err
		}
		if err := c.backOff(ctx, round); err != nil {
			return nil, err
		}
	}
}

// ErrNoEndpoints says that there is nobody to ask.
var ErrNoEndpoints = errors.New("client: no endpoints available")

// round tries each endpoint once. last says that the error must not be followed
// by another round.
func (c *Client) round(ctx context.Context, q *call, began time.Duration) (a *answer, last bool, err error) {
	failed := &ClusterError{}
	first := c.pinned
	for i := range c.eps {
		at := (first + i) % len(c.eps)
		left, ok := c.timeout(began)
		if !ok {
			return nil, true, &totalError{}
		}
		a, o, err := c.attempt(ctx, c.eps[at], q, left)
		if o != retry.Answered && ctx.Err() != nil {
			return nil, true, canceled(ctx, q, o)
		}
		do := retry.Of(o).For(q.method)
		if do == retry.GiveUnknown && planted.On(planted.RetryUnsafe) {
			do = retry.TryNext
		}
		if do == retry.GiveAnswer {
			c.pinned = at
			return a, true, err
		}
		if c.o.Total > 0 && c.doer.Now()-began >= c.o.Total {
			return nil, true, &totalError{unknown: do == retry.GiveUnknown}
		}
		failed.Errors = append(failed.Errors, err)
		if do == retry.GiveUnknown {
			failed.Unknown = true
			return nil, true, failed
		}
	}
	return nil, false, failed
}

// canceled is the caller's own wish to stop, with what it means for a write that
// was under way.
func canceled(ctx context.Context, q *call, o retry.Outcome) error {
	if !q.read() && o != retry.NotSent {
		return fmt.Errorf("%w: %w", context.Cause(ctx), ErrUnknown)
	}
	return context.Cause(ctx)
}

// timeout is how long the next attempt may take; false when no time is left.
func (c *Client) timeout(began time.Duration) (time.Duration, bool) {
	if c.o.Total <= 0 {
		return c.o.Timeout, true
	}
	left := c.o.Total - (c.doer.Now() - began)
	if left <= 0 {
		return 0, false
	}
	if c.o.Timeout > 0 {
		left = min(left, c.o.Timeout)
	}
	return left, true
}

func (c *Client) mayGoOn(round int, began time.Duration) bool {
	if c.o.Rounds > 0 {
		return round+1 < c.o.Rounds
	}
	if c.o.Total > 0 {
		return c.doer.Now()-began < c.o.Total
	}
	return round+1 < roundsDefault
}

func (c *Client) backOff(ctx context.Context, round int) error {
	return c.doer.Sleep(ctx, c.backoff(round))
}

// backoff is the wait after the given round, the first being 0.
func (c *Client) backoff(round int) time.Duration {
	if planted.On(planted.RetryWithoutBackoff) {
		return time.Millisecond
	}
	d := min(backoffMin<<min(round, 20), backoffMax)
	return time.Duration(float64(d) * (0.5 + c.doer.Float64()))
}

// attempt sends a call to one endpoint and follows redirects, which keep the
// method whatever their status.
func (c *Client) attempt(ctx context.Context, endpoint string, q *call, timeout time.Duration) (*answer, retry.Outcome, error) {
	r := &Request{
		Endpoint: endpoint, Method: q.method, Path: q.path, Query: q.query,
		ContentType: q.contentType, Body: q.body, User: c.o.User, Password: c.o.Password,
		Timeout: timeout, Stream: q.stream,
	}
	if q.within > 0 {
		r.Timeout, r.Stream = q.within, false
	}
	for range redirectsMax {
		if c.o.Trace != nil {
			c.o.Trace(r)
		}
		resp, err := c.doer.Do(ctx, r)
		if err != nil {
			o, err := transport(r.Endpoint, err)
			return nil, o, err
		}
		to, redirected, err := follow(r, resp)
		if err != nil {
			return nil, retry.ServerAtFault, err
		}
		if !redirected {
			return c.receive(r, resp, q.stream)
		}
		r = to
	}
	return nil, retry.ServerAtFault, fmt.Errorf("client: endpoint %s redirects more than %d times", endpoint, redirectsMax)
}

func transport(endpoint string, err error) (retry.Outcome, error) {
	switch {
	case errors.Is(err, ErrTimeout):
		return retry.Unknown, &attemptError{fmt.Sprintf("client: endpoint %s exceeded header timeout", endpoint), err}
	case errors.Is(err, ErrUnknown):
		return retry.Unknown, err
	}
	return retry.NotSent, err
}

// follow gives the request that a redirect asks for.
func follow(r *Request, resp *Response) (*Request, bool, error) {
	switch resp.Status {
	case 301, 302, 307, 308:
	default:
		return nil, false, nil
	}
	resp.Body.Close()
	base, err := url.Parse(r.Endpoint + r.Path)
	if err != nil {
		return nil, false, fmt.Errorf("client: redirect from %s: %w", r.Endpoint, err)
	}
	to, err := base.Parse(resp.Header["Location"])
	if err != nil || resp.Header["Location"] == "" {
		return nil, false, fmt.Errorf("client: endpoint %s redirects to nowhere: %q", r.Endpoint, resp.Header["Location"])
	}
	next := *r
	next.Endpoint = to.Scheme + "://" + to.Host
	next.Path = to.EscapedPath()
	if to.RawQuery != "" {
		next.Query = to.RawQuery
	}
	if to.Host != base.Host || to.Scheme != base.Scheme {
		next.User, next.Password = "", "" // another server must not learn them
	}
	return &next, true, nil
}

// receive reads an answer, or leaves the body of a stream open.
func (c *Client) receive(r *Request, resp *Response, stream bool) (*answer, retry.Outcome, error) {
	a := &answer{status: resp.Status, header: resp.Header}
	if stream && resp.Status == 200 {
		a.body = resp.Body
		return a, retry.Answered, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, retry.Unknown, fmt.Errorf("client: answer of %s cut short: %w", r.Endpoint, err)
	}
	a.text = text
	if resp.Status < 500 || resp.Status == statusNotImplemented {
		return a, retry.Answered, nil
	}
	if resp.Header[retry.Header] == retry.Unsent {
		return nil, retry.NotSent, fault(r.Endpoint, a)
	}
	return nil, retry.ServerAtFault, fault(r.Endpoint, a)
}

// fault says in the original client's words that a server could not answer. It
// keeps the server's own error for whoever unwraps it.
func fault(endpoint string, a *answer) error {
	text := fmt.Sprintf("client: etcd member %s returns server error [%d]", endpoint, a.status)
	if a.status == 500 || a.status == 503 {
		text = fmt.Sprintf("client: etcd member %s has no leader", endpoint)
	}
	if e := unitErrorOf(a); e != nil {
		return e
	}
	why := refusal(a.status, a.text)
	var e *Error
	if a.status == 503 && strings.Contains(string(a.text), gateway.CauseRemoved) {
		text = fmt.Sprintf("client: etcd member %s: %s", endpoint, gateway.CauseRemoved)
	}
	if errors.As(why, &e) && strings.HasPrefix(e.Cause, gateway.CauseFull) {
		text = fmt.Sprintf("client: etcd member %s: %s", endpoint, e.Cause)
	}
	return &attemptError{text, why}
}

// Sync replaces the endpoints by the client URLs that the members advertise.
// ErrNoClientURLs leaves them as they were.
func (c *Client) Sync(ctx context.Context) error {
	members, err := c.Members().List(ctx)
	if err != nil {
		return err
	}
	var eps []string
	for _, m := range members {
		eps = append(eps, m.ClientURLs...)
	}
	for i, e := range eps {
		eps[i] = strings.TrimSuffix(e, "/")
	}
	slices.Sort(eps)
	eps = slices.Compact(eps)
	if len(eps) == 0 {
		return ErrNoClientURLs
	}
	if have := slices.Sorted(slices.Values(c.eps)); slices.Equal(have, eps) {
		return nil
	}
	c.setEndpoints(eps)
	return nil
}

// ErrNoClientURLs says that the members advertise no address for clients.
var ErrNoClientURLs = errors.New("client: no endpoints available")

// Now is the time on the Doer's clock.
func (c *Client) Now() time.Duration { return c.doer.Now() }

// Pause returns after d on the Doer's clock, or with the context's error.
func (c *Client) Pause(ctx context.Context, d time.Duration) error { return c.doer.Sleep(ctx, d) }
