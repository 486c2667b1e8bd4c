package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/keelson/keelson/core/env"
	"github.com/keelson/keelson/core/unit"
)

// Word is the hidden word of the command line that runs a host.
const Word = "unit-host"

// Files of a host, in a directory beside the unit files.
const (
	hostDir    = ".host"
	socketFile = "socket"
	lockFile   = "lock"
	stateEnd   = ".state"
)

// idleMax is how long a host stays that nobody talks to and that has nothing to do.
const idleMax = 10 * time.Second

// host is the process that keeps the units: it outlives the daemon that asks it.
type host struct {
	dir     string // of the unit files
	machine string
	socket  net.Listener
	quit    chan struct{}

	mu       sync.Mutex
	units    map[string]*managed
	logs     map[string]*log // also of units that are gone
	watchers map[*conn]bool
	conns    int
	idle     *time.Timer
	down     bool // it is shutting down
}

// Host runs the host of a directory until it has nothing to do for a while, or is told
// to end its units by SIGTERM. Arguments are the directory and the machine's ID.
func Host(args []string) error {
	if len(args) != 2 {
		return errors.New("want a directory and the ID of the machine")
	}
	h := &host{dir: args[0], machine: args[1], quit: make(chan struct{}), units: make(map[string]*managed), logs: make(map[string]*log), watchers: make(map[*conn]bool)}
	if err := os.MkdirAll(h.own(""), 0o700); err != nil {
		return err
	}
	lock, err := lockHost(h.own(lockFile))
	if err != nil {
		return err
	}
	if lock == nil {
		return nil // another is there
	}
	defer lock.Close()
	syscall.Umask(0o022)
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	if err := h.load(); err != nil {
		return err
	}
	if h.socket, err = listen(h.own("")); err != nil {
		return err
	}
	go h.accept()
	h.rest()
	select {
	case <-told:
		endBoot(h.dir)
		h.shutdown()
	case <-h.quit:
	}
	h.socket.Close()
	return nil
}

// own is the path of one of the host's files.
func (h *host) own(name string) string { return filepath.Join(h.dir, hostDir, name) }

// lockHost makes sure that there is one host of a directory. Nil is that there is.
func lockHost(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, err
	}
	return f, nil
}

// within gives a name of a file that is short enough for a socket.
func within(dir string) (path string, d *os.File, err error) {
	d, err = os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketFile), d, nil
}

func listen(dir string) (net.Listener, error) {
	os.Remove(filepath.Join(dir, socketFile)) // left by one that was killed: the lock says so
	path, d, err := within(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	return l, os.Chmod(filepath.Join(dir, socketFile), 0o600)
}

// dial reaches the host of a directory.
func dial(dir string) (net.Conn, error) {
	path, d, err := within(filepath.Join(dir, hostDir))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return net.Dial("unix", path)
}

// load reads the unit files that are there, and finds what an earlier host left running.
func (h *host) load() error {
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(h.dir, e.Name()))
		if e.IsDir() || checkName(e.Name()) != nil || err != nil {
			continue
		}
		u := h.unit(e.Name())
		u.take(string(text))
		u.told = u.status()
	}
	h.find()
	return nil
}

// unit gives the unit of that name, which is made if need be.
func (h *host) unit(name string) *managed {
	u := h.units[name]
	if u == nil {
		u = &managed{
			host: h, name: name, log: h.logOf(name), active: "inactive", sub: "dead", result: "success", since: time.Now(),
			settings: read(name, "", specifiersOf(name, h.machine)),
		}
		h.units[name] = u
	}
	return u
}

// logOf is the one log of a unit's name. The lock is held.
func (h *host) logOf(name string) *log {
	if h.logs[name] == nil {
		h.logs[name] = openLog(h.own(""), name)
	}
	return h.logs[name]
}

// forget is the end of a unit whose file is gone and that does not run. The lock is held.
func (h *host) forget(u *managed) {
	delete(h.units, u.name)
	u.log.close()
}

// checkName refuses what is no name of a unit.
func checkName(name string) error {
	if err := unit.CheckName(name); err != nil {
		return err
	}
	if name[0] == '.' || len(name) > 255 {
		return fmt.Errorf("invalid unit name %q", name)
	}
	return nil
}

// note is what a host writes down of a run, for the next host.
type note struct {
	Boot, ID    string
	PID         int
	Began       uint64
	Ident       string
	Active, Sub string
	Result      string
	Since       time.Time
}

// keep writes down what runs, or is to run again. The lock is held.
func (h *host) keep(u *managed) {
	path := h.own(u.name + stateEnd)
	if u.run == nil && u.again == nil {
		os.Remove(path)
		return
	}
	n := note{Boot: bootID(), Active: u.active, Sub: u.sub, Result: u.result, Since: u.since}
	if u.run != nil {
		n.ID = u.run.id
	}
	if u.run != nil && u.run.main != nil && u.run.main.pid != 0 {
		p := u.run.main
		n.PID, n.Ident = p.pid, p.ident
		if s, ok := readStat(p.pid); ok {
			n.Began = s.began
		}
	}
	text, err := json.Marshal(n)
	if err != nil {
		return
	}
	if os.WriteFile(path+".tmp", text, 0o600) == nil {
		os.Rename(path+".tmp", path)
	}
}

// find takes over what an earlier host of this boot was running when it died.
func (h *host) find() {
	left, _ := filepath.Glob(h.own("*" + stateEnd))
	for _, path := range left {
		var n note
		text, _ := os.ReadFile(path)
		name := strings.TrimSuffix(filepath.Base(path), stateEnd)
		if json.Unmarshal(text, &n) != nil || n.Boot != bootID() || checkName(name) != nil {
			os.Remove(path)
			continue
		}
		h.resume(h.unit(name), n, path)
	}
}

func (h *host) resume(u *managed, n note, path string) {
	r := newRun(u)
	r.id = n.ID
	stat, ok := readStat(n.PID)
	alive := n.PID != 0 && ok && !stat.zombie && stat.began == n.Began
	if n.Active == "active" && alive {
		if p, err := adopt(n.PID); err == nil {
			p.ident = n.Ident
			r.main = p
			r.procs = append(r.procs, p)
			u.log.speaks(n.Ident, n.PID)
		}
	}
	if n.Active != "active" || r.main == nil && n.Sub != "exited" {
		if n.ID != "" {
			r.cut() // it was on its way, or has ended since
		}
		os.Remove(path)
		began := n.Active == "active" || n.Active == "activating"
		lost := ending{result: "exit-code", exit: exit{unknown: true}}
		switch {
		case n.Sub == subAgain:
			u.result = n.Result
		case began || n.Active == "deactivating":
			u.result = lost.result
		}
		u.rest()
		if u.there && began && (n.Sub == subAgain || u.settings.restarts(lost)) {
			u.waitRestart()
			h.keep(u)
		}
		return
	}
	u.log.listen()
	u.run, u.active, u.sub, u.since = r, n.Active, n.Sub, n.Since
	u.told = u.status()
	go r.goOn()
}

// goOn is the rest of a run that an earlier host began.
func (r *run) goOn() {
	s := r.settings()
	if r.main == nil {
		<-r.stop
		r.finish(r.stopCommands(s))
		return
	}
	r.finish(r.watch(s))
}

// tell says to those who watch what has become of a unit. The lock is held.
func (h *host) tell(u *managed) {
	s := u.status()
	if s == u.told {
		return
	}
	u.told = s
	if u.there {
		for c := range h.watchers {
			c.push(&reply{Units: []env.UnitStatus{s}, Event: true})
		}
	}
	h.restLocked()
}

// propagate has those units follow that cannot be without u. The lock is held.
func (h *host) propagate(u *managed, asked bool) {
	for _, name := range slices.Sorted(maps.Keys(h.units)) {
		v := h.units[name]
		bound := slices.Contains(v.settings.binds, u.name)
		bound = bound || asked && (slices.Contains(v.settings.needs, u.name) || slices.Contains(v.settings.partOf, u.name))
		waits := v.active == "inactive" || v.active == "failed" // it learns of it in its own way
		if bound && v.run != nil && v != u && !waits {
			v.ask(env.JobStop, func(env.JobResult) {})
		}
	}
}

// waitsFor reports whether a start of u would wait, possibly by way of others, for v.
func (h *host) waitsFor(u, v *managed, seen []*managed) bool {
	if slices.Contains(seen, u) {
		return false
	}
	for _, name := range u.settings.after {
		other := h.units[name]
		if other == v || other != nil && h.waitsFor(other, v, append(seen, u)) {
			return true
		}
	}
	return false
}

// change does what env.Systemd promises. The lock is held.
func (h *host) change(c env.UnitChange) (failed []failure) {
	fail := func(name string, err error) { failed = append(failed, failure{name, err.Error()}) }
	for _, name := range c.Remove {
		if err := h.remove(name); err != nil {
			fail(name, err)
		}
	}
	for _, w := range c.Write {
		if err := h.write(w); err != nil {
			fail(w.Name, err)
		}
	}
	return failed
}

func (h *host) remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(h.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if u := h.units[name]; u != nil {
		u.drop()
		u.told = env.UnitStatus{}
	}
	return nil
}

func (h *host) write(w env.UnitText) error {
	if err := checkName(w.Name); err != nil {
		return err
	}
	path := filepath.Join(h.dir, w.Name)
	tmp := h.own(w.Name + ".new")
	err := os.WriteFile(tmp, []byte(w.Text), 0o644)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return errors.Join(err, h.remove(w.Name))
	}
	u := h.unit(w.Name)
	u.take(w.Text)
	h.tell(u)
	return nil
}

// rest begins the wait after which a host without work ends, if it has none.
func (h *host) rest() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.restLocked()
}

func (h *host) restLocked() {
	busy := h.conns > 0
	for _, u := range h.units {
		busy = busy || u.run != nil || u.again != nil || u.job != nil
	}
	switch {
	case busy && h.idle != nil:
		h.idle.Stop()
		h.idle = nil
	case !busy && h.idle == nil:
		h.idle = time.AfterFunc(idleMax, func() { close(h.quit) })
	}
}

// shutdown stops every unit, as the end of a machine does.
func (h *host) shutdown() {
	h.mu.Lock()
	h.down = true
	var waits sync.WaitGroup
	for _, name := range slices.Sorted(maps.Keys(h.units)) {
		if u := h.units[name]; u.run != nil || u.again != nil || u.job != nil {
			waits.Add(1)
			u.ask(env.JobStop, func(env.JobResult) { waits.Done() })
		}
	}
	h.mu.Unlock()
	waits.Wait()
}

// all is the status of the units whose files are there. The lock is held.
func (h *host) all() (units []env.UnitStatus) {
	units = []env.UnitStatus{}
	for _, name := range slices.Sorted(maps.Keys(h.units)) {
		if u := h.units[name]; u.there {
			units = append(units, u.status())
		}
	}
	return units
}
