// Package files is this machine's files for commands: read, and made wholly or not at all.
package files

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Open reads a file from its start.
func Open(name string) (io.ReadCloser, error) { return os.Open(name) }

// Create writes a file beside its name, makes it durable and then gives it the name.
// Modes are such that only the owner reads it: what it holds may be secret.
func Create(name string, content io.WriterTo) error {
	if err := replaceable(name); err != nil {
		return err
	}
	dir := filepath.Dir(name)
	sweep(name)
	f, err := os.CreateTemp(dir, partOf(name))
	if err != nil {
		return err
	}
	defer hold(f.Name())()
	if err = write(f, content); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return syncDir(dir)
}

// write fills, syncs and closes f.
// replaceable refuses a name that stands for no file: a directory, a device or a pipe
// is not what is to be replaced by a rename.
func replaceable(name string) error {
	info, err := os.Stat(name) // of what a link stands for
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return &fs.PathError{Op: "create", Path: name, Err: errDirectory}
	case !info.Mode().IsRegular():
		return &fs.PathError{Op: "create", Path: name, Err: errNoFile}
	}
	return nil
}

var (
	errDirectory = errors.New("is a directory: give the name of a file in it")
	errNoFile    = errors.New("is a device or a pipe, which a backup would replace: give the name of a file")
)

func write(f *os.File, content io.WriterTo) error {
	b := bufio.NewWriterSize(f, 1<<20)
	_, err := content.WriteTo(b)
	if err == nil {
		err = b.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// List names the files below a directory, sorted, relative to it and with slashes.
func List(dir string) ([]string, error) {
	var names []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	var of *fs.PathError
	if errors.As(err, &of) {
		of.Path = filepath.Join(dir, of.Path)
	}
	return names, err
}

// Place makes a directory with files whose names and contents next gives, until it
// says false. The directory gets its name last. One that holds anything is
// fs.ErrExist.
func Place(dir string, next func() (name string, content io.WriterTo, more bool)) error {
	if have, err := os.ReadDir(dir); len(have) > 0 {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrExist}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir = filepath.Clean(dir)
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	sweep(dir)
	part, err := os.MkdirTemp(parent, partOf(dir))
	if err != nil {
		return err
	}
	defer hold(part)()
	if err := fill(part, next); err != nil {
		os.RemoveAll(part)
		return err
	}
	os.Remove(dir) // it is empty, or not there
	if err := os.Rename(part, dir); err != nil {
		os.RemoveAll(part)
		return err
	}
	return syncDir(parent)
}

func fill(dir string, next func() (string, io.WriterTo, bool)) error {
	dirs := map[string]bool{dir: true}
	for {
		name, content, more := next()
		if !more {
			break
		}
		full := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			return err
		}
		dirs[filepath.Dir(full)] = true
		f, err := os.OpenFile(full, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := write(f, content); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	for d := range dirs {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return nil
}
