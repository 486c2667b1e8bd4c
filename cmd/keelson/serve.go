package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/realnet"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Usage:     "run a member of a cluster",
		UsageText: "keelson serve [options]",
		Description: "Flags and variables are those of etcd. Without any, a cluster of one is served on this\n" +
			"machine only. docs/configuration.md has them all.",
		Flags: flags(),
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return fmt.Errorf("serve: %q is not a valid flag", c.Args().First())
			}
			o, remarks, err := readOptions(func(name string) (string, bool) {
				if !c.IsSet(name) {
					return "", false
				}
				return fmt.Sprint(c.Value(name)), true
			}, os.Environ())
			if err != nil {
				return fmt.Errorf("serve: %w", err)
			}
			var level slog.Level
			level.UnmarshalText([]byte(o.logLevel)) // checked by the option
			log := realnet.NewLog(c.Root().ErrWriter, level)
			for _, r := range remarks {
				log.Log(env.Warn, r)
			}
			if err := serve(ctx, o, log); err != nil {
				return fmt.Errorf("serve: %w", err)
			}
			return nil
		},
	}
}

// serve runs a member until it is told to stop by a signal.
func serve(ctx context.Context, o *serveOptions, log realnet.Log) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)

	ended := make(chan struct{})
	defer close(ended)
	if os.Getenv("GOGC") == "" {
		go tuneCollector(ended)
	}
	m, err := startMember(o, log)
	if err != nil {
		return err
	}
	select {
	case s := <-signals:
		log.Log(env.Info, "stopping", "signal", s)
	case <-ctx.Done():
		log.Log(env.Info, "stopping")
	case err := <-m.failed:
		m.kill()
		return err
	}
	stopped := make(chan struct{})
	asked := time.Now()
	go func() {
		m.stop()
		close(stopped)
	}()
	for {
		select {
		case <-stopped:
			log.Log(env.Info, "stopped")
			return nil
		case s := <-signals:
			if time.Since(asked) > echo {
				return fmt.Errorf("stopped at once by a second signal: %v", s)
			}
		case err := <-m.failed:
			return err
		}
	}
}

// echo is how long a further signal is taken for the same one: a supervisor may
// send it to the process and to its group.
const echo = 100 * time.Millisecond
