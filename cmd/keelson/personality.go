package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/keelson/keelson/cmd/cli/complete"
	"github.com/keelson/keelson/cmd/cli/etcdctl"
	"github.com/keelson/keelson/cmd/cli/fleetctl"
	"github.com/keelson/keelson/cmd/cli/locksmithctl"
	"github.com/keelson/keelson/cmd/cli/tool"
	"github.com/keelson/keelson/core/client"
	"github.com/keelson/keelson/realnet/web"
)

// personality is the original tool of that name, nil if there is none.
func personality(name string) func(ctx context.Context, args []string) int {
	run, ok := map[string]func(context.Context, *tool.Tool, []string) int{
		"etcdctl":      etcdctl.Run,
		"fleetctl":     fleetctl.Run,
		"locksmithctl": locksmithctl.Run,
	}[name]
	if !ok {
		return nil
	}
	return func(ctx context.Context, args []string) int {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		if len(args) > 1 && args[1] == complete.Word {
			return offer(ctx, realTool(), name, args[2:])
		}
		return run(ctx, realTool(), args)
	}
}

// realTool is this machine, as a tool sees it.
func realTool() *tool.Tool {
	return &tool.Tool{
		Version: version(),
		In:      os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Getenv:     os.Getenv,
		Environ:    os.Environ,
		Connect:    connect,
		Run:        runProcess,
		SSH:        runSSH,
		DialSocket: dialSocket,
		ReadFile:   os.ReadFile,
		ReadSecret: readSecret,
		Files:      machineFiles{},
		Random:     randomBytes,
		Terminal:   watched(os.Stderr),
		Discover:   discover,
	}
}

// connect reaches servers over HTTP, where that is asked for through another machine.
func connect(c tool.Connection) (client.Doer, error) {
	how := web.Config{CertFile: c.CertFile, KeyFile: c.KeyFile, CAFile: c.CAFile, DialTimeout: c.DialTimeout}
	if c.Tunnel != nil {
		return throughTunnel(how, *c.Tunnel)
	}
	return web.New(how)
}

// interruptedMax bounds how long a program goes on after it was interrupted.
const interruptedMax = 10 * time.Second

// runProcess runs a program to its end; one that ran and failed is no error. When
// the context ends it is interrupted, so that it can clean up, and killed if it
// does not end by itself.
func runProcess(ctx context.Context, p *tool.Process) error {
	cmd := exec.CommandContext(ctx, p.Args[0], p.Args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = interruptedMax
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = p.Env, p.In, p.Out, p.Err
	if f, ok := p.Out.(io.Writer); ok && f == nil {
		cmd.Stdout = nil
	}
	err := cmd.Run()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		p.Status = failed.ExitCode()
		return nil
	}
	return err
}

// dialSocket connects to a socket of the file system.
func dialSocket(ctx context.Context, path string) (io.ReadWriteCloser, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", path)
}

// discover finds the client endpoints that a domain publishes in its SRV records.
func discover(ctx context.Context, domain string) ([]string, error) {
	var endpoints []string
	var last error
	for _, s := range []struct{ service, scheme string }{{"etcd-client-ssl", "https://"}, {"etcd-client", "http://"}} {
		_, records, err := net.DefaultResolver.LookupSRV(ctx, s.service, "tcp", domain)
		if err != nil {
			last = err
			continue
		}
		for _, r := range records {
			endpoints = append(endpoints, s.scheme+strings.TrimSuffix(r.Target, ".")+":"+strconv.Itoa(int(r.Port)))
		}
	}
	if len(endpoints) == 0 {
		return nil, last
	}
	return endpoints, nil
}
