package format

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
)

// Notes are the small files beside the log: JSON objects for people to read, whose last
// field is a checksum of all that stands before its line.
const (
	sumBefore = ",\n\t\"sum\": \""
	sumAfter  = "\"\n}\n"
	noteEnd   = "\n}"
)

// ErrDamaged says that a note is not as it was written.
var ErrDamaged = errors.New("damaged: its checksum does not match")

// Seal is v, which must be a struct or a map with at least one field, as a note.
func Seal(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return nil, err
	}
	body, whole := bytes.CutSuffix(text, []byte(noteEnd))
	if !whole {
		return nil, fmt.Errorf("format: %.40q has no fields to seal", text)
	}
	return fmt.Appendf(body, "%s%08x%s", sumBefore, sumOf(body), sumAfter), nil
}

// Open reads a note into v. One without a checksum is taken as it is: Sealed tells.
func Open(p []byte, v any) error {
	p = bytes.TrimRight(p, "\x00")
	if body, text, found := cutSum(p); found {
		sum, err := strconv.ParseUint(text, 16, 32)
		if err != nil || uint32(sum) != sumOf(body) {
			return ErrDamaged
		}
	}
	return json.Unmarshal(p, v)
}

// Sealed tells whether a note has a checksum.
func Sealed(p []byte) bool {
	_, _, found := cutSum(bytes.TrimRight(p, "\x00"))
	return found
}

func cutSum(p []byte) (body []byte, text string, found bool) {
	at := bytes.LastIndex(p, []byte(sumBefore))
	if at < 0 {
		return nil, "", false
	}
	rest, _ := bytes.CutSuffix(p[at+len(sumBefore):], []byte(sumAfter))
	return p[:at], string(rest), true
}

func sumOf(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }
