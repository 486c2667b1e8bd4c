// Package lock is the reboot semaphore of a group of machines: a value, and its changes.
//
// The value is one JSON document in the store, at Key(group). Whoever changes it
// reads it, calls Lock, Unlock or SetMax, and writes the result back on condition
// that nobody else wrote in between. Other programs read and write the same
// document, so its bytes and the texts of refusals are kept exactly.
//
// Always true of a Semaphore that Parse or New returned, and kept by every change:
//
//	Semaphore + len(Holders) == Max
package lock

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/keelson/keelson/core/invariant"
)

// MaxSlots is the largest Max that is accepted.
const MaxSlots = 1<<31 - 1

// Semaphore is a group's reboot lock. It is immutable: changes return a new value.
type Semaphore struct {
	// Semaphore is the number of free slots. It is negative where Max was lowered
	// below the number of holders.
	Semaphore int
	// Max is the number of all slots. 0 freezes the group. Other programs may have
	// stored a negative number, which works as 0 does.
	Max int
	// Holders are the ids that hold a slot. Nil stands for a document that says
	// null, as a fresh one does. Any order and any string is possible, since other
	// programs write it too; what a change returns is sorted by bytes.
	Holders []string
}

// New is the semaphore of a group that nobody has used: one free slot.
func New() Semaphore { return Semaphore{Semaphore: 1, Max: 1} }

// FullError says why a reboot lock could not be taken. Its text is the one that
// scripts know; Detail has the parts.
type FullError struct {
	Group     string // empty for the default group; filled in by whoever knows it
	Semaphore int    // free slots: zero or less
	Max       int
	Holders   []string
}

// Error gives the text of the original client, such as "semaphore is at 0".
func (e *FullError) Error() string { return fmt.Sprintf("semaphore is at %d", e.Semaphore) }

// Detail says for people who is in the way, such as
// "reboot lock default: 1 of 1 slots held by 89e20c71".
func (e *FullError) Detail() string {
	group := e.Group
	if group == "" {
		group = "default"
	}
	if len(e.Holders) == 0 {
		return fmt.Sprintf("reboot lock %s: frozen, it has %d slots", group, e.Max)
	}
	return fmt.Sprintf("reboot lock %s: %d of %d slots held by %s",
		group, len(e.Holders), e.Max, strings.Join(e.Holders, ", "))
}

// The refusals of Lock and Unlock beside FullError. Scripts match their texts.
var (
	ErrHeld    = errors.New("holder exists")
	ErrNotHeld = errors.New("holder does not exist")
)

// Lock gives id a slot. It fails with a *FullError when no slot is free, which is
// tested first, also for an id that holds one; with ErrHeld when id holds a slot;
// and refuses an id that is not valid UTF-8, because the document could not tell
// it from others.
func (s Semaphore) Lock(id string) (Semaphore, error) {
	if s.Semaphore <= 0 {
		return s, &FullError{Semaphore: s.Semaphore, Max: s.Max, Holders: slices.Clone(s.Holders)}
	}
	if s.Holds(id) {
		return s, ErrHeld
	}
	if !utf8.ValidString(id) {
		return s, fmt.Errorf("holder %q: want valid UTF-8", id)
	}
	s.Holders = append(slices.Clone(s.Holders), id)
	slices.Sort(s.Holders)
	s.Semaphore--
	return s, nil
}

// Unlock takes id's slot back. It fails with ErrNotHeld when id holds none. An id
// that some other program listed twice loses both slots.
func (s Semaphore) Unlock(id string) (Semaphore, error) {
	left := make([]string, 0, len(s.Holders))
	for _, h := range s.Holders {
		if h != id {
			left = append(left, h)
		}
	}
	if len(left) == len(s.Holders) {
		return s, ErrNotHeld
	}
	slices.Sort(left)
	s.Semaphore += len(s.Holders) - len(left)
	s.Holders = left
	return s, nil
}

// SetMax sets the number of slots to n. Holders keep theirs, so Semaphore may
// become negative. It refuses n below 0 or above MaxSlots.
func (s Semaphore) SetMax(n int) (Semaphore, error) {
	if n < 0 || n > MaxSlots {
		return s, fmt.Errorf("maximum %d: want a number from 0 to %d", n, MaxSlots)
	}
	s.Semaphore += n - s.Max
	s.Max = n
	s.Holders = slices.Clone(s.Holders)
	slices.Sort(s.Holders)
	return s, nil
}

// Holds reports whether id holds a slot.
func (s Semaphore) Holds(id string) bool { return slices.Contains(s.Holders, id) }

// Verify tells what is wrong with s, or nil.
func (s Semaphore) Verify() error {
	if s.Max > MaxSlots || s.Max < -MaxSlots {
		return fmt.Errorf("max %d: want a number from %d to %d", s.Max, -MaxSlots, MaxSlots)
	}
	// Subtracting keeps clear of overflow, whatever Semaphore is.
	if s.Semaphore != s.Max-len(s.Holders) {
		return fmt.Errorf("semaphore %d with %d holders: want max %d less the holders, %d",
			s.Semaphore, len(s.Holders), s.Max, s.Max-len(s.Holders))
	}
	return nil
}

// Encode gives the document: three members, no spaces, the holders in byte order.
// It panics where Verify would complain, so that a wrong value is never stored.
func (s Semaphore) Encode() []byte {
	err := s.Verify()
	invariant.Check(err == nil, "lock: encode: %v", err)
	return encode(s)
}

const (
	root   = "/coreos.com/updateengine/rebootlock"
	member = "/semaphore"
)

// Key is where the document of group is stored; the empty group is the default
// one. The group becomes one path segment, query-escaped, so the key itself may
// hold "%2F" and has to be escaped again in a URL.
func Key(group string) string {
	if group == "" {
		return root + member
	}
	return root + "/groups/" + url.QueryEscape(group) + member
}
