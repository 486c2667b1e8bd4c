package fleetapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/keelson/keelson/core/gateway"
)

const contentJSON = "application/json"

// checkContentType wants exactly one Content-Type, that of JSON.
func checkContentType(req *gateway.Request) error {
	count := 0
	for _, h := range req.Header {
		if strings.EqualFold(h.Name, "Content-Type") {
			count++
		}
	}
	if len(req.Header) == 0 && req.ContentType != "" {
		count = 1
	}
	if count != 1 {
		return fmt.Errorf("expected 1 Content-Type, got %d", count)
	}
	kind, _, _ := strings.Cut(req.ContentType, ";")
	if !strings.EqualFold(strings.TrimSpace(kind), contentJSON) {
		return errors.New("only acceptable Content-Type is " + contentJSON)
	}
	return nil
}

// decodeBody reads the JSON value that a body begins with.
func decodeBody(req *gateway.Request, into any) error {
	switch {
	case req.BodyTooBig:
		return fmt.Errorf("more than %d bytes", gateway.BodyMax)
	case !utf8.Valid(req.Body):
		return errors.New("not valid UTF-8")
	}
	return json.NewDecoder(bytes.NewReader(req.Body)).Decode(into)
}

// undecoded are the words for a body that cannot be read, but for patches, where the
// original gives the reason alone.
func undecoded(err error) error { return fmt.Errorf("unable to decode body: %w", err) }
