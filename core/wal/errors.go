package wal

import "fmt"

// RotError says that something which was durable cannot be read any more. The
// node must not take part in its cluster with this disk: what it promised may be
// lost.
type RotError struct {
	File   string
	Offset int64  // where the damage begins, in bytes; 0 if the file is missing
	Seq    uint64 // the frame that should be there, 0 if it is not a segment
	Reason string
}

// Error names file and offset, and what to do.
func (e *RotError) Error() string {
	return fmt.Sprintf("wal: open %s: damaged at byte %d (frame %d): %s;"+
		" a member of several is rebuilt from the others, one that is alone needs a backup (keelson snapshot restore)", e.File, e.Offset, e.Seq, e.Reason)
}

// WrongError says that a file is whole but not for this node to use.
type WrongError struct {
	File   string
	Reason string
	Hint   string // what to do
}

// Error names the file, and what to do.
func (e *WrongError) Error() string {
	return fmt.Sprintf("wal: open %s: %s; %s", e.File, e.Reason, e.Hint)
}
