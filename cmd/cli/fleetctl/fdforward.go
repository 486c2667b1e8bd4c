package fleetctl

import (
	"context"
	"errors"
	"io"
)

func fdForward() *verb {
	return &verb{
		name: "fd-forward", args: "SOCKET", summary: "Connect standard input and output with a socket",
		help: "Connect standard input and output with a unix socket: what --tunnel runs on the other machine.",
		run: func(ctx context.Context, c *call) error {
			if len(c.args) != 1 {
				return refuse("Provide a single argument")
			}
			if c.DialSocket == nil {
				return refuse("Sockets cannot be reached here")
			}
			conn, err := c.DialSocket(ctx, c.args[0])
			if err != nil {
				return refuse("Unable to connect: %w", err)
			}
			defer conn.Close()
			return c.join(ctx, conn)
		},
	}
}

// join copies both ways until the socket has no more to say.
func (c *call) join(ctx context.Context, conn io.ReadWriteCloser) error {
	go func() {
		io.Copy(conn, c.In)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	}()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	_, err := io.Copy(c.Out, conn)
	if err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
		return refuse("Unable to copy: %w", err)
	}
	return nil
}
