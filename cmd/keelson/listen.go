package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/keelson/keelson/cmd/cli/options"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/realnet"
)

// listenAll opens a listener for each URL. Where none is given the defaults are
// tried, and the second of them may be taken by somebody else. Those of https URLs
// are handed to secure.
func listenAll(given []string, defaults string, secure func(net.Listener) net.Listener, log realnet.Log) (all []net.Listener, err error) {
	urls := given
	if urls == nil {
		urls = strings.Split(defaults, ",")
	}
	for i, raw := range urls {
		l, err := listen(raw)
		if err != nil && given == nil && i > 0 && errors.Is(err, syscall.EADDRINUSE) {
			log.Log(env.Warn, "default address is in use, going on without", "url", raw)
			continue
		}
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("%s: %w", raw, err)
		}
		if strings.HasPrefix(raw, "https:") {
			l = secure(l)
		}
		all = append(all, l)
	}
	return all, nil
}

func listen(raw string) (net.Listener, error) {
	if path, ok := options.SocketPath(raw); ok {
		return listenSocket(path)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	host := u.Hostname()
	if host == "localhost" {
		host = "127.0.0.1"
	}
	return net.Listen("tcp", net.JoinHostPort(host, u.Port()))
}

// socketMode lets the group of the socket use it, too.
const socketMode = 0o660

// listenSocket takes over a socket that nobody listens on any more, but nothing else
// of that name.
func listenSocket(path string) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is there and is no socket", path)
	default:
		if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
			conn.Close()
			return nil, fmt.Errorf("another process serves %s", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func closeAll(ls []net.Listener) {
	for _, l := range ls {
		l.Close()
	}
}
