// Package journal shows what units have said, by journalctl and systemctl.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/keelson/keelson/core/env"
)

// Options is what a Journal needs.
type Options struct {
	User bool // the units of this user's systemd
	Post func(func()) bool
}

// Journal is env.Journal by the programs that systemd brings.
type Journal struct {
	o   Options
	ctx context.Context // of all programs that run
	end func()
}

// New makes a Journal.
func New(o Options) *Journal {
	j := &Journal{o: o}
	j.ctx, j.end = context.WithCancel(context.Background())
	return j
}

// Close ends what runs.
func (j *Journal) Close() { j.end() }

// statusMax is how long systemctl may take.
const statusMax = 30 * time.Second

// Status implements env.Journal.
func (j *Journal) Status(name string, done func([]byte, int, error)) {
	go func() {
		ctx, cancel := context.WithTimeout(j.ctx, statusMax)
		defer cancel()
		args := []string{"status", "-l", "--no-pager", "--", name}
		if j.o.User {
			args = append([]string{"--user"}, args...)
		}
		text, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
		var failed *exec.ExitError
		switch {
		case ctx.Err() != nil:
			err = fmt.Errorf("systemctl status %s: no answer within %v", name, statusMax)
		case errors.As(err, &failed) && failed.ExitCode() >= 0:
			j.o.Post(func() { done(text, failed.ExitCode(), nil) })
			return
		}
		j.o.Post(func() { done(text, 0, err) })
	}()
}

// Read implements env.Journal.
func (j *Journal) Read(q env.JournalQuery, to env.JournalReceiver) (cancel func()) {
	ctx, end := context.WithCancel(j.ctx)
	r := &reading{post: j.o.Post, to: to, end: end}
	go r.run(ctx, j.command(ctx, q))
	return func() {
		r.over = true
		end()
	}
}

// command is the journalctl that answers q.
func (j *Journal) command(ctx context.Context, q env.JournalQuery) *exec.Cmd {
	unit, lines := "--unit=", strconv.Itoa(q.Lines)
	if j.o.User {
		unit = "--user-unit="
	}
	if q.Lines < 0 {
		lines = "all"
	}
	args := []string{unit + q.Unit, "--no-pager", "--lines=" + lines}
	if q.Output != "" {
		args = append(args, "--output="+q.Output)
	}
	if q.Follow {
		args = append(args, "--follow")
	}
	return exec.CommandContext(ctx, "journalctl", args...)
}

// reading is one journalctl that runs.
type reading struct {
	post func(func()) bool
	to   env.JournalReceiver
	end  func()
	over bool // of the loop
}

func (r *reading) run(ctx context.Context, cmd *exec.Cmd) {
	defer r.end()
	err := r.copy(ctx, cmd)
	r.post(func() {
		if !r.over {
			r.over = true
			r.to.End(err)
		}
	})
}

// copyMax is how many bytes are handed on at once.
const copyMax = 32 << 10

// copy hands on what the program says, one piece at a time, so that a loop that is
// behind holds the program back.
func (r *reading) copy(ctx context.Context, cmd *exec.Cmd) error {
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer cmd.Wait()
	defer r.end()
	more := make(chan bool, 1)
	for {
		p := make([]byte, copyMax)
		n, err := out.Read(p)
		if n > 0 {
			if !r.post(func() { more <- r.chunk(p[:n]) }) {
				return nil
			}
			select {
			case ok := <-more:
				if !ok {
					return nil
				}
			case <-ctx.Done():
				return nil
			}
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) && ctx.Err() == nil {
			return err
		}
		if err := cmd.Wait(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("journalctl: %w: %s", err, strings.TrimSpace(said.String()))
		}
		return nil
	}
}

// chunk runs on the loop.
func (r *reading) chunk(p []byte) bool {
	if r.over {
		return false
	}
	if r.to.Chunk(p) {
		return true
	}
	r.over = true
	r.to.End(nil)
	return false
}

var _ env.Journal = (*Journal)(nil)
