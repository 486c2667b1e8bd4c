package peer

import (
	"errors"
	"fmt"
)

// The reasons why a frame or a hello is refused. Test with errors.Is.
var (
	ErrChecksum  = errors.New("checksum does not match")
	ErrVersion   = errors.New("unknown version")
	ErrCluster   = errors.New("another cluster")
	ErrSender    = errors.New("unexpected sender")
	ErrReceiver  = errors.New("meant for another node")
	ErrMalformed = errors.New("malformed")
	ErrTooLong   = errors.New("frame is too long")
)

// FrameError says why bytes from another node were refused.
type FrameError struct {
	Err  error  // one of the Err values of this package
	Got  uint64 // what the bytes said
	Want uint64 // what was expected, or the limit
}

// Error gives both values in hexadecimal, as node and cluster ids are written.
func (e *FrameError) Error() string {
	return fmt.Sprintf("peer: open frame: %v: got %x, want %x", e.Err, e.Got, e.Want)
}

// Unwrap returns Err.
func (e *FrameError) Unwrap() error { return e.Err }
