package files

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// partOf begins the names under which name is made, in the same directory.
func partOf(name string) string { return "." + filepath.Base(name) + ".part-" }

// hold marks a part as one that is being made, until the function is called that it
// gives. A process that is killed holds nothing.
func hold(part string) func() {
	f, err := os.Open(part)
	if err != nil {
		return func() {}
	}
	_ = lock(f) // where there are no locks nothing is swept either
	return func() { f.Close() }
}

// sweep removes the parts of name that a process left which was killed.
func sweep(name string) {
	dir := filepath.Dir(name)
	entries, _ := os.ReadDir(dir) // what cannot be read is told by who writes there
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), partOf(name))
		if ok && digits != "" && strings.Trim(digits, "0123456789") == "" {
			sweepOne(filepath.Join(dir, e.Name()))
		}
	}
}

func sweepOne(part string) {
	// Neither a link nor a pipe is what was left.
	f, err := os.OpenFile(part, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if lock(f) == nil {
		os.RemoveAll(part)
	}
}

func lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
