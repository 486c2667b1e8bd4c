// Package client is what a program does to a cluster: keys, members and locks over
// anything that can carry a request.
//
// It is written as straight lines of calls. Over HTTP a call blocks its
// goroutine; in the simulator it suspends a coroutine. Either way the same
// retries, redirects and resumed watches run.
//
// Always true:
//
//   - A write is sent again only when it is known that nobody has seen it. Where
//     that is not known, the error says so: errors.Is(err, ErrUnknown).
//   - A watch delivers each change once and in order, over any number of lost
//     connections, or ends with a *GapError.
//   - Between rounds over the endpoints the client waits, longer each time and
//     never twice the same.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrUnknown marks errors after which it is not known whether the request took
// effect. A write that ends so may have happened, may still happen, or may not.
var ErrUnknown = errors.New("the outcome is unknown")

// ErrTimeout is the error of a Doer whose Request.Timeout ran out after the
// request was sent. It wraps ErrUnknown.
var ErrTimeout = fmt.Errorf("no answer in time: %w", ErrUnknown)

// Request is one HTTP request to one endpoint.
type Request struct {
	Endpoint    string // base URL such as http://127.0.0.1:2379
	Method      string
	Path        string // escaped
	Query       string // encoded
	ContentType string
	Body        string
	// User and Password are sent by basic authentication unless User is empty.
	User, Password string
	// Timeout bounds the wait for the answer's head and, unless Stream is set,
	// for its body; 0 is no bound.
	Timeout time.Duration
	// Stream says that the body may take for ever, as that of a watch.
	Stream bool
}

// Response is one answer. Body must be closed.
type Response struct {
	Status int
	Header map[string]string // canonical names
	Body   io.ReadCloser
}

// Doer carries requests and tells time. An error of Do is about the transport;
// where the request may have reached the server, it wraps ErrUnknown, and
// ErrTimeout where the reason is Request.Timeout. Errors of reading a body count
// as unknown without saying so. Redirects are not followed.
type Doer interface {
	Do(ctx context.Context, req *Request) (*Response, error)
	// Sleep returns after d, or with the context's error.
	Sleep(ctx context.Context, d time.Duration) error
	// Now is the time since an arbitrary origin; it never goes back.
	Now() time.Duration
	// Float64 is a random number in [0,1), for jitter and the order of endpoints.
	Float64() float64
}
