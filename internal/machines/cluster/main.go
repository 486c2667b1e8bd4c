// Command cluster boots three machines with real systemd and keelson on this host, helps to enter and to break them, and takes them away.
//
// make cluster and make cluster-down call it.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/keelson/keelson/internal/machines"
)

// upMax bounds how long machines may take until they are a cluster.
const upMax = 3 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	var status *exec.ExitError
	if errors.As(err, &status) && status.Exited() {
		os.Exit(status.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// verb is one thing to do with a cluster or a machine.
type verb struct {
	name string
	args string
	doc  string
	run  func(ctx context.Context, args []string) error
}

var verbs = []verb{
	{"up", "BINARY", "boot three machines that run BINARY", func(ctx context.Context, args []string) error { return up(ctx, args[0]) }},
	{"down", "", "take everything away, whatever became of it", func(context.Context, []string) error { return down() }},
	{"status", "", "show the machines", func(ctx context.Context, _ []string) error { return status(ctx) }},
	{"enter", "N [COMMAND…]", "a shell on machine N, or a command", func(ctx context.Context, args []string) error {
		return on(args[0], func(m *machines.Machine) error { return enter(ctx, m, args[1:]) })
	}},
	{"kill", "N", "take the power of machine N away", func(_ context.Context, args []string) error { return on(args[0], (*machines.Machine).PowerOff) }},
	{"start", "", "boot every machine that is off", func(context.Context, []string) error { return start() }},
	{"cut", "N", "pull the cable of machine N", func(_ context.Context, args []string) error { return on(args[0], (*machines.Machine).Cut) }},
	{"heal", "N", "put it back", func(_ context.Context, args []string) error { return on(args[0], (*machines.Machine).Heal) }},
	{"pause", "N", "have machine N stand still", func(_ context.Context, args []string) error { return on(args[0], (*machines.Machine).Pause) }},
	{"resume", "N", "and go on", func(_ context.Context, args []string) error { return on(args[0], (*machines.Machine).Resume) }},
}

func run(ctx context.Context, args []string) error {
	if machines.Jailed() {
		return keep(ctx, args)
	}
	for _, v := range verbs {
		if len(args) > 0 && args[0] == v.name && len(args)-1 >= len(required(v.args)) {
			if err := machines.Check(); err != nil {
				return err
			}
			return v.run(ctx, args[1:])
		}
	}
	return errors.New(usage())
}

// required are the arguments without which a verb cannot do.
func required(args string) []string {
	words, _, _ := strings.Cut(args, "[")
	return strings.Fields(words)
}

func usage() string {
	var b strings.Builder
	b.WriteString("want one of:\n")
	for _, v := range verbs {
		fmt.Fprintf(&b, "  %-20s %s\n", v.name+" "+v.args, v.doc)
	}
	return b.String()
}

// dir is where the cluster of this host lies.
func dir() string { return filepath.Join(machines.Base(), "cluster") }

// up boots a cluster that goes on when this process ends.
func up(ctx context.Context, binary string) error {
	if err := makeRoom(); err != nil {
		return err
	}
	image, err := machines.Image(ctx, machines.Base(), os.Stdout)
	if err != nil {
		return err
	}
	fmt.Println("booting three machines")
	if err := launch(ctx, image, binary); err != nil {
		return errors.Join(err, machines.Remove(dir()))
	}
	return welcome()
}

// makeRoom takes away what a cluster that ended badly has left.
func makeRoom() error {
	lock, err := machines.Lock(dir())
	var busy *machines.BusyError
	if errors.As(err, &busy) {
		return fmt.Errorf("%w: make cluster-down ends it", err)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	return machines.Remove(dir())
}

// launch starts the keeper and waits for its word.
func launch(ctx context.Context, image, binary string) error {
	if err := os.MkdirAll(dir(), 0o755); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir(), "keeper.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	word, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer word.Close()
	keeper := machines.Jail(false, "keep", image, binary)
	keeper.Stdout, keeper.Stderr = log, log
	keeper.ExtraFiles = []*os.File{tell}
	keeper.SysProcAttr.Setsid = true
	err = keeper.Start()
	tell.Close()
	if err != nil {
		return fmt.Errorf("start the keeper of the machines in namespaces of its own: %w", err)
	}
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(word).ReadString('\n')
		said <- strings.TrimSpace(line)
	}()
	select {
	case s := <-said:
		if s == "ready" {
			return nil
		}
		text, _ := os.ReadFile(log.Name())
		err = fmt.Errorf("the cluster does not come up: %s", text)
	case <-ctx.Done():
		err = ctx.Err()
	}
	keeper.Process.Kill()
	keeper.Wait()
	return err
}

// keep is the process that has the machines: process 1 of its jail. It ends by being
// killed.
func keep(ctx context.Context, args []string) error {
	tell := os.NewFile(3, "parent")
	if err := machines.Furnish(); err != nil {
		return err
	}
	if err := machines.Join(dir()); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGPIPE)
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	coming, cancel := context.WithTimeout(ctx, upMax)
	defer cancel()
	c, err := machines.Up(coming, machines.Config{Dir: dir(), Image: args[1], Binary: args[2], Settings: settings()})
	if err == nil {
		err = c.Ready(coming)
	}
	if err != nil {
		return err
	}
	io.WriteString(tell, "ready\n")
	tell.Close()
	for range again {
		for _, m := range c.Machines {
			go func() {
				if err := m.PowerOn(context.Background()); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}()
		}
	}
	return nil
}

// settings are those of this process's environment that are meant for the daemons.
func settings() (all []string) {
	for _, line := range os.Environ() {
		if strings.HasPrefix(line, "FLEET_") {
			all = append(all, line)
		}
	}
	return all
}

func welcome() error {
	c, err := machines.Open(dir())
	if err != nil {
		return err
	}
	self := "bin/cluster"
	fmt.Printf("\nthree machines on %v, each with systemd, a journal, D-Bus and sshd of its own:\n\n", c.Net)
	for i, m := range c.Machines {
		fmt.Printf("  %d  %s  %s  %s  %s\n", i+1, m.Host, m.Address, m.ID, m.Metadata)
	}
	fmt.Printf(`
enter:    %[1]s enter 1
          %[1]s enter 1 fleetctl list-machines
          ssh -i %[2]s -o UserKnownHostsFile=%[3]s core@%[4]s
ask:      bin/keelson fleetctl --endpoint %[5]s list-machines
break:    %[1]s kill 2; %[1]s start       (power)
          %[1]s cut 2; %[1]s heal 2       (cable)
          %[1]s pause 2; %[1]s resume 2
more:     %[1]s
end:      make cluster-down
`, self, c.KeyFile(), c.KnownHosts(), c.Machines[0].Address, c.Machines[0].URL())
	return nil
}

// start has the keeper boot what is off.
func start() error {
	if err := machines.Signal(dir(), syscall.SIGHUP); err != nil {
		return fmt.Errorf("%w: make cluster-down, then make cluster", err)
	}
	return nil
}

// down takes everything away and makes sure that nothing is left.
func down() error {
	left, err := machines.Left(dir())
	if err != nil {
		return err
	}
	unfinished, err := machines.SweepImages(machines.Base())
	if err != nil {
		return err
	}
	if len(left) == 0 && unfinished {
		fmt.Println("no cluster is here; a root file system that was not finished is gone")
		return nil
	}
	if len(left) == 0 {
		fmt.Println("no cluster is here")
		return nil
	}
	if err := machines.Remove(dir()); err != nil {
		return err
	}
	if left, err = machines.Left(dir()); err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("still here: %s", strings.Join(left, ", "))
	}
	fmt.Println("nothing is left of the cluster; the root file system is kept in", filepath.Join(machines.Base(), "images"))
	return nil
}

func status(ctx context.Context) error {
	c, err := machines.Open(dir())
	if err != nil {
		return err
	}
	for i, m := range c.Machines {
		state := "off"
		if m.On() {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			r, err := m.Run(ctx, "systemctl", "is-system-running")
			cancel()
			if state = strings.TrimSpace(r.Out); err != nil {
				state = "silent"
			}
		}
		fmt.Printf("%d  %s  %s  %s  %s\n", i+1, m.Host, m.Address, m.ID, state)
	}
	return nil
}

// on does something with a machine, by its number.
func on(number string, fn func(*machines.Machine) error) error {
	c, err := machines.Open(dir())
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > len(c.Machines) {
		return fmt.Errorf("no machine %q: want 1 to %d", number, len(c.Machines))
	}
	return fn(c.Machines[n-1])
}

// enter runs a command on a machine with this process's own streams.
func enter(ctx context.Context, m *machines.Machine, args []string) error {
	if len(args) == 0 {
		// script gives the shell a terminal of the machine's own.
		args = []string{"script", "--quiet", "--return", "--command", "bash -l", "/dev/null"}
	}
	signal.Ignore(os.Interrupt) // it is for the command
	cmd, err := m.Command(ctx, args...)
	if err != nil {
		return err
	}
	if term := os.Getenv("TERM"); term != "" {
		cmd.Env = append(append([]string(nil), cmd.Env...), "TERM="+term)
	}
	cmd.SysProcAttr, cmd.Cancel = nil, nil // it is this terminal's foreground, as this process is
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
