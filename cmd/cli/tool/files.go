package tool

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Files are the files of the machine a command runs on.
type Files interface {
	// Open reads a file from its start.
	Open(name string) (io.ReadCloser, error)
	// Create sets the content of a file, wholly or not at all, in the place of one
	// that is there.
	Create(name string, content io.WriterTo) error
	// List names the files below a directory, sorted, relative to it and with slashes.
	List(dir string) ([]string, error)
	// Place makes a directory with these files, wholly or not at all. One that holds
	// anything is fs.ErrExist.
	Place(dir string, files []File) error
}

// File is a file to be made. Its name may have directories, with slashes.
type File struct {
	Name    string
	Content io.WriterTo
}

// Load reads a whole file.
func Load(f Files, name string) ([]byte, error) {
	r, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Memory is Files without a machine, for tests and simulated consoles. Names are
// cleaned paths.
type Memory map[string][]byte

// Open implements Files.
func (m Memory) Open(name string) (io.ReadCloser, error) {
	p, ok := m[path.Clean(name)]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(bytes.NewReader(p)), nil
}

// Create implements Files.
func (m Memory) Create(name string, content io.WriterTo) error {
	var b bytes.Buffer
	if _, err := content.WriteTo(&b); err != nil {
		return err
	}
	m[path.Clean(name)] = b.Bytes()
	return nil
}

// List implements Files.
func (m Memory) List(dir string) ([]string, error) {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if rest, ok := strings.CutPrefix(name, path.Clean(dir)+"/"); ok {
			names = append(names, rest)
		}
	}
	if names == nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: fs.ErrNotExist}
	}
	return names, nil
}

// Place implements Files.
func (m Memory) Place(dir string, files []File) error {
	if names, _ := m.List(dir); len(names) > 0 {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrExist}
	}
	made := Memory{}
	for _, f := range files {
		if err := made.Create(path.Join(dir, f.Name), f.Content); err != nil {
			return fmt.Errorf("write %s: %w", f.Name, err)
		}
	}
	maps.Copy(m, made)
	return nil
}
