// Package client is what a program does to a cluster: keys, members and locks over
// anything that can carry a request.
//
// It is written as straight lines of calls. Over HTTP a call blocks its
// goroutine; in the simulator it suspends a coroutine. Either way the same
// retries, redirects and resumed watches run.
package client

import (
	"context"
	"io"
	"time"
)

// Request is one HTTP request to one endpoint.
type Request struct {
	Endpoint    string // base URL such as http://127.0.0.1:2379
	Method      string
	Path        string // escaped
	Query       string // encoded
	ContentType string
	Body        string
	// Timeout bounds the wait for the answer's head; 0 is no bound.
	Timeout time.Duration
}

// Response is one answer. Body must be closed.
type Response struct {
	Status int
	Header map[string]string // canonical names
	Body   io.ReadCloser
}

// Doer carries requests and tells time. An error of Do is about the transport;
// where the request may have reached the server, it wraps ErrUnknown.
type Doer interface {
	Do(ctx context.Context, req *Request) (*Response, error)
	// Sleep returns after d, or with the context's error.
	Sleep(ctx context.Context, d time.Duration) error
	// Now is the time since an arbitrary origin; it never goes back.
	Now() time.Duration
	// Float64 is a random number in [0,1), for jitter and the order of endpoints.
	Float64() float64
}
