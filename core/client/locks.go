package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/keelson/keelson/core/reboot"
	"github.com/keelson/keelson/core/store"
)

// Locks gives the reboot lock of a group; the empty name is the default group.
func (c *Client) Locks(group string) *reboot.Client {
	return reboot.NewClient(documents{c.Keys()}, c.doer, group)
}

// documents is the view that a lock has of the keys.
type documents struct{ keys *Keys }

// sortedError gives an error the kind that package reboot tells errors by; its
// text stays.
type sortedError struct{ err, kind error }

func (e *sortedError) Error() string   { return e.err.Error() }
func (e *sortedError) Unwrap() []error { return []error{e.err, e.kind} }

func sorted(err error) error {
	switch {
	case err == nil:
		return nil
	case HasCode(err, store.CodeKeyNotFound):
		return &sortedError{err, reboot.ErrMissing}
	case HasCode(err, store.CodeExists):
		return &sortedError{err, reboot.ErrExists}
	case HasCode(err, store.CodeCompareFailed):
		return &sortedError{err, reboot.ErrChanged}
	case errors.Is(err, ErrUnknown):
		return &sortedError{err, reboot.ErrUnknown}
	}
	return err
}

func (d documents) Get(ctx context.Context, key string) (reboot.Document, error) {
	e, err := d.keys.Get(ctx, key, GetOptions{Reading: Linearizable})
	if err != nil {
		return reboot.Document{}, sorted(err)
	}
	if e.Node.Dir {
		return reboot.Document{}, fmt.Errorf("%s: is a directory", key)
	}
	return reboot.Document{Value: e.Node.Value, Index: e.Node.ModifiedIndex}, nil
}

func (d documents) Create(ctx context.Context, key, value string) error {
	_, err := d.keys.Create(ctx, key, value, SetOptions{})
	return sorted(err)
}

func (d documents) CompareAndSwap(ctx context.Context, key, value string, prevIndex uint64) error {
	_, err := d.keys.CompareAndSwap(ctx, key, value, Condition{PrevIndex: prevIndex}, SetOptions{})
	return sorted(err)
}
