package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"
)

// devPort is the port of member number, where the first has first: 2379, 22379,
// 32379 and so on.
func devPort(first, number int) int {
	if number == 1 {
		return first
	}
	return first + 10000*number
}

// oldClientPort is served by the first member besides its own, for the old guides.
const oldClientPort = 4001

func devCommand() *cli.Command {
	dataDir := &cli.StringFlag{Name: "data-dir", Value: "data", Usage: "where the members keep their data", Local: false}
	cmd := &cli.Command{
		Name:  "dev",
		Usage: "run a cluster of three real processes on this machine, until Ctrl-C",
		Description: "The data is kept: the next start goes on where this one ended. Member N serves clients\n" +
			"on the client port plus 10000 times N, the first on the port itself, and likewise for peers.",
		Flags: []cli.Flag{
			dataDir,
			&cli.IntFlag{Name: "members", Value: 3, Usage: "how many members: 1, 3 or 5", Local: true},
			&cli.IntFlag{Name: "client-port", Value: 2379, Usage: "port of the first member for clients; 2379 brings 4001 with it", Local: true},
			&cli.IntFlag{Name: "peer-port", Value: 2380, Usage: "port of the first member for its peers", Local: true},
			&cli.StringFlag{Name: "units", Value: "process", Usage: "what runs units: process, or off", Local: true},
			&cli.DurationFlag{Name: "restart-after", Value: 2 * time.Second, Usage: "how long a member that died by itself stays down", Local: true},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return &usageError{fmt.Errorf("dev: unknown command %q: want kill, pause, resume, restart or status", c.Args().First())}
			}
			return runDev(ctx, &devOptions{
				dataDir: c.String("data-dir"), members: c.Int("members"),
				clientPort: c.Int("client-port"), peerPort: c.Int("peer-port"),
				restartAfter: c.Duration("restart-after"), units: c.String("units"),
				out: c.Root().Writer, colour: isTerminal(c.Root().Writer),
			})
		},
	}
	for _, v := range devVerbs {
		cmd.Commands = append(cmd.Commands, v.command())
	}
	return cmd
}

// devOptions is what keelson dev is told.
type devOptions struct {
	dataDir              string
	members              int
	clientPort, peerPort int
	restartAfter         time.Duration
	units                string
	out                  io.Writer
	colour               bool
}

func (o *devOptions) check() error {
	switch {
	case o.units != "process" && o.units != "off":
		return &usageError{fmt.Errorf("dev: --units=%s: want process or off", o.units)}
	case o.members != 1 && o.members != 3 && o.members != 5:
		return &usageError{fmt.Errorf("dev: --members=%d: want 1, 3 or 5", o.members)}
	case o.clientPort < 1 || devPort(o.clientPort, o.members) > 65535:
		return &usageError{fmt.Errorf("dev: --client-port=%d: want a port that leaves room for %d members, 10000 apart", o.clientPort, o.members)}
	case o.peerPort < 1 || devPort(o.peerPort, o.members) > 65535:
		return &usageError{fmt.Errorf("dev: --peer-port=%d: want a port that leaves room for %d members, 10000 apart", o.peerPort, o.members)}
	}
	return nil
}

// dev is a running cluster of processes.
type dev struct {
	opts    *devOptions
	printer *printer
	members []*devMember
	control net.Listener
	tasks   sync.WaitGroup
}

// runDev runs the cluster until a signal.
func runDev(ctx context.Context, o *devOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := &dev{opts: o, printer: &printer{out: o.out, colour: o.colour}}
	if err := d.prepare(); err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	for _, m := range d.members {
		d.tasks.Go(m.run)
	}
	d.tasks.Go(d.serveControl)
	d.tasks.Go(func() { d.greet(ctx) })
	<-ctx.Done()
	// A second signal is not caught: it ends this process, and the members with it. Not at
	// once: make passes on one that its whole group has got already.
	time.AfterFunc(time.Second, stop)
	d.printer.say("stopping; the data stays in %s", o.dataDir)
	d.control.Close()
	for _, m := range d.members {
		d.tasks.Go(func() { m.ask(devStop) })
	}
	d.tasks.Wait()
	for _, m := range d.members {
		d.tasks.Go(m.endUnits)
	}
	d.tasks.Wait()
	return nil
}

// prepare finds out whether the cluster can run here, before anything is started.
func (d *dev) prepare() error {
	o := d.opts
	if err := os.MkdirAll(o.dataDir, 0o700); err != nil {
		return err
	}
	control, err := listenControl(o.dataDir)
	if err != nil {
		return err
	}
	d.control = control
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var cluster []string
	for i := range o.members {
		m := &devMember{
			dev: d, number: i + 1, name: fmt.Sprintf("n%d", i+1), self: self,
			client: []string{loopbackURL(devPort(o.clientPort, i+1))},
			peer:   loopbackURL(devPort(o.peerPort, i+1)),
			asked:  make(chan request),
		}
		if err := m.identify(); err != nil {
			return err
		}
		cluster = append(cluster, m.name+"="+m.peer)
		d.members = append(d.members, m)
	}
	if o.clientPort == 2379 && isFree(oldClientPort) {
		d.members[0].client = append(d.members[0].client, loopbackURL(oldClientPort))
	}
	d.members[0].socket = d.fleetSocket()
	for _, m := range d.members {
		m.cluster = strings.Join(cluster, ",")
		for _, raw := range append([]string{m.peer}, m.client...) {
			u, _ := url.Parse(raw)
			if l, err := net.Listen("tcp", u.Host); err != nil {
				control.Close()
				return fmt.Errorf("%s: %w: choose other ports with --client-port and --peer-port, or stop what serves there", m.name, err)
			} else {
				l.Close()
			}
		}
	}
	return nil
}

func loopbackURL(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }

func isFree(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// healthyMax bounds how long dev waits before it says that something is wrong.
const healthyMax = 30 * time.Second

// greet says what to try, once every member answers.
func (d *dev) greet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, healthyMax)
	defer cancel()
	for _, m := range d.members {
		for !isHealthy(ctx, m.client[0]) {
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				if errors.Is(ctx.Err(), context.DeadlineExceeded) {
					d.printer.say("%s is not healthy after %v: see its lines above", m.name, healthyMax)
				}
				return
			}
		}
	}
	d.printer.say("%s", d.welcome())
}

func (d *dev) welcome() string {
	k := "keelson"
	if p, err := os.Executable(); err == nil {
		k = relative(p)
	}
	first, flags := d.members[0].client[0], ""
	if d.opts.clientPort != 2379 {
		flags = " --endpoints " + first
	}
	last := d.members[0].client[len(d.members[0].client)-1]
	dir := ""
	if d.opts.dataDir != "data" {
		dir = " --data-dir " + d.opts.dataDir
	}
	return fmt.Sprintf(`%d members are healthy. In another terminal:

  %[2]s etcdctl%[3]s set /message Hello
  %[2]s etcdctl%[3]s get /message
  %[2]s etcdctl%[3]s cluster-health
  curl -L %[4]s/v2/keys/mykey -XPUT -d value="this is awesome"
%[7]s  %[2]s dev%[5]s status
  %[2]s dev%[5]s kill %[1]d        no power, until: %[2]s dev%[5]s restart %[1]d
  %[2]s dev%[5]s pause 2       SIGSTOP, until: %[2]s dev%[5]s resume 2

Ctrl-C stops the cluster; the data stays in %[6]s.`, len(d.members), k, flags, last, dir, d.opts.dataDir, d.welcomeUnits(k))
}

// relative is how a person in the working directory would type path.
func relative(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	r, err := filepath.Rel(wd, path)
	if err != nil || strings.HasPrefix(r, "..") {
		return path
	}
	if !strings.Contains(r, "/") {
		return "./" + r
	}
	return r
}
