package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Download is a backup on its way.
type Download struct {
	Keys  int    // that it will hold; 0 where the server does not say
	Index uint64 // of the store
	Body  io.ReadCloser
}

// Snapshot asks for a backup of all keys. It holds every write that was acknowledged
// before the call; a local one is what one member has, which needs no leader. The
// caller reads and closes the body, and must check what came: a connection may end
// too soon.
func (c *Client) Snapshot(ctx context.Context, local bool) (*Download, error) {
	q := &call{method: "GET", path: "/v2/snapshot", stream: true}
	if local {
		q.query = "quorum=false"
	}
	a, err := c.do(ctx, q)
	if err != nil {
		return nil, err
	}
	if a.body == nil {
		if a.status == 404 || a.status == 405 || a.status == statusNotImplemented {
			return nil, fmt.Errorf("client: the server gives no backups (status %d): it is another program or an older version", a.status)
		}
		if a.status == 401 {
			return nil, errRootOnly
		}
		return nil, refusal(a.status, a.text)
	}
	keys, _ := strconv.Atoi(a.header["X-Keelson-Keys"])
	index, _ := strconv.ParseUint(a.header[headerStoreIndex], 10, 64)
	return &Download{Keys: keys, Index: index, Body: a.body}, nil
}

// errRootOnly says who may take a backup where authentication is on: it holds what all
// users have stored.
var errRootOnly = errors.New("client: insufficient credentials: where authentication is on only root may take a backup: give --username root:PASSWORD")
