package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/keelson/keelson/core/invariant"
)

// written is the document as it is written: the order of the members is the order
// of the fields.
type written struct {
	Semaphore int      `json:"semaphore"`
	Max       int      `json:"max"`
	Holders   []string `json:"holders"`
}

// read is the document as it is read: a member that is missing or null shows.
type read struct {
	Semaphore *int      `json:"semaphore"`
	Max       *int      `json:"max"`
	Holders   []*string `json:"holders"`
}

func encode(s Semaphore) []byte {
	holders := slices.Clone(s.Holders) // keeps nil, which is written as null
	slices.Sort(holders)
	doc, err := json.Marshal(written{s.Semaphore, s.Max, holders})
	invariant.Check(err == nil, "lock: encode: %v", err)
	return doc
}

// Parse reads a document. It takes any white space and order of members, holders
// that are null, missing or unsorted, and a negative max. It refuses what it could
// not write back without loss (unknown or missing members, text after the
// document) and counts that do not add up. The error says which.
func Parse(doc []byte) (Semaphore, error) {
	s, err := parse(doc)
	if err != nil {
		return Semaphore{}, fmt.Errorf("reboot lock document: %w", err)
	}
	return s, nil
}

func parse(doc []byte) (Semaphore, error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	var r read
	if err := d.Decode(&r); err != nil {
		return Semaphore{}, describe(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Semaphore{}, errors.New("more text after its end")
	}
	return r.semaphore()
}

func (r read) semaphore() (Semaphore, error) {
	if r.Semaphore == nil {
		return Semaphore{}, errors.New(`member "semaphore" is missing`)
	}
	if r.Max == nil {
		return Semaphore{}, errors.New(`member "max" is missing`)
	}
	s := Semaphore{Semaphore: *r.Semaphore, Max: *r.Max}
	if r.Holders != nil {
		s.Holders = make([]string, 0, len(r.Holders))
	}
	for i, h := range r.Holders {
		if h == nil {
			return Semaphore{}, fmt.Errorf(`member "holders": item %d is null`, i)
		}
		s.Holders = append(s.Holders, *h)
	}
	return s, s.Verify()
}

// describe puts the decoder's errors into words about the document.
func describe(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("it is empty")
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends in the middle")
	}
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	if wrong.Field == "" {
		return fmt.Errorf("want an object, not %s", wrong.Value)
	}
	return fmt.Errorf("member %q: unexpected %s", wrong.Field, wrong.Value)
}
