package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/realnet/ssh"
	"github.com/keelson/keelson/realnet/web"
)

func sshOptions(how tool.SSH) ssh.Options {
	return ssh.Options{
		User: how.User, Timeout: how.Timeout, ForwardAgent: how.ForwardAgent, Tunnel: how.Tunnel,
		AgentSocket: os.Getenv("SSH_AUTH_SOCK"),
		Known:       ssh.Known{File: atHome(how.KnownHosts), Strict: how.Strict, In: os.Stdin, Err: os.Stderr},
	}
}

// atHome puts the user's home in the place of a tilde.
func atHome(name string) string {
	rest, ok := strings.CutPrefix(name, "~/")
	if home, err := os.UserHomeDir(); ok && err == nil {
		return filepath.Join(home, rest)
	}
	return name
}

// runSSH runs a command, or a shell, on another machine.
func runSSH(ctx context.Context, how tool.SSH, address string, p *tool.Process) (status int, err error) {
	c, err := ssh.Dial(ctx, sshOptions(how), address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	s := ssh.Streams{In: p.In, Out: p.Out, Err: p.Err}
	if p.Args[0] == "" {
		return c.Shell(ctx, os.Stdin, os.Stdout, s)
	}
	return c.Run(ctx, p.Args[0], s)
}

// tunneled reaches servers through another machine.
type tunneled struct {
	*web.Doer
	through *ssh.Client
}

// Close ends the connection to the machine.
func (t *tunneled) Close() error { return t.through.Close() }

// throughTunnel connects to the machine at once, since somebody may have to be asked,
// which no request should wait for.
func throughTunnel(how web.Config, tunnel tool.SSH) (client.Doer, error) {
	through, err := ssh.Through(context.Background(), sshOptions(tunnel))
	if err != nil {
		return nil, err
	}
	how.Dial = through.DialContext
	d, err := web.New(how)
	if err != nil {
		through.Close()
		return nil, err
	}
	return &tunneled{d, through}, nil
}
