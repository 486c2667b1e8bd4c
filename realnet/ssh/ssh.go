// Package ssh reaches other machines by SSH: commands, shells, and connections through one of them.
//
// Keys come from the user's agent and nowhere else. A host key is judged by a file of
// known ones; who sits at the terminal is asked about one that is not there.
package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Options say how machines are reached.
type Options struct {
	User         string
	Timeout      time.Duration // of making one connection; 0 is no bound
	Known        Known
	AgentSocket  string // SSH_AUTH_SOCK
	ForwardAgent bool
	// Tunnel is a machine to go through, host or host:port; "" is none.
	Tunnel string
}

// errAgent says what is needed, in the words that people search for.
var errAgent = errors.New("SSH_AUTH_SOCK environment variable is not set. Verify ssh-agent is running. See docs/fleetctl.md for help")

const defaultPort = "22"

// Client is a connection to one machine.
type Client struct {
	o      Options
	conn   *ssh.Client
	agent  net.Conn
	keys   agent.ExtendedAgent
	tunnel *Client // that conn goes through
}

// Dial connects to a machine, through the tunnel if there is one.
func Dial(ctx context.Context, o Options, address string) (*Client, error) {
	if o.Tunnel == "" {
		return dial(ctx, o, withPort(address), nil)
	}
	tunnel, err := Through(ctx, o)
	if err != nil {
		return nil, err
	}
	c, err := dial(ctx, o, withPort(address), tunnel)
	if err != nil {
		tunnel.Close()
		return nil, err
	}
	return c, nil
}

// Through connects to the tunnel itself.
func Through(ctx context.Context, o Options) (*Client, error) {
	return dial(ctx, o, withPort(o.Tunnel), nil)
}

func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(address, defaultPort)
}

func dial(ctx context.Context, o Options, address string, tunnel *Client) (*Client, error) {
	if o.AgentSocket == "" {
		return nil, errAgent
	}
	to, err := net.Dial("unix", o.AgentSocket)
	if err != nil {
		return nil, fmt.Errorf("SSH agent: %w", err)
	}
	c := &Client{o: o, agent: to, keys: agent.NewClient(to), tunnel: tunnel}
	if c.conn, err = c.connect(ctx, address); err != nil {
		to.Close()
		return nil, err
	}
	if o.ForwardAgent {
		if err := agent.ForwardToAgent(c.conn, c.keys); err != nil {
			c.Close()
			return nil, fmt.Errorf("forward the SSH agent: %w", err)
		}
	}
	return c, nil
}

func (c *Client) connect(ctx context.Context, address string) (*ssh.Client, error) {
	raw, err := c.reach(ctx, address)
	if err != nil {
		return nil, err
	}
	config := &ssh.ClientConfig{
		User: c.o.User, Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(c.keys.Signers)},
		HostKeyAlgorithms: c.o.Known.algorithms(address),
	}
	// The time that a person takes to answer does not count.
	limit := newLimit(raw, c.o.Timeout)
	var distrust error
	config.HostKeyCallback = func(host string, remote net.Addr, key ssh.PublicKey) error {
		limit.pause()
		defer limit.resume()
		distrust = c.o.Known.check(host, remote, key)
		return distrust
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	conn, channels, requests, err := ssh.NewClientConn(raw, address, config)
	limit.end()
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		return ssh.NewClient(conn, channels, requests), nil
	}
	raw.Close()
	switch {
	case distrust != nil:
		return nil, distrust // in fewer words
	case limit.over():
		return nil, fmt.Errorf("timed out while initiating SSH connection to %s", address)
	}
	return nil, err
}

// reach makes the connection below.
func (c *Client) reach(ctx context.Context, address string) (net.Conn, error) {
	if c.tunnel != nil {
		return c.tunnel.conn.DialContext(ctx, "tcp", address)
	}
	raw, err := (&net.Dialer{Timeout: c.o.Timeout}).DialContext(ctx, "tcp", address)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return nil, fmt.Errorf("timed out while initiating SSH connection to %s", address)
	}
	return raw, err
}

// Close ends the connection, and that of the tunnel it goes through.
func (c *Client) Close() error {
	err := c.conn.Close()
	c.agent.Close()
	if c.tunnel != nil {
		c.tunnel.Close()
	}
	return err
}

// Streams are those of a command.
type Streams struct {
	In       io.Reader // nil is empty
	Out, Err io.Writer
}

// Run runs a command by a shell of the machine and gives its exit status.
func (c *Client) Run(ctx context.Context, command string, s Streams) (status int, err error) {
	session, err := c.session(s)
	if err != nil {
		return 0, err
	}
	defer session.Close()
	stop := context.AfterFunc(ctx, func() {
		session.Signal(ssh.SIGINT)
		session.Close()
	})
	defer stop()
	return ended(session.Run(command))
}

func (c *Client) session(s Streams) (*ssh.Session, error) {
	session, err := c.conn.NewSession()
	if err != nil {
		return nil, err
	}
	session.Stdin, session.Stdout, session.Stderr = s.In, s.Out, s.Err
	if c.o.ForwardAgent {
		if err := agent.RequestAgentForwarding(session); err != nil {
			session.Close()
			return nil, fmt.Errorf("forward the SSH agent: %w", err)
		}
	}
	return session, nil
}

// ended takes the exit status out of an error.
func ended(err error) (int, error) {
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return exit.ExitStatus(), nil
	}
	return 0, err
}
