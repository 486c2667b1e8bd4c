package machines

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// groupRoot is where the unified control groups are mounted in a jail.
const groupRoot = "/sys/fs/cgroup"

// group is a control group: the processes of a machine, or of a cluster.
type group struct{ path string }

// tag tells the clusters of a host apart by their directories.
func tag(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	h := fnv.New32a()
	h.Write([]byte(dir))
	return fmt.Sprintf("%08x", h.Sum32())
}

// groupOf is the group of the cluster in dir.
func groupOf(dir string) (group, error) {
	mounts, err := mounts()
	if err != nil {
		return group{}, err
	}
	// The last mounted is the one that is seen.
	for _, m := range slices.Backward(mounts) {
		if m.kind == "cgroup2" {
			return group{filepath.Join(m.at, "keelson-"+tag(dir))}, nil
		}
	}
	return group{}, errors.New("no unified control groups (cgroup2) are mounted")
}

func (g group) child(name string) group { return group{filepath.Join(g.path, name)} }

// make makes the group, empty.
func (g group) make() error {
	if err := g.remove(); err != nil {
		return err
	}
	return os.MkdirAll(g.path, 0o755)
}

// goneMax bounds how long killed processes may take to be gone.
const goneMax = 20 * time.Second

// remove kills all processes of the group and those below it, and removes them.
func (g group) remove() error {
	if err := g.kill(); err != nil {
		return err
	}
	end := time.Now().Add(goneMax)
	for {
		err := removeTree(g.path)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(end) {
			return fmt.Errorf("remove control group: %w", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// removeTree removes directories, the innermost first: the files of control groups
// cannot be removed and need not be.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// kill ends all processes of the group and those below it, and returns when they have.
func (g group) kill() error {
	end := time.Now().Add(goneMax)
	for {
		some, err := g.populated()
		if err != nil || !some {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("processes of %s do not end", g.path)
		}
		g.write("cgroup.freeze", "0")
		if err := g.write("cgroup.kill", "1"); err != nil { // kernels before 5.14 have none
			for _, pid := range g.processes() {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (g group) write(file, value string) error {
	return os.WriteFile(filepath.Join(g.path, file), []byte(value), 0)
}

func (g group) populated() (bool, error) {
	text, err := os.ReadFile(filepath.Join(g.path, "cgroup.events"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return bytes.Contains(text, []byte("populated 1")), err
}

// processes are those of the group and of those below it.
func (g group) processes() (pids []int) {
	filepath.WalkDir(g.path, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return nil // gone meanwhile
		}
		text, _ := os.ReadFile(path)
		for word := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// first is the process that is number 1 to itself, as this process numbers it; 0 is
// none.
func (g group) first() int {
	for _, pid := range g.processes() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
				if all := strings.Fields(numbers); len(all) > 1 && all[len(all)-1] == "1" {
					return pid
				}
			}
		}
	}
	return 0
}

type mount struct{ at, kind string }

// mounts are those that this process sees.
func mounts() (all []mount, err error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// ID, parent, device, root, where, options, any number of fields, "-", kind, …
		words := strings.Fields(lines.Text())
		dash := slices.Index(words, "-")
		if len(words) > 4 && dash > 0 && dash+1 < len(words) {
			all = append(all, mount{words[4], words[dash+1]})
		}
	}
	return all, lines.Err()
}

// mountsBelow are those in a directory.
func mountsBelow(dir string) (below []string, err error) {
	all, err := mounts()
	for _, m := range all {
		if strings.HasPrefix(m.at, dir+"/") {
			below = append(below, m.at)
		}
	}
	return below, err
}

// Join puts this process among those of the cluster in dir, so that Remove ends it, too.
func Join(dir string) error {
	g, err := groupOf(dir)
	if err != nil {
		return err
	}
	k := g.child(keeper)
	if err := os.MkdirAll(k.path, 0o755); err != nil {
		return err
	}
	return k.write("cgroup.procs", "0")
}

// keeper is the group of who booted the machines.
const keeper = "keeper"

// Signal tells the process that booted the cluster in dir.
func Signal(dir string, s syscall.Signal) error {
	g, err := groupOf(dir)
	if err != nil {
		return err
	}
	pids := g.child(keeper).processes()
	if len(pids) == 0 {
		return fmt.Errorf("nobody keeps machines in %s", dir)
	}
	return syscall.Kill(pids[0], s)
}
