package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/keelson/keelson/core/store"
)

// Error is a server's refusal of a keys request: the write did not happen.
type Error struct {
	Code    store.Code `json:"errorCode"`
	Message string     `json:"message"`
	Cause   string     `json:"cause"`
	Index   uint64     `json:"index"` // the store's index at the time; 0 where it was not asked
}

// Error gives the text that etcdctl prints: code, message, cause and index.
func (e *Error) Error() string {
	return fmt.Sprintf("%d: %s (%s) [%d]", int(e.Code), e.Message, e.Cause, e.Index)
}

// HasCode says whether err is, or wraps, a server's refusal with this code.
func HasCode(err error, code store.Code) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// GapError ends a watch whose next event is older than the server's history.
// The caller reads the keys again and watches on from the index of that read.
type GapError struct {
	Refusal *Error // code 401
	Wanted  uint64 // the index that the watch asked for
}

func (e *GapError) Error() string { return e.Refusal.Error() }

// Unwrap gives the server's refusal.
func (e *GapError) Unwrap() error { return e.Refusal }

// MemberError is a server's refusal of a members request.
type MemberError struct {
	Status  int
	Message string
}

func (e *MemberError) Error() string { return e.Message }

// ClusterError says that no endpoint gave an answer: one error for each attempt
// of the last round. Unknown is set where the last attempt was a write that may
// have taken effect.
type ClusterError struct {
	Errors  []error
	Unknown bool
}

// Error begins as the original client's does, so that scripts which look for it
// keep working.
func (e *ClusterError) Error() string {
	var b strings.Builder
	b.WriteString("client: etcd cluster is unavailable or misconfigured")
	for i, err := range e.Errors {
		fmt.Fprintf(&b, "; error #%d: %v\n", i, err)
	}
	return b.String()
}

// Detail is one line for each attempt, newline at the end.
func (e *ClusterError) Detail() string {
	var b strings.Builder
	for i, err := range e.Errors {
		fmt.Fprintf(&b, "error #%d: %v\n", i, err)
	}
	return b.String()
}

// Is makes errors.Is(err, ErrUnknown) true where the outcome is.
func (e *ClusterError) Is(target error) bool { return e.Unknown && target == ErrUnknown }

// Unwrap gives the errors of the attempts, unless they would make a read or a
// request that nobody saw look like an unknown outcome.
func (e *ClusterError) Unwrap() []error {
	if e.Unknown {
		return e.Errors
	}
	return nil
}

// attemptError is what one endpoint did, in the original client's words.
type attemptError struct {
	text string
	err  error
}

func (e *attemptError) Error() string { return e.text }
func (e *attemptError) Unwrap() error { return e.err }

// totalError says that Options.Total ran out.
type totalError struct{ unknown bool }

func (e *totalError) Error() string { return "context deadline exceeded" }

func (e *totalError) Is(target error) bool { return e.unknown && target == ErrUnknown }

// Timeout is true, as net.Error has it.
func (e *totalError) Timeout() bool { return true }

// refusal decodes the body of a failed keys request.
func refusal(status int, body []byte) error {
	var e Error
	if err := json.Unmarshal(body, &e); err != nil || e.Code == 0 {
		return fmt.Errorf("client: answer %d is not one of the keys API: %.100q", status, body)
	}
	return &e
}
