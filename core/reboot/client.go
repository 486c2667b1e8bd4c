// Package reboot takes and gives back the reboot locks of a group of machines.
//
// A lock is one document in the store. Each change reads it, decides with package
// lock, and writes it back on condition that nobody else wrote in between; when
// somebody did, it reads and decides anew.
//
// Always true, whatever the store, the network and other clients do: a change is
// written only over the very document it was decided on. So a slot is never given
// twice, and a write whose outcome is unknown either is found in the document later
// or can no longer happen.
package reboot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keelson/keelson/core/lock"
	"github.com/keelson/keelson/core/planted"
)

// What the errors of Keys wrap, so that a Client can tell them apart.
var (
	ErrMissing = errors.New("the document does not exist")
	ErrExists  = errors.New("the document exists")
	ErrChanged = errors.New("the document has changed")
	ErrUnknown = errors.New("the outcome is unknown")
)

// Document is what a key holds, and the index of the write that put it there.
type Document struct {
	Value string
	Index uint64
}

// Keys is the part of a key-value store that a lock needs. Its reads must see
// every write that was acknowledged before they began.
type Keys interface {
	// Get reads a file; ErrMissing where there is none.
	Get(ctx context.Context, key string) (Document, error)
	// Create makes a file; ErrExists where there is something, ErrUnknown where
	// it may have been made.
	Create(ctx context.Context, key, value string) error
	// CompareAndSwap writes a file that was last written at prevIndex; an index
	// of 0 is no condition. ErrChanged where it was written since, ErrUnknown
	// where it may have been written.
	CompareAndSwap(ctx context.Context, key, value string, prevIndex uint64) error
}

// World is the time and chance that a Client needs.
type World interface {
	Sleep(ctx context.Context, d time.Duration) error
	Now() time.Duration // since an arbitrary origin; it never goes back
	Float64() float64   // in [0,1)
}

// How long a change keeps trying when others are faster, and the waits between
// tries, which double from the first to the last and are shortened at random.
const (
	patience = 5 * time.Second
	waitMin  = 10 * time.Millisecond
	waitMax  = 640 * time.Millisecond
)

// Client is the lock of one group.
type Client struct {
	keys  Keys
	world World
	group string
	key   string
}

// NewClient makes a client for a group; the empty name is the default group.
func NewClient(k Keys, w World, group string) *Client {
	return &Client{keys: k, world: w, group: group, key: lock.Key(group)}
}

// Status reads the lock. On an empty store it makes the document, with one slot.
func (c *Client) Status(ctx context.Context) (lock.Semaphore, error) {
	var found lock.Semaphore
	err := c.change(ctx, func(s lock.Semaphore, _ bool) (lock.Semaphore, bool, error) {
		found = s
		return s, true, nil
	})
	return found, err
}

// Lock takes a slot for id: *lock.FullError when none is free, lock.ErrHeld when id
// holds one already. Where it was not known whether a write happened and id turns
// out to hold a slot, that is success.
func (c *Client) Lock(ctx context.Context, id string) error {
	return c.change(ctx, func(s lock.Semaphore, unsure bool) (lock.Semaphore, bool, error) {
		if unsure && s.Holds(id) {
			return s, true, nil
		}
		next, err := s.Lock(id)
		return next, false, c.named(err)
	})
}

// Unlock gives back the slot of id: lock.ErrNotHeld when it holds none.
func (c *Client) Unlock(ctx context.Context, id string) error {
	return c.change(ctx, func(s lock.Semaphore, unsure bool) (lock.Semaphore, bool, error) {
		if unsure && !s.Holds(id) {
			return s, true, nil
		}
		next, err := s.Unlock(id)
		return next, false, err
	})
}

// SetMax sets the number of slots and gives the number there was before.
func (c *Client) SetMax(ctx context.Context, n int) (old int, err error) {
	err = c.change(ctx, func(s lock.Semaphore, unsure bool) (lock.Semaphore, bool, error) {
		if unsure && s.Max == n {
			return s, true, nil
		}
		old = s.Max
		next, err := s.SetMax(n)
		return next, false, err
	})
	return old, err
}

// named tells a refusal which group it is about.
func (c *Client) named(err error) error {
	var full *lock.FullError
	if errors.As(err, &full) {
		full.Group = c.group
	}
	return err
}

// decision says what should be written over s, or that nothing need be. unsure
// is set after a write of this very change whose outcome is unknown. A refusal is
// final then too: it means that the document is not the one that write was meant
// for, so that it can no longer happen.
type decision func(s lock.Semaphore, unsure bool) (next lock.Semaphore, done bool, err error)

func (c *Client) change(ctx context.Context, decide decision) error {
	began := c.world.Now()
	unsure := false
	for try := 0; ; try++ {
		err := c.once(ctx, decide, unsure)
		if err == nil || !passing(err, unsure) {
			return err
		}
		unsure = unsure || errors.Is(err, ErrUnknown)
		if c.world.Now()-began >= patience {
			return final(err, unsure)
		}
		if err := c.pause(ctx, try); err != nil {
			return final(err, unsure)
		}
	}
}

// passing says whether another try can end better. While an outcome is unknown,
// so can one that failed for any reason but a refusal.
func passing(err error, unsure bool) bool {
	if errors.Is(err, ErrChanged) || errors.Is(err, ErrUnknown) || errors.Is(err, ErrExists) || errors.Is(err, ErrMissing) {
		return true
	}
	var refused *refusedError
	return unsure && !errors.As(err, &refused)
}

// final makes sure that an outcome which is still unknown is said to be.
func final(err error, unsure bool) error {
	if !unsure || errors.Is(err, ErrUnknown) {
		return err
	}
	return fmt.Errorf("%w; of an earlier try %w", err, ErrUnknown)
}

// refusedError is the decision's own error.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// once reads, decides and writes.
func (c *Client) once(ctx context.Context, decide decision, unsure bool) error {
	doc, err := c.read(ctx)
	if err != nil {
		return err
	}
	s, err := lock.Parse([]byte(doc.Value))
	if err != nil {
		return &refusedError{fmt.Errorf("%s: %w", c.key, err)}
	}
	next, done, err := decide(s, unsure)
	if err != nil {
		return &refusedError{err}
	}
	if done {
		return nil
	}
	index := doc.Index
	if planted.On(planted.LockWithoutIndex) {
		index = 0
	}
	return c.keys.CompareAndSwap(ctx, c.key, string(next.Encode()), index)
}

// read gives the document, made first if need be.
func (c *Client) read(ctx context.Context) (Document, error) {
	doc, err := c.keys.Get(ctx, c.key)
	if !errors.Is(err, ErrMissing) {
		return doc, err
	}
	err = c.keys.Create(ctx, c.key, string(lock.New().Encode()))
	if err != nil && !errors.Is(err, ErrExists) && !errors.Is(err, ErrUnknown) {
		return Document{}, err
	}
	return c.keys.Get(ctx, c.key)
}

func (c *Client) pause(ctx context.Context, try int) error {
	d := min(waitMin<<min(try, 10), waitMax)
	return c.world.Sleep(ctx, time.Duration(float64(d)*c.world.Float64()))
}
