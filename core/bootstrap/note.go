package bootstrap

import (
	"encoding/json"
	"fmt"

	"github.com/keelson/keelson/core/format"
)

// SealNote is v as the content of a note beside the log: the identity, or one of those
// about it. It carries the number of its format, and a checksum.
func SealNote(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	fields["format"] = fmt.Append(nil, format.Identity)
	return format.Seal(fields)
}

// OpenNote reads what SealNote gave. The first format had no checksum.
func OpenNote(text []byte, v any) error {
	var head struct {
		Format int `json:"format"`
	}
	err := format.Open(text, &head)
	if err == nil {
		err = format.Check("identity", max(head.Format, 1), 1, format.Identity)
	}
	if err == nil && head.Format >= sealedFormat && !format.Sealed(text) {
		err = format.ErrDamaged
	}
	if err == nil {
		err = format.Open(text, v)
	}
	return err
}

// sealedFormat is the first whose notes have a checksum.
const sealedFormat = 2
