package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/options"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/realnet"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:            "serve",
		Usage:           "run a member of a cluster, or a proxy to one",
		SkipFlagParsing: true,
		HideHelp:        true,
		Action: func(ctx context.Context, c *cli.Command) error {
			return runServe(ctx, "keelson serve", c.Args().Slice(), false, c.Root().Writer, c.Root().ErrWriter)
		},
	}
}

// isEtcd reports whether a name asks for the server that old guides start.
func isEtcd(name string) bool { return name == "etcd" || name == "etcd2" }

// runServe runs the words after serve to their end. Lenient starts what guides of the
// original say as it is written.
func runServe(ctx context.Context, program string, args []string, lenient bool, out, errOut io.Writer) error {
	source := options.Source{Args: args, Environ: os.Environ(), ReadFile: os.ReadFile, Lenient: lenient}
	o, err := options.Parse(source)
	var usage *options.UsageError
	switch {
	case errors.Is(err, options.ErrHelp):
		_, err := io.WriteString(out, options.Help(program))
		return err
	case errors.As(err, &usage):
		return &usageError{fmt.Errorf("serve: %w: see %s --help", err, program)}
	case err != nil:
		return fmt.Errorf("serve: %w", err)
	case o.Version:
		_, err := fmt.Fprintf(out, "keelson %s\n", version())
		return err
	}
	var level slog.Level
	level.UnmarshalText([]byte(o.LogLevel)) // checked by the option
	log := realnet.NewLog(errOut, level)
	for _, r := range o.Remarks {
		log.Log(env.Warn, r)
	}
	again := func() (*options.Serve, error) { return options.Parse(source) }
	if err := serve(ctx, o, log, &attendant{again: again, out: out}); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// serve runs a process until it is told to stop by a signal. Who attends to the other
// signals may be nil.
func serve(ctx context.Context, o *options.Serve, log realnet.Log, who *attendant) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)

	ended := make(chan struct{})
	defer close(ended)
	if os.Getenv("GOGC") == "" {
		go tuneCollector(ended)
	}
	p, err := startServer(o, log)
	if err != nil {
		return err
	}
	go who.attend(p, ended)
	select {
	case s := <-signals:
		log.Log(env.Info, "stopping", "signal", s)
	case <-ctx.Done():
		log.Log(env.Info, "stopping")
	case err := <-p.failed:
		p.kill()
		return err
	}
	stopped := make(chan struct{})
	asked := time.Now()
	go func() {
		p.stop()
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
		case err := <-p.failed:
			return err
		}
	}
}

// echo is how long a further signal is taken for the same one: a supervisor may
// send it to the process and to its group.
const echo = 100 * time.Millisecond
