package env

import "errors"

// ErrFull is wrapped by the error of a Disk write that found no space. Nothing
// of that write was kept, and it may be made again.
var ErrFull = errors.New("no space left on device")
