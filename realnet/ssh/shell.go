package ssh

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

// Shell is a shell for whoever sits at the terminal in; without a terminal it reads its
// commands from in. It gives the exit status.
func (c *Client) Shell(ctx context.Context, in, out *os.File, s Streams) (status int, err error) {
	session, err := c.session(s)
	if err != nil {
		return 0, err
	}
	defer session.Close()
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	if term.IsTerminal(int(in.Fd())) {
		restore, err := c.terminal(session, in, out)
		if err != nil {
			return 0, err
		}
		defer restore()
	}
	if err := session.Shell(); err != nil {
		return 0, err
	}
	return ended(session.Wait())
}

// terminal makes the session's terminal like the one here, and follows its size.
func (c *Client) terminal(session *ssh.Session, in, out *os.File) (restore func(), err error) {
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, err
	}
	width, height, err := term.GetSize(int(out.Fd()))
	if err != nil {
		width, height = 80, 24
	}
	name := os.Getenv("TERM")
	if name == "" {
		name = "xterm"
	}
	modes := ssh.TerminalModes{ssh.ECHO: 1, ssh.TTY_OP_ISPEED: 14400, ssh.TTY_OP_OSPEED: 14400}
	if err := session.RequestPty(name, height, width, modes); err != nil {
		term.Restore(int(in.Fd()), old)
		return nil, err
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		for range changed {
			if width, height, err := term.GetSize(int(out.Fd())); err == nil {
				session.WindowChange(height, width)
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		close(changed)
		term.Restore(int(in.Fd()), old)
	}, nil
}
