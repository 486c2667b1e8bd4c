package unit

import "encoding/hex"

// String is the hash in lower-case hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }
