package systemd

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/keelson/keelson/core/unit"
)

// files are the unit files of a directory.
type files struct {
	dir string
	// own are the directories of the machine's own units that systemd prefers to those it
	// is asked to link.
	own []string
}

// preferred are those of the machine's systemd.
var preferred = []string{"/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient", "/etc/systemd/system"}

// newEnd is how a file is called while it is written.
const newEnd = ".new"

func (f files) path(name string) string { return filepath.Join(f.dir, name) }

// sweep removes what an earlier process did not finish.
func (f files) sweep() error {
	entries, err := os.ReadDir(f.dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && strings.HasSuffix(e.Name(), newEnd) {
			os.Remove(f.path(e.Name()))
		}
	}
	return err
}

// hashes gives the units whose files are there, with the hashes of these.
func (f files) hashes() (map[string]string, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	all := make(map[string]string)
	for _, e := range entries {
		if !e.Type().IsRegular() || checkName(e.Name()) != nil {
			continue
		}
		if h, err := f.hash(e.Name()); err == nil {
			all[e.Name()] = h
		}
	}
	return all, nil
}

func (f files) hash(name string) (string, error) {
	p, err := os.ReadFile(f.path(name))
	if err != nil {
		return "", err
	}
	h := sha1.Sum(p)
	return hex.EncodeToString(h[:]), nil
}

// hidden says why systemd would not see a unit's file: the machine has a unit of that name
// already, which must be neither taken for this one nor stopped in its place. A name that
// is masked is none: systemd itself says so.
func (f files) hidden(name string) error {
	for _, dir := range f.own {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		to, err := filepath.EvalSymlinks(path)
		if err == nil && (to == os.DevNull || to == f.path(name)) {
			continue
		}
		return fmt.Errorf("this machine has a unit %s of its own, which hides the cluster's: rename one of them, or remove %s", name, path)
	}
	return nil
}

// write puts a file in place of another, wholly or not at all.
func (f files) write(name, text string) error {
	tmp := f.path("." + name + newEnd)
	err := os.WriteFile(tmp, []byte(text), 0o644)
	if err == nil {
		err = os.Rename(tmp, f.path(name))
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

// remove deletes a file. One that is not there is no error.
func (f files) remove(name string) error {
	if err := os.Remove(f.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// there reports whether a unit's file is in the directory.
func (f files) there(name string) bool {
	info, err := os.Lstat(f.path(name))
	return err == nil && info.Mode().IsRegular()
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

// installs reports whether a file has something to enable.
func installs(text string) bool {
	f, err := unit.Parse(text, 1<<20)
	if err != nil {
		return false
	}
	for _, o := range f.Options {
		if o.Section == "Install" && o.Value != "" {
			return true
		}
	}
	return false
}
