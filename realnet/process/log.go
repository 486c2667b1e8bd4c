package process

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

// Bounds of what is kept of a unit's output.
const (
	logMax  = 1 << 20  // bytes of a file; there are two
	lineCut = 48 << 10 // a longer line becomes several
)

// log keeps what one unit has said: in one file, and when that is full in that and the
// one before it.
//
// Programs write into a named pipe which they hold open for reading too, so that they
// neither fail nor lose anything while no manager is there.
type log struct {
	path string // of the files, without their ending
	host string

	mu      sync.Mutex
	file    *os.File // of lines, or nil
	size    int64
	pipe    *os.File // read by a goroutine, or nil
	ident   string   // of who speaks
	pid     int
	readers map[chan line]bool // that follow
}

// line is one line that was said.
type line struct {
	at    time.Time
	pid   int
	ident string
	text  string
}

// encode is a line as the file has it.
func (l line) encode() []byte {
	return fmt.Appendf(nil, "%d %d %s %s\n", l.at.UnixMicro(), l.pid, l.ident, l.text)
}

func decode(p string) (l line, ok bool) {
	f := strings.SplitN(p, " ", 4)
	if len(f) < 4 {
		return l, false
	}
	at, err := strconv.ParseInt(f[0], 10, 64)
	l.pid, _ = strconv.Atoi(f[1])
	l.at, l.ident, l.text = time.UnixMicro(at), f[2], f[3]
	return l, err == nil
}

func openLog(dir, name string) *log {
	host, _ := os.Hostname()
	return &log{path: filepath.Join(dir, name), host: host, readers: make(map[chan line]bool)}
}

// speaks says whose the output is from now on.
func (l *log) speaks(ident string, pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ident, l.pid = plainIdent(ident), pid
}

// start starts a program whose the output is from now on. What it says at once waits
// until its number is known.
func (l *log) start(ident string, cmd *osexec.Cmd) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := cmd.Start()
	if err == nil {
		l.ident, l.pid = plainIdent(ident), cmd.Process.Pid
	}
	return err
}

// plainIdent is an identifier as the file can have it.
func plainIdent(ident string) string { return strings.ReplaceAll(ident, " ", "_") }

// output is a file for a program to write into.
func (l *log) output(silent bool) (*os.File, error) {
	if silent {
		return os.OpenFile(os.DevNull, os.O_RDWR, 0)
	}
	if err := l.listen(); err != nil {
		return nil, err
	}
	// Not by way of the poller: the program's own file blocks.
	fd, err := syscall.Open(l.path+".pipe", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), l.path+".pipe"), nil
}

// listen takes in what comes through the pipe.
func (l *log) listen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pipe != nil {
		return nil
	}
	path := l.path + ".pipe"
	if err := syscall.Mkfifo(path, 0o600); err != nil && !errors.Is(err, syscall.EEXIST) {
		return &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	l.pipe = f
	go l.copy(f)
	return nil
}

func (l *log) copy(f *os.File) {
	in := bufio.NewReaderSize(f, lineCut)
	for {
		p, err := in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
		l.mu.Lock()
		l.add(line{time.Now(), l.pid, l.ident, string(bytes.TrimRight(p, "\n"))})
		l.mu.Unlock()
	}
}

// write adds a line of somebody else.
func (l *log) write(pid int, ident, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
	l.add(line{time.Now(), pid, ident, text})
}

// add keeps a line and hands it to those who follow.
func (l *log) add(n line) {
	p := n.encode()
	if l.file == nil {
		l.file, _ = os.OpenFile(l.path+".log", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		l.size = 0
		if l.file != nil {
			l.size, _ = l.file.Seek(0, io.SeekEnd)
		}
	}
	if l.file != nil {
		l.file.Write(p)
		l.size += int64(len(p))
	}
	if l.size > logMax && l.file != nil {
		l.file.Close()
		l.file = nil
		os.Rename(l.path+".log", l.path+".log.1")
	}
	for r := range l.readers {
		select {
		case r <- n:
		default: // too far behind: it ends
			delete(l.readers, r)
			close(r)
		}
	}
}

// close gives the files back. What programs say from now on waits in the pipe.
func (l *log) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pipe != nil {
		l.pipe.Close()
		l.pipe = nil
	}
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}

// backlog is how many lines a reader may be behind.
const backlog = 4096

// past gives the last so many lines, all if below 0, and what follows them if asked.
func (l *log) past(count int, follow bool) (lines []line, next chan line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if count != 0 {
		for _, name := range []string{l.path + ".log.1", l.path + ".log"} {
			p, _ := os.ReadFile(name)
			for s := range strings.Lines(string(p)) {
				if n, ok := decode(strings.TrimSuffix(s, "\n")); ok {
					lines = append(lines, n)
				}
			}
		}
	}
	if count >= 0 {
		lines = lines[max(len(lines)-count, 0):]
	}
	if follow {
		next = make(chan line, backlog)
		l.readers[next] = true
	}
	return lines, next
}

// leave ends a reader.
func (l *log) leave(r chan line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.readers, r)
}

// format gives how lines look, as journalctl shows them, or an error in its words.
func (l *log) format(unit, mode string) (func(line) []byte, error) {
	stamp := map[string]string{
		"": time.Stamp, "short": time.Stamp, "short-full": "Mon 2006-01-02 15:04:05 MST", "short-iso": "2006-01-02T15:04:05-0700",
		"short-precise": time.StampMicro, "short-iso-precise": "2006-01-02T15:04:05.000000-0700", "with-unit": "Mon 2006-01-02 15:04:05 MST",
	}
	switch mode {
	case "cat":
		return func(n line) []byte { return []byte(n.text + "\n") }, nil
	case "json":
		return func(n line) []byte { return l.object(unit, n) }, nil
	case "short-unix":
		return func(n line) []byte {
			return fmt.Appendf(nil, "%d.%06d %s %s[%d]: %s\n", n.at.Unix(), n.at.Nanosecond()/1000, l.host, n.ident, n.pid, n.text)
		}, nil
	}
	layout, ok := stamp[mode]
	if !ok {
		return nil, fmt.Errorf("Unknown output format '%s'.", mode) //nolint:staticcheck // journalctl's words
	}
	return func(n line) []byte {
		return fmt.Appendf(nil, "%s %s %s[%d]: %s\n", n.at.Local().Format(layout), l.host, n.ident, n.pid, n.text)
	}, nil
}

// object is a line as an object of JSON, with the names that journald has.
func (l *log) object(unit string, n line) []byte {
	var message any = n.text
	if !utf8.ValidString(n.text) {
		numbers := make([]int, len(n.text))
		for i := range len(n.text) {
			numbers[i] = int(n.text[i])
		}
		message = numbers
	}
	p, err := json.Marshal(map[string]any{
		"__REALTIME_TIMESTAMP": strconv.FormatInt(n.at.UnixMicro(), 10), "MESSAGE": message, "PRIORITY": "6",
		"SYSLOG_IDENTIFIER": n.ident, "_PID": strconv.Itoa(n.pid), "_HOSTNAME": l.host, "_SYSTEMD_UNIT": unit,
	})
	if err != nil {
		return nil
	}
	return append(p, '\n')
}
