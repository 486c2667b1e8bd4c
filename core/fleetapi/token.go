package fleetapi

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
)

// token says which page of a list is asked for. Clients take it as it is.
type token struct {
	limit, page uint16
}

const tokenBytes = 4

// String gives the token as the original does: URL-safe base64 of two numbers, low byte
// first.
func (t token) String() string {
	var b [tokenBytes]byte
	binary.LittleEndian.PutUint16(b[:2], t.limit)
	binary.LittleEndian.PutUint16(b[2:], t.page)
	return base64.URLEncoding.EncodeToString(b[:])
}

// parseToken reads the token of a request, the first page where there is none.
func parseToken(q url.Values, limit int) (t token, err error) {
	given := q["nextPageToken"]
	switch {
	case len(given) > 1:
		return t, errors.New("too many values for page token")
	case len(given) == 0:
		return token{uint16(limit), 1}, nil
	}
	b, err := base64.URLEncoding.DecodeString(given[0])
	if err != nil || len(b) != tokenBytes {
		return t, fmt.Errorf("page token %.40q cannot be read", given[0])
	}
	t = token{binary.LittleEndian.Uint16(b[:2]), binary.LittleEndian.Uint16(b[2:])}
	switch {
	case int(t.limit) != limit:
		return t, fmt.Errorf("token limit must be %d", limit)
	case t.page == 0:
		return t, errors.New("token page must be greater than zero")
	}
	return t, nil
}

// window gives the bounds of the page in a list of so many entries, and the token of the
// next one: there is one behind every page that is full.
func (t token) window(total int) (from, to int, next string) {
	from, to = int(t.page-1)*int(t.limit), int(t.page)*int(t.limit)
	if from >= total {
		return 0, 0, ""
	}
	if to <= total && t.page < pageMax {
		next = token{t.limit, t.page + 1}.String()
	}
	return from, min(to, total), next
}

// pageMax is the last page that a token can name.
const pageMax = 1<<16 - 1
