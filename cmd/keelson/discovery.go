package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	tokens "github.com/keelson/keelson/cmd/cli/discovery"
	"github.com/keelson/keelson/cmd/cli/options"
	"github.com/keelson/keelson/core/discovery"
	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/realnet"
	"github.com/keelson/keelson/realnet/httpd"
	"github.com/keelson/keelson/realnet/web"
)

func discoveryCommand() *cli.Command {
	return &cli.Command{
		Name: "discovery", Usage: "serve discovery tokens, make them and look after them", SkipFlagParsing: true, HideHelp: true,
		Action: func(ctx context.Context, c *cli.Command) error {
			args := c.Args().Slice()
			if len(args) > 0 && slices.Contains(tokens.Verbs, args[0]) {
				ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
				defer stop()
				if status := tokens.Run(ctx, realTool(), append([]string{"discovery"}, args...)); status != 0 {
					return &statusError{status}
				}
				return nil
			}
			return runDiscovery(ctx, args, c.Root().Writer, c.Root().ErrWriter)
		},
	}
}

// discoveryOptions is what the service is told.
type discoveryOptions struct {
	addr, host, etcd, dataDir   string
	tokenTTL                    string
	certFile, keyFile, logLevel string
	insecure                    bool
}

// discoveryFlags is the only list of them: each is a flag and a variable.
func (o *discoveryOptions) flags(errOut io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("keelson discovery", flag.ContinueOnError)
	fs.SetOutput(errOut)
	text := func(to *string, name, variable, def, doc string) {
		fs.StringVar(to, name, cmp.Or(os.Getenv(variable), def), doc+" ["+variable+"]")
	}
	text(&o.addr, "addr", "DISC_ADDR", "localhost:8087", "where to serve, `host:port`; :8087 is all addresses of this machine")
	text(&o.host, "host", "DISC_HOST", "", "what the `URL`s of tokens begin with; made from addr")
	text(&o.etcd, "etcd", "DISC_ETCD", "", "keep tokens in the store at this `URL` instead of one of its own")
	text(&o.dataDir, "data-dir", "DISC_DATA_DIR", "discovery.etcd", "`directory` of its own store")
	text(&o.tokenTTL, "token-ttl", "DISC_TOKEN_TTL", "", "`time` until a token expires that does not say: seconds, or such as 72h; by default never")
	text(&o.certFile, "cert-file", "DISC_CERT_FILE", "", "serve HTTPS with this certificate `file`")
	text(&o.keyFile, "key-file", "DISC_KEY_FILE", "", "`file` of the certificate's key")
	text(&o.logLevel, "log-level", "KEELSON_LOG_LEVEL", "info", "debug, info, warn or error")
	fs.BoolVar(&o.insecure, "insecure", os.Getenv("KEELSON_INSECURE") == "true", "serve addresses beyond this machine although nothing is encrypted [KEELSON_INSECURE]")
	fs.Usage = func() {
		fmt.Fprintln(errOut, "usage: keelson discovery [flags]\n       keelson discovery new [--size N] [--ttl TIME] [URL]\n       keelson discovery show TOKEN-URL\n       keelson discovery release TOKEN-URL NAME\n\nflags of the server:")
		fs.PrintDefaults()
	}
	return fs
}

// runDiscovery serves tokens to the end.
func runDiscovery(ctx context.Context, args []string, out, errOut io.Writer) error {
	o := &discoveryOptions{}
	fs := o.flags(errOut)
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return &statusError{exitUsage} // it was said
	case fs.NArg() > 0:
		return &usageError{fmt.Errorf("discovery: %q: want new, show, release or flags of the server", fs.Arg(0))}
	}
	s, err := o.serve()
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	var level slog.Level
	level.UnmarshalText([]byte(s.LogLevel)) // checked by the option
	log := realnet.NewLog(errOut, level)
	log.Log(env.Info, "serving discovery tokens", "tokens", s.Daemon.Discovery.Host+"/new")
	if o.etcd != "" {
		err = serveBacked(ctx, s, o.etcd, log)
	} else {
		err = asAddr(serve(ctx, s, log, nil))
	}
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	return nil
}

// serve makes of them the options of a member that is alone and has no peers.
func (o *discoveryOptions) serve() (*options.Serve, error) {
	host, port, err := net.SplitHostPort(o.addr)
	if err != nil {
		return nil, fmt.Errorf("--addr=%s: want host:port", o.addr)
	}
	scheme := "http://"
	if o.certFile != "" {
		scheme = "https://"
	}
	name := host
	if host == "" {
		host = "0.0.0.0"
		if name, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("--host: required, because this machine has no name: %w", err)
		}
	}
	if u, err := url.Parse(o.host); o.host != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		return nil, fmt.Errorf("--host=%s: want the URL that machines reach this service at, http://host:port", o.host)
	}
	prefix := strings.TrimSuffix(cmp.Or(o.host, scheme+net.JoinHostPort(name, port)), "/")
	args := []string{
		"--name", "discovery", "--data-dir", o.dataDir, "--initial-cluster-token", "discovery", "--log-level", o.logLevel,
		"--listen-client-urls", scheme + net.JoinHostPort(host, port), "--advertise-client-urls", scheme + net.JoinHostPort(name, port),
		"--listen-peer-urls", "http://localhost:1", "--initial-advertise-peer-urls", "http://localhost:1",
	}
	if o.certFile != "" {
		args = append(args, "--cert-file", o.certFile, "--key-file", o.keyFile)
	}
	if o.insecure {
		args = append(args, "--insecure")
	}
	s, err := options.Parse(options.Source{Args: args, ReadFile: os.ReadFile})
	if err != nil {
		return nil, asAddr(err)
	}
	s.ListenPeer = []string{} // it has none
	s.Daemon.Discovery = discovery.Options{Host: prefix, Alone: true}
	if o.tokenTTL != "" {
		if s.Daemon.Discovery.TTL, err = discovery.ParseTTL(o.tokenTTL); err != nil {
			return nil, fmt.Errorf("--token-%w", err)
		}
	}
	return s, nil
}

// asAddr names the flag that was given where the member was told by another.
func asAddr(err error) error {
	if err == nil {
		return nil
	}
	if rest, ok := strings.CutPrefix(err.Error(), "--listen-client-urls"); ok {
		return errors.New("--addr" + rest)
	}
	return err
}

// serveBacked serves tokens that are kept in a store elsewhere.
func serveBacked(ctx context.Context, o *options.Serve, store string, log realnet.Log) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	security, err := openSecurity(o, log)
	if err != nil {
		return err
	}
	defer security.close()
	loop := realnet.NewLoop()
	requests := web.NewRequests(web.RequestsOptions{Post: loop.Post, TLS: security.web})
	defer requests.Close()
	backing, err := discovery.NewBacking(requests, store)
	if err != nil {
		return fmt.Errorf("--etcd: %w", err)
	}
	listeners, err := listenAll(o.ListenClient, "", security.clients, log)
	if err != nil {
		return fmt.Errorf("--addr: %w", err)
	}
	service := discovery.New(backing, realnet.Rand(), o.Daemon.Discovery)
	server := httpd.New(httpd.Options{Post: loop.Post, Serve: service.Serve, Log: log})
	server.SetMode(httpd.Whole)
	go loop.Run(server.AfterTurn)
	for _, l := range listeners {
		server.Serve(l)
		log.Log(env.Info, "serving clients", "address", l.Addr(), "store", store)
	}
	<-ctx.Done()
	drain, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	server.Drain(drain)
	loop.Stop()
	<-loop.Stopped()
	server.Close()
	return nil
}
