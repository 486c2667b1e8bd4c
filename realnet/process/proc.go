package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	osexec "os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// proc is one process of a run.
type proc struct {
	pid   int
	ident string
	done  chan struct{}
	exit  exit // once done is closed
}

// exit is how a process ended.
type exit struct {
	code    int
	signal  syscall.Signal // 0 where it ended by itself
	core    bool
	unknown bool  // it was not this process's child
	err     error // it was never there
}

func (e exit) how() string {
	switch {
	case e.core:
		return "dumped"
	case e.signal != 0:
		return "killed"
	}
	return "exited"
}

func (e exit) text() string {
	switch {
	case e.unknown:
		return "unknown"
	case e.signal != 0:
		return fmt.Sprintf("%d/%s", int(e.signal), strings.TrimPrefix(unix.SignalName(e.signal), "SIG"))
	case e.err != nil:
		return fmt.Sprintf("%d/%s", e.code, statusNames[e.code])
	case e.code == 0:
		return "0/SUCCESS"
	case e.code == 1:
		return "1/FAILURE"
	}
	return fmt.Sprintf("%d/n/a", e.code)
}

// Statuses by which systemd says why a program was not started.
const (
	statusDir   = 200
	statusExec  = 203
	statusUser  = 217
	statusGroup = 216
	statusFile  = 209
)

var statusNames = map[int]string{statusDir: "CHDIR", statusExec: "EXEC", statusUser: "USER", statusGroup: "GROUP", statusFile: "STDOUT"}

// judge is the result that an exit of a command makes.
func (s *settings) judge(e exit) string {
	switch {
	case e.unknown:
		return "exit-code"
	case e.core:
		return "core-dump"
	case e.signal != 0 && !s.counts(e, s.success):
		if slices.Contains([]syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE}, e.signal) {
			return "success"
		}
		return "signal"
	case e.signal == 0 && e.code != 0 && !s.counts(e, s.success):
		return "exit-code"
	}
	return "success"
}

// judgeStopped is judge of a main process that may have been told to end.
func (s *settings) judgeStopped(e exit) string {
	if e.signal == s.killSignal || e.unknown {
		return "success"
	}
	return s.judge(e)
}

// counts reports whether an exit is among statuses and signals.
func (s *settings) counts(e exit, list []string) bool {
	return !e.unknown && slices.ContainsFunc(list, func(v string) bool {
		if n, err := strconv.Atoi(v); err == nil {
			return e.signal == 0 && e.code == n
		}
		n, ok := signalNumber(v)
		return ok && e.signal == n
	})
}

// restarts reports whether a unit that ended so is started again by itself.
func (s *settings) restarts(e ending) bool {
	if s.counts(e.exit, s.prevent) && e.result != "timeout" {
		return false
	}
	switch s.restart {
	case "always":
		return true
	case "on-success":
		return e.result == "success"
	case "on-failure":
		return e.result != "success"
	case "on-abnormal":
		return slices.Contains([]string{"signal", "core-dump", "timeout", "watchdog"}, e.result)
	case "on-abort":
		return e.result == "signal" || e.result == "core-dump"
	}
	return false
}

// spawn starts a command. One that cannot be started is a proc that has ended with the
// status that systemd has for it.
func (r *run) spawn(s *settings, c *command, more []string) *proc {
	p := &proc{ident: s.ident, done: make(chan struct{})}
	if p.ident == "" {
		p.ident = filepath.Base(c.path)
	}
	cmd, code, err := r.prepare(s, c, more)
	if err == nil {
		code = statusExec
		err = r.unit.log.start(p.ident, cmd)
		if errors.Is(err, fs.ErrNotExist) && cmd.Dir != "" && !isDir(cmd.Dir) {
			code = statusDir
		}
	}
	if err != nil {
		r.unit.say("%s: Failed to execute %s: %v", s.name, c.path, err)
		p.exit = exit{code: code, err: err}
		close(p.done)
		return p
	}
	p.pid = cmd.Process.Pid
	r.procs = append(r.procs, p)
	go func() {
		cmd.Wait()
		p.exit = exitOf(cmd.ProcessState)
		close(p.done)
	}()
	return p
}

func exitOf(s *os.ProcessState) (e exit) {
	if s == nil {
		return exit{unknown: true}
	}
	w, ok := s.Sys().(syscall.WaitStatus)
	if ok && w.Signaled() {
		return exit{signal: w.Signal(), core: w.CoreDump()}
	}
	return exit{code: s.ExitCode()}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// prepare is everything before the start. An error comes with its status.
func (r *run) prepare(s *settings, c *command, more []string) (cmd *osexec.Cmd, code int, err error) {
	who, code, err := credentials(s, c)
	if err != nil {
		return nil, code, err
	}
	vars, err := r.environment(s, who, more)
	if err != nil {
		return nil, statusExec, err
	}
	lookup := func(name string) string { return valueOf(vars, name) }
	path := c.path
	if !strings.Contains(path, "/") {
		if path, err = search(path); err != nil {
			return nil, statusExec, err
		}
	}
	out, err := r.unit.log.output(s.silent)
	if err != nil {
		return nil, statusFile, err
	}
	cmd = &osexec.Cmd{
		Path: path, Args: c.withVariables(lookup), Env: vars, Dir: directory(s, who), Stdout: out, Stderr: out,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Credential: who.credential},
	}
	return cmd, 0, nil
}

// person is as whom a command runs.
type person struct {
	*user.User                     // nil where nobody knows
	credential *syscall.Credential // nil is as this process
	named      bool
}

func credentials(s *settings, c *command) (p person, code int, err error) {
	if s.user == "" && s.group == "" || c.full {
		p.User, _ = user.Current()
		return p, 0, nil
	}
	name := s.user
	if name == "" {
		name = strconv.Itoa(os.Getuid())
	}
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return p, statusUser, err
		}
	}
	gid := u.Gid
	if s.group != "" {
		g, err := user.LookupGroup(s.group)
		if err != nil {
			if g, err = user.LookupGroupId(s.group); err != nil {
				return p, statusGroup, err
			}
		}
		gid = g.Gid
	}
	p.User, p.named = u, true
	uid, _ := strconv.Atoi(u.Uid)
	group, _ := strconv.Atoi(gid)
	if uid == os.Getuid() && group == os.Getgid() {
		return p, 0, nil
	}
	cred := &syscall.Credential{Uid: uint32(uid), Gid: uint32(group)}
	if ids, err := u.GroupIds(); err == nil {
		for _, id := range ids {
			n, _ := strconv.Atoi(id)
			cred.Groups = append(cred.Groups, uint32(n))
		}
	}
	p.credential = cred
	return p, 0, nil
}

// searchPath is what systemd gives services as PATH.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func search(name string) (string, error) {
	for dir := range strings.SplitSeq(searchPath, ":") {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", &fs.PathError{Op: "exec", Path: name, Err: fs.ErrNotExist}
}

// invocation is the variable by which the processes of a run are found.
const invocation = "INVOCATION_ID"

func (r *run) environment(s *settings, who person, more []string) (vars []string, err error) {
	vars = []string{"PATH=" + searchPath, "LANG=C.UTF-8", invocation + "=" + r.id}
	if who.User != nil && (who.named || os.Getuid() != 0) {
		vars = append(vars, "HOME="+who.HomeDir, "USER="+who.Username, "LOGNAME="+who.Username)
	}
	vars = append(vars, s.environment...)
	for _, f := range s.files {
		p, err := os.ReadFile(f.path)
		switch {
		case err == nil:
			vars = append(vars, parseEnvironment(string(p))...)
		case !f.may || !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return append(vars, more...), nil
}

func valueOf(vars []string, name string) string {
	for _, v := range slices.Backward(vars) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

func directory(s *settings, who person) string {
	dir := s.dir.path
	home := who.User != nil && (dir == "~" || dir == "" && os.Getuid() != 0)
	switch {
	case home:
		dir = who.HomeDir
	case dir == "" || dir == "~":
		return "/"
	}
	if s.dir.may && !isDir(dir) {
		return "/"
	}
	return dir
}

// Pauses between looks at processes that were told to end.
const (
	lookMin = 2 * time.Millisecond
	lookMax = 100 * time.Millisecond
)

// terminate has the processes of the run end, in the way that KillMode says. False says
// that they had to be killed.
func (r *run) terminate(s *settings) bool {
	defer func() { r.procs = nil }()
	if s.killMode == "none" || len(r.targets(s)) == 0 {
		return true
	}
	r.now("deactivating", "stop-sigterm")
	first := r.targets(s)
	if s.killMode == "mixed" {
		first = r.direct()
	}
	signalAll(first, s.killSignal)
	signalAll(first, syscall.SIGCONT)
	if r.gone(s, s.stopMax) {
		return true
	}
	if s.noKill {
		return false
	}
	r.unit.say("%s: State 'stop-sigterm' timed out. Killing.", s.name)
	r.now("deactivating", "stop-sigkill")
	signalAll(r.targets(s), syscall.SIGKILL)
	r.gone(s, s.stopMax)
	return false
}

// gone waits until no process is left that KillMode wants to go.
func (r *run) gone(s *settings, most time.Duration) bool {
	late := after(most)
	pause := lookMin
	for {
		left := r.targets(s)
		if len(left) == 0 {
			return true
		}
		if s.killMode == "mixed" && len(r.direct()) == 0 {
			signalAll(left, syscall.SIGKILL)
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, lookMax)
		case <-late:
			return false
		}
	}
}

// targets are the processes that KillMode wants to go.
func (r *run) targets(s *settings) []int {
	if s.killMode == "process" {
		return r.direct()
	}
	return r.members()
}

// direct are the processes that this manager started itself.
func (r *run) direct() (pids []int) {
	for _, p := range r.procs {
		select {
		case <-p.done:
		default:
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// members are all processes of the run, found by their session or by the invocation
// that they inherited. It stands in for a control group.
func (r *run) members() []int {
	pids := r.direct()
	own := []byte(invocation + "=" + r.id)
	for _, pid := range allProcesses() {
		if slices.Contains(pids, pid) {
			continue
		}
		stat, ok := readStat(pid)
		if !ok || stat.zombie {
			continue
		}
		mine := slices.ContainsFunc(r.procs, func(p *proc) bool { return p.pid == stat.session && stat.session != 0 })
		if !mine {
			vars, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			mine = slices.ContainsFunc(bytes.Split(vars, []byte{0}), func(v []byte) bool { return bytes.Equal(v, own) })
		}
		if mine {
			pids = append(pids, pid)
		}
	}
	return pids
}

func allProcesses() (pids []int) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	list, _ := d.Readdirnames(-1)
	for _, name := range list {
		if pid, err := strconv.Atoi(name); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// stat is what is read of /proc/PID/stat.
type stat struct {
	zombie  bool
	session int
	began   uint64 // ticks since boot: with the PID it names a process for good
}

func readStat(pid int) (s stat, ok bool) {
	p, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	end := bytes.LastIndexByte(p, ')')
	if err != nil || end < 0 {
		return s, false
	}
	f := strings.Fields(string(p[end+1:]))
	if len(f) < 20 {
		return s, false
	}
	s.zombie = f[0] == "Z" || f[0] == "X"
	s.session, _ = strconv.Atoi(f[3])
	s.began, _ = strconv.ParseUint(f[19], 10, 64)
	return s, true
}

func signalAll(pids []int, sig syscall.Signal) {
	for _, pid := range pids {
		syscall.Kill(pid, sig)
	}
}

// adopt watches a process that an earlier manager started: all that can be known of its
// end is when.
func adopt(pid int) (*proc, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, err
	}
	p := &proc{pid: pid, done: make(chan struct{})}
	go func() {
		defer unix.Close(fd)
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
				break
			}
		}
		p.exit = exit{unknown: true}
		close(p.done)
	}()
	return p, nil
}
