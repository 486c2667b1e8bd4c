package env

import (
	"errors"
	"net/netip"
	"time"
)

// Web makes HTTP requests to other machines.
type Web interface {
	// Do sends a request. What comes back is told to r in later turns, until its
	// End. After cancel r is not called any more; cancel may be called at any time
	// and more than once. Redirects are not followed.
	Do(req *WebRequest, r WebReceiver) (cancel func())
}

// WebRequest is one HTTP request. It must not be changed once it is sent.
type WebRequest struct {
	Method string
	URL    string      // scheme://host:port/path?query, escaped
	Header []WebHeader // besides those that HTTP needs
	Body   []byte
	// Timeout bounds the wait for the head of the answer and, unless Stream is set,
	// for all of it; 0 is no bound.
	Timeout time.Duration
	// Connect bounds the wait for a connection; when it runs out, the request was not
	// sent. 0 is no bound of its own.
	Connect time.Duration
	// Stream says that the body may take for ever, as that of a watch.
	Stream bool
	// Proxy, if not empty, is the URL of an HTTP proxy to go through.
	Proxy string
}

// WebHeader is one header line, with its canonical name.
type WebHeader struct{ Name, Value string }

// WebReceiver takes one answer: Head once, Chunk any number of times, End once. Where
// there is no answer only End is called.
type WebReceiver interface {
	Head(status int, header []WebHeader)
	// Chunk hands over a part of the body, which may be kept.
	Chunk(p []byte)
	// End comes last. Nil says that the answer is complete. An error that wraps
	// ErrUnsent says that no server saw the request; after any other the request
	// may have had its effect.
	End(err error)
}

// ErrUnsent is wrapped by the error of a request that no server has seen.
var ErrUnsent = errors.New("the request was not sent")

// Names asks the domain name system.
type Names interface {
	// Services gives the SRV records of _service._proto.domain, in the order of the
	// answer, their targets without the dot at the end. No record at all is an error.
	Services(service, proto, domain string, done func([]Service, error))
	// Addresses gives the addresses of host, sorted. That of an address is itself.
	// None at all is an error.
	Addresses(host string, done func([]netip.Addr, error))
}

// Service is one SRV record. Priority and weight are left out: nobody uses them.
type Service struct {
	Target string
	Port   uint16
}

// Work runs what would keep the loop too long, such as hashing a password or a whole
// store.
type Work interface {
	// Run calls fn, which may only touch immutable values and what it alone knows,
	// outside the loop, and then done on it. Neither runs inside the call.
	Run(fn func(), done func())
}
