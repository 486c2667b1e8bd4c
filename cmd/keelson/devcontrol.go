package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/keelson/keelson/cmd/cli/options"
)

// devVerbs are the words after dev. Those with a member act on it.
var devVerbs = []devVerb{
	{string(devKill), "kill -9 member N and its units, as a machine that loses power; it stays down until restart", true},
	{string(devPause), "stop member N with SIGSTOP, as a machine that hangs", true},
	{string(devResume), "let member N go on", true},
	{string(devRestart), "stop member N in order, if it runs, and start it", true},
	{"status", "list the members", false},
}

type devVerb struct {
	name, usage string
	member      bool
}

func (v devVerb) command() *cli.Command {
	cmd := &cli.Command{Name: v.name, Usage: v.usage}
	want := 0
	if v.member {
		cmd.ArgsUsage, want = "N", 1
	}
	cmd.Action = func(_ context.Context, c *cli.Command) error {
		if c.Args().Len() != want {
			return &usageError{fmt.Errorf("dev %s: want %d argument(s), got %d", v.name, want, c.Args().Len())}
		}
		line := v.name
		if v.member {
			if n, err := strconv.Atoi(c.Args().First()); err != nil || n < 1 {
				return &usageError{fmt.Errorf("dev %s %s: want the number of a member, such as 1", v.name, c.Args().First())}
			}
			line += " " + c.Args().First()
		}
		return callDev(c.String("data-dir"), line, c.Root().Writer)
	}
	return cmd
}

// controlFile is the socket on which a running dev takes orders: one line in, an
// answer out whose first line is ok or an error.
const controlFile = "dev.sock"

// socketAddress names the socket by way of an open directory, because the path of
// a socket may be only a hundred bytes long.
func socketAddress(dataDir string) (address string, dir *os.File, err error) {
	dir, err = os.Open(dataDir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), controlFile), dir, nil
}

// listenControl opens the socket. One that nobody listens on is left over.
func listenControl(dataDir string) (net.Listener, error) {
	address, dir, err := socketAddress(dataDir)
	if err != nil {
		return nil, err
	}
	if c, err := net.Dial("unix", address); err == nil {
		c.Close()
		dir.Close()
		return nil, fmt.Errorf("data directory %s: another keelson dev is running there", dataDir)
	}
	os.Remove(filepath.Join(dataDir, controlFile))
	l, err := net.Listen("unix", address)
	if err != nil {
		dir.Close()
		return nil, err
	}
	return &controlListener{l, dir}, nil
}

// controlListener keeps the directory open by which the socket is named.
type controlListener struct {
	net.Listener
	dir *os.File
}

// Close implements net.Listener.
func (l *controlListener) Close() error {
	err := l.Listener.Close()
	l.dir.Close()
	return err
}

// callDev sends one line to the running dev and copies its answer.
func callDev(dataDir, line string, out io.Writer) error {
	address, dir, err := socketAddress(dataDir)
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	defer dir.Close()
	conn, err := net.Dial("unix", address)
	if err != nil {
		return fmt.Errorf("dev: nothing runs with data directory %s: start it with keelson dev", dataDir)
	}
	defer conn.Close()
	fmt.Fprintln(conn, line)
	in := bufio.NewReader(conn)
	verdict, err := in.ReadString('\n')
	if err != nil {
		return fmt.Errorf("dev: the running dev went away")
	}
	if verdict = strings.TrimSpace(verdict); verdict != "ok" {
		return errors.New("dev: " + verdict)
	}
	_, err = io.Copy(out, in)
	return err
}

// serveControl takes orders until the socket is closed.
func (d *dev) serveControl() {
	for {
		conn, err := d.control.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(conn, d.order(strings.Fields(line)))
		}()
	}
}

// order carries out one line and gives the answer.
func (d *dev) order(words []string) string {
	switch {
	case len(words) == 1 && words[0] == "status":
		return "ok\n" + d.status()
	case len(words) != 2:
		return "unknown order\n"
	}
	n, err := strconv.Atoi(words[1])
	if err != nil || n < 1 || n > len(d.members) {
		return fmt.Sprintf("no member %s: there are %d\n", words[1], len(d.members))
	}
	m := d.members[n-1]
	switch v := verb(words[0]); v {
	case devKill, devPause, devResume, devRestart:
		return fmt.Sprintf("ok\n%s: %s\n", m.name, m.ask(v))
	default:
		return "unknown order\n"
	}
}

func (d *dev) status() string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MEMBER\tSTATE\tROLE\tCLIENTS")
	for _, m := range d.members {
		fmt.Fprintln(w, m.status(context.Background()))
	}
	w.Flush()
	return b.String()
}

// printer writes whole lines of several processes to one place.
type printer struct {
	mu     sync.Mutex
	out    io.Writer
	colour bool
}

// say writes a line of dev itself.
func (p *printer) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "dev: "+format+"\n", args...)
}

// lines gives a writer for the lines of one member.
func (p *printer) lines(number int, name string) io.Writer {
	prefix := name + " | "
	if p.colour {
		prefix = fmt.Sprintf("\x1b[%dm%s\x1b[0m", 31+number, prefix)
	}
	return &lineWriter{p: p, prefix: prefix}
}

// lineWriter puts a prefix before each line.
type lineWriter struct {
	p      *printer
	prefix string
	rest   []byte
}

// Write implements io.Writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		w.p.mu.Lock()
		fmt.Fprintf(w.p.out, "%s%s\n", w.prefix, line)
		w.p.mu.Unlock()
		w.rest = rest
	}
}

// isTerminal reports whether colours make sense on out.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// withoutOptions is the environment without the variables that would tell a
// member of dev something else than dev does.
func withoutOptions() (env []string) {
	for _, line := range os.Environ() {
		name, _, _ := strings.Cut(line, "=")
		if !options.IsVariable(name) {
			env = append(env, line)
		}
	}
	return env
}
