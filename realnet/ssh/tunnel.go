package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// DialContext connects, as the machine sees the network: by TCP, or to a socket of its
// file system by running `fleetctl fd-forward` there.
func (c *Client) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "unix" {
		return c.conn.DialContext(ctx, network, address)
	}
	session, err := c.conn.NewSession()
	if err != nil {
		return nil, err
	}
	conn := &piped{session: session, path: address}
	if err := conn.start(); err != nil {
		session.Close()
		return nil, fmt.Errorf("fleetctl fd-forward %s: %w", address, err)
	}
	return conn, nil
}

// piped is a connection that is the input and output of a program on another machine.
type piped struct {
	io.WriteCloser
	session *ssh.Session
	out     io.Reader
	said    tail
	path    string
	end     sync.Once
	failed  error
}

func (p *piped) start() (err error) {
	p.session.Stderr = &p.said
	if p.WriteCloser, err = p.session.StdinPipe(); err != nil {
		return err
	}
	if p.out, err = p.session.StdoutPipe(); err != nil {
		return err
	}
	return p.session.Start("fleetctl fd-forward " + quoted(p.path))
}

// Read gives what the program says; at its end, why it could not.
func (p *piped) Read(b []byte) (int, error) {
	n, err := p.out.Read(b)
	if n > 0 || !errors.Is(err, io.EOF) {
		return n, err
	}
	p.end.Do(func() {
		p.failed = err
		if p.session.Wait() != nil && p.said.String() != "" {
			p.failed = fmt.Errorf("fleetctl fd-forward %s: %s", p.path, p.said.String())
		}
	})
	return 0, p.failed
}

// Close implements net.Conn.
func (p *piped) Close() error {
	p.WriteCloser.Close()
	return p.session.Close()
}

// The deadlines of a program cannot be set; whoever waits closes it.
func (p *piped) SetDeadline(time.Time) error      { return nil }
func (p *piped) SetReadDeadline(time.Time) error  { return nil }
func (p *piped) SetWriteDeadline(time.Time) error { return nil }
func (p *piped) LocalAddr() net.Addr              { return &net.UnixAddr{Net: "unix"} }
func (p *piped) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: p.path, Net: "unix"} }

// tail keeps the beginning of what a program complains of.
type tail struct{ b strings.Builder }

func (t *tail) Write(p []byte) (int, error) {
	const most = 1 << 10
	if t.b.Len() < most {
		t.b.Write(p[:min(len(p), most)])
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(t.b.String()) }

// quoted makes a word of the shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
