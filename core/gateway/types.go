// Package gateway is the HTTP surface without HTTP: request values in, reply values out.
//
// Parsing and encoding are pure functions that may run on any goroutine; only
// what touches the node runs on its loop.
package gateway

import (
	"bytes"
	"io"
)

// Request is one HTTP request as the gateway needs it.
type Request struct {
	Method      string
	Path        string // as on the wire, still escaped, without the query
	Query       string // as on the wire, without the question mark
	ContentType string
	Body        []byte
	BodyTooBig  bool   // the body exceeded BodyMax and was not kept
	User        string // basic auth; reserved for /v2/auth
	Password    string
	// Peer says that the request came in where other members call, so that it may
	// ask for what clients do not get.
	Peer bool
	// Socket says that it came in on a unix socket of this machine.
	Socket bool
	// Header and Remote are filled in only for servers that ask for whole requests
	// (proxies): all header lines as they came, and the caller's address.
	Header []Header
	Remote string
	// TimeoutMS bounds how long the gateway may take to answer, in milliseconds;
	// 0 stands for the server's default of 5 s and two election timeouts.
	TimeoutMS int
}

// BodyMax is the largest form body that is read, in bytes.
const BodyMax = 10 << 20

// Header is one header line.
type Header struct{ Name, Value string }

// Reply is one answer. A watch is answered with More set: the status and headers
// leave at once and the body follows in chunks. The answer to HEAD has no body and
// a Content-Length among its headers. Replies are immutable, since their bodies
// are shared with other answers.
type Reply struct {
	Status int
	Header []Header
	Body   []byte
	More   bool
	// Content, if set, is the body instead of Body: an immutable value that whoever
	// writes the answer encodes outside the loop, however long it is.
	Content io.WriterTo
}

// Whole gives r with its content encoded, for those who take bodies in one piece.
func (r *Reply) Whole() *Reply {
	if r.Content == nil {
		return r
	}
	var b bytes.Buffer
	if _, err := r.Content.WriteTo(&b); err != nil {
		return refuse("GET", 500, err.Error()+"\n").Reply
	}
	return &Reply{Status: r.Status, Header: r.Header, Body: b.Bytes(), More: r.More}
}

// Responder takes the answer of one request. Its methods are called on the
// node's loop: Reply once; then, only if the reply had More set, Chunk any number
// of times and End once.
type Responder interface {
	Reply(r *Reply)
	// Chunk hands over a part of the body, shared and immutable. False means that
	// the reader is too far behind: the gateway ends the answer.
	Chunk(p []byte) bool
	End()
}

// Breaker is what a Responder may offer besides, for answers in chunks that cannot be
// finished: Break takes the place of End and lets the reader see that the answer is
// not whole.
type Breaker interface{ Break() }
