package client

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strconv"
)

// WatchOptions says where a watch begins and what it sees.
type WatchOptions struct {
	Recursive bool // also everything below the key
	// After is the index of the last change already known: the watch delivers
	// those with a higher index. 0 is from now on.
	After uint64
}

// Watch delivers the changes of a key, each once, in the order of their index.
// It holds no connection between calls of Next.
type Watch struct {
	c         *Client
	key       string
	recursive bool
	next      uint64 // the lowest index not yet seen; 0 until the first answer's head
}

// Watch makes a watch. Nothing is sent before Next.
func (k *Keys) Watch(key string, o WatchOptions) *Watch {
	w := &Watch{c: k.c, key: key, recursive: o.Recursive}
	if o.After > 0 {
		w.next = o.After + 1
	}
	return w
}

// Next waits for the next change. A connection that ends without one is made
// again, where needed at another endpoint, and the watch goes on from where it
// was. A *GapError says that changes were missed: read the keys and begin a new
// watch after the index of that read. Other errors leave the watch as it was and
// Next may be called again.
func (w *Watch) Next(ctx context.Context) (*Event, error) {
	for empty := 0; ; empty++ {
		e, err := w.once(ctx)
		if e != nil || err != nil {
			return e, err
		}
		// The server let go of the watch. Once is normal; a server that keeps
		// doing so must not be asked in a tight loop.
		if empty > 0 {
			if err := w.c.backOff(ctx, empty-1); err != nil {
				return nil, err
			}
		}
	}
}

// once asks one time. Neither event nor error means to ask again.
func (w *Watch) once(ctx context.Context) (*Event, error) {
	q := w.call()
	a, err := w.c.do(ctx, q)
	if err != nil {
		return nil, err
	}
	if a.body == nil {
		return nil, w.refused(refusal(a.status, a.text))
	}
	text, err := io.ReadAll(a.body)
	a.body.Close()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	index, bad := indexOf(a.header)
	if bad != nil {
		return nil, bad
	}
	if w.next == 0 {
		// Whatever is missed from here on can be asked for by its index.
		w.next = index + 1
	}
	if err != nil || len(text) == 0 {
		return nil, nil // cut short: ask again
	}
	return w.take(text, index)
}

func (w *Watch) call() *call {
	q := url.Values{"recursive": {strconv.FormatBool(w.recursive)}, "wait": {"true"}}
	if w.next > 0 {
		q.Set("waitIndex", strconv.FormatUint(w.next, 10))
	}
	return &call{method: "GET", path: keyPath(w.key), query: q.Encode(), stream: true}
}

func (w *Watch) take(text []byte, index uint64) (*Event, error) {
	e, err := decodeEvent(text)
	if err != nil {
		return nil, err
	}
	e.Index = index
	w.next = max(w.next, e.Node.ModifiedIndex+1)
	return e, nil
}

func (w *Watch) refused(err error) error {
	var e *Error
	if isGap(err) && errors.As(err, &e) {
		return &GapError{Refusal: e, Wanted: w.next}
	}
	return err
}
