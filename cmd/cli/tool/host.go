package tool

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"time"

	"github.com/keelson/keelson/core/client"
)

// processGrace is how long a program may take to end after it was interrupted.
const processGrace = 2 * time.Second

// Host is the Tool of this process: its streams, environment and files. How
// servers are reached is the caller's choice.
func Host(version string, connect func(Connection) (client.Doer, error)) *Tool {
	return &Tool{
		Version: version,
		In:      os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Getenv: os.Getenv, Environ: os.Environ,
		Connect:  connect,
		Run:      runProcess,
		ReadFile: os.ReadFile,
	}
}

// runProcess runs p to its end. When ctx ends, the program is interrupted first
// and killed later.
func runProcess(ctx context.Context, p *Process) error {
	cmd := exec.CommandContext(ctx, p.Args[0], p.Args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.Env, p.Out, p.Err
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = processGrace
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}
