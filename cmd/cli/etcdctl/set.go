package etcdctl

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
)

func set() *cli.Command {
	return &cli.Command{
		Name:      "set",
		Usage:     "set the value of a key",
		ArgsUsage: "<key> <value>",
		Description: `Set sets the value of a key.

When <value> begins with '-', <value> is interpreted as a flag.
Insert '--' for workaround:

$ set -- <key> <value>`,
		Flags: []cli.Flag{
			ttlFlag(),
			&cli.StringFlag{Name: "swap-with-value", Usage: "previous value"},
			&cli.IntFlag{Name: "swap-with-index", Usage: "previous index"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			return writeValue(ctx, c, func(s *session, key, value string, o client.SetOptions) (*client.Event, error) {
				is := client.Condition{PrevValue: c.String("swap-with-value"), PrevIndex: uint64(max(0, c.Int("swap-with-index")))}
				if is == (client.Condition{}) {
					return s.Keys().Set(ctx, key, value, o)
				}
				return s.Keys().CompareAndSwap(ctx, key, value, is, o)
			})
		},
	}
}

func ttlFlag() cli.Flag {
	return &cli.IntFlag{Name: "ttl", Usage: "key time-to-live in seconds"}
}

// ttlMax is the longest time that a time.Duration of whole seconds holds.
const ttlMax = int64(1<<63-1) / int64(time.Second)

// optionsOf are the options of a write. A ttl of 0 or less is none.
func optionsOf(c *cli.Command) client.SetOptions {
	return client.SetOptions{TTL: time.Duration(min(max(0, int64(c.Int("ttl"))), ttlMax)) * time.Second}
}

// writeValue is what all verbs that take a key and a value have in common.
func writeValue(ctx context.Context, c *cli.Command, write func(s *session, key, value string, o client.SetOptions) (*client.Event, error)) error {
	key, err := keyOf(c)
	if err != nil {
		return err
	}
	value, err := valueOf(ctx, c)
	if err != nil {
		return badArgs(err)
	}
	s, err := connect(ctx, c)
	if err != nil {
		return err
	}
	defer s.close()
	e, err := write(s, key, value, optionsOf(c))
	if err != nil {
		return refused(err)
	}
	s.show(e)
	return nil
}

// valueOf is the second argument, or all of standard input where there is none.
func valueOf(ctx context.Context, c *cli.Command) (string, error) {
	for _, extra := range c.Args().Slice()[min(2, c.NArg()):] {
		// A value such as -5 ends the flags, so what looks like one behind it
		// would be dropped in silence.
		if strings.HasPrefix(extra, "-") {
			return "", fmt.Errorf("%s stands behind the value: put flags before the key", extra)
		}
	}
	if c.NArg() > 1 {
		return c.Args().Get(1), nil
	}
	value, err := readAll(ctx, tool.From(ctx).In)
	if err != nil || len(value) == 0 {
		return "", errNoValue
	}
	return string(value), nil
}

// readAll reads to the end, or until ctx ends: a terminal on which nobody types
// cannot be interrupted otherwise.
func readAll(ctx context.Context, in io.Reader) ([]byte, error) {
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := io.ReadAll(in)
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
