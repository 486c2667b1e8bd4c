package authority

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// fileSet is files that come into being together, by name.
type fileSet map[string][]byte

// write writes the files, readable by their owner alone. Where one is there
// already it writes nothing; where one cannot be written it takes back the others.
func (f fileSet) write(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := f.absent(dir); err != nil {
		return err
	}
	var written []string
	for _, name := range slices.Sorted(maps.Keys(f)) {
		path := filepath.Join(dir, name)
		if err := createFile(path, f[name]); err != nil {
			for _, path := range written {
				os.Remove(path)
			}
			return err
		}
		written = append(written, path)
	}
	return syncDir(dir)
}

// absent refuses a directory in which one of the files is there.
func (f fileSet) absent(dir string) error {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s: is there already, and nothing is overwritten: move it away or choose another directory", path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func createFile(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		os.Remove(path)
		return err
	}
	return nil
}

// replaceFile gives path new content, wholly or not at all.
func replaceFile(path string, text []byte) error {
	next := path + ".new"
	os.Remove(next) // of an earlier attempt
	if err := createFile(next, text); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
