package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// hold opens a directory, which is made if there is none, and takes the right to it.
func hold(path string) (*os.File, error) {
	if err := makeDir(path); err != nil {
		return nil, fmt.Errorf("data directory %s: %w: name another one, or make this one usable", path, err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w: name another one, or make this one usable", path, err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s: in use by another process", path)
		}
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	return dir, nil
}

// makeDir makes path and syncs the names of all directories that it had to make.
func makeDir(path string) error {
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
		}
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// file is where the file of that name is.
func (d *Disk) file(name string) string {
	for prefix, elsewhere := range d.opts.Apart {
		if strings.HasPrefix(name, prefix) {
			return filepath.Join(elsewhere, path.Base(name))
		}
	}
	return filepath.Join(d.path, name)
}

// list gives the names of all plain files, sorted, unfinished ones among them.
func (d *Disk) list() ([]string, error) {
	names, dirs, err := files(d.path, "")
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		inner, _, err := files(filepath.Join(d.path, dir), dir+"/")
		if err != nil && !errors.Is(err, fs.ErrPermission) { // such as lost+found
			return nil, err
		}
		names = append(names, inner...)
	}
	for prefix, elsewhere := range d.opts.Apart {
		names = slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, prefix) })
		inner, _, err := files(elsewhere, path.Dir(prefix)+"/")
		if err != nil {
			return nil, err
		}
		for _, n := range inner {
			if strings.HasPrefix(n, prefix) {
				names = append(names, n)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// files gives the plain files of one directory behind prefix, and its directories.
func files(path, prefix string) (names, dirs []string, err error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		switch {
		case e.Type().IsRegular():
			names = append(names, prefix+e.Name())
		case e.IsDir():
			dirs = append(dirs, e.Name())
		}
	}
	return names, dirs, nil
}

// removeLeftovers removes what Replace has not finished in an earlier life.
func (d *Disk) removeLeftovers() error {
	names, err := d.list()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasSuffix(name, tmpSuffix) {
			continue
		}
		file := d.file(name)
		if err := os.Remove(file); err != nil {
			return err
		}
		if err := syncDir(filepath.Dir(file)); err != nil {
			return err
		}
	}
	return nil
}

// check refuses what is no name: nothing outside the directory can be named, nor a
// file of Replace's own.
func check(name string) error {
	elements := strings.Split(name, "/")
	bad := len(elements) > 2 || strings.ContainsRune(name, 0) || strings.HasSuffix(name, tmpSuffix)
	for _, e := range elements {
		bad = bad || e == "" || e == "." || e == ".."
	}
	if bad {
		return fmt.Errorf("file name %q: want one path element, or a directory and one, that does not end in %s", name, tmpSuffix)
	}
	return nil
}

// directory makes the directory of a file durably, where it is not known to exist,
// and gives a handle for syncing the names in it.
func (d *Disk) directory(file string) (*os.File, error) {
	at := filepath.Dir(file)
	d.mu.Lock()
	defer d.mu.Unlock()
	if dir := d.dirs[at]; dir != nil {
		return dir, nil
	}
	if err := makeDir(at); err != nil {
		return nil, err
	}
	dir, err := os.Open(at)
	if err != nil {
		return nil, err
	}
	d.dirs[at] = dir
	return dir, nil
}

// syncName makes the name of a file durable that was made, moved or removed.
func (d *Disk) syncName(file string) error {
	dir, err := d.directory(file)
	if err != nil {
		return err
	}
	return dir.Sync()
}
