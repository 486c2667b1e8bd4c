// Package tool is the world a command line sees, so that the same command runs
// against a real cluster, in a test and inside the simulator.
//
// A command takes everything it needs from the Tool in its context and holds
// nothing in package variables, so many may run in one process.
package tool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/keelson/keelson/core/client"
)

// Connection says how a command wants to reach servers.
type Connection struct {
	CertFile, KeyFile, CAFile string
	// DialTimeout bounds one connection attempt; 0 is the default of whoever
	// connects.
	DialTimeout time.Duration
	// Tunnel, if set, says through which machine servers are reached.
	Tunnel *SSH
}

// SSH is how a command reaches machines by SSH.
type SSH struct {
	User         string
	Timeout      time.Duration // of making a connection
	Strict       bool          // refuse a host key that is another than the known one
	KnownHosts   string        // file of the known ones; ~ is the user's home
	ForwardAgent bool
	Tunnel       string // host or host:port to go through; "" is none
}

// Process is a program that a command wants to run.
type Process struct {
	Args     []string // the program's name first
	Env      []string // all of its environment, NAME=VALUE
	In       io.Reader
	Out, Err io.Writer
	Status   int // how it ended; set by who runs it
}

// Tool is what a command may touch. In, Out, Err, Getenv and Connect are
// required; a command that needs one of the others and finds nil says that it
// is not possible here.
type Tool struct {
	Version  string
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(name string) string
	// Environ lists the environment as NAME=VALUE, for processes.
	Environ func() []string
	// Connect gives a way to send requests. A Doer that is also an io.Closer
	// is closed when the command is done.
	Connect func(Connection) (client.Doer, error)
	// Run runs a program to its end. A program that ran and failed is no error;
	// one that could not be started is.
	Run func(ctx context.Context, p *Process) error
	// SSH runs a command of the shell, Args[0], at host:port and gives its exit status;
	// "" is a shell for whoever sits at the terminal.
	SSH func(ctx context.Context, how SSH, address string, p *Process) (status int, err error)
	// DialSocket connects to a socket of this machine's file system.
	DialSocket func(ctx context.Context, path string) (io.ReadWriteCloser, error)
	// ReadSecret reads a line from whoever types it, without showing it. Nil stands
	// for a line of In.
	ReadSecret func() (string, error)
	// ReadFile reads a file of this machine.
	ReadFile func(name string) ([]byte, error)
	// Files are the files of this machine, for commands that make some.
	Files Files
	// Random gives bytes that nobody can guess, for new IDs.
	Random func() [8]byte
	// Terminal says that Err is watched by a person, who wants to see progress.
	Terminal bool
	// Discover finds the endpoints that a domain publishes.
	Discover func(ctx context.Context, domain string) ([]string, error)
}

type contextKey struct{}

// With gives a context in which From finds t.
func With(ctx context.Context, t *Tool) context.Context {
	return context.WithValue(ctx, contextKey{}, t)
}

// From gives the Tool of a command's context. It panics where there is none,
// since no command can do anything then.
func From(ctx context.Context) *Tool {
	t, ok := ctx.Value(contextKey{}).(*Tool)
	if !ok {
		panic("tool: a command ran without With")
	}
	return t
}

// Exit ends a command with a status. Text goes to standard error as it is.
type Exit struct {
	Status int
	Text   string
	Err    error // the reason, for those who look at errors; may be nil
}

func (e *Exit) Error() string { return fmt.Sprintf("exit status %d: %s", e.Status, e.Text) }
func (e *Exit) Unwrap() error { return e.Err }

// Finish prints what a command's error says and gives the exit status; nil is 0.
// Errors that are no *Exit are printed after the tool's name, with status 1.
func (t *Tool) Finish(name string, err error) int {
	if err == nil {
		return 0
	}
	var e *Exit
	if !errors.As(err, &e) {
		fmt.Fprintf(t.Err, "%s: %v\n", name, err)
		return 1
	}
	io.WriteString(t.Err, e.Text)
	return e.Status
}
