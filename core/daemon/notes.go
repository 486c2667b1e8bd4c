package daemon

import (
	"io/fs"

	"github.com/keelson/keelson/core/env"
)

// notes is the disk for the notes of units. They are read at the start, as a disk has it,
// although it may take long until it is known what the process is to be.
type notes struct {
	env.Disk
	files map[string]read
}

type read struct {
	content []byte
	err     error
}

func readNotes(d env.Disk, names []string) *notes {
	n := &notes{d, make(map[string]read)}
	for _, name := range names {
		p, err := d.Load(name)
		n.files[name] = read{p, err}
	}
	return n
}

// Load implements env.Disk.
func (n *notes) Load(name string) ([]byte, error) {
	r, found := n.files[name]
	if !found {
		return nil, &fs.PathError{Op: "load", Path: name, Err: fs.ErrNotExist}
	}
	return r.content, r.err
}
